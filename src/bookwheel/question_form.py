"""A question in the form in which two of them can be compared: what it asks, its tense, its words in canonical order.

For English. Contractions, polite openings, ways to ask, articles, auxiliaries, inflection and synonyms are undone (see
`wording` and `inflection`); passives stand in the order of the active; "France's capital" and "capital of France" are
one. Whatever no rule knows stays as it is, so that it can only keep two questions apart.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bookwheel.inflection import WHOLE, base
from bookwheel.phrases import PHRASES, POLITE, phrase_at
from bookwheel.wording import (
    ARTICLES,
    AUXILIARY,
    BE,
    BEFORE_IS,
    CONTRACTIONS,
    DATES,
    GENERIC,
    MODALS,
    ONES,
    PARTICIPLES,
    PARTICLE_VERBS,
    PARTICLES,
    PAST,
    PAST_FORMS,
    PREPOSITIONS,
    QUESTION,
    SYNONYMS,
    TENS,
    TOGETHER,
    WHOLE_CONTRACTIONS,
)

Words = tuple[str, ...]

# Ordinals; numbers with separators and signs; flags; words with contractions, C++ and C#; every sign but punctuation.
_TOKEN = re.compile(
    r"\d+(?:st|nd|rd|th)\b|(?:(?<!\w)-)?\d+(?:[.,]\d+)*|(?<!\S)--?[A-Za-z][\w-]*"
    r"|[^\W\d_]+(?:'(?:s|t|re|ve|ll|d|m)\b)?(?:\+\+|\#)?|!(?==)|(?<=[\d\s])/(?=[\d\s])"
    r"|[^\w\s.,;:!?'\"()\[\]{}/…–—«»„“”-]"
)
_THOUSANDS = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_CAPITAL_A = re.compile(r"(?<=[\w,] )A(?= [\w])|(?<=\w )A(?=\W*$)")  # vitamin A: no article inside a sentence
_LETTER_A = "LETTERA"
_CURRENCIES = frozenset({"$", "€", "£", "¥", "₹"})
_HAVE = frozenset({"have", "has", "had"})
_POSSIBLE = frozenset({"can", "could", "would"})  # "how can it", "where can I": they ask the same as without
_NUMBERED = frozenset({"type", "part", "phase", "war", "class", "chapter", "volume", "schedule"})  # before I: 1
_BEFORE_MAY = frozenset({"in", "on", "of", "from", "to", "since", "until", "by", "and"})  # the month
_BEFORE_PRONOUN = frozenset({"", "if", "that", "after", "before", "not", "and", "am"})
_ASKING = AUXILIARY | {"if", "whether"}
_SPEAKERS = frozenset({"i", "you", "we", "one", "HOW"})
_MAIN = "MAIN"  # the prefix of the words before the first preposition
_PASSIVE = "PASSIVE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A question in the form in which two are compared."""

    kind: str  #: what is asked for: who, when, how many, ...; "" where the text does not say
    tense: str  #: of the main verb: past, future, present
    other_tenses: frozenset[str]
    parts: tuple[Words, ...]  #: each its preposition, or MAIN, and its words, in order


def read(text: str) -> Form:
    """The form of a question in English, of a normalised text."""
    words = _tokens(text)
    words = _joined(_rewritten(_without_opening(_joined(words))))
    kind, asked = _kind(words)
    words = _moved(words, kind, asked)
    kind = _kind(words)[0]
    tense, others = _tenses(words, kind)
    parts = _parts(_main_words(words, kind), whole=_is_noun_phrase(words, kind))
    return Form(kind=kind, tense=tense, other_tenses=others, parts=parts)


def _is_noun_phrase(words: Sequence[str], kind: str) -> bool:
    """Whether a question only names what it wants: "what is the ...", "population of ..."."""
    asks = not kind or (kind in ("what", "who") and len(words) > 1 and words[1] in BE)
    return asks and not any(_is_participle(word) for word in words)


def _tokens(text: str) -> list[str]:
    if " A" in text and not text.isupper():
        text = _CAPITAL_A.sub(_LETTER_A, text)
    found: list[str] = []
    for token in _TOKEN.findall(text):
        found += _split(token if is_flag(token) or token == _LETTER_A else token.lower())
    return found


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


