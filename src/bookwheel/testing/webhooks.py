"""The contracts of ports.Webhooks and ports.WebhookRuns, and of what other ports have told."""

import json
from collections.abc import Sequence
from functools import partial
from uuid import uuid4

import pytest

from bookwheel.errors import NotFoundError
from bookwheel.testing.contract import PortsContract
from bookwheel.testing.desk import MANY, Desk
from bookwheel.testing.responses import keep, take
from bookwheel.types import Delivery, DeliveryOutcome, DeliveryStatus, WebhookEndpoint

SECRET = bytes(range(32))
LEASE_SECONDS = 60.0


async def endpoint(desk: Desk, *event_types: str, name: str = "mine") -> WebhookEndpoint:
    """An endpoint that is told of these."""
    return await desk.ports.webhooks.create(
        name,
        scope=desk.scope(),
        url="https://example.org/hook",
        event_types=event_types or ("response.completed",),
        secret=SECRET,
    )


async def log(desk: Desk, place: WebhookEndpoint) -> Sequence[Delivery]:
    """Its deliveries, oldest first."""
    return await desk.ports.webhooks.deliveries(place.id, scope=desk.scope(), limit=MANY, newest=False)


async def end_response(desk: Desk, status: str = "completed") -> str:
    """A background response that ends now; its public id."""
    response, owner = await keep(desk), uuid4().hex
    await take(desk, owner=owner)
    await desk.ports.response_runs.record(response.id, [], owner=owner, body={**response.body, "status": status})
    return str(response.body["id"])


async def due(desk: Desk, *, lease_seconds: float = LEASE_SECONDS) -> list[tuple[Delivery, WebhookEndpoint]]:
    """This tenant's deliveries that can be claimed. Other tests' may be claimed on the way."""
    found = await desk.ports.webhook_runs.claim(lease_seconds=lease_seconds, limit=MANY)
    return [(delivery, place) for delivery, place in found if place.tenant_id == desk.tenant]


