"""Embeddings, rerankings, chats and responses."""

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from bookwheel.replies.stores import FoundDetails, Hit, Origin


class EmbeddingUsage(TypedDict):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class Embedding(TypedDict):
    """A vector, as numbers or as base64 of little-endian float32."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Embeddings(TypedDict):
    """A vector for each text, in order."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class RankedText(TypedDict):
    """The text of a ranked document."""

    text: str


class Ranked(TypedDict):
    """A document by its place in the request, with its relevance."""

    index: int
    relevance_score: float
    document: NotRequired[RankedText]


class Reranked(TypedDict):
    """The documents, best first."""

    id: str
    results: list[Ranked]
    meta: dict[str, Any]
    model: str


class ChatUsage(TypedDict):
    """What an answer cost, in tokens of the stores' embedder."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Cited(TypedDict):
    """The passage behind a sentence."""

    file_id: str
    filename: str
    quote: str
    page: int | None
    start: int
    end: int
    index: int
    answer_offset: int
    document_id: str
    external_id: str | None


class ChatCitation(TypedDict):
    """A citation of a chat message."""

    type: Literal["file_citation"]
    file_citation: Cited


class AnswerMessage(TypedDict):
    """The answer."""

    role: Literal["assistant"]
    content: str
    refusal: None
    annotations: list[ChatCitation]


class Choice(TypedDict):
    """The one choice there is."""

    index: int
    message: AnswerMessage
    logprobs: None
    finish_reason: Literal["stop", "length"]


class CheckedSentence(TypedDict):
    """A sentence of the answer by its place, and how far the passages support it."""

    start: int
    end: int
    claims: bool
    supported: bool
    score: float
    citations: list[int]
    reason: str


class AnswerDetails(FoundDetails):
    """How an answer came about; `grounding` is the share of what it claims that the passages support."""

    supported: bool
    grounding: float | None
    sentences: list[CheckedSentence]
    model: str
    search_query: str
    hits: NotRequired[list[Hit]]


class ChatCompletion(TypedDict):
    """A cited answer."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: ChatUsage
    bookwheel: AnswerDetails


class Citation(Cited):
    """A citation of a response's text."""

    type: Literal["file_citation"]


class OutputText(TypedDict):
    """The text of an answer with its citations."""

    type: Literal["output_text"]
    text: str
    annotations: list[Citation]
    logprobs: list[Any]


class OutputMessage(TypedDict):
    """The answer as an item."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    status: Literal["in_progress", "completed", "incomplete"]
    content: list[OutputText]


class SearchResult(TypedDict):
    """A passage that a file search found."""

    file_id: str
    filename: str
    score: float
    attributes: dict[str, Any]
    document: Origin
    vector_store_id: str
    text: str


class SearchCall(TypedDict):
    """The file search as an item; `results` where they are included."""

    id: str
    type: Literal["file_search_call"]
    status: Literal["in_progress", "searching", "completed"]
    queries: list[str]
    results: list[SearchResult] | None


class ResponseProblem(TypedDict):
    """Why a response failed."""

    code: str
    message: str
    reason: NotRequired[str]
    param: NotRequired[str | None]


class Response(TypedDict):
    """A response; `bookwheel` says how its answer came about."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
    background: bool
    error: ResponseProblem | None
    incomplete_details: dict[str, Any] | None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    model: str
    output: list[SearchCall | OutputMessage]
    parallel_tool_calls: bool
    previous_response_id: str | None
    store: bool
    temperature: None
    text: dict[str, Any]
    tool_choice: str
    tools: list[dict[str, Any]]
    top_p: None
    truncation: str
    usage: dict[str, Any] | None
    user: str | None
    bookwheel: NotRequired[AnswerDetails]


class InputMessage(TypedDict):
    """A message that a request brought."""

    id: str
    type: Literal["message"]
    role: str
    status: Literal["completed"]
    content: list[dict[str, Any]]
