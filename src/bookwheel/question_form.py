"""A question in the form in which two of them can be compared: what it asks, its tense, its words in canonical order.

For English. Contractions, polite openings, ways to ask, articles, auxiliaries, inflection and synonyms are undone (see
`wording` and `inflection`); passives stand in the order of the active; "France's capital" and "capital of France" are
one. Whatever no rule knows stays as it is, so that it can only keep two questions apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from bookwheel.inflection import base
from bookwheel.question_order import is_participle, kind_of, reordered
from bookwheel.question_words import tokens
from bookwheel.wording import (
    ARTICLES,
    AUXILIARY,
    BE,
    DATES,
    MODALS,
    NAMED_DATES,
    PARTICIPLES,
    PAST,
    PAST_FORMS,
    PERSONS,
    PREPOSITIONS,
    QUESTION,
    SYNONYMS,
    TOGETHER,
    UNITS,
)

Words = tuple[str, ...]

_CENTURIES = ("15", "16", "17", "18", "19", "20")
_HAVE = frozenset({"have", "has", "had"})
_NUMBERED = frozenset({"type", "part", "phase", "war", "class", "chapter", "volume", "schedule"})  # before I: 1
_BEFORE_MAY = frozenset({"in", "on", "of", "from", "to", "since", "until", "by", "and"})  # the month
_BEFORE_PRONOUN = frozenset({"", "if", "that", "after", "before", "not", "and", "am"})
_MAIN = "MAIN"  # the prefix of the words before the first preposition
_PASSIVE = "PASSIVE"
_THE = "THE"  # "what is the cloud" is not "what is a cloud"


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A question in the form in which two are compared."""

    kind: str  #: what is asked for: who, when, how many, ...; "" where the text does not say
    tense: str  #: of the main verb: past, future, present
    other_tenses: frozenset[str]
    verb: str  #: be, do, or verb where it is neither; "" where that says nothing
    parts: tuple[Words, ...]  #: each its preposition, or MAIN, and its words, in order


def read(text: str, names: frozenset[str] = frozenset(), *, cased: bool = False) -> Form:
    """The form of a question in English, of a normalised text.

    `names` are words that stand with a capital in this text or in the other, `cased` says that both have some.
    """
    words = reordered(tokens(text, cased=cased))
    kind = kind_of(words)[0]
    tense, others = _tenses(words, kind)
    whole = _is_noun_phrase(words, kind)
    fixed = names | _nouns(words)
    parts = _parts(_main_words(words, kind), fixed, whole=whole)
    return Form(kind=kind, tense=tense, other_tenses=others, verb=_verb(words, kind), parts=parts)


def _nouns(words: Sequence[str]) -> frozenset[str]:
    """Words after an article that elsewhere are a form of a verb: a rose, the lead, a saw."""
    return frozenset(
        word for before, word in pairwise(words) if before in ARTICLES and (word in PAST_FORMS or word in PARTICIPLES)
    )


def _verb(words: Sequence[str], kind: str) -> str:
    """What tells "is the door open" from "does the door open", and "who is like Rome" from "who likes Rome"."""
    at = next((at for at, word in enumerate(words) if word in AUXILIARY and word not in _HAVE), -1)
    if at < 0:
        return "verb" if kind in ("who", "what") else ""
    if words[at] in ("do", "does", "did"):
        return "do"
    if words[at] not in BE or any(word.endswith("ing") for word in words[at + 1 : at + 8]) or _passives(words):
        return ""
    return "be"


def _is_noun_phrase(words: Sequence[str], kind: str) -> bool:
    """Whether a question only names what it wants: "what is the ...", "population of ..."."""
    asks = not kind or (kind in ("what", "who") and len(words) > 1 and words[1] in BE)
    return asks and not any(is_participle(word) for word in words)


def _tenses(words: Sequence[str], kind: str) -> tuple[str, frozenset[str]]:
    """The main verb's tense, and all that differ from the present."""
    told = [tense for at, word in enumerate(words) if word in AUXILIARY and (tense := _tense_of(word, words, at))]
    first = next((at for at, word in enumerate(words) if word in AUXILIARY), len(words))
    verbs = words[1 : min(first, 5)] if kind in ("who", "what", "how many", "how much", "whose") else ()
    if any(word in PAST_FORMS or is_participle(word) for word in verbs):
        told.insert(0, "past")
    return (told or ["present"])[0], frozenset(told) - {"present"}


def _tense_of(word: str, words: Sequence[str], at: int) -> str:
    if word in _HAVE:
        perfect = _is_perfect(words, at)
        return ("pluperfect" if perfect else "past") if word == "had" else "perfect" if perfect else ""
    if word in PAST:
        return "past"
    if word in ("will", "shall"):
        return "future"
    return "" if word in ("be", "been", "being") else "present"


def _main_words(words: Sequence[str], kind: str) -> list[str]:
    """Without auxiliaries, without articles, and without the "my" of who asks "how do I"."""
    around = zip(words, ["", *words], [*words[1:], ""], strict=False)
    mine = words[:1] == ["HOW"] and PERSONS.isdisjoint(frozenset(words) - {"my"})
    passive = _passives(words)
    if kind == "why" and not BE.isdisjoint(words):  # why am I getting
        words = [_base(word) if word.endswith("ing") else word for word in words]
        around = zip(words, ["", *words], [*words[1:], ""], strict=False)
    kept = [_kept(word, before, after, mine=mine) for word, before, after in around]
    kept = ["" if word in _HAVE and _is_perfect(words, at) else word for at, word in enumerate(kept)]
    if words and words[0] in ("if", "whether"):
        kept[0] = ""
    if kind in ("what", "who") and len(words) > 3 and words[1] in BE and words[2] == "the":
        kept[2] = _THE if PREPOSITIONS.isdisjoint(words[1:]) and "'s" not in words else ""
    made: list[str] = []
    for at, word in enumerate(kept):
        made += [_PASSIVE] * (at in passive) + [word] * bool(word)
    return made if BE.isdisjoint(words) else _marked(made, kind)


