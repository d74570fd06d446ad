"""The words of a question as they are written: which signs, and which capitals, another question may not lack.

Case is folded but where it makes another word: IT and it, Polish and polish, Fe and FE, 5 mW and 5 MW. A text without
capitals inside (or of nothing else) says nothing of case, so that names in it are those of the other text.
"""

import re
from collections.abc import Sequence

from bookwheel.wording import (
    ARTICLES,
    AUXILIARY,
    BEFORE_IS,
    BYTES,
    CASED,
    CASED_UNITS,
    CONTRACTIONS,
    PERSONS,
    PREPOSITIONS,
    QUESTION,
    SYNONYMS,
    WHOLE_CONTRACTIONS,
)

# Ordinals; numbers with separators and signs; flags; words with contractions, C++ and C#; operators; brackets of code;
# every sign but punctuation.
_TOKEN = re.compile(
    r"\d+(?:st|nd|rd|th)\b|(?:(?<!\w)-)?(?:(?<![\w.])\.)?\d+(?:[.,]\d+)*|(?<!\S)--?[A-Za-z][\w-]*"
    r"|[^\W\d_]+(?:'(?:s|t|re|ve|ll|d|m)\b)?(?:\+\+|\#)?|!(?==)|(?<=\d)!|(?<=[\d\s])/(?=[\d\s])|\b/(?=\w\b)"
    r"|(?<=\w)-(?=\d|[A-Za-z]\b)|(?<=[\w)] )-(?= )|(?<=\d):(?=\d)|[\[\]{}]"
    r"|(?<=\w)_(?=\w)|(?<!\S)\.(?=[A-Za-z])|(?<=\w)\(|\((?=\))"
    r"|[^\w\s.,;:!?'\"()\[\]{}/…–—«»„“”-]"
)
_THOUSANDS = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_CAPITAL_A = re.compile(r"(?<=[\w,] )A(?= [\w])|(?<=\w )A(?=\W*$)")  # vitamin A: no article inside a sentence
_LETTER_A = "LETTERA"
_HALF_DAY = re.compile(r"(?<=\d)\s*([ap])(?:\.\s?m\b\.?|m\b)", re.IGNORECASE)
_INNER = re.compile(r"(?<=\S )\(?[\"']?([A-Z][^\W_]*)")
_PLURAL = re.compile(r"([A-Z]{2,})s")  # CPUs
_LONE = re.compile(r"[^\W\d_]+")
# Words that our own tables hold in lower case, and that are no others in capitals.
_KNOWN = (
    frozenset(SYNONYMS) | frozenset(SYNONYMS.values()) | {"uk", "eu", "un", "nyc", "usa", "os", "wwii", "ww", "q", "ii"}
)
# Acronyms that are a common word in small letters.
_COMMON = ARTICLES | AUXILIARY | PREPOSITIONS | PERSONS | CASED | frozenset(QUESTION) | {"it", "all", "no", "so", "aid"}


def is_flag(word: str) -> bool:
    """Whether a word is an option of a command, whose case counts."""
    return len(word) > 1 and word[0] == "-" and word.lstrip("-")[:1].isalpha()


def has_case(text: str) -> bool:
    """Whether its capitals mean something: some inside, not everywhere."""
    inside = text.lstrip()[1:]
    return inside != inside.lower() and not text.isupper()


def inner_names(text: str) -> frozenset[str]:
    """Words with a capital inside the text, in lower case: they are not inflected."""
    return frozenset(word.lower() for word in _INNER.findall(text)) if has_case(text) else frozenset()


def spelt(word: str, *, cased: bool) -> str:
    """A word without its case, but where it counts. `cased`: the capitals of both texts mean something."""
    if word.islower():
        return word
    lower = word.lower()
    if lower in _KNOWN or not _LONE.fullmatch(word):
        return lower
    if plural := _PLURAL.fullmatch(word):
        word, lower = plural[1], plural[1].lower()
    if word.isupper() and len(word) > 1:
        if lower == "us":
            return "usa"
        return word if cased or lower in _COMMON else lower
    if lower in CASED or (cased and word[1:] != lower[1:]):
        return word
    return lower


def tokens(text: str, *, cased: bool) -> list[str]:
    """The words and signs that count, in order."""
    shouted = text.isupper()
    if " A" in text and not shouted:
        text = _CAPITAL_A.sub(_LETTER_A, text)
    text = _HALF_DAY.sub(r" \1mtime ", text)
    found: list[str] = []
    for at, token in enumerate(_TOKEN.findall(text)):
        if is_flag(token) or token == _LETTER_A:
            found.append(token)
        elif shouted or at == 0:
            found += _split(token.lower())
        elif found[-1][-1:].isdigit() and token.lower() in CASED_UNITS:
            found.append(_unit(token))
        else:
            found += _split(spelt(token, cased=cased))
    return found


def _unit(token: str) -> str:
    """A unit after a number; bytes are written in any case but Mb, which are bits."""
    return token.lower() if token.lower() in BYTES and token.endswith("B") else token


def _split(token: str) -> Sequence[str]:
    """A token without its contraction and without thousands separators."""
    if token in WHOLE_CONTRACTIONS:
        return WHOLE_CONTRACTIONS[token]
    if _THOUSANDS.fullmatch(token):
        return [token.replace(",", "")]
    if "'" not in token:
        return [token]
    for ending, words in CONTRACTIONS.items():
        if token.endswith(ending):
            return [token.removesuffix(ending), *words]
    stem = token.removesuffix("'s")
    return [stem, "is" if stem in BEFORE_IS else "'s"] if stem != token else [token]
