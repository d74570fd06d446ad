"""POST /v1/search: which stores are searched, and the plain shape of what is found."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx
import pytest

from bookwheel.api import store_choice
from bookwheel.api.ids import public
from bookwheel.follow import catch_up
from bookwheel.testing.desk import Desk
from bookwheel.types import Store


@pytest.fixture
async def stores(desk: Desk) -> list[Store]:
    """Three stores with a whale in each, two of one name."""
    made = [await desk.store(name) for name in ("sea", "land", "sea")]
    for number, store in enumerate(made):
        await desk.add(store, f"whale number {number}", external_id=f"w{number}", attributes={"number": number})
    while await catch_up(desk.ports):
        continue
    return made


async def search(client: httpx.AsyncClient, **body: Any) -> Any:
    """The body of one search."""
    return (await client.post("/v1/search", json={"query": "whale", **body})).json()


async def test_results_are_plain(client: httpx.AsyncClient, stores: list[Store]) -> None:
    """Text, score and document side by side."""
    found = await search(client, query="whale number 1", top_k=1, filter={"number": 1})
    (one,) = found["results"]
    assert (one["text"], one["document"]["external_id"]) == ("whale number 1", "w1")
    assert 0 <= one["score"] <= 1
    assert one["document"]["vector_store_id"] == public("store", stores[1].id)
    assert (one["document"]["attributes"], one["document"]["filename"]) == ({"number": 1}, "w1")
    assert (found["warnings"], found["degraded"]) == ([], [])
    assert "total" in found["timings"]


async def test_stores_are_chosen_by_id_or_name(client: httpx.AsyncClient, stores: list[Store]) -> None:
    """All where none is named; all of a name; ids and names together."""

    async def names(**body: Any) -> set[str]:
        return {one["document"]["external_id"] for one in (await search(client, **body))["results"]}

    assert await names() == {"w0", "w1", "w2"}
    assert await names(stores=["sea"]) == {"w0", "w2"}
    assert await names(vector_store_ids=[public("store", stores[0].id)]) == {"w0"}
    assert await names(vector_store_ids=[public("store", stores[0].id)] * 2, stores=["land"]) == {"w0", "w1"}
    assert await names(query=["whale", "number"]) == {"w0", "w1", "w2"}


async def test_another_tenants_store_is_not_there(client: httpx.AsyncClient, desk: Desk) -> None:
    """Neither by id nor by name, nor among all."""
    stranger = Desk(ports=desk.ports, tenant=UUID(int=7))
    foreign = await stranger.store("foreign")
    await stranger.add(foreign, "whale")
    assert (await search(client, vector_store_ids=[public("store", foreign.id)]))["error"]["code"] == "not_found"
    assert (await search(client, stores=["foreign"]))["error"]["param"] == "stores"
    assert (await search(client))["results"] == []


async def test_no_store_yet(client: httpx.AsyncClient) -> None:
    """Nothing is found, and the reason is told."""
    found = await search(client)
    assert (found["results"], found["warnings"]) == ([], [store_choice.NO_STORES])


async def test_too_many_stores_must_be_named(
    client: httpx.AsyncClient, stores: list[Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above the documented number nobody searches all by accident."""
    monkeypatch.setattr(store_choice, "MAX_STORES", 2)
    assert (await search(client))["error"]["param"] == "vector_store_ids"
    assert len((await search(client, stores=["sea"]))["results"]) == 2


async def test_stores_of_several_models_are_refused(client: httpx.AsyncClient, desk: Desk, stores: list[Store]) -> None:
    """Scores of different embedding models do not compare."""
    await desk.ports.stores.create(
        "other", scope=desk.scope(), space=replace(desk.ports.space, id=9), chunking=stores[0].chunking, metadata={}
    )
    assert (await search(client))["error"]["param"] == "vector_store_ids"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"query": ""}, "query"),
        ({"query": []}, "query"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": 51}, "top_k"),
        ({"filter": {"a": {"$near": 1}}}, "filter.a.$near"),
        ({"filter": {"type": "and", "filters": [{"type": "eq", "key": "a"}]}}, "filter.filters[0].value"),
        ({"stores": ["a"] * 101}, "stores"),
        ({"ranking_options": {"ranker": "best"}}, "ranking_options.ranker"),
    ],
)
async def test_wrong_requests_name_the_field(
    client: httpx.AsyncClient, stores: list[Store], body: dict[str, Any], param: str
) -> None:
    """A 400 with the field."""
    response = await client.post("/v1/search", json={"query": "whale", **body})
    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith(param)


async def test_an_unknown_attribute_is_told(client: httpx.AsyncClient, stores: list[Store]) -> None:
    """In the plain search and in a store's own."""
    plain = await search(client, filter={"nmber": 1})
    assert plain["results"] == []
    assert "'nmber'" in plain["warnings"][0]
    own = f"/v1/vector_stores/{public('store', stores[0].id)}/search"
    page = (await client.post(own, json={"query": ["whale", "number"], "filters": {"nmber": 1}})).json()
    assert (page["data"], len(page["warnings"])) == ([], 1)


async def test_an_unknown_ranker_lists_the_known(client: httpx.AsyncClient, stores: list[Store]) -> None:
    """In the message; the known ones are taken."""
    path = f"/v1/vector_stores/{public('store', stores[0].id)}/search"
    wrong = await client.post(path, json={"query": "a", "ranking_options": {"ranker": "best"}})
    assert wrong.status_code == 400
    known = ("auto", "none", "default-2024-08-21", "default-2024-11-15")
    for ranker in known:
        assert ranker in wrong.json()["error"]["message"]
        body = {"query": "a", "ranking_options": {"ranker": ranker}}
        assert (await client.post(path, json=body)).status_code == 200


async def test_expired_stores_do_not_hide_live_ones(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """All stores means all that live, however many newer ones have expired."""
    live = [await desk.store(f"live {number}") for number in range(3)]
    newer = [await desk.store(f"expired {number}") for number in range(4)]
    everything = desk.ports.stores.list

    async def with_expired(**arguments: Any) -> list[Store]:
        page = await everything(**arguments)
        return [replace(store, expired=store.id in {one.id for one in newer}) for store in page]

    monkeypatch.setattr(desk.ports.stores, "list", with_expired)
    found = await store_choice.live_stores(scope=desk.scope(), ports=desk.ports, limit=2)
    assert len(found) == 2
    assert {store.id for store in found} <= {store.id for store in live}
    everyone = await store_choice.live_stores(scope=desk.scope(), ports=desk.ports, limit=9)
    assert {store.id for store in everyone} >= {store.id for store in live}
    assert not any(store.expired for store in everyone)
