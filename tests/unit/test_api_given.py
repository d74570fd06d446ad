"""Vectors that callers bring: how lines and searches with them are read, and what the search makes of them."""

import base64
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from hypothesis import assume
from hypothesis import given as examples
from hypothesis import strategies as st
from numpy.typing import NDArray

from bookwheel.api.documents import read_draft
from bookwheel.api.given import MAX_HEADINGS, MAX_PASSAGE, MAX_PASSAGES, read_vector
from bookwheel.errors import InvalidDocumentError, InvalidRequestError
from bookwheel.follow import catch_up
from bookwheel.given import GivenPassage
from bookwheel.testing.desk import Desk, axis, rows
from bookwheel.types import DocumentDraft, Space, Store

SPACE = Space(id=1, model="small", revision="1", dimensions=4)


def line(**fields: Any) -> DocumentDraft:
    """A line as it is read."""
    draft = read_draft(orjson.dumps({"id": "a", **fields}), space=SPACE)
    assert isinstance(draft, DocumentDraft)
    return draft


def refused(**fields: Any) -> InvalidDocumentError:
    """Why a line is not taken."""
    with pytest.raises(InvalidDocumentError) as caught:
        line(**fields)
    return caught.value


def unit(packed: bytes) -> list[float]:
    """A packed vector's numbers."""
    return [float(number) for number in np.frombuffer(packed, "<f4")]


def encoded(numbers: Sequence[float], kind: str = "<f4") -> str:
    """Numbers as OpenAI's clients get them."""
    return base64.b64encode(np.array(numbers, kind).tobytes()).decode()


def test_text_with_a_vector_is_one_passage() -> None:
    """The whole text, with the vector made a unit vector."""
    draft = line(text="The whale", vector=[3, 0, 4.0, 0], title="T", attributes={"year": 1851}, access=["a"])
    assert (draft.text, draft.title, draft.attributes, draft.access) == ("The whale", "T", {"year": 1851}, ("a",))
    assert draft.given is not None
    assert draft.given.passages == (GivenPassage(start=0, end=9),)
    assert line(text="x" * MAX_PASSAGE, vector=[1, 0, 0, 0]).given is not None
    assert unit(draft.given.vectors) == pytest.approx([0.6, 0, 0.8, 0])


def test_chunks_are_joined_by_a_blank_line() -> None:
    """Offsets are of the joined text; pages and headings are the owner's; a NUL does not move what follows."""
    first = {"text": "O\0ne ", "vector": [1, 0, 0, 0], "page": 3, "heading_path": ["Part", "Ünder"]}
    draft = line(chunks=[first, {"text": "two", "vector": encoded([0, 2, 0, 0]), "page": None}])
    assert draft.text == "O\ufffdne \n\ntwo"
    assert draft.given is not None
    one, two = draft.given.passages
    assert one == GivenPassage(start=0, end=5, page=3, heading_path=("Part", "Ünder"))
    assert two == GivenPassage(start=7, end=10)
    assert unit(draft.given.vector(1)) == [0, 1, 0, 0]


def test_both_forms_of_a_vector_are_the_same() -> None:
    """Base64 of float32 and its numbers written out make the same document."""
    numbers = np.random.default_rng(7).normal(size=4).astype(np.float32)
    written, packed = line(text="a", vector=numbers.tolist()), line(text="a", vector=encoded(numbers.tolist()))
    assert written == packed
    assert line(chunks=[{"text": "a", "vector": numbers.tolist()}]) == packed


def test_lines_without_vectors_are_as_before() -> None:
    """Also where the fields are there and null."""
    assert line(text="a", vector=None, chunks=None) == line(text="a") == DocumentDraft(external_id="a", text="a")


@examples(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=4, max_size=4))
def test_every_finite_vector_becomes_a_unit_vector(numbers: list[float]) -> None:
    """However large or small its numbers are, and in the same direction."""
    assume(any(numbers))
    made = unit(read_vector(numbers, place="v", space=SPACE))
    assert np.linalg.norm(made) == pytest.approx(1.0, abs=1e-6)
    assert all(number * wanted >= 0 for number, wanted in zip(made, numbers, strict=True))


