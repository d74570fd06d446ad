"""Pages as a source: conditions, absences, errors, sitemaps and robots.txt, against a site on loopback."""

import asyncio
import gzip
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bookwheel.fetching import Fetcher
from bookwheel.ports import Ports
from bookwheel.settings import Settings
from bookwheel.sources.running import run_once
from bookwheel.testing import memory_ports
from bookwheel.types import (
    DEFAULT_TENANT,
    Chunking,
    Scope,
    Source,
    SourceChange,
    SourceDraft,
    SourceKind,
    SourceOutcome,
)

TENANT = Scope(tenant_id=DEFAULT_TENANT)


class Site:
    """Pages by path: bytes, or a status. Knows what was asked for, and answers conditions by content."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes | int] = {}
        self.asked: list[tuple[str, int]] = []  #: path, status
        self.agents: set[str] = set()
        self.now = self.most = 0  #: requests in work
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request on one connection."""
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        self.agents.add(headers["user-agent"])
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.01)
        status, etag, body = self._answer(lines[0].split()[1], headers)
        self.now -= 1
        self.asked.append((lines[0].split()[1], status))
        head = f"HTTP/1.1 {status} x\r\netag: {etag}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    def _answer(self, path: str, headers: dict[str, str]) -> tuple[int, str, bytes]:
        page = self.pages.get(path, 404)
        if isinstance(page, int):
            return page, "", b""
        etag = f'"{hash(page)}"'
        return (304, etag, b"") if headers.get("if-none-match") == etag else (200, etag, page)

    def sitemap(self, *paths: str, **lastmods: str) -> bytes:
        """A sitemap of these paths; keywords name paths with a date."""
        entries = [f"<url><loc>{self.url}{path}</loc></url>" for path in paths]
        entries += [
            f"<url><loc>{self.url}/{path}</loc><lastmod>{date}</lastmod></url>" for path, date in lastmods.items()
        ]
        return f"<urlset>{''.join(entries)}</urlset>".encode()

    def index(self, *paths: str) -> bytes:
        """A sitemap index."""
        entries = [f"<sitemap><loc>{self.url}{path}</loc></sitemap>" for path in paths]
        return f"<sitemapindex>{''.join(entries)}</sitemapindex>".encode()


class Bench:
    """Sources of one store, run by hand over ports in memory."""

    def __init__(self, ports: Ports, fetcher: Fetcher, settings: Settings, site: Site) -> None:
        self.ports, self.fetcher, self.settings, self.site = ports, fetcher, settings, site
        self.scope = TENANT
        self.source: Source

    async def start(self, kind: SourceKind, **config: Any) -> None:
        """Make the store and the source."""
        store = await self.ports.stores.create(
            "s", scope=TENANT, space=self.ports.space, chunking=Chunking(), metadata={}
        )
        self.scope = Scope(tenant_id=DEFAULT_TENANT, store_ids=(store.id,))
        draft = SourceDraft(kind=kind, config=config, every_seconds=60)
        self.source = await self.ports.sources.create(draft, scope=TENANT, store=store)

    async def urls(self, *paths: str) -> None:
        """Start with a list of pages."""
        await self.start(SourceKind.URLS, urls=[self.site.url + path for path in paths])

    async def sitemap(self, path: str = "/sitemap.xml", **config: Any) -> None:
        """Start with a sitemap."""
        await self.start(SourceKind.SITEMAP, url=self.site.url + path, **config)

    async def run(self, *, asked_for: bool = True) -> SourceOutcome:
        """One run, by default one that waits for nothing."""
        if asked_for:
            await self.ports.sources.update(self.source.id, SourceChange(due=True), scope=TENANT)
        else:
            await self.ports.source_runs.wake([self.source.id])
        self.site.asked.clear()
        (claimed,) = await self.ports.source_runs.claim(owner="me", lease_seconds=60, limit=1)
        outcome = await run_once(claimed, ports=self.ports, settings=self.settings, fetcher=self.fetcher)
        await self.ports.source_runs.finish(claimed, outcome, owner="me")
        return outcome

    async def documents(self) -> dict[str, int]:
        """Paths of the documents with their versions."""
        found = await self.ports.documents.list(scope=self.scope, limit=1000)
        return {str(document.attributes["url"]).removeprefix(self.site.url): document.version for document in found}

    def pages_asked(self) -> list[tuple[str, int]]:
        """Requests of the last run, without those for robots.txt."""
        return sorted(request for request in self.site.asked if request[0] != "/robots.txt")


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """A site without pages."""
    site = Site()
    server = await asyncio.start_server(site.serve, "127.0.0.1", 0)
    site.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    settings = Settings(data_dir=tmp_path, fetch_allow_private=True, fetch_max_bytes=100_000)
    async with server, Fetcher(settings) as fetcher:
        yield Bench(memory_ports(), fetcher, settings, site)


