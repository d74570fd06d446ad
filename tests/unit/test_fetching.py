"""Fetching: only public addresses, every redirect and every answer of the resolver checked, bounded bytes and time."""

import asyncio
import gzip
import itertools
import zlib
from collections.abc import AsyncIterator, Callable, Mapping

import httpcore
import pytest

from bookwheel.errors import FetchFailedError, FetchRefusedError
from bookwheel.fetching import (
    MAX_REDIRECTS,
    Fetcher,
    GuardedNetwork,
    Page,
    bounded,
    checked_place,
    checked_url,
    gunzipped,
    is_public,
)
from bookwheel.settings import Settings

PRIVATE = [
    "10.0.0.1",
    "172.16.5.5",
    "192.168.1.1",
    "127.0.0.1",
    "127.8.8.8",
    "169.254.169.254",  # link-local, and a cloud's metadata
    "100.64.0.1",  # carrier-grade NAT
    "100.100.100.200",  # metadata behind it
    "168.63.129.16",  # metadata on a public-looking address
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "240.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "ff0e::1",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::a00:1",
    "2002:7f00:1::1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",  # Teredo to 127.0.0.1
    "2606:4700::5efe:a00:1",  # ISATAP to 10.0.0.1
    "2606:4700::200:5efe:7f00:1",
    "fec0::1",  # site-local, which some networks still have
    "2002:a9fe:a9fe::1",  # 6to4 to a cloud's metadata
    "64:ff9b::a9fe:a9fe",
    "192.0.0.192",
]
PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]

Handler = Callable[[str, Mapping[str, str]], tuple[int, Mapping[str, str], bytes]]


@pytest.mark.parametrize("address", PRIVATE)
def test_address_that_is_not_public(address: str) -> None:
    """Every class of address that strangers must not reach through us, also when IPv6 carries it."""
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_address(address: str) -> None:
    """Addresses of the internet are free."""
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://a.example/",
        "http://",
        "//a.example",
        "http://a:99999/",
        "http://[::1",
        "http://xn--/",
        "http://a.example/\n",
        "http://a.example/" + "x" * 2_000,
        "x",
        "",
    ],
)
def test_only_web_addresses(url: str) -> None:
    """Anything but http and https is refused, and so is what no URL looks like."""
    with pytest.raises(FetchRefusedError):
        checked_url(url)


@pytest.mark.parametrize(
    "host",
    [
        *(
            "127.0.0.1",
            "10.0.0.1",
            "[::1]",
            "[::ffff:169.254.169.254]",
            "[fd00:ec2::254]",
            "0.0.0.0",
            "169.254.169.254",
        ),
        *("2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "0", "127.0.0.1.", "user:secret@127.0.0.1"),
        *(
            "public.example@10.0.0.1",
            "１２７.０.０.１",
            "①②⑦.⓪.⓪.①",
            "localhost",
            "LOCALHOST.",
            "db.internal",
            "printer.local",
        ),
        *("metadata.google.internal", "[64:ff9b::a00:1]", "[2002:7f00:1::]", "[::ffff:0:127.0.0.1]"),
    ],
)
async def test_private_places_are_refused_before_they_are_kept(host: str) -> None:
    """Whatever the address is written like; and were it kept, nothing would be fetched or sent there."""
    url = f"http://{host}:1/hook"
    if "::ffff:0:" not in host:  # an address that no system routes is caught at the connection only
        with pytest.raises(FetchRefusedError):
            checked_place(url, allow_private=False)
    async with Fetcher(Settings(fetch_allow_private=False)) as fetcher:
        with pytest.raises((FetchRefusedError, FetchFailedError)):
            async with fetcher.get(url):
                pass
        with pytest.raises((FetchRefusedError, FetchFailedError)):
            await fetcher.post(url, content=b"", headers={}, timeout_seconds=2)


def test_public_places_are_kept() -> None:
    """Names are not looked up, and on a trusted network all is allowed."""
    for url in (
        "https://hooks.example/x",
        "https://8.8.8.8/x",
        "https://bücher.example./x",
        "https://internal.example/",
    ):
        assert checked_place(url, allow_private=False) == url
    assert checked_place("http://127.0.0.1:1/", allow_private=True)


async def test_every_delivery_is_resolved_and_checked_anew() -> None:
    """A webhook's name that was public when it was made, and private later, is refused at each later attempt."""
    web = Web(always(), "127.0.0.1", "10.0.0.1", "8.8.8.8 169.254.169.254", "::ffff:127.0.0.1")
    server = await asyncio.start_server(web.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"http://hooks.example:{port}/hook"
    async with server:
        async with Fetcher(Settings(fetch_allow_private=True), resolver=web.resolve) as fetcher:
            status = await fetcher.post(url, content=b"", headers={}, timeout_seconds=5)
        async with Fetcher(Settings(fetch_allow_private=False), resolver=web.resolve) as fetcher:
            for _ in range(4):  # the last answer is the first again: loopback
                with pytest.raises(FetchRefusedError):
                    await fetcher.post(url, content=b"", headers={}, timeout_seconds=5)
    assert (status, len(web.hosts), len(web.asked)) == (200, 1, 5)


async def test_a_webhook_follows_no_redirect() -> None:
    """The answer is told as it is: nothing is sent to where it points."""
    web = Web(always(307, {"location": "http://10.0.0.1/secret"}))
    server = await asyncio.start_server(web.serve, "127.0.0.1", 0)
    url = f"http://hooks.example:{server.sockets[0].getsockname()[1]}/"
    async with server, Fetcher(Settings(fetch_allow_private=True), resolver=web.resolve) as fetcher:
        assert await fetcher.post(url, content=b"", headers={}, timeout_seconds=5) == 307
    assert (web.asked, len(web.hosts)) == (["hooks.example"], 1)


class Web:
    """A site on loopback that answers as `handler` says, and a resolver that says where names are."""

    def __init__(self, handler: Handler, *addresses: str) -> None:
        self.handler = handler
        self.answers = itertools.cycle(addresses or ("127.0.0.1",))
        self.asked: list[str] = []
        self.hosts: list[str] = []
        self.port = 0

    async def resolve(self, host: str, port: int) -> list[str]:
        """The next answer; addresses in digits are what they are."""
        self.asked.append(host)
        return [host] if host.replace(".", "").isdigit() else next(self.answers).split()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request on one connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.splitlines()
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines) if name}
        self.hosts.append(headers["host"])
        status, answer, body = self.handler(first.split()[1], headers)
        told = {"content-length": str(len(body)), "connection": "close", **answer}
        lines = [f"HTTP/1.1 {status} Told", *(f"{name}: {value}" for name, value in told.items())]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        await writer.drain()
        writer.close()


