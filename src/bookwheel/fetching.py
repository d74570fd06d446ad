"""Fetching pages that strangers name: only public addresses, bounded bytes and time, at most a few at once.

The name is resolved here and the connection goes to the very address that was checked, on every redirect too, so that
a name which answers differently the second time (DNS rebinding) gains nothing.
"""

import asyncio
import contextlib
import socket
import zlib
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Self
from urllib.parse import unquote, urljoin, urlsplit

import httpcore
import httpx

from bookwheel import __version__
from bookwheel.errors import FetchFailedError, FetchRefusedError, SourceError
from bookwheel.settings import Settings

AGENT = "Bookwheel"  #: the name that robots.txt knows us by
HEADERS = {"user-agent": f"{AGENT}/{__version__}", "accept": "*/*", "accept-encoding": "gzip"}
MAX_REDIRECTS = 5
MAX_URL = 2_000  #: characters
CONNECTIONS, CONNECTIONS_PER_HOST = 4, 2  #: at once
REDIRECTS = frozenset({301, 302, 303, 307, 308})
GONE = frozenset({404, 410})
NOT_MODIFIED = 304
PIECE = 1 << 16  #: bytes handed on at once, however small they were packed
METADATA = frozenset({ip_address("168.63.129.16")})  #: a cloud's inner service on an address that looks public
NAT64 = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))
#: Set aside for protocols, relays, examples and segments: no site is there, but a cloud's metadata may be.
SET_ASIDE = tuple(map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "3fff::/20", "5f00::/16")))
ISATAP = (bytes.fromhex("00005efe"), bytes.fromhex("02005efe"))  #: before the IPv4 address that ends such an address
THIS_MACHINE = ("localhost", "local", "internal", "localdomain", "home.arpa")  #: names that only a private network has
MEDIA_SUFFIXES = {
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "text/plain": ".txt",
    "text/markdown": ".md",
    "application/pdf": ".pdf",
}

Resolver = Callable[[str, int], Awaitable[list[str]]]


def is_public(address: str) -> bool:
    """Whether anybody on the internet could reach this IP address; IPv4 inside IPv6 counts as what it carries."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        inner = _carried(ip)
        if inner is not None:
            return _is_public(inner)
    return _is_public(ip)


def _carried(ip: IPv6Address) -> IPv4Address | None:
    """The IPv4 address inside a mapped, compatible, 6to4, Teredo, ISATAP or NAT64 address."""
    if ip.teredo:
        return ip.teredo[1]
    if any(ip in network for network in NAT64) or (ip.packed[:12] == bytes(12) and int(ip) > 1):
        return IPv4Address(ip.packed[12:])
    if ip.packed[8:12] in ISATAP:
        return IPv4Address(ip.packed[12:])
    return ip.ipv4_mapped or ip.sixtofour


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    local = isinstance(ip, IPv6Address) and ip.is_site_local
    aside = ip in METADATA or any(ip in network for network in SET_ASIDE)
    return ip.is_global and not (local or aside or ip.is_multicast or ip.is_reserved)


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name, by the system's resolver. Raises FetchFailedError."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise FetchFailedError(f"The name {host!r} has no address. Check the URL; it is tried again later.") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to addresses that were checked, never to names."""

    def __init__(self, *, allow_private: bool, resolver: Resolver = resolve) -> None:
        self.allow_private = allow_private
        self.resolver = resolver
        self.network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that answers. Raises FetchRefusedError when any is not public."""
        addresses = await self.resolver(host, port)
        self._check(host, addresses)
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                return await self.network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    def _check(self, host: str, addresses: Iterable[str]) -> None:
        for address in addresses:
            if not self.allow_private and not is_public(address):
                raise _not_public(host)

    async def sleep(self, seconds: float) -> None:
        """Wait, between httpcore's retries."""
        await asyncio.sleep(seconds)


