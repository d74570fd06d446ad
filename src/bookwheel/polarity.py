"""Whether a sentence says the opposite of another one: a negation more or less, or a word of direction turned round.

The scope of a negation is the three content words behind it in its clause (Japanese: the clause it ends). What is not
written as a negation or as one of the pairs below is not seen.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from bookwheel.sentences import SPACELESS, words
from bookwheel.terms import in_order, terms

_SCOPE = 3  # content words
_CUT = re.compile(r"[,;:()—–]|\bbut\b|[.!?](?=\s|$)")
_NOT = re.compile(
    r"\b(?:not|never|no|nor|neither|none|nobody|nothing|without|cannot|unable|nicht|kein\w*|nie|jamais|ninguno)\b"
    r"|n[’']t\b",
    re.IGNORECASE,
)
_NOT_ONLY = re.compile(r"\bnot (?:only|just|merely)\b|\bno (?:longer than|later than|fewer than|less than)\b", re.I)
_SPACELESS = re.compile(rf"[{SPACELESS}]")
_SPACELESS_NOT = re.compile(
    r"(?<!少)(?<!危)なかった|(?<!少)(?<!危)(?<!かもしれ)(?<!ならば)ない(?!か)|ません|(?<=[らさせてしきえけれめべ])ず(?=[、。に]|$)"
    r"|(?<!だけで)(?<!だけでは)(?<!少)なく(?!な)"
)
_SPACELESS_CUT = re.compile(r"[、。，；：（）「」『』]")
_LIKE = 0.5  # of a Japanese clause's pairs, for another clause to be about the same

_PAIRS = [
    tuple(frozenset(side.split()) for side in pair.split("/"))
    for pair in (
        "rose rise rises risen rising increase increased increases increasing grew grow grows grown growth gained gain"
        " higher/fell fall falls fallen falling decrease decreased decreases decreasing declined decline declines"
        " shrank dropped drop lower reduced",
        "before prior/after following",
        "above over exceeds exceeded/below under beneath",
        "more greater larger bigger/less fewer smaller",
        "largest biggest greatest/smallest least",
        "highest/lowest",
        "longest/shortest",
        "oldest/youngest newest",
        "earliest first/latest last",
        "won win wins winning victory/lost lose loses losing defeat",
        "north northern/south southern",
        "east eastern/west western",
        "profit profitable/loss losses",
        "always/never",
        "accepted accepts approved/rejected rejects refused",
        "allowed allows permitted/forbidden forbids prohibited banned",
        "began begins started opened/ended ends finished closed",
        "with/without",
        "most many/few",
        "maximum/minimum",
        "inside within/outside",
        "true/false",
        "positive/negative",
        "early/late",
        "successful succeeded/unsuccessful failed",
        "増加 上昇 増え/減少 下落 低下 減っ",
        "最大/最小",
        "最高/最低",
        "以前/以後",
        "北/南",
        "東/西",
        "勝利/敗北",
    )
]


def contradicts(claim: str, source: str) -> bool:
    """Whether the claim denies what the source says, says what it denies, or turns its direction."""
    if _SPACELESS.search(claim):
        return _turns_spaceless(claim, source) or _turns_direction(claim, source)
    # A source has many clauses, and a negated one may share its objects with what the claim says.
    denies = _denies(claim, source, first=False) or _denies(source, claim, first=True)
    return denies or _turns_direction(claim, source)


def opposed(new: Sequence[str], old: Sequence[str]) -> bool:
    """Whether casefolded words that stand in place of others are of the other side of a pair."""
    own, theirs = frozenset(new), frozenset(old)
    return any((own & a and theirs & b) or (own & b and theirs & a) for a, b in _PAIRS)


def _denies(one: str, other: str, *, first: bool) -> bool:
    """Whether most of what `one` negates stands in `other` without a negation; with `first` its first word too."""
    denied = frozenset(term for scope in _scopes(other) for term in scope)
    said = terms(other)
    return any(scope and _is_said(scope, said, denied, first=first) for scope in _scopes(one))


def _is_said(scope: Sequence[str], said: frozenset[str], denied: frozenset[str], *, first: bool) -> bool:
    shared = [term in said for term in scope]
    most = 2 * sum(shared) > len(shared) and (shared[0] or not first)
    return most and not any(term in denied for term in scope)


def _scopes(text: str) -> Iterator[Sequence[str]]:
    """The content words that each negation is about."""
    blanked = _NOT_ONLY.sub(lambda match: " " * len(match[0]), text)
    for match in _NOT.finditer(blanked):
        ends = [found.start() for found in (_CUT.search(text, match.end()), _NOT.search(text, match.end())) if found]
        scope = text[match.end() : min(ends, default=len(text))]
        yield [term for term, _, _ in in_order(scope)][:_SCOPE]


def _turns_spaceless(claim: str, source: str) -> bool:
    """Whether a clause of the claim and the source's clause most like it differ in being negated."""
    theirs = [(terms(clause), _negations(clause)) for clause in _clauses(source)]
    for clause in _clauses(claim):
        own = terms(clause)
        alike = max(theirs, key=lambda one: _overlap(own, one[0]), default=None)
        if own and alike and _overlap(own, alike[0]) >= _LIKE and alike[1] != _negations(clause):
            return True
    return False


def _negations(clause: str) -> int:
    return len(_SPACELESS_NOT.findall(clause)) % 2


def _clauses(text: str) -> list[str]:
    return [clause for clause in _SPACELESS_CUT.split(text) if clause.strip()]


def _overlap(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / (len(one | other) or 1)


def _turns_direction(claim: str, source: str) -> bool:
    """Whether the claim has a word of one side of a pair, and the source only words of the other."""
    own, theirs = _plain(claim), _plain(source)
    return any(_only(own, theirs, a, b) or _only(own, theirs, b, a) for a, b in _PAIRS)


def _only(own: frozenset[str], theirs: frozenset[str], a: frozenset[str], b: frozenset[str]) -> bool:
    return bool(own & a) and not own & b and not theirs & a and bool(theirs & b)


def _plain(text: str) -> frozenset[str]:
    """The words; where no spaces are, each character and pair of characters."""
    found = [word for word, _, _ in words(text)]
    pairs = {one + other for one, other in pairwise(found) if _SPACELESS.match(one)}
    return frozenset(found) | pairs
