"""What POST /v1/responses asks for: the body, the stores it names, and the conversation that it continues."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from bookwheel.access import within
from bookwheel.api.bodies import Body, RankingOptions, TextPart, wanted_schema
from bookwheel.api.cache_control import CacheControl
from bookwheel.api.conversation import Message, asked, check_length, recent, told_and_said
from bookwheel.api.ids import parse
from bookwheel.api.models import OWN, generator_for
from bookwheel.api.store_choice import answering_stores
from bookwheel.errors import InvalidRequestError
from bookwheel.filters import parse as parse_filter
from bookwheel.followup import self_contained
from bookwheel.ports import Ports
from bookwheel.types import Ask, ModelResponse, Scope

RESULTS = "file_search_call.results"
MAX_CONTINUED = 50  #: earlier responses that are read as the conversation so far


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


class TextFormat(Body):
    """What a response answers in; the schema stands beside its type here."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: Annotated[str, Field(max_length=64)] = "answer"
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class TextOptions(Body):
    """`text` of a request."""

    format: TextFormat = TextFormat()

    def wanted(self) -> Mapping[str, Any] | None:
        """The JSON schema that an answer must fit, None for text. Raises InvalidRequestError."""
        return wanted_schema(self.format.type, self.format.schema_, param="text.format.schema")


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
    text: TextOptions = TextOptions()
    previous_response_id: Annotated[str, Field(max_length=100)] | None = None
    user: Annotated[str, Field(max_length=512)] | None = None

    @property
    def is_kept(self) -> bool:
        """Stored, which is the default."""
        return self.store is not False

    @property
    def shows_results(self) -> bool:
        """What the file search found is asked for."""
        return RESULTS in (self.include or ())

    @property
    def tool(self) -> FileSearchTool | None:
        """The file search asked for, if any."""
        return next((tool for tool in self.tools if tool.type == "file_search"), None)

    def messages(self) -> list[Message]:
        """The messages of the input, in order. Raises InvalidRequestError."""
        if isinstance(self.input, str):
            return [Message(role="user", content=self.input)]
        said = list[Message]()
        for number, item in enumerate(self.input):
            if item.type == "message":
                if item.role is None:
                    param = f"input[{number}].role"
                    raise InvalidRequestError(f"{param} is missing; a message needs one.", param=param)
                said.append(Message(role=item.role, content=item.text()))
        return said


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A request for a response, resolved."""

    ask: Ask
    search_query: str  #: the question made self-contained
    said: Sequence[str]  #: all that was given, to be counted
    shows_results: bool
    scope: Scope


def previous_id(body: ResponseCreate) -> UUID | None:
    """The response that this one continues. Raises NotFoundError for an ill-formed id."""
    return parse("response", body.previous_response_id) if body.previous_response_id else None


async def resolved(
    body: ResponseCreate, control: CacheControl, *, ports: Ports, scope: Scope, caller_id: str
) -> Wanted:
    """Everything that the answer walk needs. Raises InvalidRequestError and NotFoundError."""
    text, before = asked(body.messages(), param="input")
    check_length(text, [body.instructions or "", *(turn["content"] for turn in before)], param="input")
    told, history = told_and_said([*await _said_before(body, ports, scope, caller_id), *before])
    instructions = "\n\n".join(part for part in (body.instructions, told) if part)
    tool = body.tool or FileSearchTool(type="file_search")
    options = tool.ranking_options or RankingOptions()
    place = f"tools[{body.tools.index(tool)}]" if body.tool else "tools"
    if tool.filters is not None:
        parse_filter(tool.filters, path=f"{place}.filters")
    if sum(other.type == "file_search" for other in body.tools) > 1:
        raise InvalidRequestError("Give one file_search tool; it may name several stores.", param="tools")
    stores, space = await answering_stores(
        body.model,
        tool.vector_store_ids,
        param="tools",
        remedy="Give a file_search tool with vector_store_ids, or the model bookwheel/vs_...",
        scope=scope,
        ports=ports,
    )
    schema = body.text.wanted()
    ask = Ask(
        question=options.question(
            text, limit=tool.max_num_results, filter=tool.filters, path=f"{place}.ranking_options"
        ),
        space=space,
        history=history,
        instructions=instructions,
        schema=schema,
        max_tokens=body.max_output_tokens,
        model=await generator_for(body.model, schema, scope=scope, ports=ports),
        freshness=control.freshness(stores),
    )
    said = [instructions, text, *(turn["content"] for turn in history)]
    return Wanted(
        ask=ask,
        search_query=self_contained(text, history),
        said=[one for one in said if one],
        shows_results=body.shows_results,
        scope=within(scope, *(store.id for store in stores)),
    )


async def _said_before(body: ResponseCreate, ports: Ports, scope: Scope, caller_id: str) -> Sequence[Message]:
    """The messages of the responses that this one continues, oldest first. Instructions are not carried over."""
    before = previous_id(body)
    if before is None:
        return []
    chain = await ports.responses.conversation(before, scope=scope, caller_id=caller_id, limit=MAX_CONTINUED)
    if not chain[-1].has_ended:
        raise InvalidRequestError(
            f"{body.previous_response_id} has not ended yet. Wait until it has.", param="previous_response_id"
        )
    return recent([message for kept in chain for message in _said_in(kept)])


def _said_in(kept: ModelResponse) -> list[Message]:
    answers = [item for item in kept.body["output"] if item["type"] == "message"]
    texts = [part["text"] for item in answers for part in item["content"]]
    asked = ResponseCreate.model_validate(kept.request).messages()
    return asked + [{"role": "assistant", "content": text} for text in texts]
