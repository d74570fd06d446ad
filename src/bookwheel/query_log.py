"""What the process's log says about questions: nothing, unless BOOKWHEEL_QUERY_LOG asks for it.

`redacted` tells a question's length, its language and a hash, keyed with a secret that lives as long as the process:
the same question has the same hash in one process, and nobody can try texts against the log later. `full` tells the
text.
"""

import secrets
from hashlib import blake2b
from typing import Any, Final, Literal

import structlog

from bookwheel.language import detect

Mode = Literal["off", "redacted", "full"]
KEY_BYTES, HASH_BYTES = 32, 8

log = structlog.get_logger("bookwheel.queries")


class QueryLog:
    """How questions are told."""

    def __init__(self, mode: Mode = "off") -> None:
        self.mode = mode
        self._key: Final = secrets.token_bytes(KEY_BYTES)

    def tell(self, kind: str, text: str) -> None:
        """A question that is searched for or answered."""
        if self.mode != "off":
            log.info("question", kind=kind, **(self._redacted(text) if self.mode == "redacted" else {"text": text}))

    def _redacted(self, text: str) -> dict[str, Any]:
        keyed = blake2b(text.encode("utf-8", "surrogatepass"), key=self._key, digest_size=HASH_BYTES)
        return {"characters": len(text), "language": detect(text), "hash": keyed.hexdigest()}


QUERIES: Final = QueryLog()  #: of this process, set when its logging is
