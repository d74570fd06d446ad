"""Web pages without their furniture: what a reader came for, as plain HTML that converts well to Markdown.

Scripts, menus, footers, permalinks and link targets go; headings, lists, tables, code and text stay.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from html.parser import HTMLParser

from bookwheel.decoding import decode

_CHARSET = re.compile(rb"""<(?:meta|\?xml)[^>]{0,500}?(?:charset|encoding)\s*=\s*["']?([\w.:-]{2,40})""", re.IGNORECASE)
# Stands before a line of = or -, which kreuzberg would take for the underline of a heading. No text may hold it.
SHIELD = "\ufdd0"

_UNDERLINE = re.compile(r"^([ \t]*)(=+|-+)([ \t]*)$", re.MULTILINE)
_NEVER_CLOSED = re.compile(r"<(?=[^<>]*(?:<|\Z))")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_MANY = 1000
_SPACE = re.compile(r"\s+")
_Attributes = Sequence[tuple[str, str | None]]


def _words(names: str) -> frozenset[str]:
    return frozenset(names.split())


_VOID = _words("area base br col embed hr img input link meta param source track wbr")
_NEVER = _words("script style template noscript svg iframe object canvas audio video button select textarea dialog")
_FURNITURE = frozenset({"nav", "footer", "menu"})
_ROLES = frozenset({"navigation", "search", "menu", "menubar", "contentinfo", "toolbar"})
_CLASSES = _words(
    "related sphinxsidebar navheader navfooter headerlink mw-editsection navbox interlanguage-link catlinks breadcrumb"
    " breadcrumbs skip-link mw-jump-link toc sidebar-toc cookie-banner vector-dropdown noprint navbar nav navigation"
    " pagination element-invisible visually-hidden sr-only"
)
_BLOCKS = _words("div section article main header aside form fieldset figure figcaption address details summary")
_KEPT = _words(
    "h1 h2 h3 h4 h5 h6 p ul ol li dl dt dd table caption thead tbody tfoot tr td th pre code blockquote br hr"
)
_KEPT_ATTRIBUTES = frozenset({"colspan", "rowspan", "start"})
_FEW_CHARACTERS = 200
_LABELS = frozenset({"title", "desc", "text"})


@dataclass(frozen=True, slots=True, kw_only=True)
class WebPage:
    """A page reduced to its content."""

    html: str
    title: str | None


def decode_html(data: bytes) -> str:
    """The page's source as text, by its mark, its bytes and its own declaration. Raises NotTextError."""
    found = _CHARSET.search(data)
    return decode(data, found.group(1).decode("ascii") if found else None)


def content_of(source: str) -> WebPage:
    """The page's content. When leaving out menus leaves next to nothing, they stay: no page loses its text."""
    strict = _Cleaner(_FURNITURE)
    strict.run(source)
    if strict.unclosed or strict.kept < _FEW_CHARACTERS:
        lenient = _Cleaner(frozenset())
        lenient.run(source)
        if strict.unclosed or strict.kept * 2 < lenient.kept:
            return lenient.page()
    return strict.page()


def drawing_text(source: str) -> str:
    """What an SVG drawing says: its title, descriptions and labels, each on a line."""
    labels = _Labels(convert_charrefs=True)
    labels.feed(source)
    labels.close()
    return "\n".join(line for line in (" ".join(text.split()) for text in labels.lines) if line)


class _Parser(HTMLParser):
    def updatepos(self, i: int, j: int) -> int:  # noqa: ARG002 - HTMLParser gives it
        """Nobody asks for line numbers: counting them takes a tenth of the time."""
        return j


class _Labels(_Parser):
    def __init__(self, **options: bool) -> None:
        super().__init__(**options)
        self.lines: list[str] = []
        self._open = 0  # elements that hold words, around where we are

    def handle_starttag(self, tag: str, attrs: _Attributes) -> None:  # noqa: ARG002 - HTMLParser gives it
        if tag in _LABELS:
            self._open += 1
            self.lines.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in _LABELS and self._open:
            self._open -= 1

    def handle_data(self, data: str) -> None:
        if self._open:
            self.lines[-1] += data