class WebhooksContract(PortsContract):
    """Subclass it for a backend that fills ports.Webhooks. Its ports also need WebhookRuns, Responses, ResponseRuns and
    Ingestion of the same database."""

    async def test_endpoint_comes_back_as_it_was_made(self, desk: Desk) -> None:
        """Name, URL, events and secret are what was given."""
        made = await endpoint(desk, "response.completed", "response.failed")
        assert (made.name, made.url, made.secret) == ("mine", "https://example.org/hook", SECRET)
        assert made.event_types == ("response.completed", "response.failed")
        assert await desk.ports.webhooks.get(made.id, scope=desk.scope()) == made
        assert await log(desk, made) == []

    async def test_another_tenants_endpoint_is_not_there(self, desk: Desk, stranger: Desk) -> None:
        """No verb finds, lists, changes or removes another tenant's endpoint, and its events go nowhere else."""
        made, webhooks, scope = await endpoint(desk), stranger.ports.webhooks, stranger.scope()
        for verb in (webhooks.get, webhooks.delete, partial(webhooks.update, name="x")):
            with pytest.raises(NotFoundError):
                await verb(made.id, scope=scope)
        with pytest.raises(NotFoundError):
            await webhooks.deliveries(made.id, scope=scope, limit=10)
        assert list(await webhooks.list(scope=scope, limit=10)) == []
        await end_response(stranger)
        assert await log(desk, made) == []

    async def test_list_walks_in_pages(self, desk: Desk) -> None:
        """Pages follow creation, in either order."""
        made = [(await endpoint(desk, name=str(number))).id for number in range(3)]
        listing = partial(desk.ports.webhooks.list, scope=desk.scope(), limit=2)
        assert [one.id for one in await listing(newest=False)] == made[:2]
        assert [one.id for one in await listing(newest=False, after=made[1])] == made[2:]
        assert [one.id for one in await listing(after=made[1])] == made[:1]

    async def test_update_changes_what_is_given(self, desk: Desk) -> None:
        """None leaves a thing as it is."""
        made = await endpoint(desk)
        changed = await desk.ports.webhooks.update(made.id, scope=desk.scope(), name="other")
        assert (changed.name, changed.url, changed.event_types) == ("other", made.url, made.event_types)
        changed = await desk.ports.webhooks.update(
            made.id, scope=desk.scope(), url="https://example.org/2", event_types=["response.failed"]
        )
        assert (changed.name, changed.url) == ("other", "https://example.org/2")
        assert (changed.event_types, changed.secret) == (("response.failed",), made.secret)
        changed = await desk.ports.webhooks.update(made.id, scope=desk.scope(), secret=b"another")
        assert (changed.name, changed.event_types, changed.secret) == ("other", ("response.failed",), b"another")

    @pytest.mark.parametrize("status", ["completed", "failed", "incomplete"])
    async def test_the_end_of_a_response_is_told(self, desk: Desk, status: str) -> None:
        """Each endpoint that asked for it gets one delivery, due at once, with OpenAI's event; others get none."""
        places = [await endpoint(desk, f"response.{status}") for _ in range(2)]
        other = await endpoint(desk, "response.cancelled")
        response_id = await end_response(desk, status)
        logs = [await log(desk, place) for place in places]
        ((one,), (two,)) = logs
        assert (one.status, one.attempts, one.event_type) == (DeliveryStatus.PENDING, 0, f"response.{status}")
        event = json.loads(one.payload)
        assert event.pop("id").startswith("evt_")
        assert event.pop("created_at") > 1_700_000_000
        assert event == {"object": "event", "type": f"response.{status}", "data": {"id": response_id}}
        assert json.loads(two.payload)["id"] == json.loads(one.payload)["id"]
        assert one.id != two.id
        assert await log(desk, other) == []

    async def test_a_cancelled_response_is_told(self, desk: Desk) -> None:
        """Once, however often it is cancelled."""
        place, response = await endpoint(desk, "response.cancelled"), await keep(desk)
        for _ in range(2):
            await desk.ports.responses.cancel(response.id, scope=desk.scope())
        (delivery,) = await log(desk, place)
        assert json.loads(delivery.payload)["data"] == {"id": response.body["id"]}

    async def test_ingestion_tells(self, desk: Desk) -> None:
        """A published document and a failed one are told with the ids that their owner knows; overtaken work is not."""
        place = await endpoint(desk, "vector_store.file.completed", "vector_store.file.failed")
        store = await desk.store()
        document, _ = await desk.add(store, "one", external_id="mine")
        broken = await desk.put(store, "two")
        claim = await desk.claim(broken)
        await desk.ports.ingestion.fail(claim, code="broken_file", message="It is broken.")
        await desk.ports.ingestion.fail(claim, code="broken_file", message="It is broken.")
        first, second = await log(desk, place)
        told = json.loads(first.payload)
        assert (told["type"], first.event_type) == ("vector_store.file.completed", "vector_store.file.completed")
        assert told["data"] == {
            "id": f"doc_{document.id.hex}",
            "vector_store_id": f"vs_{store.id.hex}",
            "document_id": f"doc_{document.id.hex}",
            "external_id": "mine",
            "version": 1,
            "status": "completed",
            "last_error": None,
        }
        failed = json.loads(second.payload)
        assert (failed["type"], failed["data"]["status"]) == ("vector_store.file.failed", "failed")
        assert failed["data"]["last_error"] == {"code": "broken_file", "message": "It is broken."}

    async def test_deleted_endpoint_is_told_nothing(self, desk: Desk) -> None:
        """It goes with its deliveries."""
        place = await endpoint(desk)
        await end_response(desk)
        await desk.ports.webhooks.delete(place.id, scope=desk.scope())
        await end_response(desk)
        assert await due(desk) == []
        with pytest.raises(NotFoundError):
            await desk.ports.webhooks.get(place.id, scope=desk.scope())


