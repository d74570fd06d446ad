"""Whether two questions ask the same, so that the answer to one may be given to the other.

An embedding cannot say: "turn on" and "turn off", 2021 and 2022, A before B and B before A lie above any useful cosine.
So this is the second gate of the semantic cache. Both questions are brought to one form, in which contractions, polite
openings, ways to ask, inflection and a table of synonyms are undone, and the forms must be equal: every other word in
one and not in the other makes them different, and so does another order, but for a few moves that keep the roles. What
is not understood is different: texts that are not English must be equal but for case, spaces and punctuation.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Literal

from bookwheel.question_form import Form, Words, canonical, read
from bookwheel.question_words import has_case, inner_names, is_flag, spelt
from bookwheel.wording import DATES, DIRECTIONS, ENGLISH, FOREIGN, IN_NAMES, NEGATIONS, UNITS

Difference = Literal[
    "question", "tense", "numbers", "dates", "negation", "direction", "units", "names", "words", "order"
]

LATIN = 0x24F  # the last letter of Latin Extended-B
LONGEST = 600  # characters; a longer text is more than a question
_LETTERS = re.compile(r"[^\W\d_]+")
_QUOTES = str.maketrans({"’": "'", "‘": "'", "´": "'", "`": "'", "ʼ": "'", "−": "-", "–": "-", "‐": "-", "‑": "-"})
_STRICT = re.compile(r"[.,](?!\w)|:(?!\d)|(?<!\d)[:!]|[;?¿¡\"“”„«»…、。，「」『』・？！：；（）]")


def same_question(one: str, other: str) -> bool:
    """Whether the answer to one question answers the other. Symmetric; wrong on the side of "no"."""
    return difference(one, other) is None


def difference(one: str, other: str) -> Difference | None:
    """Why two questions are not the same; None where they are. Symmetric."""
    one, other = (unicodedata.normalize("NFKC", text).translate(_QUOTES) for text in (one, other))
    cased = has_case(one) and has_case(other)
    if _strict(one, cased=cased) == _strict(other, cased=cased):
        return None
    if max(len(one), len(other)) > LONGEST or not (_is_english(one) and _is_english(other)):
        return "words"
    names = inner_names(one) | inner_names(other)
    here, there = (read(text, names, cased=cased) for text in (one, other))
    odd = _odd(here, there)
    return _kind_of(odd, _capitals(one) | _capitals(other)) if odd else _unlike(here, there)


def _strict(text: str, *, cased: bool) -> str:
    """A text without what never changes a question: case, spaces and punctuation outside numbers and code."""
    words = _STRICT.sub(" ", text).split()
    shouted = text.isupper()
    return " ".join(
        _folded(word, before, cased=cased) if before and not shouted else word.casefold()
        for before, word in zip(["", *words], words, strict=False)
    )


def _folded(word: str, before: str, *, cased: bool) -> str:
    """A word without its case, but of options, of what is joined to a number, and of what `spelt` keeps."""
    if is_flag(word) or word[0].isdigit() or before[-1].isdigit():
        return word
    return spelt(word, cased=cased)


def _is_english(text: str) -> bool:
    """Whether the rules below understand a text: Latin letters, English function words and no foreign ones."""
    words = frozenset(_LETTERS.findall(text.lower()))
    if not text.isascii() and any(ord(letter) > LATIN and letter.isalpha() for letter in text):
        return False
    english, foreign = len(words & ENGLISH), words & FOREIGN
    if not english:
        return text.isascii() and not foreign
    return english > 2 * len(foreign - IN_NAMES)


def _unlike(one: Form, other: Form) -> Difference | None:
    """What is different between questions of the same words."""
    if not _same_kind(one, other):
        return "question"
    if (one.tense, one.other_tenses) != (other.tense, other.other_tenses):
        return "tense"
    if {one.verb, other.verb} in ({"be", "do"}, {"be", "verb"}):
        return "words"
    return None if one.parts == other.parts else "order"


def _same_kind(one: Form, other: Form) -> bool:
    """Whether they ask for the same kind of thing.

    A text that asks nothing aloud ("population of France", "reset password") may be a what or a how. "When does the
    shop open" asks for a time of day, "when did Luther die" does not.
    """
    kinds = {one.kind, other.kind}
    if kinds == {"when", "time of day"}:
        return one.tense == other.tense == "present"
    return len(kinds) == 1 or kinds in ({"", "what"}, {"", "how"})


def _odd(one: Form, other: Form) -> set[str]:
    """Words that one question has more often than the other."""
    here, there = Counter(_flat(one.parts)), Counter(_flat(other.parts))
    return set(here - there) | set(there - here)


def _kind_of(odd: set[str], capitals: frozenset[str]) -> Difference:
    """The weightiest kind of word among them."""
    kinds: tuple[tuple[Difference, bool], ...] = (
        ("negation", not odd.isdisjoint(NEGATIONS)),
        ("dates", not odd.isdisjoint(DATES) or any(_is_year(word) for word in odd)),
        ("direction", not odd.isdisjoint(DIRECTIONS)),
        ("numbers", any(word[0].isdigit() or (word[0] == "-" and word[1:2].isdigit()) for word in odd)),
        ("units", not odd.isdisjoint(UNITS)),
        ("names", not odd.isdisjoint(capitals)),
    )
    return next((kind for kind, found in kinds if found), "words")


def _is_year(word: str) -> bool:
    return len(word) == 4 and word.isdigit() and word[:2] in ("15", "16", "17", "18", "19", "20")


def _flat(parts: Iterable[Words]) -> list[str]:
    return [word for part in parts for word in part]


def _capitals(text: str) -> frozenset[str]:
    inner = re.findall(r"(?<=\S )\(?[\"']?([A-Z][^\W_]*)", text)
    return frozenset(form for word in inner for form in (word, word.lower(), canonical(word.lower())))
