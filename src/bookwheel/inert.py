"""Answers without live links: what a document made a model write fetches nothing and leads nowhere.

    stream = InertStream(addresses_in(texts), policy="neutralise")
    async for piece in draft:
        stream.feed(piece)      # what is certain so far; a half-written link is held back
    stream.finish()

An image `![alt](https://host/?stolen)` becomes `alt`, a link its text and the bare host, raw HTML is escaped, a bare
address loses its scheme, and all but its host unless it stands in a passage: nothing can be told to a stranger by it.
`data:` and `javascript:` go. [n] markers stay. In code only what would be live outside of it is broken. With the policy
"documents" an address that stands in a passage stays live; "keep" changes nothing.

A later stage takes markers and sentences away, and what stood around them must not become a link then: a marker is
followed by a space where it holds two halves apart, a text in brackets keeps no `!` before it, and what stands for a
colon or slash is read first. However the draft is cut into pieces, what comes out is the same.
"""

import re
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from bookwheel.ports import LengthReachedError
from bookwheel.sentences import NOTE
from bookwheel.types import LinkPolicy

HELD = 2_000  # characters in which a link must end, else it is none; a longer word is cut by a space
DEEPEST = 16  # brackets within brackets
NOT_HOSTS = frozenset({"javascript", "vbscript", "data", "file", "blob"})  # schemes
_URL = (
    r"(?:(?:(?<![a-z0-9+.\-])[a-z][a-z0-9+.\-]*:|(?<![\w:/]))//(?=[^\s/])"
    r"|(?<![a-z0-9])(?:javascript|vbscript):(?=\S)|(?<![a-z0-9])data:(?=[a-z0-9.+\-]*[/;,]\S)"
    r"|(?<![\w.])www\.(?=\w))[!#-;=?-Z\\^_a-z{|}~]*"  # all that is visible in ASCII but " < > [ ] `
)
_ADDRESS = re.compile(_URL, re.IGNORECASE)
_NEXT = re.compile(rf"`+|!?\[|[\]】］<(\n]|{_URL}", re.IGNORECASE)
_VISIBLE = "".join(map(chr, range(33, 127))) + "【［】］"  # of these the next piece may go on with a last word
_MAY_BE_FENCE = re.compile(r" {0,3}(?:`{0,2}|`{3,}[^`\n]*|~{0,2}|~{3,}[^\n]*)\Z")
_FENCE = re.compile(r" {0,3}(?:(`{3,})[^`\n]*|(~{3,})[^\n]*)(?:\n|\Z)")
_NOTE = re.compile(NOTE)
_DISGUISED = re.compile(r"&(?:(colon|#0*58|#x0*3a)|sol|#0*47|#x0*2f)(?:;|(?![\w;]))|\\([:/])", re.IGNORECASE)
_AUTOLINK = re.compile(r"<([a-z][a-z0-9+.\-]+:[^\s<>]*)>", re.IGNORECASE)
_TAG = re.compile(r"<(?=[A-Za-z/!?]|[ \t]*[\[【［])")
_LIVE_TAG = re.compile(
    r"<(?=/?(?:a|img|image|script|i?frame|svg|math|object|embed|link|meta|style|base|form|input|button|video|audio"
    r"|source|track|picture|portal|template|body|html|details|marquee)\b)",
    re.IGNORECASE,
)
_LIVE_TARGET = re.compile(r"\](?=\([ \t\n]*<?[ \t]*(?:[a-z][a-z0-9+.\-]*:|[/\\]{2}|&))", re.IGNORECASE)
_TARGET = re.compile(r"\s*(?:<([^<>\n]*)>|(\S*))(?:\s+(?:\"[^\"]*\"|'[^']*'|\([^()]*\)))?\s*")
_LINE_START = re.compile(r"\s*(?:(?:[-*+>]|\d{1,9}[.)])[ \t]*)*")
_BLANK = re.compile(r"\n[ \t]*\n")
_GLUED = re.compile(r"[\w/\\(<&#]|:(?=\S)", re.ASCII)  # what a marker must not be taken away from before
_CLOSERS = "\"'”’»)}）」』]】》〉*_`"
_TERMINATORS = tuple(".!?…。！？｡．॥।؟۔։")
_CLOSING = ".,;:!?'*_"


def addresses_in(texts: Iterable[str]) -> frozenset[str]:
    """The addresses that stand in these texts."""
    return frozenset(_trimmed(found[0]) for text in texts for found in _ADDRESS.finditer(text))


def inert_text(text: str, *, known: frozenset[str] = frozenset(), policy: LinkPolicy = "neutralise") -> str:
    """The whole text without live links."""
    stream = InertStream(known=known, policy=policy)
    return stream.feed(text) + stream.finish()


