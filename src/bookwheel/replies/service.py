"""Webhooks, jobs, models, sources and the service itself."""

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from bookwheel.types import DeliveryStatus, JobState, Outcome, SourceKind


class Webhook(TypedDict):
    """A webhook endpoint."""

    id: str
    object: Literal["webhook_endpoint"]
    created_at: int
    updated_at: int
    name: str
    url: str
    event_types: list[str]
    signing_secret_hint: str


class NewWebhook(Webhook):
    """A webhook endpoint with its secret, which is shown once."""

    signing_secret: str


class EventTypes(TypedDict):
    """Names of events."""

    object: Literal["list"]
    data: list[str]


class WebhookTried(TypedDict):
    """What the endpoint answered."""

    object: Literal["webhook_endpoint.test"]
    webhook_endpoint_id: str
    event_type: str
    status_code: int
    success: bool


class Delivery(TypedDict):
    """An event on its way to an endpoint."""

    id: str
    object: Literal["webhook_endpoint.delivery"]
    webhook_endpoint_id: str
    event_type: str
    payload: Any
    status: DeliveryStatus
    attempts: int
    status_code: int | None
    last_error: str | None
    created_at: int
    updated_at: int
    next_try_at: int | None


class LastError(TypedDict):
    """What went wrong last."""

    code: str
    message: str


class Job(TypedDict):
    """A document's work."""

    id: str
    object: Literal["bookwheel.job"]
    vector_store_id: str
    file_id: str | None
    external_id: str | None
    filename: str
    version: int
    live_version: int | None
    state: JobState
    urgent: bool
    attempts: int
    retry_at: int | None
    worker: str | None
    chunks_written: int
    last_error: LastError | None
    updated_at: int


class JobChanged(TypedDict):
    """What was done with a job."""

    id: str
    object: Literal["bookwheel.job"]
    retried: NotRequired[bool]
    cancelled: NotRequired[bool]
    dropped: NotRequired[bool]


class JobsRetried(TypedDict):
    """How many jobs were retried."""

    object: Literal["bookwheel.jobs.retried"]
    retried: int


class Orphans(TypedDict):
    """How many things the stores disagree on, by kind."""

    object: Literal["bookwheel.orphans"]
    repaired: bool
    counts: dict[str, int]


class Model(TypedDict):
    """A model by its name."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class SourceCounts(TypedDict):
    """Documents of a source."""

    total: int
    failed: int


class Source(TypedDict):
    """A place that a store is kept in step with."""

    id: str
    object: Literal["source"]
    kind: SourceKind
    place: str
    vector_store_id: str
    created_at: int
    every_seconds: float
    status: Literal["new", "active", "failing", "paused"]
    next_run_at: int | None
    last_run_at: int | None
    last_error: LastError | None
    runs: int
    last_run_counts: dict[str, int]
    document_counts: SourceCounts


class SourceFailure(TypedDict):
    """An item of a source that could not be read."""

    item: str
    message: str | None


class WholeSource(Source):
    """The same with its configuration and the first of its failures."""

    failures: list[SourceFailure]
    path: NotRequired[str]
    include: NotRequired[list[str]]
    exclude: NotRequired[list[str]]
    urls: NotRequired[list[str]]
    url: NotRequired[str]
    limit: NotRequired[int]


class Alive(TypedDict):
    """The process runs."""

    status: Literal["ok"]


class Part(TypedDict):
    """Whether a part answers, and what to do when it does not."""

    status: Literal["ok", "unavailable"]
    code: NotRequired[str]
    remedy: NotRequired[str]


class Readiness(TypedDict):
    """Whether every part answers."""

    status: Literal["ok", "unavailable"]
    parts: dict[str, Part]


class Tenant(TypedDict):
    """Who is served, and the model that writes its answers; null for the server's default."""

    id: str
    object: Literal["tenant"]
    name: str
    generator: str | None
    generators: list[str]


class Usage(TypedDict):
    """How much may be used; null for the default, 0 for no limit."""

    requests_per_minute: int | None
    tokens_per_minute: int | None
    concurrent_requests: int | None
    documents: int | None
    bytes: int | None
    embedding_tokens_per_day: int | None


class Key(TypedDict):
    """An API key, without its secret."""

    id: str
    object: Literal["key"]
    created_at: int
    name: str
    prefix: str
    role: Literal["reader", "writer", "admin", "operator"]
    principals: list[str]
    store_ids: list[str] | None
    rule: dict[str, Any] | None
    limits: Usage
    expires_at: int | None
    last_used_at: int | None


class NewKey(Key):
    """An API key with its secret, which is shown once."""

    secret: str


class WholeTenant(TypedDict):
    """A tenant as its operator sees it."""

    id: str
    object: Literal["tenant"]
    created_at: int | None
    name: str
    status: Literal["active", "suspended"]
    weight: float
    limits: Usage


class ChainEnd(TypedDict):
    """Where a chain of audit events ended."""

    events: int
    head: str


class SignedReceipt(TypedDict):
    """What was removed of a tenant and what is left, by kind, signed."""

    id: str
    object: Literal["bookwheel.receipt"]
    version: int
    tenant_id: str
    tenant_name: str
    begun_at: str
    made_at: str
    complete: bool
    held: dict[str, int]
    left: dict[str, int]
    audit: ChainEnd
    public_key: str
    signature: str


class SigningKey(TypedDict):
    """What receipts are checked with."""

    object: Literal["bookwheel.signing_key"]
    algorithm: Literal["ed25519"]
    public_key: str


class AuditEvent(TypedDict):
    """A link of the audit log's chain."""

    id: str
    object: Literal["bookwheel.audit_event"]
    sequence: int
    tenant_id: str
    at: str
    actor: str
    actor_role: str | None
    action: str
    object_type: str
    object_id: str | None
    object_hash: str | None
    outcome: Outcome
    request_id: str
    address: str | None
    details: dict[str, str | int | bool]
    previous_hash: str
    hash: str


class AuditVerification(TypedDict):
    """What a walk over the whole chain found."""

    object: Literal["bookwheel.audit_verification"]
    valid: bool
    count: int
    head: str
    first_broken: int | None
    reason: str | None


class Status(TypedDict):
    """Counts, and what runs here."""

    object: Literal["bookwheel.status"]
    version: str
    vector_stores: int
    documents: dict[str, int]
    usage_bytes: int
    queues: dict[str, int]
    keywords_behind: int | None
    embedding_model: str
    generator: str