def done(outcome: SourceOutcome) -> dict[str, int]:
    """Counts that are not zero."""
    return {name: count for name, count in outcome.counts.items() if count}


async def test_unchanged_page_costs_one_304(bench: Bench) -> None:
    """Fetched once, then asked for on condition; a change makes a version and leaves one file."""
    bench.site.pages |= {"/a": b"one", "/b": b"two"}
    await bench.urls("/a", "/b")
    assert done(await bench.run()) == {"added": 2}
    assert done(await bench.run()) == {"unchanged": 2}
    assert bench.pages_asked() == [("/a", 304), ("/b", 304)]
    bench.site.pages["/a"] = b"other"
    assert done(await bench.run()) == {"changed": 1, "unchanged": 1}
    assert await bench.documents() == {"/a": 2, "/b": 1}
    assert len(await bench.ports.files.list(scope=TENANT, limit=10)) == 2
    assert all(agent.startswith("Bookwheel/") for agent in bench.site.agents)


@pytest.mark.parametrize("status", [404, 410])
async def test_gone_page_loses_its_document(bench: Bench, status: int) -> None:
    """What the site says is gone is gone, with the reason; back again, it is added again."""
    bench.site.pages["/a"] = b"one"
    await bench.urls("/a")
    await bench.run()
    bench.site.pages["/a"] = status
    outcome = await bench.run()
    assert done(outcome) == {"removed": 1, "failed": 1}
    assert str(status) in str(outcome.error)
    assert await bench.documents() == {}
    bench.site.pages["/a"] = b"one"
    assert done(await bench.run()) == {"added": 1}
    assert await bench.documents() == {"/a": 1}


async def test_failing_page_keeps_its_document_and_is_left_alone(bench: Bench) -> None:
    """An error of the site says nothing about the page; it is tried again later, or when somebody asks."""
    bench.site.pages["/a"] = b"one"
    await bench.urls("/a")
    await bench.run()
    bench.site.pages["/a"] = 503
    assert done(await bench.run()) == {"failed": 1}
    outcome = await bench.run(asked_for=False)
    assert done(outcome) == {"failed": 1}
    assert "HTTP 503" in str(outcome.error)
    assert bench.pages_asked() == []
    assert await bench.documents() == {"/a": 1}
    bench.site.pages["/a"] = b"one"
    assert done(await bench.run()) == {"unchanged": 1}
    assert list(await bench.ports.sources.failures(bench.source.id, scope=TENANT, limit=9)) == []


async def test_page_taken_from_the_list_is_removed(bench: Bench) -> None:
    """The store follows the list."""
    bench.site.pages |= {"/a": b"one", "/b": b"two"}
    await bench.urls("/a", "/b")
    await bench.run()
    change = SourceChange(config={"urls": [bench.site.url + "/b"]})
    await bench.ports.sources.update(bench.source.id, change, scope=TENANT)
    assert done(await bench.run()) == {"unchanged": 1, "removed": 1}
    assert await bench.documents() == {"/b": 1}


async def test_site_that_is_gone_keeps_its_documents(bench: Bench) -> None:
    """Nobody answers: an error, no loss."""
    bench.site.pages |= {"/sitemap.xml": bench.site.sitemap("/a"), "/a": b"one"}
    await bench.sitemap()
    await bench.run()
    change = SourceChange(config={"url": "http://127.0.0.1:1/sitemap.xml"})
    await bench.ports.sources.update(bench.source.id, change, scope=TENANT)
    outcome = await bench.run()
    assert outcome.failed
    assert await bench.documents() == {"/a": 1}


async def test_politeness(bench: Bench) -> None:
    """At most two requests at once to one host."""
    bench.site.pages |= {f"/{number}": str(number).encode() for number in range(12)}
    await bench.urls(*(f"/{number}" for number in range(12)))
    await bench.run()
    assert bench.site.most == 2


async def test_sitemap_is_followed(bench: Bench) -> None:
    """Pages of an index's parts, packed or not; a page that is no longer named goes; lastmod saves the request."""
    site = bench.site
    site.pages |= {
        "/sitemap.xml": site.index("/1.xml", "/2.xml.gz", "/1.xml"),
        "/1.xml": site.sitemap("/a", "/a"),
        "/2.xml.gz": gzip.compress(site.sitemap(b="2026-01-01")),
        "/a": b"one",
        "/b": b"two",
    }
    await bench.sitemap()
    assert done(await bench.run()) == {"added": 2}
    assert done(await bench.run()) == {"unchanged": 2}
    assert ("/b", 304) not in bench.pages_asked()
    assert Counter(path for path, _ in site.asked)["/1.xml"] == 1
    site.pages["/2.xml.gz"] = gzip.compress(site.sitemap(b="2026-01-02"))
    await bench.run()
    assert ("/b", 304) in bench.pages_asked()
    site.pages["/sitemap.xml"] = site.index("/2.xml.gz")
    assert done(await bench.run()) == {"unchanged": 1, "removed": 1}
    assert await bench.documents() == {"/b": 1}