async def inert(
    pieces: AsyncGenerator[str, None], *, known: frozenset[str], policy: LinkPolicy
) -> AsyncGenerator[str, None]:
    """A generator's text without live links. The pieces are closed with it, and their errors pass on behind what was
    written before."""
    stream = InertStream(known=known, policy=policy)
    async with aclosing(pieces):
        try:
            async for piece in pieces:
                if text := stream.feed(piece):
                    yield text
        except LengthReachedError:
            yield stream.finish()
            raise
    yield stream.finish()


@dataclass(slots=True)
class _Place:
    """Where a reader of a draft is."""

    fence: str = ""  #: of the block of code that is open
    line: str = "\n"  #: the end of what was read of the present line, and its line break
    odd_tick: bool = False  #: of this paragraph: what is code is not certain any more


@dataclass(slots=True, kw_only=True)
class InertStream:
    """Feed it the draft; see above."""

    known: frozenset[str] = frozenset()  #: addresses that stand in the passages
    policy: LinkPolicy = "neutralise"
    _held: str = field(default="", init=False)  # a link that may go on
    _word: str = field(default="", init=False)  # the last word, as it came
    _place: _Place = field(default_factory=_Place, init=False)

    def feed(self, piece: str) -> str:
        """Take a piece; what is certain now."""
        if self.policy == "keep":
            return piece
        self._word += piece
        out = self._read(last=False)
        if len(self._held) + len(self._word) > 2 * HELD:
            out += f"{self._read(last=True)} "
        return out

    def finish(self) -> str:
        """The end: what was held back."""
        return self._read(last=True)

    def _read(self, *, last: bool) -> str:
        end = len(self._word) if last else _certain(self._word)
        text, self._word = self._held + _plain(self._word[:end]), self._word[end:]
        reader = _Reader(text, self._place, known=self.known, policy=self.policy, last=last)
        out = reader.read()
        self._held = text[reader.at :]
        return out


def _plain(text: str) -> str:
    """With colons and slashes for what stands for them in Markdown."""
    return _DISGUISED.sub(lambda found: ":" if found[1] or found[2] == ":" else "/", text)


def _certain(text: str) -> int:
    """Where the last word begins, with a `<` before it: the next piece may go on with it."""
    end = len(text.rstrip(_VISIBLE))
    before = text[:end].rstrip(" \t")
    return len(before) - 1 if before.endswith("<") else end