def _joined(words: list[str]) -> list[str]:
    """With particles beside their verbs, "not" beside its auxiliary and tens beside their ones."""
    made: list[str] = []
    for at, word in enumerate(words):
        after = words[at + 1] if at + 1 < len(words) else ""
        if word in PARTICLES and (not after or after in PREPOSITIONS):
            made.insert(_last(made, PARTICLE_VERBS, len(made) - 1) + 1, word)
        elif word == "not" and after not in PREPOSITIONS:
            aux = _last(made, AUXILIARY, len(made) - 1)
            made.insert(aux + 1 if PREPOSITIONS.isdisjoint(made[aux + 1 :]) else len(made), word)
        elif made and made[-1] in _CURRENCIES and word[0].isdigit():  # $20: 20 $
            made.insert(-1, word)
        elif word in ONES and made and made[-1] in TENS:
            made[-1] = str(int(SYNONYMS[made[-1]]) + int(ONES[word]))
        else:
            made.append(word)
    return made


def _last(words: Sequence[str], wanted: frozenset[str], otherwise: int) -> int:
    return next((at for at in range(len(words) - 1, -1, -1) if words[at] in wanted), otherwise)


def _without_opening(words: list[str]) -> list[str]:
    """Without "hello, could you please tell me" and the like, however many."""
    for _ in range(6):
        row = phrase_at(POLITE, words, 0) if words else None
        if row is None or len(row[0]) == len(words):
            break
        words = [*row[1], *words[len(row[0]) :]]
        if not row[1] and words[0] in ("the", "a", "an"):  # tell me the
            words = ["what", "is", *words]
    return words


def _rewritten(words: list[str]) -> list[str]:
    """With each known phrase replaced; twice, since one may make another."""
    for _ in range(2):
        made: list[str] = []
        at = 0
        while at < len(words):
            row = phrase_at(PHRASES, words, at)
            made += row[1] if row else (words[at],)
            at += len(row[0]) if row else 1
        if made == words:
            break
        words = made
    return words


def _kind(words: Sequence[str]) -> tuple[str, int]:
    """What is asked, and where the text asks it; -1 where nothing does."""
    if words and (words[0] in AUXILIARY or words[0] in ("if", "whether")):
        return "yes or no", 0
    at = next((at for at, word in enumerate(words) if word in QUESTION), -1)
    return (QUESTION[words[at]], at) if at >= 0 else ("", -1)


def _moved(words: list[str], kind: str, asked: int) -> list[str]:
    """What stands before the question word goes to the end: "in 1990, who won" as "who won in 1990"."""
    if asked > 0:
        if asked + 1 == len(words) and words[-2] == "by":  # Hamlet was written by whom
            return ["who", *words[:-1]]
        if asked == 1 and words[0] in PREPOSITIONS:  # "to whom did he write": "who did he write to"
            return [*words[1:], words[0]]
        if words[0] in PREPOSITIONS:
            return [*words[asked:], *words[:asked]]
    first = next((at for at, word in enumerate(words) if word in AUXILIARY), 0)
    if not kind and words and words[0] in PREPOSITIONS and first:
        return [*words[first:], *words[:first]]
    return _patterns(words, kind)


def _patterns(words: list[str], kind: str) -> list[str]:
    """Ways to ask that no run of words shows."""
    if kind == "what" and (named := _named_first(words)):
        return named
    if kind == "what" and words[-1] == "mean":  # what does X mean
        return ["what", "is", *[word for word in words[1:-1] if word not in ("do", "does")]]
    if kind == "how much" and words[-1] in ("cost", "costs"):
        return ["what", "is", "price", "of", *[word for word in words[1:-1] if word not in ("do", "does")]]
    if kind == "how many" and words[-1] in ("have", "has"):
        turn = next((at for at, word in enumerate(words) if word in ("do", "does")), 0)
        if turn:
            return [*words[:turn], "in", *words[turn + 1 : -1]]
    if kind == "how many" and words[1:3] == ["people", "live"]:
        return ["what", "is", "population", "of", *words[4:]]
    if kind == "how" and (ways := _differing(words)):
        return ways
    if kind == "what" and words[-2:] == ["used", "to"]:
        return ["what", "is", "purpose", "of", *(word for word in words[1:-2] if word not in BE)]
    if kind == "where" and words[-1] in ("located", "situated", "found"):
        return words[:-1]
    return words