@pytest.mark.parametrize("broken", [500, 404, b"<html>", b"<urlset><url>"])
async def test_unreadable_sitemap_removes_nothing(bench: Bench, broken: bytes | int) -> None:
    """Neither a sitemap that fails nor one of its parts is an empty one."""
    site = bench.site
    site.pages |= {"/sitemap.xml": site.index("/1.xml", "/2.xml"), "/a": b"one", "/b": b"two"}
    site.pages |= {"/1.xml": site.sitemap("/a"), "/2.xml": site.sitemap("/b")}
    await bench.sitemap()
    await bench.run()
    site.pages |= {"/1.xml": broken, "/2.xml": site.sitemap("/c"), "/c": b"three"}
    outcome = await bench.run()
    assert "nothing was removed" in str(outcome.error)
    assert await bench.documents() == {"/a": 1, "/b": 1, "/c": 1}
    site.pages["/sitemap.xml"] = broken
    assert (await bench.run()).failed
    assert len(await bench.documents()) == 3


async def test_robots_are_heard(bench: Bench) -> None:
    """Pages that robots.txt forbids are left out, a forbidden sitemap is an error, a site that cannot say is left
    alone."""
    site = bench.site
    site.pages |= {
        "/robots.txt": b"User-agent: Bookwheel\nDisallow: /private\n\nUser-agent: *\nDisallow: /",
        "/sitemap.xml": site.sitemap("/a", "/private/b"),
        "/a": b"one",
        "/private/b": b"two",
    }
    await bench.sitemap()
    assert done(await bench.run()) == {"added": 1, "excluded": 1}
    assert await bench.documents() == {"/a": 1}
    site.pages["/robots.txt"] = b"User-agent: *\nDisallow: /"
    outcome = await bench.run()
    assert outcome.failed
    assert "robots.txt" in str(outcome.error)
    site.pages["/robots.txt"] = 503
    assert (await bench.run()).failed
    assert await bench.documents() == {"/a": 1}
    site.pages["/robots.txt"] = 403
    assert done(await bench.run()) == {"added": 1, "unchanged": 1}


async def test_pages_of_other_hosts_are_left_out(bench: Bench) -> None:
    """A sitemap speaks for its own site only."""
    other = b"<urlset><url><loc>http://other.example/</loc></url><url><loc>file:///etc/passwd</loc></url></urlset>"
    bench.site.pages["/sitemap.xml"] = other
    await bench.sitemap()
    assert done(await bench.run()) == {"excluded": 2}


async def test_limits_of_a_sitemap(bench: Bench) -> None:
    """So many pages and no more; indexes of indexes end; a packed bomb ends at the limit."""
    site = bench.site
    site.pages |= {f"/{number}": str(number).encode() for number in range(5)}
    site.pages["/sitemap.xml"] = site.sitemap(*(f"/{number}" for number in range(5)))
    await bench.sitemap(limit=3)
    assert done(await bench.run()) == {"added": 3}
    site.pages["/sitemap.xml"] = site.index("/sitemap.xml", "/2.xml")
    site.pages |= {"/2.xml": site.index("/3.xml"), "/3.xml": site.index("/4.xml"), "/4.xml": site.sitemap("/4")}
    await bench.run()
    assert ("/4.xml", 200) not in bench.pages_asked()
    site.pages["/sitemap.xml"] = gzip.compress(bytes(1 << 20))
    outcome = await bench.run()
    assert "BOOKWHEEL_FETCH_MAX_BYTES" in str(outcome.error)


async def test_private_addresses_are_refused(bench: Bench) -> None:
    """Without the setting, a source cannot read what is on this machine."""
    bench.site.pages["/a"] = b"one"
    await bench.urls("/a")
    async with Fetcher(Settings(fetch_allow_private=False)) as bench.fetcher:
        outcome = await bench.run()
    assert "not a public address" in str(outcome.error)
    assert bench.site.asked == []


async def test_too_long_url_is_a_failure(bench: Bench) -> None:
    """Its document could not be named."""
    await bench.urls("/" + "x" * 3_000)
    assert done(await bench.run()) == {"failed": 1}