class _Reader:
    """Reads as much of a text as is certain."""

    def __init__(self, text: str, place: _Place, *, known: frozenset[str], policy: LinkPolicy, last: bool) -> None:
        self.text, self.place, self.last = text, place, last
        self.known, self.policy = known, policy
        self.at = 0  #: how far it was read
        self.out: list[str] = []

    def read(self) -> str:
        """What comes out."""
        while self.at < len(self.text) and (self._code() if self._in_code() else self._prose()):
            pass
        return "".join(self.out)

    def _take(self, end: int, shown: str) -> Literal[True]:
        """The text up to `end` was read, and this comes out for it."""
        line = self.place.line + self.text[self.at : end]
        self.place.line = line[max(line.rfind("\n"), len(line) - 200) :]
        self.at = end
        self.out.append(shown)
        return True

    def _in_code(self) -> bool:
        if self.place.fence or self.place.line != "\n":
            return bool(self.place.fence)
        whole = _FENCE.match(self.text, self.at)
        return bool(whole or (not self.last and _MAY_BE_FENCE.match(self.text, self.at)))

    def _code(self) -> bool:
        """A line of a block of code, or one of its fences; False when it is not whole yet."""
        end = self.text.find("\n", self.at) + 1 or len(self.text)
        line, place = self.text[self.at : end], self.place
        if not (self.last or line.endswith("\n")):
            return False
        fence = _FENCE.match(line) if place.line == "\n" else None
        mark = (fence[1] or fence[2]) if fence else ""
        if not place.fence:
            place.fence, place.odd_tick = mark, False
        elif mark.startswith(place.fence) and line.strip() == mark:
            place.fence = ""
        return self._take(end, _coded(line))

    def _prose(self) -> bool:
        """The text up to the next thing of note, or that thing; False when it is not whole yet."""
        found = _NEXT.search(self.text, self.at)
        if found is None or found.start() > self.at:
            end = found.start() if found else len(self.text)
            return self._take(end, self.text[self.at : end])
        match found[0][0]:
            case "\n":
                self.place.odd_tick &= not self.place.line.isspace()
                return self._take(found.end(), "\n")
            case "`":
                return self._ticks(found[0])
            case "[" | "!":
                return self._bracket(found.end() - 1)
            case "]" | "】" | "］":
                glued = self.text[found.end() : found.end() + 1] in ("(", ":") or self._is_glued(found.end())
                return self._take(found.end(), found[0] + " " * glued)
            case "<":
                return self._angle()
            case "(":
                return self._take(found.end(), " (" if self._ends_sentence() else "(")
        address = _trimmed(found[0])
        return self._take(self.at + len(address), self._shown(address))

    def _ticks(self, run: str) -> bool:
        """A code span, if it ends in its line."""
        end = self.text.find("\n", self.at)
        line = self.text[self.at : end if end >= 0 else len(self.text)]
        close = re.compile(rf"(?<!`){run}(?!`)").search(line, len(run))
        if close and not self.place.odd_tick:
            return self._take(self.at + close.end(), _coded(line[: close.end()]))
        if end < 0 and not (self.last or close or len(line) > HELD):
            return False
        self.place.odd_tick = True
        return self._take(self.at + len(run), run)

    def _bracket(self, opening: int) -> bool:
        """A marker, link or image, or a text in brackets."""
        close = self._closing(opening, "[]")
        if close is None:
            return False
        image = self.text[self.at] == "!"
        if close < 0:
            return self._take(opening + 1, "! [" if image else "[")
        if self.text[close + 1 : close + 2] == "(":
            end = self._closing(close + 1, "()")
            if end is None:
                return False
            target = _TARGET.fullmatch(self.text, close + 2, end) if end > 0 else None
            if target:
                return self._take(end + 1, self._link(opening, close, target[1] or target[2], image=image))
        return self._take(close + 1, self._bracketed(opening, close, image=image))

    def _closing(self, opening: int, pair: str) -> int | None:
        """The bracket that closes this one; -1 when none does in its paragraph, None when that is not certain yet."""
        blank = _BLANK.search(self.text, opening, opening + HELD)
        end = blank.start() if blank else min(opening + HELD, len(self.text))
        depth = 0
        for found in re.compile(rf"[\{pair[0]}\{pair[1]}]").finditer(self.text, opening, end):
            depth += 1 if found[0] == pair[0] else -1
            if depth == 0:
                return found.start()
            if depth > DEEPEST:
                return -1
        return -1 if self.last or blank or opening + HELD <= len(self.text) else None

    def _link(self, opening: int, close: int, address: str, *, image: bool) -> str:
        label = self.text[opening : close + 1]
        if _NOTE.fullmatch(label):
            return label
        text = self._inner(label)
        if self.policy == "documents" and address in self.known:
            return f"{'!' * image}[{text}]({f'<{address}>' if set('()') & set(address) else address})"
        host = "" if image else _host(address)
        return f"{text} ({host})" if host and host not in text.casefold() else text

    def _bracketed(self, opening: int, close: int, *, image: bool) -> str:
        """What is no link, and cannot become one or the target of one."""
        label, before = self.text[opening : close + 1], self.place.line + self.text[self.at : opening]
        following = self.text[close + 1 : close + 2]
        defines = following == ":" and bool(before.endswith("]") or "\n" in label or _LINE_START.fullmatch(before))
        apart = " " if defines or following == "(" else ""
        if _NOTE.fullmatch(label):
            return "!" * image + label + (apart or " " * self._is_glued(close + 1))
        return self._inner(label) if image else f"[{self._inner(label)}]{apart}"

    def _inner(self, label: str) -> str:
        return inert_text(label[1:-1], known=self.known, policy=self.policy)

    def _is_glued(self, end: int) -> bool:
        return bool(_GLUED.match(self.text, end))

    def _ends_sentence(self) -> bool:
        """Whether a marker may be put here, which would make what follows in parentheses its target."""
        return (self.place.line + self.text[: self.at])[-40:].rstrip(_CLOSERS).endswith(_TERMINATORS)

    def _angle(self) -> bool:
        autolink = _AUTOLINK.match(self.text, self.at)
        if autolink is None:
            return self._take(self.at + 1, "&lt;" if _TAG.match(self.text, self.at) else "<")
        return self._take(autolink.end(), self._shown(autolink[1]))

    def _shown(self, address: str) -> str:
        """An address that nothing follows: all of it where it stands in a passage, else the host."""
        if address not in self.known:
            return _host(address)
        if self.policy == "documents":
            return address
        rest = address.partition("//")[2] or address
        host, _, path = rest.partition("/")
        return f"{_host(address)}/{path}".replace("//", "/").rstrip("/") if host and _host(address) else ""


def _host(address: str) -> str:
    """The bare host of a web address, in lower case; nothing of others."""
    scheme, colon, rest = address.partition("//")
    if not colon:
        scheme, rest = "", address if address[:4].lower() == "www." else ""
    try:
        host = urlsplit(f"//{rest}").hostname or ""
    except ValueError:
        return ""
    known = scheme.rstrip(":").lower() not in NOT_HOSTS
    return host.removeprefix("www.") if known else ""


def _trimmed(address: str) -> str:
    """Without the punctuation of the sentence that it stands in."""
    address = address.rstrip(_CLOSING)
    while address.endswith(")") and address.count(")") > address.count("("):
        address = address[:-1].rstrip(_CLOSING)
    return address


def _coded(text: str) -> str:
    """Code without what would be live if it were none."""
    return _LIVE_TAG.sub("< ", _LIVE_TARGET.sub("] ", text))