def _named_first(words: Sequence[str]) -> list[str] | None:
    """Which city is the largest in Spain: what is the largest city; which language is the language of: what is the."""
    be = next((at for at, word in enumerate(words) if word in BE), 0)
    if not 1 < be < 4 or words[be + 1 : be + 2] != ["the"]:
        return None
    noun, rest = words[1:be], words[be + 2 :]
    if len(noun) == 1 and noun[0] in rest:
        return ["what", *words[be:]]
    end = 2 if rest[:1] in (["most"], ["least"]) else 1
    if end == 1 and not (rest and rest[0].endswith("est")):
        return None
    return ["what", *words[be : be + 2], *rest[:end], *noun, *rest[end:]]


def _differing(words: Sequence[str]) -> list[str] | None:
    """How does A differ from B."""
    if words[1:2] not in (["do"], ["does"]) or words.count("differ") != 1:
        return None
    at = words.index("differ")
    if words[at + 1 : at + 2] != ["from"]:
        return None
    return ["what", "is", "difference", "between", *words[2:at], "and", *words[at + 2 :]]


def _tenses(words: Sequence[str], kind: str) -> tuple[str, frozenset[str]]:
    """The main verb's tense, and all that differ from the present."""
    told = [tense for at, word in enumerate(words) if word in AUXILIARY and (tense := _tense_of(word, words, at))]
    first = next((at for at, word in enumerate(words) if word in AUXILIARY), len(words))
    verbs = words[1 : min(first, 5)] if kind in ("who", "what", "how many", "how much", "whose") else ()
    if any(word in PAST_FORMS or _is_participle(word) for word in verbs):
        told.insert(0, "past")
    return (told or ["present"])[0], frozenset(told) - {"present"}


def _tense_of(word: str, words: Sequence[str], at: int) -> str:
    if word in _HAVE:
        return "past" if word == "had" or _is_perfect(words, at) else ""
    if word in PAST:
        return "past"
    if word in ("will", "shall"):
        return "future"
    return "" if word in ("be", "been", "being") else "present"


def _is_participle(word: str) -> bool:
    return word in PARTICIPLES or (word.endswith("ed") and len(word) > 3 and word not in WHOLE)


def is_flag(word: str) -> bool:
    """Whether a word is an option of a command, whose case counts."""
    return len(word) > 1 and word[0] == "-" and word.lstrip("-")[:1].isalpha()


def _main_words(words: Sequence[str], kind: str) -> list[str]:
    """Without auxiliaries, articles and the general "I" and "you", in which no answer lies."""
    around = zip(words, ["", *words], [*words[1:], ""], strict=False)
    personal = kind in ("how", "yes or no", "") or not _SPEAKERS.isdisjoint(words)
    kept = [_kept(word, before, after, kind, personal=personal) for word, before, after in around]
    kept = ["" if word in _HAVE and _is_perfect(words, at) else word for at, word in enumerate(kept)]
    if words and words[0] in ("if", "whether"):
        kept[0] = ""
    found = [word for word in kept if word]
    return found if BE.isdisjoint(words) else _marked(found, kind)


def _kept(word: str, before: str, after: str, kind: str, *, personal: bool) -> str:
    """What stays of a word between two others; "" for nothing."""
    if word in MODALS:
        return _modal(word, before, after, kind)
    if word in BE or (word in ("do", "does", "did") and after):
        return ""
    if word == "there" and (before in BE or after in BE):
        return ""
    if word in ARTICLES and after and after not in PREPOSITIONS and before != "&":
        return ""
    if word in ("i", "one") and not _is_pronoun(before):
        return "1" if word == "one" or before in _NUMBERED else word
    if word == "my" and not personal:  # "what is my name" is not "what is your name"
        return word
    if word in GENERIC and not (kind == "yes or no" and word in ("you", "we") and before in _ASKING):
        return ""
    return word


def _modal(word: str, before: str, after: str, kind: str) -> str:
    if word == "may" and (before in _BEFORE_MAY or after[:1].isdigit()):
        return word
    droppable = kind == "how" or (after in GENERIC and kind not in ("yes or no", ""))
    return "" if droppable and word in _POSSIBLE else MODALS[word]


def _is_perfect(words: Sequence[str], at: int) -> bool:
    """Whether "have" only makes a tense: a participle follows."""
    return any(_is_participle(later) for later in words[at + 1 : at + 6])


