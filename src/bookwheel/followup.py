"""A follow-up question made self-contained, so that it can be searched for: "and when was it built?" after a question
about the Eiffel Tower becomes "and when was it built? Eiffel Tower".

There need be no language model, so nothing is rewritten: a question that rests on an earlier one (a pronoun without its
noun, no subject, hardly a word) keeps its own words, and the content words of what it rests on stand behind it. A word
too many costs a search little; a missing subject finds nothing.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bookwheel.sentences import SPACELESS, split_sentences, words

MAX_TURNS = 20  #: questions looked back at
MAX_TERMS = 12  #: put behind a question
MAX_QUERY = 2_000  #: characters that are looked at, and of what comes out


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PERSONS = _set("he she him her his hers himself herself er ihn ihm elle lui él ella")
_POSSESSIVES = _set("his her hers its their theirs")
_PRONOUNS = _PERSONS | _set(
    "it its itself they them their theirs themselves this these those former latter same else"
    " sie ihr ihre ihren ihrer dessen deren dies dieser diese dieses davon dazu damit darüber"
    " il ils elles leur leurs cela ça celui celle cette ces ellos ellas eso esto ese esa este esta"
)
_SPACELESS_PRONOUNS = re.compile(r"それ|その|そこ|彼|彼女|これ|この|あれ|では|じゃあ|そして|它|他|她|那|这|這")
_OPENERS = _set("and but or so then also plus und aber oder et mais ou donc y pero o")
_ELLIPSIS = re.compile(
    r"^(?:(?:and|but|so|or) )?(?:what|how) about\b|^(?:und )?was ist mit\b|^et (?:pour|avec)\b|^¿?y \w+"
)
_DEFINITE = _set("the der die das le la les el los las")
_ARTICLES = _DEFINITE | _set("a an ein eine einen un une una")
_JOINS = _set("and or but when while because if since after before who which that und oder wenn weil et ou y o")
_ASKING = _set(
    "what who whom whose which when where why how was wer wen wem wessen welche welcher welches wann wo warum wieso"
    " wie qui que quoi quel quelle quels quelles quand où pourquoi comment combien qué quién cuándo dónde cómo cuál"
)
_VERBS = _set(
    "is are was were be been do does did done has have had can could will would should may might must shall"
    " ist sind war waren wurde wurden wird werden hat haben hatte kann können est sont était été a ont fut peut"
    " es son fue era eran está ha han puede"
)
_EMPTY = (
    _set(
        "of in on at to for from by with as and or but if than then also not no so i you we me my your our us please"
        " tell explain describe show give find more much many about there here any some into between detail details"
        " example examples yes ok okay thanks thank hello hi kind type name named called mean means meant really"
        " und oder aber für von mit zu im am dem den des bitte mehr et ou pour de du dans avec plus s'il por para con"
        " del más y o en"
    )
    | _PRONOUNS | _OPENERS | _ARTICLES | _JOINS | _ASKING | _VERBS
)  # fmt: skip
_AFTER = {  # words that are pronouns only behind one of these; `that` at an end too
    "that": _set("is was were are does did do has had about of for from with at in on to by like"),
    "es": _set("ist war wurde wird hat hatte kann konnte liegt steht gehört"),  # it is a verb in Spanish
}
_SPACELESS = re.compile(rf"[{SPACELESS}]")


@dataclass(frozen=True, slots=True)
class _Word:
    text: str  #: as it is written
    folded: str
    first: bool  #: in its sentence

    @property
    def is_content(self) -> bool:
        return self.folded not in _EMPTY and (len(self.folded) > 1 or self.folded.isdigit())

    @property
    def is_name(self) -> bool:
        """Written as a name or number, not only because a sentence begins."""
        return self.is_content and (self.text[0].isdigit() or (self.text[0].isupper() and not self.first))


def self_contained(question: str, history: Sequence[Mapping[str, Any]]) -> str:
    """The question with the content words of what it rests on; the question itself when it stands alone.

    `history` is what was said before, oldest first, as messages with `role` and `content`."""
    if len(question) > MAX_QUERY:
        return question
    turns = [turn for turn in history if turn.get("role") in ("user", "assistant") and turn.get("content")]
    added = _missing(question, turns[-2 * MAX_TURNS :])
    present = {word for word, _, _ in words(question)}
    wanted = [term for term in dict.fromkeys(added) if term.casefold() not in present][:MAX_TERMS]
    return " ".join((question.strip(), *wanted))[:MAX_QUERY] if wanted else question


def rests_on_more(question: str) -> bool:
    """Whether the question names too little to be understood alone."""
    if _SPACELESS.search(question):
        return bool(_SPACELESS_PRONOUNS.search(question)) or len(words(question)) < 4
    parts = _words(question)
    return _is_elliptic(question, parts) or _has_open_pronoun(parts) or _is_too_short(parts)


def _missing(question: str, turns: Sequence[Mapping[str, Any]]) -> list[str]:
    """Content words that the question takes from the turns before it."""
    if not turns or not rests_on_more(question):
        return []
    before = next((at for at in range(len(turns) - 1, -1, -1) if turns[at]["role"] == "user"), None)
    if before is None:
        return []
    last, earlier = _content(turns[before]), turns[:before]
    parts = _words(question)
    if _is_elliptic(question, parts) and _has_subject(parts):
        return [term for term in _topic(last, earlier) if not term[0].isupper()]  # the new subject takes its place
    about = _topic(last, earlier)
    if any(part.folded in _PERSONS for part in parts):
        about += _names_in(turns[before + 1 :])
    return about


def _topic(question: str, earlier: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a question was about: its content words, and what it rested on itself."""
    if _SPACELESS.search(question):
        return [question.strip()]
    parts = _words(question)
    own = [part for at, part in enumerate(parts) if part.is_content and not _is_deed(parts, at)]
    inherited = _missing(question, earlier)
    if inherited and not _is_elliptic(question, parts):  # of a question about the same thing only names are new
        own = [part for part in own if part.is_name]
    return [part.text for part in own] + inherited


