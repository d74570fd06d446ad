"""Where the sentences of a passage stand: prose, Markdown and scripts without spaces, as character spans.

A small rule set of our own: pysbd is abandoned and reports wrong spans; sentencex (alive, 4 MB) must be told the
language, cuts table rows at "1." and grows quadratically on lists.
"""

import re
from collections.abc import Iterator

Span = tuple[int, int]  # start, end: characters of the text

# Characters that are words of their own when texts are compared: Chinese, Japanese, Korean.
SPACELESS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f"
# [1], [2, 3]: footnote numbers of a source, and the markers that a generator writes.
NOTE = r"[\[【［]\d{1,3}(?:[,、;，] ?\d{1,3}){0,15}[\]】］]"
# Words of scripts with spaces; single characters of those without. Footnote numbers count as nothing.
_WORDS = re.compile(rf"{NOTE}|([{SPACELESS}]|[^\W_{SPACELESS}]+)")
_LINE_MARK = re.compile(r"[ \t>]*(?:(?P<alone>#{1,6}[ \t]|\|)|[-*+•][ \t]|\(?\d{1,3}[.)][ \t])?[ \t]*")
# A terminator with what may close it: quotes, brackets, emphasis and footnote numbers.
_STOP = re.compile(
    r"(?P<stop>[.!?…]{1,8}|[。！？｡．॥।؟۔።։])(?:[\"'”’»)\]}）」』】〉》*_`]|\[\d{1,3}\]){0,8}(?=(?P<space>\s+)|)"
)
_WORD_BEFORE = re.compile(r"[^\W_][\w.&'’-]{0,19}$")
_OPENING = "\"'“‘«([{（「『【〈《*_`¿¡—–-"
_CLAUSES = (";；", ":：—–", ",，、", " \t\n　")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Before these nothing ends: a name, a number or an example follows.
_TITLES = _words(
    "dr mr mrs ms mx prof rev fr st gen col capt lt sgt cmdr adm gov sen rep hon pres vs cf e.g i.e viz approx ca"
    " resp incl excl mt ft messrs mme mlle z.b d.h bzw"
)
# Abbreviations only where a number, a letter or a Roman numeral follows.
_NUMBERED = _words("no nos nr fig figs vol vols p pp sec secs ch chap art arts eq eqs pt tab par ex app ed")
# These, initials and ordinals may end a sentence: then a word follows that opens sentences.
_EITHER = _words(
    "inc ltd co corp llc plc gmbh bros jr sr etc al est dept univ assn ave blvd rd hwy a.m p.m ph.d m.d b.a m.a b.c"
    " a.d jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat sun op cit ibid"
)
_OPENERS = _words(
    "a an the this that these those he she it they we i you his her its their our my in on at by for from with as if"
    " when while after before during since until although though because however but and or so yet then there here"
    " to of one some many most all both each no not what who where why how which another such under over according"
    " following today now also"
)
_INITIALS = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")
_NUMBER_LIKE = re.compile(r"[\"'“(#]?(?:\d|[IVXLC]+\b|[A-Z]\b)")
_FIRST_WORD = re.compile(r"[^\w\s]*([^\W\d_]+)")


def split_sentences(text: str) -> list[Span]:
    """Spans of the sentences in order, without outer whitespace, never empty of letters and digits.

    Headings, list items and table rows are units of their own, with their markup; time is linear in the text.
    """
    return [span for block in _blocks(text) for span in _sentences(text, *block) if _has_word(text, *span)]


def split_quotes(text: str, *, limit: int = 400) -> list[Span]:
    """As split_sentences, with sentences of more than `limit` characters cut at clauses."""
    return [part for span in split_sentences(text) for part in _cut(text, *span, limit) if _has_word(text, *part)]


def words(text: str) -> list[tuple[str, int, int]]:
    """Words with their spans, casefolded: how texts are compared. Each Chinese or Japanese character is one."""
    return [(match[1].casefold(), *match.span()) for match in _WORDS.finditer(text) if match[1]]


def _blocks(text: str) -> Iterator[tuple[int, int, int]]:
    """Stretches that no sentence crosses: (start, where the words begin, end). A row or heading begins at its end."""
    start = words = -1
    position = 0
    for line in text.splitlines(keepends=True):
        end = position + len(line)
        mark = _LINE_MARK.match(text, position, end)
        alone = bool(mark and mark["alone"])
        begins = alone or bool(mark and mark[0].strip(" \t>")) or not _has_word(text, position, end)
        if begins and start >= 0:
            yield start, words, position
            start = -1
        if alone:
            yield position, end, end
        elif start < 0 and _has_word(text, position, end):
            start, words = position, mark.end() if mark else position
        position = end
    if start >= 0:
        yield start, words, position


def _sentences(text: str, start: int, words: int, end: int) -> Iterator[Span]:
    """Cut one block at the terminators behind `words`."""
    for match in _STOP.finditer(text, words, end):
        if _ends(text, match, end):
            yield from _trimmed(text, start, match.end())
            start = match.end()
    yield from _trimmed(text, start, end)


def _ends(text: str, match: re.Match[str], end: int) -> bool:
    """Whether a sentence ends at this terminator."""
    stop, after = match["stop"], match.end()
    if stop in "。！？｡":
        return not (match.end() > match.end("stop") and _continues_quote(text, after, end))
    if match["space"] is None:
        return after >= end
    following = text[match.end("space") : min(match.end("space") + 24, end)]
    if following.lstrip(_OPENING)[:1].islower() or following[:1] in ",;)":
        return False
    return stop != "." or not _abbreviates(text, match.start(), following)


def _continues_quote(text: str, position: int, end: int) -> bool:
    """Japanese goes on after quoted speech with a particle: 「はい。」と言った。"""
    return position < end and "\u3041" <= text[position] <= "\u309f"


def _abbreviates(text: str, stop: int, following: str) -> bool:
    """Whether the full stop at `stop` belongs to an abbreviation, an initial or an ordinal (am 3. Oktober)."""
    found = _WORD_BEFORE.search(text, max(0, stop - 20), stop)
    if found is None:
        return False
    word = found[0].casefold()
    if word in _TITLES:
        return True
    if word in _NUMBERED:
        return bool(_NUMBER_LIKE.match(following))
    if word in _EITHER or (word.isdecimal() and len(word) <= 2) or _INITIALS.fullmatch(word):
        return not _opens_sentence(following)
    return False


def _opens_sentence(following: str) -> bool:
    """Whether the next word is one that sentences begin with, not the rest of a name."""
    word = _FIRST_WORD.match(following)
    return word is not None and word[1].casefold() in _OPENERS


def _cut(text: str, start: int, end: int, limit: int) -> Iterator[Span]:
    """Cut a span into parts of at most `limit` characters, at the strongest mark in the second half of each."""
    while end - start > limit:
        middle, last = start + limit // 2, start + limit
        places = (max(text.rfind(mark, middle, last) for mark in marks) for marks in _CLAUSES)
        place = next((place for place in places if place >= 0), last - 1) + 1
        yield from _trimmed(text, start, place)
        start = place
    yield from _trimmed(text, start, end)


def _trimmed(text: str, start: int, end: int) -> Iterator[Span]:
    """The span without outer whitespace, if anything is left."""
    piece = text[start:end]
    left = start + len(piece) - len(piece.lstrip())
    right = left + len(piece.strip())
    if left < right:
        yield left, right


_WORD = re.compile(r"[^\W_]")


def _has_word(text: str, start: int, end: int) -> bool:
    return _WORD.search(text, start, end) is not None