class WebhookRunsContract(PortsContract):
    """Subclass it for a backend that fills ports.WebhookRuns. Its ports also need Webhooks, Responses and ResponseRuns
    of the same database."""

    async def test_claim_takes_what_is_due_once(self, desk: Desk) -> None:
        """A due delivery comes with its endpoint, counted as an attempt, and is leased."""
        place = await endpoint(desk)
        await end_response(desk)
        ((delivery, where),) = await due(desk)
        assert (where, delivery.attempts, delivery.status) == (place, 1, DeliveryStatus.PENDING)
        assert await due(desk) == []

    async def test_endpoints_that_are_left_out_wait(self, desk: Desk) -> None:
        """Their deliveries stay due, and the others' come."""
        slow, other = await endpoint(desk), await endpoint(desk, name="other")
        await end_response(desk)
        taken = await desk.ports.webhook_runs.claim(lease_seconds=LEASE_SECONDS, limit=MANY, without=[slow.id])
        assert [place for _, place in taken if place.tenant_id == desk.tenant] == [other]
        assert [place for _, place in await due(desk)] == [slow]

    async def test_an_attempt_that_never_ends_is_made_again(self, desk: Desk) -> None:
        """When the lease has run out it is claimed again under the same id, and only the last attempt can end it."""
        place = await endpoint(desk)
        await end_response(desk)
        ((first, _),) = await due(desk, lease_seconds=-1.0)
        ((second, _),) = await due(desk)
        assert (second.id, second.payload, second.attempts) == (first.id, first.payload, 2)
        finish = desk.ports.webhook_runs.finish
        await finish(first, DeliveryOutcome(status=DeliveryStatus.FAILED, error="late"))
        (kept,) = await log(desk, place)
        assert (kept.status, kept.error) == (DeliveryStatus.PENDING, None)
        await finish(second, DeliveryOutcome(status=DeliveryStatus.DELIVERED, http_status=204))
        (kept,) = await log(desk, place)
        assert (kept.status, kept.http_status, kept.next_try_at) == (DeliveryStatus.DELIVERED, 204, None)

    async def test_a_failed_attempt_waits(self, desk: Desk) -> None:
        """It is due again after the time given, and the log says why."""
        place = await endpoint(desk)
        await end_response(desk)
        ((delivery, _),) = await due(desk)
        again = DeliveryOutcome(status=DeliveryStatus.PENDING, http_status=500, error="HTTP 500", retry_in=60.0)
        await desk.ports.webhook_runs.finish(delivery, again)
        assert await due(desk) == []
        (kept,) = await log(desk, place)
        assert (kept.status, kept.attempts, kept.error, kept.http_status) == ("pending", 1, "HTTP 500", 500)
        assert kept.next_try_at is not None

    async def test_what_is_given_up_is_not_due(self, desk: Desk) -> None:
        """A delivery that failed for good stays in the log and is not tried again."""
        place = await endpoint(desk)
        await end_response(desk)
        ((delivery, _),) = await due(desk, lease_seconds=-1.0)
        await desk.ports.webhook_runs.finish(delivery, DeliveryOutcome(status=DeliveryStatus.FAILED, error="gone"))
        assert await due(desk) == []
        (kept,) = await log(desk, place)
        assert (kept.status, kept.error, kept.next_try_at) == (DeliveryStatus.FAILED, "gone", None)

    async def test_young_ones_are_not_forgotten(self, desk: Desk) -> None:
        """The log is kept as long as was asked for."""
        place = await endpoint(desk)
        await end_response(desk)
        await desk.ports.webhook_runs.forget(older_than_seconds=3600.0, limit=MANY)
        assert len(await log(desk, place)) == 1
        await desk.ports.webhook_runs.forget(older_than_seconds=-1.0, limit=MANY)
        assert await log(desk, place) == []