class _Cleaner(_Parser):
    """Copies the wanted tags and all text outside left-out elements; `furniture` empty means keep menus too."""

    def __init__(self, furniture: frozenset[str]) -> None:
        super().__init__(convert_charrefs=True)
        self.kept = 0  #: characters of text that stay, white space apart
        self._furniture = furniture
        self._out: list[str] = []
        self._title: list[str] = []
        self._in_title = False
        self._pre = False  # inside preformatted text, where white space counts
        self._left_out: str | None = None  # the element that is being skipped
        self._depth = 0  # of same-named elements inside it

    @property
    def unclosed(self) -> bool:
        """Whether the page ended inside a left-out element, so that too much may be gone."""
        return self._left_out is not None

    def run(self, source: str) -> None:
        self.feed(_defused(source.replace(SHIELD, "")))
        self.close()

    def page(self) -> WebPage:
        title = " ".join("".join(self._title).split())
        return WebPage(html=f"<html><body>{''.join(self._out)}</body></html>", title=title or None)

    def handle_starttag(self, tag: str, attrs: _Attributes) -> None:
        if self._left_out is not None:
            self._depth += tag == self._left_out
        elif tag in _VOID:
            self._write_void(tag, attrs)
        elif self._unwanted(tag, attrs):
            self._left_out, self._depth = tag, 1
        elif tag == "title":
            self._in_title = not self._title
        else:
            self._write(tag, _open_tag(tag, attrs))

    def handle_startendtag(self, tag: str, attrs: _Attributes) -> None:
        if self._left_out is None and tag in _VOID:
            self._write_void(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if self._left_out is not None:
            self._depth -= tag == self._left_out
            if not self._depth:
                self._left_out = None
        elif tag == "title":
            self._in_title = False
        elif tag not in _VOID:
            self._write(tag, f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self._title.append(data)
        elif self._left_out is None:
            self.kept += len("".join(data.split()))
            shown = data if self._pre else _SPACE.sub(" ", data)
            self._out.append(escape(_UNDERLINE.sub(rf"\1{SHIELD}\2\3", shown), quote=False))

    def _write(self, tag: str, markup: str) -> None:
        if tag in _KEPT:
            self._out.append(markup)
            if tag == "pre":
                self._pre = not markup.startswith("</")
        elif tag in _BLOCKS:
            self._out.append("</div>" if markup.startswith("</") else "<div>")

    def _write_void(self, tag: str, attrs: _Attributes) -> None:
        if tag in _KEPT:
            self._out.append(f"<{tag}>")
        elif tag == "img" and len((dict(attrs).get("alt") or "").split()) > 1:
            self.handle_data(f" {dict(attrs)['alt']} ")

    def _unwanted(self, tag: str, attrs: _Attributes) -> bool:
        if tag in _NEVER:
            return True
        if not self._furniture or tag in ("html", "body", "main", "article"):
            return False
        named = dict(attrs)
        classes = (named.get("class") or "").lower().split()
        return tag in self._furniture or named.get("role") in _ROLES or not _CLASSES.isdisjoint(classes)


def _defused(source: str) -> str:
    """Pages with many tags that never close, on which Python's parser takes quadratic time, with those as text."""
    if sum(1 for _ in _NEVER_CLOSED.finditer(source)) < _MANY:
        return source
    end = source.rfind("-->") + 3
    return _NEVER_CLOSED.sub("&lt;", _COMMENT.sub("", source[:end]) + source[end:])


def _open_tag(tag: str, attrs: _Attributes) -> str:
    kept = "".join(f' {name}="{escape(value or "")}"' for name, value in attrs if name in _KEPT_ATTRIBUTES)
    return f"<{tag}{kept}>"
