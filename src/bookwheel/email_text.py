"""Mail messages and notebooks as text: what people wrote, not how it was wrapped."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage, MIMEPart
from typing import Any

from bookwheel.decoding import NotTextError, decode

_HEADERS = ("From", "To", "Cc", "Date")
_MAX_OUTPUT_CHARACTERS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """A message: `html` is set instead of `text` when that is all there is."""

    subject: str | None
    head: str  #: the lines From, To, Cc and Date
    text: str
    html: str
    attachments: tuple[str, ...]


def read_mail(data: bytes) -> Mail:
    """Read an RFC 822 message. Broken parts are left out; nothing is raised."""
    message = message_from_bytes(data, _class=EmailMessage, policy=policy.default)
    parts = [part for part in message.walk() if not part.is_multipart()]
    inline = [part for part in parts if not _is_attached(part)]
    text = _bodies(inline, "text/plain")
    return Mail(
        subject=_header(message, "Subject"),
        head="\n".join(f"{name}: {value}" for name in _HEADERS if (value := _header(message, name))),
        text=text,
        html="" if text.strip() else _bodies(inline, "text/html"),
        attachments=tuple(part.get_filename() or part.get_content_type() for part in parts if _is_attached(part)),
    )


def _header(message: EmailMessage, name: str) -> str | None:
    try:
        value = message.get(name)
    except (ValueError, IndexError, AttributeError, TypeError):  # the parser of addresses trips over some spam
        return None
    return " ".join(str(value).split()) or None if value is not None else None


def _is_attached(part: MIMEPart) -> bool:
    return part.is_attachment() or part.get_filename() is not None or part.get_content_maintype() != "text"


def _bodies(parts: Iterable[MIMEPart], content_type: str) -> str:
    return "\n\n".join(_body(part) for part in parts if part.get_content_type() == content_type)


def _body(part: MIMEPart) -> str:
    payload = part.get_payload(decode=True)
    try:
        return decode(payload, part.get_content_charset()) if isinstance(payload, bytes) else ""
    except NotTextError:
        return ""


def notebook_text(source: str) -> str:
    """A Jupyter notebook as Markdown: text cells as they are, code and its printed output between fences.

    Raises ValueError when it is not a notebook.
    """
    book = json.loads(source)
    if not isinstance(book, dict) or not isinstance(book.get("cells"), list):
        raise ValueError("no cells")  # noqa: TRY004 - like the other ways in which JSON is no notebook
    return "\n\n".join(block for cell in book["cells"] if isinstance(cell, dict) for block in _cell(cell) if block)


def _cell(cell: Mapping[str, Any]) -> Iterator[str]:
    text = _joined(cell.get("source")).strip("\n")
    if cell.get("cell_type") != "code":
        yield text
        return
    yield f"```\n{text}\n```" if text else ""
    for output in cell.get("outputs") or ():
        if isinstance(output, dict) and (shown := _output(output).strip("\n")):
            yield f"```\n{shown[:_MAX_OUTPUT_CHARACTERS]}\n```"


def _output(output: Mapping[str, Any]) -> str:
    data = output.get("data")
    return _joined(output.get("text") or (data.get("text/plain") if isinstance(data, dict) else None))


def _joined(lines: Any) -> str:
    return lines if isinstance(lines, str) else "".join(str(line) for line in lines or ())