def _is_deed(parts: Sequence[_Word], at: int) -> bool:
    """The verb of "who designed ...": it tells what was asked, not about what."""
    return at > 0 and parts[at - 1].folded in ("who", "what") and not parts[at].is_name and _contents(parts) > 1


def _is_elliptic(question: str, parts: Sequence[_Word]) -> bool:
    """A new subject for the old question: what about ..., and in France?"""
    if _ELLIPSIS.match(" ".join(question.casefold().split())):
        return True
    opens = bool(parts) and parts[0].folded in _OPENERS
    return opens and not any(part.folded in _ASKING | _VERBS for part in parts[1:])


def _has_subject(parts: Sequence[_Word]) -> bool:
    """Whether an elliptic question brings a subject of its own: a name, or a noun that is not of the old subject, as
    "the height" and "its height" may be."""
    if any(part.is_name for part in parts):
        return True
    leans = any(part.folded in _DEFINITE or _is_pronoun(parts, at) for at, part in enumerate(parts))
    return _contents(parts) > 0 and not leans


def _has_open_pronoun(parts: Sequence[_Word]) -> bool:
    """A pronoun whose noun is not in the question itself."""
    return any(_is_pronoun(parts, at) and not _has_noun(parts, at) for at in range(len(parts)))


def _is_pronoun(parts: Sequence[_Word], at: int) -> bool:
    word = parts[at].folded
    if word not in _AFTER:
        return word in _PRONOUNS
    return (word == "that" and at in (0, len(parts) - 1)) or (at > 0 and parts[at - 1].folded in _AFTER[word])


def _has_noun(parts: Sequence[_Word], at: int) -> bool:
    """Whether something before the pronoun can be what it means: "Marie Curie ... her", "a wheel and who made it"."""
    before = parts[:at]
    named = any(part.is_name for part in before)
    if parts[at].folded in _POSSESSIVES and named:
        return True
    noun = next((here for here, part in enumerate(before) if part.is_name or _follows_article(before, here)), None)
    return noun is not None and any(part.folded in _JOINS for part in before[noun + 1 :])


def _follows_article(parts: Sequence[_Word], at: int) -> bool:
    return at > 0 and parts[at].is_content and parts[at - 1].folded in _ARTICLES


def _is_too_short(parts: Sequence[_Word]) -> bool:
    """No content at all (why?), or two words that ask without saying about what (how tall?)."""
    if _contents(parts) == 0:
        return True
    asks = parts[0].folded in _ASKING or parts[-1].folded in _ASKING
    return len(parts) <= 2 and asks and not any(part.is_name for part in parts)


def _contents(parts: Sequence[_Word]) -> int:
    return sum(part.is_content for part in parts)


def _names_in(turns: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names in the first sentence of the answer: whom "he" may mean."""
    for turn in turns:
        text = _content(turn)
        for start, end in split_sentences(text)[:1]:
            parts = _words(text[start:end])
            return [part.text for part in parts if part.is_name and not part.text.isdigit()]
    return []


def _content(turn: Mapping[str, Any]) -> str:
    return str(turn["content"])[:MAX_QUERY]


def _words(text: str) -> list[_Word]:
    starts = {start for start, _ in split_sentences(text)}
    found = words(text)
    firsts = {min((start for _, start, _ in found if start >= begin), default=begin) for begin in starts}
    return [_Word(text[start:end], folded, start in firsts) for folded, start, end in found]
