"""Pages of the web as a source: a list of URLs, or all that a sitemap names.

Each page is asked for on condition that it changed. A page that is gone loses its document; one that cannot be fetched
keeps it and is tried again later, at growing distances.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit
from urllib.robotparser import RobotFileParser

from bookwheel.errors import FetchFailedError, FetchRefusedError, SourceError, TooLargeError
from bookwheel.fetching import AGENT, Fetcher, Page, bounded, checked_url, gunzipped
from bookwheel.sitemaps import Sitemap, read_sitemap
from bookwheel.sources.keeping import Run, each
from bookwheel.types import SourceItem

MAX_PAGES = 10_000  #: of one source, unless it asks for less
MAX_SITEMAPS = 500  #: files read in one run
MAX_DEPTH = 3  #: an index may name indexes, so deep
MAX_ROBOTS = 512 << 10  #: bytes of a robots.txt that count
AT_ONCE = 4  #: pages in work; the fetcher sees to it that no host gets more than its share
GZIP = b"\x1f\x8b"


@dataclass(slots=True)
class Crawl:
    """What a run learned from a sitemap and its parts."""

    pages: dict[str, str] = field(default_factory=dict)  #: URL -> lastmod, or ""
    hosts: set[str] = field(default_factory=set)  #: that the sitemaps lie on: only their pages count
    excluded: int = 0  #: on other hosts, or not wanted by robots.txt
    problem: str | None = None  #: why pages may be missing, so that nothing unseen is removed


class Robots:
    """What robots.txt of each site allows us, asked once in a run."""

    def __init__(self, fetcher: Fetcher) -> None:
        self.fetcher = fetcher
        self.rules: dict[str, RobotFileParser] = {}

    async def allows(self, url: str) -> bool:
        """Raises FetchFailedError when the site cannot say: then nothing of it is fetched now."""
        parts = urlsplit(url)
        site = f"{parts.scheme}://{parts.netloc}"
        if site not in self.rules:
            self.rules[site] = await self._read(f"{site}/robots.txt")
        return self.rules[site].can_fetch(AGENT, url)

    async def _read(self, url: str) -> RobotFileParser:
        rules = RobotFileParser(url)
        try:
            async with self.fetcher.get(url) as page:
                data = b"" if page.is_gone else (await page.read())[:MAX_ROBOTS]
        except FetchFailedError as error:
            if error.http_status is None or not 400 <= error.http_status < 500:  # RFC 9309, 2.3.1
                raise
            data = b""
        rules.parse(data.decode("utf-8", "replace").splitlines())
        return rules


async def run_urls(run: Run, fetcher: Fetcher) -> None:
    """Bring the store in step with a list of URLs."""
    urls = list(dict.fromkeys(run.source.config["urls"]))
    await _fetch_all(run, fetcher, dict.fromkeys(urls, ""))
    await run.remove([key for key in run.items if key not in set(urls)])


async def run_sitemap(run: Run, fetcher: Fetcher) -> None:
    """Bring the store in step with the pages of a sitemap. Raises SourceError when it cannot be read."""
    limit = min(int(run.source.config.get("limit", MAX_PAGES)), MAX_PAGES)
    crawl = await crawl_sitemaps(str(run.source.config["url"]), fetcher, limit=limit)
    run.error = crawl.problem
    run.counts["excluded"] += crawl.excluded
    await _fetch_all(run, fetcher, crawl.pages)
    if crawl.problem is None:
        await run.remove([key for key in run.items if key not in crawl.pages])


async def crawl_sitemaps(url: str, fetcher: Fetcher, *, limit: int) -> Crawl:
    """The pages of a sitemap and of the sitemaps that it names. Raises SourceError when the first cannot be read; a
    part that cannot be read is a problem, and the others still count."""
    crawl, robots = Crawl(), Robots(fetcher)
    waiting, seen = [(url, 1)], {url}
    while waiting:
        place, depth = waiting.pop(0)
        try:
            read = await _read_sitemap(place, crawl, robots, limit=limit)
        except SourceError as error:
            if place == url:
                raise
            crawl.problem = f"A part of the sitemap could not be read, so nothing was removed: {error.message}"
            continue
        await _add_pages(crawl, read, robots, limit=limit)
        parts = [urljoin(place, part) for part in read.sitemaps] if depth < MAX_DEPTH else []
        for part in parts:
            if part not in seen and len(seen) < MAX_SITEMAPS:
                seen.add(part)
                waiting.append((part, depth + 1))
    return crawl


async def _read_sitemap(url: str, crawl: Crawl, robots: Robots, *, limit: int) -> Sitemap:
    if not await robots.allows(url):
        raise FetchRefusedError(f"{url}: robots.txt of the site does not allow us to read it.")
    async with robots.fetcher.get(url) as page:
        if page.is_gone:
            raise FetchFailedError(f"HTTP {page.status}. Check the address of the sitemap.")
        data = await page.read()
        final = page.url
    if data.startswith(GZIP):
        plain = bounded(gunzipped(_one(data)), max_bytes=robots.fetcher.max_bytes)
        data = b"".join([piece async for piece in plain])
    crawl.hosts |= {urlsplit(url).netloc, urlsplit(final).netloc}
    return read_sitemap(data, limit=limit)


async def _add_pages(crawl: Crawl, read: Sitemap, robots: Robots, *, limit: int) -> None:
    for raw, lastmod in read.pages.items():
        url = urldefrag(raw).url
        if urlsplit(url).netloc not in crawl.hosts or not _is_sound(url) or not await robots.allows(url):
            crawl.excluded += 1
        elif len(crawl.pages) < limit:
            crawl.pages[url] = lastmod


def _is_sound(url: str) -> bool:
    try:
        return checked_url(url) == url
    except FetchRefusedError:
        return False


async def _one(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _fetch_all(run: Run, fetcher: Fetcher, pages: Mapping[str, str]) -> None:
    await each(pages.items(), lambda page: _fetch(run, fetcher, *page), at_once=AT_ONCE)


async def _fetch(run: Run, fetcher: Fetcher, url: str, lastmod: str) -> None:
    known = run.items.get(url, SourceItem(key=url))
    if known.retry_at is not None and known.retry_at > datetime.now(UTC):
        run.skip(known)
        return
    is_stored = known.external_id is not None
    if lastmod and is_stored and known.last_error is None and known.validator.get("lastmod") == lastmod:
        await run.unchanged(url)
        return
    try:
        async with fetcher.get(url, validator=known.validator if is_stored else None) as page:
            if page.is_gone:
                await run.gone(url, f"HTTP {page.status}: there is no such page.")
            elif page.is_unchanged:
                await run.unchanged(url, _without_failures({**known.validator, "lastmod": lastmod}))
            else:
                await _keep(run, url, lastmod, page)
    except (SourceError, TooLargeError) as error:
        await run.fail(url, error.message.removeprefix(f"{url}: "), backoff=True)


async def _keep(run: Run, url: str, lastmod: str, page: Page) -> None:
    validator = {
        "etag": page.headers.get("etag", ""),
        "last_modified": page.headers.get("last-modified", ""),
        "lastmod": lastmod,
    }
    await run.keep(
        url,
        page.body,
        filename=page.filename,
        validator=validator,
        place={"url": url},
        max_bytes=run.settings.max_file_bytes,
    )


def _without_failures(validator: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in validator.items() if name != "failures"}


def checked_urls(urls: Sequence[str] | Collection[str]) -> list[str]:
    """The URLs, each once. Raises FetchRefusedError for one that is no http or https URL."""
    return [checked_url(url) for url in dict.fromkeys(url.strip() for url in urls) if url]
