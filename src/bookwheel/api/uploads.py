"""Multipart uploads, streamed into the blob store: no more than one network chunk is held."""

import re
import unicodedata
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from bookwheel.errors import InvalidRequestError, TooLargeError
from bookwheel.ports import Blobs
from bookwheel.settings import MIB

MAX_FIELD_BYTES = 64 * 1024
MAX_FIELDS = 32
MAX_FILENAME = 255  #: characters
FORM_ROOM = MIB  #: what a form may hold beside the file


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A form with one file, whose bytes are already durable."""

    filename: str
    sha256: bytes
    size: int
    fields: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Start:
    name: str
    filename: str | None


@dataclass(frozen=True, slots=True)
class _Data:
    data: bytes


class _End:
    """The end of a part."""


_Event = _Start | _Data | _End


@dataclass(slots=True)
class _Events:
    """The parser's callbacks, collected as events."""

    pending: list[_Event] = field(default_factory=list)
    finished: bool = False
    _name: bytes = b""
    _value: bytes = b""
    _disposition: bytes = b""

    def on_part_begin(self) -> None:
        self._disposition = b""

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name = self._value = b""

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        filename = options.get(b"filename")
        name = _decoded(options.get(b"name", b""))
        self.pending.append(_Start(name, None if filename is None else _decoded(filename)))

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self.pending.append(_Data(data[start:end]))

    def on_part_end(self) -> None:
        self.pending.append(_End())

    def on_end(self) -> None:
        self.finished = True


async def receive_upload(request: Request, blobs: Blobs, *, max_bytes: int) -> Upload:
    """Read the form, the file going straight to the blobs.

    Raises InvalidRequestError for an ill-formed form, TooLargeError; then no blob is left behind."""
    _check_length(request, max_bytes)
    fields: dict[str, str] = {}
    stored: tuple[str, bytes, int] | None = None
    async with aclosing(_events(request)) as events:
        async for event in events:
            if not isinstance(event, _Start):
                continue
            if event.filename is None:
                await _read_field(event.name, events, fields)
            elif event.name == "file" and stored is None:
                async with aclosing(_file_bytes(events)) as data:
                    sha256, size = await blobs.put(data, max_bytes=max_bytes)
                stored = clean_filename(event.filename), sha256, size
            else:
                raise InvalidRequestError("The form may hold one file, in the field named file.", param=event.name)
    if stored is None:
        raise InvalidRequestError("The form has no file; put it in the field named file.", param="file")
    if not stored[2]:
        raise InvalidRequestError(f"{stored[0]!r} is empty, so there is nothing to index.", param="file")
    return Upload(filename=stored[0], sha256=stored[1], size=stored[2], fields=fields)


def clean_filename(given: str) -> str:
    """A name that is safe to show: no folders, no control or direction characters, at most 255 characters."""
    name = re.split(r"[/\\]", unicodedata.normalize("NFC", given))[-1]
    shown = "".join(" " if unicodedata.category(letter) in _UNSEEN else letter for letter in name)
    clean = " ".join(shown.split()).strip(". ") if shown.strip(". ") else ""
    if len(clean) > MAX_FILENAME:
        stem, dot, extension = clean.rpartition(".")
        kept = dot + extension if stem and len(extension) <= 16 else ""
        clean = clean[: MAX_FILENAME - len(kept)] + kept
    return clean or "file"


_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def _check_length(request: Request, max_bytes: int) -> None:
    # Told early, a client need not send what will be refused.
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length) > max_bytes + FORM_ROOM:
        raise TooLargeError(
            f"The upload has {length} bytes; the limit is {max_bytes}. Split it, or raise BOOKWHEEL_MAX_FILE_BYTES."
        )


async def _events(request: Request) -> AsyncGenerator[_Event, None]:
    events = _Events()
    parser = _parser(request, events)
    try:
        async for chunk in request.stream():
            parser.write(chunk)
            for event in events.pending:
                yield event
            events.pending.clear()
    except FormParserError as error:
        raise InvalidRequestError(f"The multipart form is not well-formed: {error}.") from None
    if not events.finished:
        raise InvalidRequestError("The multipart form ends in the middle: its last boundary is missing.")


def _parser(request: Request, events: _Events) -> MultipartParser:
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise InvalidRequestError("Upload files as multipart/form-data with a boundary.")
    try:
        return MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": events.on_part_begin,
                "on_header_field": events.on_header_field,
                "on_header_value": events.on_header_value,
                "on_header_end": events.on_header_end,
                "on_headers_finished": events.on_headers_finished,
                "on_part_data": events.on_part_data,
                "on_part_end": events.on_part_end,
                "on_end": events.on_end,
            },
        )
    except FormParserError as error:
        raise InvalidRequestError(f"The multipart boundary is not valid: {error}.") from None


async def _file_bytes(events: AsyncIterator[_Event]) -> AsyncGenerator[bytes, None]:
    async for event in events:
        if isinstance(event, _End):
            return
        if isinstance(event, _Data):
            yield event.data


async def _read_field(name: str, events: AsyncIterator[_Event], fields: dict[str, str]) -> None:
    value = bytearray()
    async for data in _file_bytes(events):
        value += data
        if len(value) > MAX_FIELD_BYTES or len(fields) >= MAX_FIELDS:
            raise InvalidRequestError("The form's fields beside the file are too large or too many.", param=name)
    fields[name] = _decoded(bytes(value))


def _decoded(raw: bytes) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return text.replace("%22", '"')  # browsers and httpx write quotes in names so