async def fetch(
    web: Web, url: str, *, validator: Mapping[str, str] | None = None, private: bool = True, **limits: float
) -> tuple[Page, bytes]:
    """One page of the site with its body; {port} in the URL is the site's port."""
    server = await asyncio.start_server(web.serve, "127.0.0.1", 0)
    web.port = server.sockets[0].getsockname()[1]
    settings = Settings.model_validate({"fetch_allow_private": private, **limits})
    async with (
        server,
        Fetcher(settings, resolver=web.resolve) as fetcher,
        fetcher.get(url.format(port=web.port), validator=validator) as page,
    ):
        return page, await page.read()


def always(status: int = 200, headers: Mapping[str, str] | None = None, body: bytes = b"hello") -> Handler:
    """A site that answers everything alike."""
    return lambda _path, _headers: (status, headers or {}, body)


async def test_page_comes_with_its_host_and_name() -> None:
    """The site sees the name that was asked for, though the connection went to the checked address."""
    web = Web(always(headers={"content-type": "text/html; charset=utf-8"}))
    page, body = await fetch(web, "http://site.example:{port}/books/kites")
    assert (page.status, body, page.filename) == (200, b"hello", "kites.html")
    assert web.hosts == [f"site.example:{web.port}"]


@pytest.mark.parametrize("url", ["http://site.example:{port}/", "http://127.0.0.1:{port}/", "http://localhost:{port}/"])
async def test_private_address_is_refused(url: str) -> None:
    """Neither a name nor digits lead to this machine; the message says what to set."""
    web = Web(always())
    with pytest.raises(FetchRefusedError, match="BOOKWHEEL_FETCH_ALLOW_PRIVATE"):
        await fetch(web, url, private=False)
    assert web.hosts == []


async def test_one_private_address_among_public_ones_is_refused() -> None:
    """A name with a public and a private address is no way in."""
    with pytest.raises(FetchRefusedError):
        await fetch(Web(always(), "8.8.8.8 127.0.0.1"), "http://site.example:{port}/", private=False)


