"""What POST /v1/responses asks for: the body, the stores it names, and the conversation that it continues."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from bookwheel.access import within
from bookwheel.api.bodies import Body, RankingOptions, TextPart
from bookwheel.api.conversation import check_length, recent
from bookwheel.api.ids import parse
from bookwheel.api.models import OWN, store_of
from bookwheel.errors import InvalidRequestError
from bookwheel.expiry import note_search
from bookwheel.filters import parse as parse_filter
from bookwheel.followup import self_contained
from bookwheel.ports import Ports
from bookwheel.types import Filter, ModelResponse, Scope, Space

RESULTS = "file_search_call.results"
MAX_CONTINUED = 50  #: earlier responses that are read as the conversation so far

Message = dict[str, str]  #: role and content


class FileSearchTool(Body):
    """The one tool there is; tools of other types are ignored."""

    type: str
    vector_store_ids: list[str] = Field([], max_length=10)
    filters: dict[str, Any] | None = None
    max_num_results: int = Field(8, ge=1, le=50)
    ranking_options: RankingOptions | None = None


class InputItem(Body):
    """A message, or an item of an earlier output, of which only messages are read."""

    type: str = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: str | list[TextPart] | None = None

    def text(self) -> str:
        """Its text parts, joined."""
        if isinstance(self.content, str):
            return self.content
        kinds = ("input_text", "output_text", "text")
        return "\n".join(part.text for part in self.content or () if part.type in kinds)


class ResponseCreate(Body):
    """POST /v1/responses."""

    input: str | list[InputItem]
    model: str = OWN
    instructions: str | None = None
    tools: list[FileSearchTool] = Field([], max_length=100)
    include: list[str] | None = Field(None, max_length=100)
    stream: bool | None = None
    background: bool | None = None
    store: bool | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    metadata: dict[str, str] | None = None
    previous_response_id: Annotated[str, Field(max_length=100)] | None = None
    user: Annotated[str, Field(max_length=512)] | None = None

    @property
    def is_kept(self) -> bool:
        """Stored, which is the default."""
        return self.store is not False

    @property
    def tool(self) -> FileSearchTool | None:
        """The file search asked for, if any."""
        return next((tool for tool in self.tools if tool.type == "file_search"), None)

    def messages(self) -> list[Message]:
        """The messages of the input, in order. Raises InvalidRequestError."""
        if isinstance(self.input, str):
            return [{"role": "user", "content": self.input}]
        said = []
        for number, item in enumerate(self.input):
            if item.type == "message":
                if item.role is None:
                    param = f"input[{number}].role"
                    raise InvalidRequestError(f"{param} is missing; a message needs one.", param=param)
                said.append({"role": item.role, "content": item.text()})
        return said


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A request for a response, resolved."""

    question: str
    history: Sequence[Message]
    search_query: str  #: the question made self-contained
    said: Sequence[str]  #: all that was given, to be counted
    shows_results: bool
    scope: Scope
    space: Space
    limit: int
    filter: Filter | None
    score_threshold: float
    dense_weight: float | None
    max_tokens: int | None

    def arguments(self, ports: Ports) -> dict[str, Any]:
        """What the answer walk takes beside the question."""
        return {
            "scope": self.scope,
            "space": self.space,
            "ports": ports,
            "history": self.history,
            "limit": self.limit,
            "filter": self.filter,
            "score_threshold": self.score_threshold,
            "dense_weight": self.dense_weight,
            "max_tokens": self.max_tokens,
        }


def previous_id(body: ResponseCreate) -> UUID | None:
    """The response that this one continues. Raises NotFoundError for an ill-formed id."""
    return parse("response", body.previous_response_id) if body.previous_response_id else None


async def resolved(body: ResponseCreate, *, ports: Ports, scope: Scope) -> Wanted:
    """Everything that the answer walk needs. Raises InvalidRequestError and NotFoundError."""
    given = body.messages()
    question, history = _conversation(given, await _said_before(body, ports, scope))
    others = [message["content"] for message in given if message["content"].strip() != question]
    check_length(question, [body.instructions or "", *others], param="input")
    tool = body.tool or FileSearchTool(type="file_search")
    options = tool.ranking_options or RankingOptions()
    place = f"tools[{body.tools.index(tool)}]" if body.tool else "tools"
    if tool.filters is not None:
        parse_filter(tool.filters, path=f"{place}.filters")
    stores, space = await _stores(body, tool, ports, scope)
    said = [body.instructions or "", question, *(turn["content"] for turn in history)]
    return Wanted(
        question=question,
        history=history,
        search_query=self_contained(question, history),
        said=[text for text in said if text],
        shows_results=RESULTS in (body.include or ()),
        scope=within(scope, *stores),
        space=space,
        limit=tool.max_num_results,
        filter=tool.filters,
        score_threshold=options.score_threshold,
        dense_weight=_dense_weight(options, place),
        max_tokens=body.max_output_tokens,
    )


async def _said_before(body: ResponseCreate, ports: Ports, scope: Scope) -> list[Message]:
    """The messages of the responses that this one continues, oldest first. Instructions are not carried over."""
    before = previous_id(body)
    if before is None:
        return []
    chain = await ports.responses.conversation(before, scope=scope, limit=MAX_CONTINUED)
    if not chain[-1].has_ended:
        raise InvalidRequestError(
            f"{body.previous_response_id} has not ended yet. Wait until it has.", param="previous_response_id"
        )
    return list(recent([message for kept in chain for message in _said_in(kept)]))


def _said_in(kept: ModelResponse) -> list[Message]:
    answers = [item for item in kept.body["output"] if item["type"] == "message"]
    texts = [part["text"] for item in answers for part in item["content"]]
    asked = ResponseCreate.model_validate(kept.request).messages()
    return asked + [{"role": "assistant", "content": text} for text in texts]


def _conversation(given: Sequence[Message], before: Sequence[Message]) -> tuple[str, list[Message]]:
    """The last user message, and what was said before it."""
    last = next((at for at in range(len(given) - 1, -1, -1) if given[at]["role"] == "user"), None)
    if last is None or not (question := given[last]["content"].strip()):
        raise InvalidRequestError("input needs a user message with text: the question.", param="input")
    return question, [*before, *given[:last]]


async def _stores(
    body: ResponseCreate, tool: FileSearchTool, ports: Ports, scope: Scope
) -> tuple[tuple[UUID, ...], Space]:
    if sum(other.type == "file_search" for other in body.tools) > 1:
        raise InvalidRequestError("Give one file_search tool; it may name several stores.", param="tools")
    named = store_of(body.model, ports)
    wanted = dict.fromkeys([*([named] if named else []), *tool.vector_store_ids])
    ids = tuple(parse("store", public_id) for public_id in wanted)
    if not ids:
        raise InvalidRequestError(
            "No documents to answer from. Give a file_search tool with vector_store_ids, or the model bookwheel/vs_...",
            param="tools",
        )
    stores = await asyncio.gather(*(ports.stores.get(store_id, scope=scope) for store_id in ids))
    await note_search(stores, scope=scope, ports=ports)
    if len({store.space.id for store in stores}) > 1:
        raise InvalidRequestError("These stores use different embedding models; ask them one at a time.", param="tools")
    return ids, stores[0].space


def _dense_weight(options: RankingOptions, place: str) -> float | None:
    weights = options.hybrid_search
    if weights is None:
        return None
    total = weights.embedding_weight + weights.text_weight
    if not total:
        param = f"{place}.ranking_options.hybrid_search"
        raise InvalidRequestError(f"{param}: one of the two weights must be above zero.", param=param)
    return weights.embedding_weight / total
