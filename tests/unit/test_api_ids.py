"""Public ids."""

from typing import get_args
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookwheel.api.ids import PREFIXES, Kind, parse, public
from bookwheel.errors import NotFoundError

KINDS = get_args(Kind)


@given(st.sampled_from(KINDS), st.uuids())
def test_parse_reads_what_public_writes(kind: Kind, uuid: UUID) -> None:
    """An id survives the way out and in, and no other kind accepts it."""
    assert parse(kind, public(kind, uuid)) == uuid
    for other in set(KINDS) - {kind}:
        with pytest.raises(NotFoundError):
            parse(other, public(kind, uuid))


@given(st.sampled_from(KINDS), st.text())
def test_ill_formed_ids_are_not_found(kind: Kind, text: str) -> None:
    """Nothing has an ill-formed id, whatever it holds."""
    for given_id in (text, PREFIXES[kind] + text):
        with pytest.raises(NotFoundError):
            parse(kind, given_id)
