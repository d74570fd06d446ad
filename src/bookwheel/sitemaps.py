"""Reading sitemaps: pages and further sitemaps with their last change, without entities and within a limit."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

from bookwheel.errors import FetchFailedError

MAX_TEXT = 4_096  #: characters of one element


@dataclass(slots=True)
class Sitemap:
    """What one sitemap file says."""

    pages: dict[str, str] = field(default_factory=dict)  #: URL -> lastmod as it stands there, or ""
    sitemaps: list[str] = field(default_factory=list)  #: of an index
    is_cut: bool = False  #: there were more than the limit


def read_sitemap(data: bytes, *, limit: int) -> Sitemap:
    """At most `limit` pages and `limit` sitemaps of a file. Raises FetchFailedError for one that is no sitemap."""
    reader = _Reader(limit)
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = _refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise FetchFailedError(f"The sitemap is not valid XML: {error}.") from error
    if not reader.is_sitemap:
        raise FetchFailedError("The file is not a sitemap: it has neither <urlset> nor <sitemapindex>.")
    return reader.found


def _refuse(*_: object) -> None:
    raise FetchFailedError("The sitemap declares a document type, which is not read.")  # entities are bombs


class _Reader:
    """The parser's events."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.found = Sitemap()
        self.is_sitemap = False
        self.path: list[str] = []
        self.values: dict[str, str] = {}

    def start(self, name: str, _attributes: Mapping[str, str]) -> None:
        self.path.append(name.rpartition("}")[2])
        if len(self.path) == 1:
            self.is_sitemap = self.path[0] in ("urlset", "sitemapindex")
        if len(self.path) == 2:  # a <url> or a <sitemap>
            self.values = {}

    def text(self, data: str) -> None:
        if len(self.path) == 3 and self.path[2] in ("loc", "lastmod"):  # inside an entry
            self.values[self.path[2]] = (self.values.get(self.path[2], "") + data)[:MAX_TEXT]

    def end(self, _name: str) -> None:
        place = self.path.pop()
        loc = self.values.get("loc", "").strip()
        if self.path == ["urlset"] and place == "url" and loc:
            self._add_page(loc)
        elif self.path == ["sitemapindex"] and place == "sitemap" and loc:
            self._add_sitemap(loc)

    def _add_page(self, loc: str) -> None:
        if len(self.found.pages) < self.limit:
            self.found.pages[loc] = self.values.get("lastmod", "").strip()
        else:
            self.found.is_cut = True

    def _add_sitemap(self, loc: str) -> None:
        if len(self.found.sitemaps) < self.limit:
            self.found.sitemaps.append(loc)
        else:
            self.found.is_cut = True
