"""Whether numbers or names of a sentence changed places: from 5 to 8 and from 8 to 5, A beat B and B beat A.

Both sentences have the same words, so nothing else sees it. Two things changed places where each stands where the other
one did, with the same words between them; not where these are only "and" or "or", which hold both ways round.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from operator import attrgetter

from bookwheel.names import tokens
from bookwheel.quantities import is_year, keys_of, normalised, quantities

_EITHER_WAY = frozenset(["and", "or", "with", "und", "oder", "et", "ou", "y", "と", "や", "および", "及び", "または"])
_MOST = 12  # numbers and names of a sentence that are compared by pairs
_APART = 12  # words at most between the two


@dataclass(frozen=True, slots=True)
class _Word:
    """A word, or a number or run of capitalised words that has a place."""

    mask: str  # the casefolded word; "#" for numbers, "@" for names
    value: frozenset[str]  # keys of a number, words of a name


def swapped(claim: str, source: str) -> bool:
    """Whether two numbers or two names of the claim stand in each other's place in the source."""
    own = _words(claim)
    places = _lone_places(own)
    if len(places) < 2:
        return False
    theirs = _words(source)
    pairs = [(a, b) for a, b in combinations(_places(theirs)[: 2 * _MOST], 2) if b - a <= _APART]
    near = [(a, b) for a, b in combinations(places[:_MOST], 2) if b - a <= _APART and own[a].mask == own[b].mask]
    return any(_changed(own, one, theirs, pairs) for one in near) or _mispaired(claim, source)


def _changed(
    own: Sequence[_Word], at: tuple[int, int], theirs: Sequence[_Word], pairs: Sequence[tuple[int, int]]
) -> bool:
    """Whether these two stand the other way round in one of the source's pairs, and in none as here."""
    first, second = (own[place].value for place in at)
    between = [word.mask for word in own[at[0] + 1 : at[1]]]
    if _holds_either_way(between, own):
        return False
    turned = False
    for pair in pairs:
        one, other = (theirs[place].value for place in pair)
        if first & one and second & other:
            return False
        crossed = first & other and second & one
        if crossed and between == [word.mask for word in theirs[pair[0] + 1 : pair[1]]]:
            turned = turned or bool(between) or _beside(own, at, theirs, pair)
    return turned


def _holds_either_way(between: Sequence[str], own: Sequence[_Word]) -> bool:
    joined = bool(between) and _EITHER_WAY.issuperset(mask for mask in between if mask not in "#@")
    return joined and all(word.mask != "respectively" for word in own)


def _beside(own: Sequence[_Word], at: tuple[int, int], theirs: Sequence[_Word], pair: tuple[int, int]) -> bool:
    """Whether the same word stands before both pairs, or behind both: 3-1 has no word between."""
    before, behind = (_mask(own, at[0] - 1), _mask(own, at[1] + 1))
    return before == _mask(theirs, pair[0] - 1) or behind == _mask(theirs, pair[1] + 1)


def _mask(found: Sequence[_Word], at: int) -> str | None:
    return found[at].mask if 0 <= at < len(found) else None


def _places(found: Sequence[_Word]) -> list[int]:
    return [at for at, word in enumerate(found) if word.value]


def _lone_places(found: Sequence[_Word]) -> list[int]:
    """The places of what stands there only once: of two Counts of Soissons nothing can be told."""
    counts = Counter(part for word in found for part in word.value)
    return [at for at in _places(found) if all(counts[part] == 1 for part in found[at].value)]


def _words(text: str) -> list[_Word]:
    """The words in order; names that follow one another are one."""
    found = list[_Word]()
    for word, named in tokens(normalised(text)):
        folded = word.casefold()
        if word[0].isdigit():
            found.append(_Word("#", keys_of(quantities(word)) or frozenset([folded])))
        elif named and found and found[-1].mask == "@":
            found[-1] = _Word("@", found[-1].value | {folded})
        else:
            found.append(_Word("@", frozenset([folded])) if named else _Word(folded, frozenset()))
    return found


def _mispaired(claim: str, source: str) -> bool:
    """Whether the claim gives a year the number of another year: 1.2 in 2019 and 1.4 in 2020."""
    known = dict(_by_year(source))
    return len(known) > 1 and any(
        year in known and value != known[year] and value in known.values() for year, value in _by_year(claim)
    )


def _by_year(text: str) -> Iterator[tuple[str, str]]:
    """Years with their numbers, where the text has nothing but one of each in turn."""
    found = sorted((one for one in quantities(text) if one.value is not None and one.firm), key=attrgetter("start"))
    kinds = [is_year(one) for one in found]
    if len(found) % 2 or any(one == other for one, other in pairwise(kinds)):
        return
    for one, other in zip(found[::2], found[1::2], strict=True):
        year, value = (one, other) if is_year(one) else (other, one)
        yield year.keys[0], value.keys[0]