def _passives(words: Sequence[str]) -> frozenset[int]:
    """Where a participle after a form of "be" makes a passive: "was given", "was the team given"."""
    found = set()
    for at, word in enumerate(words):
        if word in BE:
            found.add(next((end for end in range(at + 1, len(words)) if _ends(words, end)), len(words)))
    return frozenset(end for end in found if end < len(words) and is_participle(words[end]))


def _ends(words: Sequence[str], at: int) -> bool:
    """Whether a passive has its participle here, or nowhere: it stands after no article, and before another verb."""
    word, before = words[at], words[at - 1]
    told = is_participle(word) and before not in ARTICLES and before not in PERSONS and before not in PREPOSITIONS
    return told or word in AUXILIARY or word in QUESTION


def _kept(word: str, before: str, after: str, *, mine: bool) -> str:
    """What stays of a word between two others; "" for nothing."""
    if word in MODALS:
        return _modal(word, before, after)
    if word in BE or (word in ("do", "does", "did") and after):
        return ""
    if word == "there" and (before in BE or after in BE):
        return ""
    if word in ARTICLES and after and after not in PREPOSITIONS and before != "&":
        return ""
    if word in ("i", "one") and not _is_pronoun(before):
        return "1" if word == "one" or before in _NUMBERED else word
    return "" if mine and word == "my" else word


def _modal(word: str, before: str, after: str) -> str:
    if word == "may" and (before in _BEFORE_MAY or before[:1].isdigit() or after[:1].isdigit()):
        return word
    return "" if word == "can" and before == "how" else MODALS[word]


def _is_perfect(words: Sequence[str], at: int) -> bool:
    """Whether "have" only makes a tense: a participle follows."""
    return any(is_participle(later) for later in words[at + 1 : at + 6])


def _is_pronoun(before: str) -> bool:
    """Whether "I" or "one" after this word is the asking person."""
    return before in _BEFORE_PRONOUN or before in QUESTION or (before in AUXILIARY and before not in BE)


def _marked(words: list[str], kind: str) -> list[str]:
    """Passives in the order of the active: agent, verb, patient; the others keep their mark."""
    asked = 1 if words and words[0] in QUESTION else 0
    by = next((at for at, word in enumerate(words) if word == "by" and at and is_participle(words[at - 1])), None)
    if by is None or _PASSIVE not in words[:by]:
        return _agentless(words, asked, kind)
    plain = [word for word in words[:by] if word != _PASSIVE]
    verb, patient, rest = plain[-1], plain[asked:-1], words[by + 1 :]
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
    marks = [at for at, word in enumerate(words) if word == _PASSIVE]
    if len(marks) != 1 or kind in ("who", "what", "how many", "whose"):
        return words
    verb = marks[0] + 1
    if verb == asked + 1 or (verb + 1 < len(words) and words[verb + 1] not in PREPOSITIONS):
        return words
    return [*words[:asked], words[verb], *words[asked : verb - 1], *words[verb + 1 :]]


def _parts(words: Sequence[str], fixed: frozenset[str], *, whole: bool) -> tuple[Words, ...]:
    """The words by preposition, in canonical form."""
    if words and words[0] in QUESTION:
        words = [words[0], _base(words[1]), *words[2:]] if words[0] == "HOW" and len(words) > 1 else words
        words = words[1:]
    parts: list[list[str]] = [[_MAIN]]
    for word in words:
        if word in PREPOSITIONS:
            parts.append([word])
        else:
            parts[-1].append(canonical(word, fixed))
    return _ordered([_dated(tuple(part)) for part in _folded(parts, whole=whole)])


def _dated(part: Words) -> Words:
    """ "in", "on", "at" and "during" a day, a month or a year are one."""
    if part[0] not in TOGETHER or not _is_date(part):
        return part
    named = any(word in NAMED_DATES or (len(word) == 4 and word[:2] in _CENTURIES) for word in part[1:])
    return ("in", *part[1:]) if named else part


def _folded(parts: list[list[str]], *, whole: bool) -> list[list[str]]:
    """ "capital of France" as "France's capital"; a glass of wine is no wine glass, so the mark of "of" stays.

    From the right, so that "father of the king" and "king of the father" stay apart. With `whole` the part before is
    one noun phrase ("what is the prime minister of ..."), else only its last word is ("did Rome beat the army of ...").
    """
    made = [list(part) for part in parts]
    for at in range(len(made) - 1, 0, -1):
        if made[at][0] == "of" and len(made[at]) > 1 and len(made[at - 1]) > 1:
            owned, owner = made[at - 1], made.pop(at)[1:]
            place = 1 if whole or owned[0] != _MAIN else len(owned) - 1
            owned[place:place] = [*owner, "'s"]
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


def canonical(word: str, fixed: frozenset[str] = frozenset()) -> str:
    """The first word of its synonyms, in its base form; names, gerunds and the words in `fixed` have none.

    "What is programming" is not "what is a program", "what are you doing" not "what do you do".
    """
    if word in fixed:
        told = SYNONYMS.get(word, word)
        return told if told in DATES or told in UNITS or told[0].isdigit() else word
    if word in SYNONYMS:
        return SYNONYMS[word]
    if word.endswith("ing"):
        return word
    plain = _base(word)
    return word if plain in fixed else plain  # Apple's, apples


def _base(word: str) -> str:
    plain = base(word)
    return SYNONYMS.get(plain, plain)
