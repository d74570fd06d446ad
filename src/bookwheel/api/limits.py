"""How much may be used, as callers write and see it: of keys and of tenants."""

from dataclasses import asdict
from typing import Annotated, Any

from pydantic import Field

from bookwheel.api.bodies import Body
from bookwheel.types import Limits

Limit = Annotated[int, Field(ge=0, le=2**53)] | None


class LimitsBody(Body):
    """Limits in a request: null or left out for the default, 0 for none."""

    requests_per_minute: Limit = None
    tokens_per_minute: Limit = None
    concurrent_requests: Limit = None
    documents: Limit = None
    bytes: Limit = None
    embedding_tokens_per_day: Limit = None

    def limits(self) -> Limits:
        """The same as a value."""
        return Limits(**self.model_dump())


def limits_object(limits: Limits) -> dict[str, Any]:
    """Limits in a response."""
    return asdict(limits)