class _Transport(httpx.AsyncBaseTransport):
    """httpx over a connection pool with our network."""

    def __init__(self, network: GuardedNetwork, connections: int) -> None:
        self.pool = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(trust_env=False),
            network_backend=network,
            max_connections=connections,
            max_keepalive_connections=CONNECTIONS,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One request. Raises httpcore's errors."""
        response = await self.pool.handle_async_request(
            httpcore.Request(
                request.method,
                httpcore.URL(
                    scheme=request.url.raw_scheme,
                    host=request.url.raw_host,
                    port=request.url.port,
                    target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(response.status, headers=response.headers, stream=_Body(response))

    async def aclose(self) -> None:
        await self.pool.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self.response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self.response.aiter_stream():
            yield piece

    async def aclose(self) -> None:
        await self.response.aclose()


@dataclass(slots=True, kw_only=True)
class Page:
    """An answer of 2xx, 304, 404 or 410. Its body is read once, while the fetch is open."""

    url: str  #: after redirects
    status: int
    headers: Mapping[str, str]
    body: AsyncIterator[bytes]  #: decompressed; raises FetchFailedError behind the limit

    @property
    def is_unchanged(self) -> bool:
        """The copy that the caller named is still good."""
        return self.status == NOT_MODIFIED

    @property
    def is_gone(self) -> bool:
        """There is no such page any more."""
        return self.status in GONE

    @property
    def filename(self) -> str:
        """A name with a suffix by which the text can be read."""
        parts = urlsplit(self.url)
        name = unquote(parts.path.rstrip("/").rpartition("/")[2]).replace("\0", "").replace("/", "_")
        suffix = MEDIA_SUFFIXES.get(self.headers.get("content-type", "").partition(";")[0].strip().lower(), "")
        name = name or parts.netloc
        return (name if suffix == "" or name.lower().endswith(suffix) else name + suffix)[-255:]

    async def read(self) -> bytes:
        """The whole body."""
        return b"".join([piece async for piece in self.body])


class Fetcher:
    """Fetches politely within the limits of the settings. Use as an async context manager."""

    def __init__(self, settings: Settings, *, resolver: Resolver = resolve, connections: int = 2 * CONNECTIONS) -> None:
        self.max_bytes = settings.fetch_max_bytes
        self.timeout_seconds = settings.fetch_timeout_seconds
        network = GuardedNetwork(allow_private=settings.fetch_allow_private, resolver=resolver)
        self._http = httpx.AsyncClient(
            transport=_Transport(network, connections), headers=HEADERS, timeout=self.timeout_seconds, trust_env=False
        )
        self._places = asyncio.Semaphore(CONNECTIONS)
        self._host_places: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(CONNECTIONS_PER_HOST))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    @contextlib.asynccontextmanager
    async def get(self, url: str, *, validator: Mapping[str, Any] | None = None) -> AsyncIterator[Page]:
        """Fetch a page, on condition that it differs from `validator` (etag, last_modified). Raises FetchRefusedError
        or FetchFailedError, also while the body is read."""
        async with self._host_places[urlsplit(url).netloc], self._places:
            with _translated(url, self.timeout_seconds):
                async with asyncio.timeout(self.timeout_seconds):
                    response = await self._follow(url, _conditions(validator or {}))
                    try:
                        yield self._page(response)
                    finally:
                        await response.aclose()

    async def post(self, url: str, *, content: bytes, headers: Mapping[str, str], timeout_seconds: float) -> int:
        """Send to a place; the status of its answer, which is not read. No redirect is followed. Raises
        FetchRefusedError or FetchFailedError."""
        checked_url(url)
        with _translated(url, timeout_seconds):
            async with asyncio.timeout(timeout_seconds):
                self._http.cookies.clear()  # no site may recognise the next request
                request = self._http.build_request("POST", url, content=content, headers=headers)
                response = await self._http.send(request, stream=True)
                await response.aclose()
                return response.status_code

    async def _follow(self, url: str, headers: Mapping[str, str]) -> httpx.Response:
        for _ in range(MAX_REDIRECTS + 1):
            checked_url(url)
            self._http.cookies.clear()  # no site may recognise the next request
            response = await self._http.send(self._http.build_request("GET", url, headers=headers), stream=True)
            if response.status_code not in REDIRECTS or "location" not in response.headers:
                return response
            await response.aclose()
            url = urljoin(url, response.headers["location"])
        raise FetchFailedError(f"More than {MAX_REDIRECTS} redirects, the last one to {url[:200]}.")

    def _page(self, response: httpx.Response) -> Page:
        status = response.status_code
        if not (response.is_success or status == NOT_MODIFIED or status in GONE):
            reason = f"HTTP {status} {response.reason_phrase}. It is tried again later."
            raise FetchFailedError(reason, http_status=status)
        body = bounded(_plain(response), max_bytes=self.max_bytes)
        return Page(url=str(response.request.url), status=status, headers=response.headers, body=body)


def checked_url(url: str) -> str:
    """The URL, unchanged. Raises FetchRefusedError for one that is not plain http or https."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        valid = valid and bool(httpx.URL(url).host)
    except (ValueError, httpx.InvalidURL):  # IDNA's errors are ValueErrors
        valid = False
    if not valid or not url.isprintable() or len(url) > MAX_URL:
        raise FetchRefusedError(f"{url[:200]!r} is not an http or https URL of at most {MAX_URL} characters.")
    return url


def checked_place(url: str, *, allow_private: bool) -> str:
    """The URL, unchanged. Raises FetchRefusedError also for one that says itself that it is private.

    What a name resolves to is not looked at: it may change, so the guard looks at each connection."""
    checked_url(url)
    host = (httpx.URL(url).host or "").rstrip(".").casefold()
    if not allow_private and (_is_private_literal(host) or any(f".{host}".endswith(f".{end}") for end in THIS_MACHINE)):
        raise _not_public(host)
    return url


def _is_private_literal(host: str) -> bool:
    """Whether it is an address, as digits of any kind that the system's resolver reads, and not a public one."""
    with contextlib.suppress(ValueError):
        return not is_public(host)
    try:  # 2130706433, 0x7f.1, 0177.0.0.1
        return not is_public(socket.inet_ntoa(socket.inet_aton(host)))
    except (OSError, UnicodeError):  # a name
        return False


def _not_public(host: str) -> FetchRefusedError:
    return FetchRefusedError(
        f"{host!r} is not a public address. Use one that is, or set"  # what it resolves to stays here
        " BOOKWHEEL_FETCH_ALLOW_PRIVATE=true on a trusted network."
    )


async def bounded(pieces: AsyncIterator[bytes], *, max_bytes: int) -> AsyncIterator[bytes]:
    """The pieces as they come. Raises FetchFailedError when they are more than the limit together."""
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > max_bytes:
            raise FetchFailedError(f"Larger than {max_bytes} bytes. Raise BOOKWHEEL_FETCH_MAX_BYTES to take it.")
        yield piece


async def gunzipped(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A gzip stream unpacked in small pieces, so that a bomb is noticed before it fills the memory."""
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        async for piece in pieces:
            data = piece
            while data:
                if unpack.eof:  # several members behind one another are one file
                    unpack = zlib.decompressobj(zlib.MAX_WBITS | 16)
                    data = data.lstrip(b"\0")
                if plain := unpack.decompress(data, PIECE):
                    yield plain
                data = unpack.unused_data if unpack.eof else unpack.unconsumed_tail
    except zlib.error as error:
        raise FetchFailedError("The compressed data is damaged. It is tried again later.") from error


def _plain(response: httpx.Response) -> AsyncIterator[bytes]:
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("gzip", "x-gzip"):
        return gunzipped(response.aiter_raw())
    if encoding not in ("identity", ""):
        raise FetchFailedError(f"The server packs the page with {encoding[:40]!r}, though only gzip was asked for.")
    return response.aiter_raw()


def _conditions(validator: Mapping[str, Any]) -> dict[str, str]:
    names = {"etag": "if-none-match", "last_modified": "if-modified-since"}
    return {names[key]: str(validator[key]) for key in names if validator.get(key)}


@contextlib.contextmanager
def _translated(url: str, seconds: float) -> Any:
    """The border where errors of the network become ours, with the URL in front."""
    try:
        yield
    except SourceError as error:
        error.message = f"{url[:200]}: {error.message}"
        raise
    except (TimeoutError, httpx.TimeoutException, httpcore.TimeoutException) as error:
        raise FetchFailedError(f"{url[:200]}: no answer within {seconds:g} s. It is tried again later.") from error
    except (
        httpx.HTTPError,
        httpx.InvalidURL,
        httpcore.NetworkError,
        httpcore.ProtocolError,
        OSError,
        ValueError,  # of a name that IDNA does not know
    ) as error:
        raise FetchFailedError(f"{url[:200]}: {_reason(error)}. It is tried again later.") from error


def _reason(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__
