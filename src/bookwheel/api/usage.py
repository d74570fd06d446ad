"""What an answer cost, in tokens as the stores' embedder counts them; its caller's limit is told."""

from collections.abc import Sequence
from typing import Any

from bookwheel.api.limiting import spend
from bookwheel.ports import Embedder


def chat_usage(said: Sequence[str], written: str, embedder: Embedder) -> dict[str, int]:
    """The `usage` of a chat completion."""
    given, made = _counts(said, written, embedder)
    return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}


def response_usage(said: Sequence[str], written: str, embedder: Embedder) -> dict[str, Any]:
    """The `usage` of a response."""
    given, made = _counts(said, written, embedder)
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": given + made,
    }


def _counts(said: Sequence[str], written: str, embedder: Embedder) -> tuple[int, int]:
    *given, made = embedder.token_counts([*said, written])
    spend(sum(given) + made)
    return sum(given), made