async def test_digits_in_disguise_are_refused() -> None:
    """The system's resolver reads 2130706433 and 0x7f.1 as loopback; what it says is what is checked."""
    async with Fetcher(Settings(fetch_allow_private=False)) as fetcher:
        for host in ("2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "[::1]"):
            with pytest.raises(FetchRefusedError, match="not a public address"):
                async with fetcher.get(f"http://{host}:1/"):
                    pass


async def test_the_checked_address_is_the_one_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is public when it is checked and private afterwards is asked for once: the connection goes to the
    address that was checked."""
    web, reached = Web(always(), "8.8.8.8", "127.0.0.1"), list[str]()

    async def connect(_self: object, host: str, port: int, *_: object) -> httpcore.AsyncNetworkStream:
        reached.append(host)
        raise httpcore.ConnectError("nobody is there")

    monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", connect)
    network = GuardedNetwork(allow_private=False, resolver=web.resolve)
    with pytest.raises(httpcore.ConnectError):
        await network.connect_tcp("rebinding.example", 80)
    assert (web.asked, reached) == (["rebinding.example"], ["8.8.8.8"])
    with pytest.raises(FetchRefusedError):
        await network.connect_tcp("rebinding.example", 80)
    assert reached == ["8.8.8.8"]


async def test_redirect_to_a_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second hop is checked like the first."""
    web = Web(always(302, {"location": "http://10.0.0.1/secret"}))
    monkeypatch.setattr("bookwheel.fetching.is_public", lambda address: address == "127.0.0.1")
    with pytest.raises(FetchRefusedError, match=r"10\.0\.0\.1"):
        await fetch(web, "http://site.example:{port}/", private=False)
    assert len(web.hosts) == 1


async def test_redirect_to_another_scheme_is_refused() -> None:
    """A site cannot send us to our own files."""
    with pytest.raises(FetchRefusedError, match="file:///etc/passwd"):
        await fetch(Web(always(302, {"location": "file:///etc/passwd"})), "http://site.example:{port}/")


async def test_redirects_end() -> None:
    """A few are followed, a ring is not."""

    def handler(path: str, _headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
        left = int(path[1:])
        return (200, {}, b"there") if left == 0 else (301, {"location": f"/{left - 1}"}, b"")

    page, body = await fetch(Web(handler), "http://site.example:{port}/" + str(MAX_REDIRECTS))
    assert (body, page.url.rpartition("/")[2]) == (b"there", "0")
    with pytest.raises(FetchFailedError, match="redirects"):
        await fetch(Web(handler), "http://site.example:{port}/" + str(MAX_REDIRECTS + 1))


async def test_conditions_are_sent_and_an_unchanged_page_has_no_body() -> None:
    """The validators of the last answer make the next one a 304."""

    def handler(_path: str, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
        known = (headers.get("if-none-match"), headers.get("if-modified-since"))
        return (304, {}, b"") if known == ('"1"', "yesterday") else (500, {}, b"")

    validator = {"etag": '"1"', "last_modified": "yesterday"}
    page, body = await fetch(Web(handler), "http://site.example:{port}/", validator=validator)
    assert (page.is_unchanged, body) == (True, b"")


@pytest.mark.parametrize("status", [404, 410])
async def test_gone_page_is_told(status: int) -> None:
    """404 and 410 say that the page is gone."""
    page, _ = await fetch(Web(always(status)), "http://site.example:{port}/")
    assert page.is_gone


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
async def test_other_answers_are_failures(status: int) -> None:
    """Anything else says nothing about the page."""
    with pytest.raises(FetchFailedError, match=f"HTTP {status}"):
        await fetch(Web(always(status)), "http://site.example:{port}/")


async def test_too_large_page_is_refused() -> None:
    """The limit counts what arrives, whatever was announced."""
    with pytest.raises(FetchFailedError, match="BOOKWHEEL_FETCH_MAX_BYTES"):
        await fetch(Web(always(body=b"x" * 1001)), "http://site.example:{port}/", fetch_max_bytes=1000)


async def test_packed_page_is_unpacked_within_the_limit() -> None:
    """gzip is read; a bomb ends at the limit, and what was not asked for is refused."""
    packed = always(headers={"content-encoding": "gzip"}, body=gzip.compress(b"hello"))
    assert (await fetch(Web(packed), "http://site.example:{port}/"))[1] == b"hello"
    bomb = always(headers={"content-encoding": "gzip"}, body=gzip.compress(bytes(10 << 20)))
    with pytest.raises(FetchFailedError, match="Larger"):
        await fetch(Web(bomb), "http://site.example:{port}/", fetch_max_bytes=1 << 20)
    with pytest.raises(FetchFailedError, match="br"):
        await fetch(Web(always(headers={"content-encoding": "br"})), "http://site.example:{port}/")


async def test_bomb_is_unpacked_in_small_pieces() -> None:
    """Unpacking stops soon behind the limit: it never holds the whole."""
    pieces = gunzipped(_one(gzip.compress(bytes(64 << 20))))
    sizes = list[int]()

    async def read() -> None:
        async for piece in bounded(pieces, max_bytes=1 << 20):
            sizes.append(len(piece))

    with pytest.raises(FetchFailedError):
        await read()
    assert (max(sizes) <= 1 << 16, sum(sizes) <= 1 << 20) == (True, True)


async def test_damaged_and_joined_streams() -> None:
    """Members of gzip behind one another are one file; damage is told."""
    joined = gzip.compress(b"one ") + gzip.compress(b"two")
    assert b"".join([piece async for piece in gunzipped(_one(joined))]) == b"one two"
    with pytest.raises(FetchFailedError, match="damaged"):
        [piece async for piece in gunzipped(_one(zlib.compress(b"not gzip")))]


async def test_slow_site_is_given_up() -> None:
    """The time counts from the beginning to the last byte."""
    web = Web(always(headers={"content-length": "100"}, body=b"part"))
    original = web.serve

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1)
        await original(reader, writer)

    web.serve = stall  # type: ignore[method-assign]
    with pytest.raises(FetchFailedError, match=r"no answer within 0\.2 s"):
        await fetch(web, "http://site.example:{port}/", fetch_timeout_seconds=0.2)


async def _one(data: bytes) -> AsyncIterator[bytes]:
    yield data
