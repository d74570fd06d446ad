"""TLS: how the API shows its certificate, how its clients and upstreams are trusted. TLS 1.2 is the least."""

import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from bookwheel.errors import SettingsError
from bookwheel.settings import Settings

log = structlog.get_logger("bookwheel.tls")

Stamp = tuple[tuple[int, int, int], ...]  # of files: inode, size and time of change


class ServerCertificate:
    """The API's certificate, and the CA of its callers where they must show one. New connections get what the files
    hold now, once `refresh` has seen it; open ones go on."""

    def __init__(self, settings: Settings) -> None:
        """Reads the files. Raises SettingsError."""
        self._settings = settings
        self._stamp = self._look()
        self._current = _server_context(settings)
        self.context = _server_context(settings)  #: for the server; each handshake takes the current one
        self.context.sni_callback = self._choose

    def refresh(self) -> None:
        """Read the files again when they changed; what cannot be used is told, and the old certificate stays."""
        stamp = self._look()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._current = _server_context(self._settings)
        except SettingsError as error:
            log.warning("new certificate cannot be used; the old one stays", reason=error.message)
        else:
            log.info("new certificate")

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current

    def _look(self) -> Stamp:
        given = (self._settings.tls_cert, self._settings.tls_key, self._settings.tls_client_ca)
        return tuple(_stamp(Path(path)) for path in given if path)


def server_certificate(settings: Settings) -> ServerCertificate | None:
    """None without BOOKWHEEL_TLS_CERT. Raises SettingsError when it, or what belongs to it, cannot be used."""
    if settings.tls_cert:
        return ServerCertificate(settings)
    for name in ("tls_key", "tls_client_ca"):
        if getattr(settings, name):
            raise SettingsError(f"BOOKWHEEL_{name.upper()} is set without BOOKWHEEL_TLS_CERT. Set that too.")
    return None


def _server_context(settings: Settings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    _load_chain(
        context,
        (settings.tls_cert, settings.tls_key),
        setting="BOOKWHEEL_TLS_CERT",
        password=settings.tls_key_password.get_secret_value(),
    )
    if settings.tls_client_ca:
        _load_ca(context, settings.tls_client_ca, setting="BOOKWHEEL_TLS_CLIENT_CA")
        context.verify_mode = ssl.CERT_REQUIRED
        context.options |= ssl.OP_NO_TICKET  # a ticket would outlive the CA that vouched for its holder
        context.num_tickets = 0
    return context


def local_trust(running: Mapping[str, Any], settings: Settings) -> ssl.SSLContext | None:
    """For a client of the Bookwheel on this machine that noted this about itself; None when it speaks no TLS. Raises
    SettingsError."""
    certificate = running.get("certificate")
    return local_context(str(certificate), settings) if certificate else None


def local_context(certificate: str, settings: Settings) -> ssl.SSLContext:
    """For a client of the Bookwheel on this machine, whatever names its certificate has: it must show this very one, or
    one of BOOKWHEEL_CA. Raises SettingsError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    _load_ca(context, settings.ca or certificate, setting="BOOKWHEEL_CA" if settings.ca else "BOOKWHEEL_TLS_CERT")
    return _with_own(context, (settings.client_cert, settings.client_key), setting="BOOKWHEEL_CLIENT_CERT")


def client_context(settings: Settings) -> ssl.SSLContext:
    """For a client of an API elsewhere: public CAs, and BOOKWHEEL_CA. Raises SettingsError."""
    return _trusting(
        settings.ca,
        (settings.client_cert, settings.client_key),
        settings=("BOOKWHEEL_CA", "BOOKWHEEL_CLIENT_CERT"),
    )


def upstream_context(settings: Settings) -> ssl.SSLContext | None:
    """For servers of models; None when no setting speaks of them. Raises SettingsError."""
    own = (settings.upstream_client_cert, settings.upstream_client_key)
    if not settings.upstream_ca and not any(own):
        return None
    return _trusting(settings.upstream_ca, own, settings=("BOOKWHEEL_UPSTREAM_CA", "BOOKWHEEL_UPSTREAM_CLIENT_CERT"))


def _trusting(ca: str, own: tuple[str, str], *, settings: tuple[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca:
        _load_ca(context, ca, setting=settings[0])
    return _with_own(context, own, setting=settings[1])


def _with_own(context: ssl.SSLContext, own: tuple[str, str], *, setting: str) -> ssl.SSLContext:
    if own[0]:
        _load_chain(context, own, setting=setting)
    elif own[1]:
        raise SettingsError(f"{setting.removesuffix('CERT')}KEY is set without {setting}. Set that too.")
    return context


def _load_chain(context: ssl.SSLContext, files: Sequence[str], *, setting: str, password: str = "") -> None:
    certificate, key = files
    try:
        context.load_cert_chain(certificate, key or None, password=password)
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        beside = f" with the key {key!r}" if key else ""
        raise SettingsError(f"{setting} has value {certificate!r}, which{beside} {_reason(error)}.") from error


def _load_ca(context: ssl.SSLContext, path: str, *, setting: str) -> None:
    try:
        context.load_verify_locations(path)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{setting} has value {path!r}, which {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return "is no PEM, has a password that is not given, or does not fit its key"
    return f"cannot be read: {getattr(error, 'strerror', None) or type(error).__name__}"


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_size, found.st_mtime_ns)
