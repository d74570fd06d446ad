"""The named things of a sentence: capitalised words, acronyms, katakana; and whether a text has them.

Rules, no model: a name that opens a sentence is told from a common word only where it stands elsewhere as a name.
"""

import re
from collections.abc import Iterator

from bookwheel.sentences import split_sentences
from bookwheel.terms import EMPTY

_WORD = re.compile(r"[^\W\d_]+(?:[’'][^\W\d_]+)*|\d+")
_KATAKANA = re.compile(r"[\u30a1-\u30fa\u30fc]{3,}")
_TOKEN = re.compile(
    r"(?P<kanji>[\u3005\u4e00-\u9fff]+)|(?P<katakana>[\u30a1-\u30fa\u30fc]+)|[\u3041-\u309f]+"
    r"|\d+(?:[.,]\d+)*|[^\W\d_\u3040-\u30ff\u3005\u4e00-\u9fff]+(?:[’'][^\W\d_]+)?"
)
_ENDS_VERB = re.compile(r"[さしすせなれらっまわきくけいえうつむめみりる]")
_LETTERS = re.compile(r"[\u3040-\u9fff]")


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CALENDAR = _set(
    "january february march april may june july august september october november december jan feb mar apr jun jul aug"
    " sep sept oct nov dec monday tuesday wednesday thursday friday saturday sunday"
)
_OPENERS = _set(
    "after although as because before despite due during however here if later like many meanwhile moreover most"
    " since some though through today under until when while yet according additionally also another between over"
    " two three four five six seven eight nine ten several few"
)
_ENDINGS = _set("s n an ian ish ese i y ic es er ers ans ians")


def names(sentence: str) -> list[str]:
    """The words of the names in a sentence, as they are written, without 's."""
    return list(dict.fromkeys([*_latin(sentence), *_KATAKANA.findall(sentence)]))


def opening_name(sentence: str) -> str | None:
    """The sentence's first word where only its place makes it a capital: perhaps a name."""
    for match in _WORD.finditer(sentence):
        word = _bare(match[0])
        return word if word[0].isupper() and not _is_common(word) else None
    return None


def capitalised(text: str) -> frozenset[str]:
    """The words, casefolded, that stand as names in a text: with a capital, and not only where a sentence begins."""
    found = set[str]()
    for start, end in split_sentences(text):
        found.update(name.casefold() for name in _latin(text[start:end]))
    return frozenset(found)


def tokens(text: str) -> list[tuple[str, bool]]:
    """The words of a text, scripts without spaces cut where the script changes, and whether each names something: a
    capital, or katakana or kanji that no ending of a verb or adjective follows."""
    found = list[tuple[str, bool]]()
    for match in _TOKEN.finditer(text):
        if match["kanji"]:
            named = len(match[0]) > 1 and not _ENDS_VERB.match(text, match.end())
        elif match["katakana"]:
            named = len(match[0]) > 1
        else:
            named = match[0][0].isupper() and not _is_common(_bare(match[0]))
        found.append((_bare(match[0]), named))
    return found


def plain_words(text: str) -> frozenset[str]:
    """The words of a text as names are looked up in it: casefolded, without 's."""
    return frozenset(_bare(match[0]).casefold() for match in _WORD.finditer(text))


def initials(text: str) -> str:
    """The first letters of capitalised words in order, for acronyms: OAPEC is Organization of Arab Petroleum ..."""
    return "".join(match[0][0] for match in _WORD.finditer(text) if match[0][0].isupper())


def has(name: str, words: frozenset[str], text: str, letters: str) -> bool:
    """Whether a text with these words and initials names it: the word itself, its adjective, its acronym."""
    if _LETTERS.match(name):
        return name in text
    folded = name.casefold()
    if folded in words or any(_is_form(folded, word) for word in words):
        return True
    return len(name) >= 3 and name.isupper() and name in letters


def _is_form(name: str, word: str) -> bool:
    """German of Germany, Norman of Normans: one is the other with an ending."""
    short, long = sorted((name, word), key=len)
    return len(short) >= 4 and long.startswith(short) and long[len(short) :] in _ENDINGS


def _latin(sentence: str) -> Iterator[str]:
    """Capitalised words; the first one only when it is written like an acronym or another name follows it at once."""
    found = list(_WORD.finditer(sentence))
    for at, match in enumerate(found):
        word = _bare(match[0])
        if not word[0].isupper() or _is_common(word) or (len(word) == 1 and word != match[0]):
            continue
        if _opens(sentence, match) and not _is_marked(word) and not _goes_on(sentence, found, at):
            continue
        yield word


def _opens(sentence: str, match: re.Match[str]) -> bool:
    """Whether only punctuation or a colon stands before the word."""
    before = sentence[: match.start()].rstrip("\"'“‘«([{（「『【〈《*_`¿¡—–- #>|\t\n")
    return not before or before[-1] in ":."


def _is_marked(word: str) -> bool:
    return sum(letter.isupper() for letter in word) >= 2


def _goes_on(sentence: str, found: list[re.Match[str]], at: int) -> bool:
    """Whether the next word is capitalised too, with nothing but a space between."""
    if at + 1 >= len(found):
        return False
    word, following = found[at], found[at + 1]
    return sentence[word.end() : following.start()] == " " and following[0][0].isupper()


def _is_common(word: str) -> bool:
    folded = word.casefold()
    return folded in EMPTY or folded in _CALENDAR or folded in _OPENERS


def _bare(word: str) -> str:
    return re.sub(r"[’']s?$", "", word) or word
