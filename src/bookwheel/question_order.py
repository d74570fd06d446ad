"""A question brought to the order and the phrases that `question_form` reads: rewritten, never judged.

Polite openings, ways to ask and what stands before the question word; a rule that finds nothing leaves the words.
"""

from collections.abc import Sequence

from bookwheel.inflection import WHOLE
from bookwheel.phrases import PHRASES, POLITE, phrase_at
from bookwheel.wording import (
    AUXILIARY,
    BE,
    ONES,
    PARTICIPLES,
    PARTICLE_VERBS,
    PARTICLES,
    PERSONS,
    PREPOSITIONS,
    QUESTION,
    SYNONYMS,
    TENS,
)

_CURRENCIES = frozenset({"$", "€", "£", "¥", "₹"})
# The persons that one way to ask "how" may leave out; with others beside them they have a role.
_ALONE = (frozenset({"i", "my", "myself"}), frozenset({"you"}), frozenset({"one"}))
_ANYONE = frozenset({"it", "he", "she", "this", "that", "they", "you", "i", "we", "these", "those"})
_GREETINGS = frozenset(
    ("hi", "hello", "hey", "there", "thanks", "ok", "so", "morning", "evening", "afternoon", "please", "kindly")
)
_ASKED = frozenset(QUESTION) | {"which", "whom", "if", "whether"}
_ASKED_FIRST = PREPOSITIONS | AUXILIARY | {"the"}


def reordered(words: list[str]) -> list[str]:
    """The words of a question without its opening, with known phrases replaced and the question word in front."""
    words = _without_opening(_joined(words))
    words = _joined(_rewritten(_with_roles(words)))
    kind, asked = kind_of(words)
    return _moved(words, kind, asked)


def _with_roles(words: list[str]) -> list[str]:
    """A how-question with more persons than the one who asks keeps them: "how do you process my data"."""
    persons = PERSONS.intersection(words)
    if "how" not in words or any(persons <= alone for alone in _ALONE):
        return words
    return [word.upper() if word in ("i", "you", "one") else word for word in words]


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
        rest = words[len(row[0]) :]
        if not (
            row[1] or row[0][-1] in _GREETINGS or row[0][0] in ("excuse", "a", "quick") or _asks(rest)
        ):  # do you know Python
            break
        words = [*row[1], *rest]
        if not row[1] and words[0] == "the":  # tell me the
            words = ["what", "is", *words]
    return words


def _asks(words: Sequence[str]) -> bool:
    """Whether a question stands in these words, or the thing that is asked for."""
    return words[0] in _ASKED_FIRST or not _ASKED.isdisjoint(words[:4])


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


def kind_of(words: Sequence[str]) -> tuple[str, int]:
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
    if kind == "what" and len(words) > 2 and (named := _named_first(words)):
        return named
    if kind == "what" and words[-1] == "mean" and words[1] == "does" and _ANYONE.isdisjoint(words):  # what does X mean
        return ["what", "is", *words[2:-1]]
    if kind == "how much" and words[-1] in ("cost", "costs"):
        return ["what", "is", "price", "of", *[word for word in words[1:-1] if word not in ("do", "does")]]
    if kind == "how many" and words[-1] in ("have", "has"):
        turn = next((at for at, word in enumerate(words) if word in ("do", "does")), 0)
        if turn:
            return [*words[:turn], "in", *words[turn + 1 : -1]]
    if kind == "how many" and words[1:4] == ["people", "live", "in"] and PREPOSITIONS.isdisjoint(words[4:]):
        return ["what", "is", "population", "of", *words[4:]]
    if kind == "how" and (ways := _differing(words)):
        return ways
    if kind == "what" and words[-2:] == ["used", "for"]:
        return ["what", "is", "purpose", "of", *(word for word in words[1:-2] if word not in BE)]
    if kind == "where" and words[-1] in ("located", "situated"):
        return words[:-1]
    if words[:3] == ["do", "i", "need"]:  # is a visa required
        end = next((at for at in range(3, len(words)) if words[at] in PREPOSITIONS), len(words))
        return ["is", *words[3:end], "required", *words[end:]]
    if kind == "yes or no" and words[0] in ("do", "does") and "must" in words[2:5]:  # does he have to pay
        at = words.index("must")
        return words if "not" in words[:at] else ["must", *words[1:at], *words[at + 1 :]]
    return words


def _named_first(words: Sequence[str]) -> list[str] | None:
    """Which city is the largest in Spain: what is the largest city; which language is the language of: what is the."""
    if words[2:6] == ["the", "name", "of", "the"] and "".join(words[6:7]).endswith("est"):  # the name of the tallest
        return [*words[:2], *words[5:]]
    if words[-2] in BE and words[2:3] == ["of"] and not (words[-1] in _ANYONE or is_participle(words[-1])):
        return ["what", words[-2], "the", words[-1], *words[1:-2]]  # what version of Debian is current
    if words[2:3] == ["of"] and words[-3] in BE and words[-2] == "the" and words[-1].endswith("est"):
        return ["what", *words[-3:], *words[1:-3]]  # which animal of the sea is the largest
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


def is_participle(word: str) -> bool:
    return word in PARTICIPLES or (word.endswith("ed") and len(word) > 3 and word not in WHOLE)