@pytest.mark.parametrize(
    "vector",
    [
        None,
        "",
        "not base64!",
        base64.b64encode(b"12345").decode(),
        {"0": 1},
        1.0,
        [],
        [1, 0, 0],
        [1, 0, 0, 0, 0],
        encoded([1, 0, 0, 0], "<f8"),
        [0, 0, 0, 0],
        encoded([0, 0, -0.0, 0]),
        encoded([1, float("nan"), 0, 0]),
        encoded([1, float("inf"), 0, 0]),
        base64.b64encode(b"\x01\x00\xa0\x7f" + bytes(12)).decode(),  # a NaN that signals
        [1, "0", 0, 0],
        [1, True, 0, 0],
        [1, None, 0, 0],
        [[1, 0, 0, 0]],
        "ÄÖÜ",
    ],
)
def test_a_wrong_vector_is_told_with_its_place(vector: Any) -> None:
    """Not numbers, too few, too many, not finite, none that points anywhere."""
    chunks = [{"text": "fine", "vector": [1, 0, 0, 0]}, {"text": "x", "vector": vector}]
    error = refused(chunks=chunks)
    assert error.param == "chunks[1].vector"
    assert "`chunks[1].vector`" in error.message
    if vector is not None:
        assert refused(text="x", vector=vector).param == "vector"


@pytest.mark.parametrize("numbers", [[10**400, 0, 0, 0], [float("inf"), 0, 0, 0], [float("nan"), 1, 0, 0]])
def test_numbers_that_python_has_and_json_has_not(numbers: list[Any]) -> None:
    """The parser of a search body lets them pass."""
    with pytest.raises(InvalidRequestError) as caught:
        read_vector(numbers, place="query_vector", space=SPACE)
    assert caught.value.param == "query_vector"


def test_the_wrong_model_is_told_with_the_right_one() -> None:
    """What is commonest: vectors of another size."""
    message = refused(text="x", vector=[0.5] * 1536).message
    assert "1536" in message
    assert "4 in this store's embedding space (small)" in message


PASSAGE = {"text": "one", "vector": [1, 0, 0, 0]}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"vector": [1, 0, 0, 0]}, "text"),
        ({"text": " \n", "vector": [1, 0, 0, 0]}, "text"),
        ({"text": 5, "vector": [1, 0, 0, 0]}, "text"),
        ({"url": "https://example.com/", "vector": [1, 0, 0, 0]}, "vector"),
        ({"url": "https://example.com/", "chunks": [PASSAGE]}, "url"),
        ({"text": "one", "chunks": [PASSAGE]}, "text"),
        ({"vector": [1, 0, 0, 0], "chunks": [PASSAGE]}, "vector"),
        ({"chunks": []}, "chunks"),
        ({"chunks": "one"}, "chunks"),
        ({"chunks": PASSAGE}, "chunks"),
        ({"chunks": [None] * (MAX_PASSAGES + 1)}, "chunks"),
        ({"chunks": [PASSAGE, "two"]}, "chunks[1]"),
        ({"chunks": [{"vector": [1, 0, 0, 0]}]}, "chunks[0].text"),
        ({"chunks": [PASSAGE, PASSAGE | {"text": "\t"}]}, "chunks[1].text"),
        ({"chunks": [PASSAGE, PASSAGE | {"text": "x" * (MAX_PASSAGE + 1)}]}, "chunks[1].text"),
        ({"text": "x" * (MAX_PASSAGE + 1), "vector": [1, 0, 0, 0]}, "text"),
        ({"chunks": [{"text": "one"}]}, "chunks[0].vector"),
        ({"chunks": [PASSAGE | {"page": 0}]}, "chunks[0].page"),
        ({"chunks": [PASSAGE | {"page": True}]}, "chunks[0].page"),
        ({"chunks": [PASSAGE | {"page": 1.0}]}, "chunks[0].page"),
        ({"chunks": [PASSAGE | {"page": 2**31}]}, "chunks[0].page"),
        ({"chunks": [PASSAGE | {"heading_path": "Part"}]}, "chunks[0].heading_path"),
        ({"chunks": [PASSAGE | {"heading_path": ["Part", 1]}]}, "chunks[0].heading_path"),
        ({"chunks": [PASSAGE | {"heading_path": [""]}]}, "chunks[0].heading_path"),
        ({"chunks": [PASSAGE | {"heading_path": ["a\0b"]}]}, "chunks[0].heading_path"),
        ({"chunks": [PASSAGE | {"heading_path": ["x"] * (MAX_HEADINGS + 1)}]}, "chunks[0].heading_path"),
    ],
)
def test_a_wrong_line_is_told_with_its_place(fields: dict[str, Any], param: str) -> None:
    """What is wrong, where, and what to do."""
    error = refused(**fields)
    assert error.param == param
    assert f"`{param}`" in error.message