def _is_pronoun(before: str) -> bool:
    """Whether "I" or "one" after this word is the asking person."""
    return before in _BEFORE_PRONOUN or before in QUESTION or (before in AUXILIARY and before not in BE)


def _marked(words: list[str], kind: str) -> list[str]:
    """Passives in the order of the active: agent, verb, patient."""
    by = next((at for at, word in enumerate(words) if word == "by" and at and _is_participle(words[at - 1])), None)
    asked = 1 if words and words[0] in QUESTION else 0
    if by is None:
        return _agentless(words, asked, kind)
    verb, patient, rest = words[by - 1], words[asked : by - 1], words[by + 1 :]
    if not rest:  # who was X written by
        return [*words[:asked], verb, *patient] if kind == "who" else words
    end = next((at for at, word in enumerate(rest) if word in PREPOSITIONS), len(rest))
    agent, tail = rest[:end], rest[end:]
    if kind in ("who", "what", "how many", "whose"):
        return [*words[:asked], *patient, *agent, verb, *tail]
    return [*words[:asked], *agent, verb, *patient, *tail]


def _agentless(words: list[str], asked: int, kind: str) -> list[str]:
    """A participle at the end of a part goes before what was done to: "when was X attacked" is not "when did X
    attack"."""
    ends = (at for at in range(asked, len(words)) if at + 1 == len(words) or words[at + 1] in PREPOSITIONS)
    verb = next((at for at in ends if _is_participle(words[at])), None)
    if verb is None:
        return words
    mark = [_PASSIVE] if kind in ("who", "what", "how many", "whose") else []
    return [*words[:asked], *mark, words[verb], *words[asked:verb], *words[verb + 1 :]]


def _parts(words: Sequence[str], *, whole: bool) -> tuple[Words, ...]:
    """The words by preposition, in canonical form."""
    if words and words[0] in QUESTION:
        words = words[1:]
    parts: list[list[str]] = [[_MAIN]]
    for at, word in enumerate(words):
        if word in PREPOSITIONS:
            last = at + 1 == len(words)
            parts.append([word if last else TOGETHER.get(word, "in" if word == "for" and whole else word)])
        elif word != "'s":
            parts[-1].append(canonical(word))
    return _ordered([tuple(part) for part in _folded(parts, whole=whole)])


def _folded(parts: list[list[str]], *, whole: bool) -> list[list[str]]:
    """ "capital of France" as "France capital", which "France's capital" and "the France capital" are as well.

    From the right, so that "father of the king" and "king of the father" stay apart. With `whole` the part before is
    one noun phrase ("what is the prime minister of ..."), else only its last word is ("did Rome beat the army of ...").
    """
    made = [list(part) for part in parts]
    for at in range(len(made) - 1, 0, -1):
        inner = made[at][0] == "of" or (made[at][0] == "in" and not _is_date(tuple(made[at])))
        if inner and len(made[at]) > 1 and len(made[at - 1]) > 1:
            owned, owner = made[at - 1], made.pop(at)[1:]
            place = 1 if whole or owned[0] != _MAIN else len(owned) - 1
            owned[place:place] = owner
    return made


def _ordered(parts: list[Words]) -> tuple[Words, ...]:
    """Moves that keep the roles: one date may stand anywhere, "to A from B" is "from B to A", "between A and B" as well
    "between B and A"."""
    dates = [
        part for part in parts if part[0] in ("in", "during", "since", "until", "before", "after") and _is_date(part)
    ]
    if len(dates) == 1:
        parts = [*(part for part in parts if part is not dates[0]), dates[0]]
    for at in range(len(parts) - 1):
        if (parts[at][0], parts[at + 1][0]) == ("to", "from"):
            parts[at], parts[at + 1] = parts[at + 1], parts[at]
    return tuple(_sorted_pair(part) for part in parts)


def _is_date(part: Words) -> bool:
    return len(part) > 1 and all(word in DATES or word[0].isdigit() for word in part[1:])


def _sorted_pair(part: Words) -> Words:
    if part[0] == "between" and part.count("and") == 1:
        at = part.index("and")
        first, second = sorted((part[1:at], part[at + 1 :]))
        return ("between", *first, "and", *second)
    return part


def canonical(word: str) -> str:
    """The first word of its synonyms, in its base form."""
    if word in SYNONYMS:
        return SYNONYMS[word]
    plain = base(word)
    return SYNONYMS.get(plain, plain)
