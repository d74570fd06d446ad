"""Sitemaps: pages, indexes, limits, and nothing that XML can do to us."""

import pytest

from bookwheel.errors import FetchFailedError
from bookwheel.sitemaps import read_sitemap

HEAD = '<?xml version="1.0" encoding="UTF-8"?>'
SPACE = (
    'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" xmlns:image="http://www.google.com/schemas/sitemap-image/1.1"'
)


def urlset(*entries: str) -> bytes:
    """A sitemap."""
    return f"{HEAD}<urlset {SPACE}>{''.join(f'<url>{entry}</url>' for entry in entries)}</urlset>".encode()


def test_pages_with_their_last_change() -> None:
    """Each <loc> with its own <lastmod>, entities and spaces read; other elements are not pages."""
    data = urlset(
        "<loc> https://a.example/?a=1&amp;b=2 </loc><lastmod>2026-01-02</lastmod>",
        "<loc>https://a.example/two</loc><image:image><image:loc>https://a.example/i.png</image:loc></image:image>",
        "<lastmod>2026-01-03</lastmod>",
    )
    assert read_sitemap(data, limit=10).pages == {
        "https://a.example/?a=1&b=2": "2026-01-02",
        "https://a.example/two": "",
    }


def test_index_names_sitemaps() -> None:
    """A sitemap index has sitemaps and no pages."""
    data = f"{HEAD}<sitemapindex {SPACE}><sitemap><loc>https://a.example/1.xml</loc></sitemap></sitemapindex>".encode()
    read = read_sitemap(data, limit=10)
    assert (read.sitemaps, read.pages) == (["https://a.example/1.xml"], {})


def test_without_a_namespace() -> None:
    """Many sites forget it."""
    assert read_sitemap(b"<urlset><url><loc>https://a.example/</loc></url></urlset>", limit=10).pages


def test_pages_are_limited() -> None:
    """No more than the limit, and it is told."""
    read = read_sitemap(urlset(*(f"<loc>https://a.example/{number}</loc>" for number in range(5))), limit=3)
    assert (len(read.pages), read.is_cut) == (3, True)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html><body>Not found</body></html>",
        b"<urlset><url>",
        b'<!DOCTYPE a [<!ENTITY b "c">]><urlset><url><loc>&b;</loc></url></urlset>',
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><urlset/>',
    ],
)
def test_what_is_no_sitemap_is_refused(data: bytes) -> None:
    """A page, a torn file and a file with entities of its own are told from an empty sitemap."""
    with pytest.raises(FetchFailedError):
        read_sitemap(data, limit=10)


def test_empty_sitemap_is_one() -> None:
    """A site may have no pages."""
    assert read_sitemap(urlset(), limit=10).pages == {}