@pytest.fixture
async def store(desk: Desk) -> Store:
    """A store in which vectors and words say different things."""
    made = await desk.store()
    for number, text in enumerate(("whale", "oak", "comet")):
        await desk.add(made, text, external_id=text, vectors=rows(direction(desk, number)))
    while await catch_up(desk.ports):
        continue
    return made


def direction(desk: Desk, number: int) -> NDArray[np.float32]:
    """The unit vector of one coordinate."""
    return axis(desk.ports.space, *([0.0] * number), 1.0)


async def test_lines_of_every_kind_stand_in_one_request(client: httpx.AsyncClient, desk: Desk, store: Store) -> None:
    """Each line has its own result; an error of one is its result alone."""
    vector = encoded(direction(desk, 0).tolist())
    lines = (
        {"id": "plain", "text": "plain"},
        {"id": "one", "text": "one", "vector": vector},
        {"id": "bad", "chunks": [{"text": "a", "vector": vector}, {"text": "b", "vector": [1]}]},
        {"id": "many", "chunks": [{"text": "a", "vector": vector}, {"text": "b", "vector": vector}]},
    )
    path = f"/v1/vector_stores/vs_{store.id.hex}/documents"
    headers = {"content-type": "application/x-ndjson"}
    body = b"\n".join(map(orjson.dumps, lines))
    for status in ("in_progress", "in_progress"):
        results = [
            orjson.loads(part) for part in (await client.post(path, content=body, headers=headers)).content.splitlines()
        ]
        assert [result.get("status") for result in results] == [status, status, None, status]
        assert [result.get("version") for result in results] == [1, 1, None, 1]
        assert (results[2]["id"], results[2]["error"]["param"]) == ("bad", "chunks[1].vector")
    alone = await client.post(path, json=lines[2])
    assert (alone.status_code, alone.json()["error"]["param"]) == (400, "chunks[1].vector")
    assert (await client.post(path, json=lines[3])).json()["version"] == 1


@pytest.mark.parametrize("plain", [True, False])
async def test_the_query_vector_takes_the_place_of_the_querys_own(
    client: httpx.AsyncClient, desk: Desk, store: Store, plain: bool
) -> None:
    """Vectors then rank by it; the words of the query are still looked for."""
    path = "/v1/search" if plain else f"/v1/vector_stores/vs_{store.id.hex}/search"

    async def best(**body: Any) -> tuple[str, dict[str, Any]]:
        found = (await client.post(path, json={"query": "whale", **body})).json()
        return found["results" if plain else "data"][0], found

    def text(hit: Any) -> str:
        return str(hit["text"] if plain else hit["content"][0]["text"])

    vector, words = direction(desk, 2), {"hybrid_search": {"embedding_weight": 0, "text_weight": 1}}
    meaning = {"hybrid_search": {"embedding_weight": 1, "text_weight": 0}}
    for form in (vector.tolist(), encoded(vector.tolist())):
        hit, found = await best(query_vector=form, ranking_options=meaning)
        assert text(hit) == "comet"
        assert "embed" not in found["timings"]
        hit, _ = await best(query_vector=form, ranking_options=words)
        assert text(hit) == "whale"


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize(
    "body",
    [
        {"query": "whale", "query_vector": [1.0]},
        {"query": "whale", "query_vector": "x"},
        {"query": "whale", "query_vector": {}},
        {"query": ["whale", "oak"], "query_vector": [0.5] * 64},
        {"query": ["whale"], "query_vector": [0.5] * 64},
    ],
)
async def test_a_wrong_query_vector_is_refused(
    client: httpx.AsyncClient, store: Store, plain: bool, body: dict[str, Any]
) -> None:
    """Other dimensions, other forms, and several queries for one vector."""
    path = "/v1/search" if plain else f"/v1/vector_stores/vs_{store.id.hex}/search"
    response = await client.post(path, json=body)
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["type"]) == (400, "query_vector", "invalid_request_error")


async def test_a_vector_needs_its_text(client: httpx.AsyncClient, store: Store) -> None:
    """The words are searched for as well."""
    response = await client.post("/v1/search", json={"query_vector": [0.5] * 64})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "query")
