"""Request bodies: what callers may send. Fields of OpenAI's that have no meaning here are ignored."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from bookwheel.api.given import Vector
from bookwheel.errors import InvalidRequestError
from bookwheel.structured import ANY_OBJECT, check_schema
from bookwheel.types import Chunking, Question, Strategy

Name = Annotated[str, Field(max_length=256, pattern=r"^[^\x00]*$")]
QueryText = Annotated[str, Field(min_length=1, max_length=8192)]

MAX_STORES = 100  #: in one search
MAX_TEXTS = 2048  #: in one request for embeddings
MAX_RANKED = 1000  #: documents in one request for reranking
MIN_CHUNK, MAX_CHUNK = 64, 1024  #: tokens
MAX_BATCH = 2000  #: files
CHILD_CHUNK = 128  #: tokens of a chunk that only serves to find its section


class Body(BaseModel):
    """A JSON body."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class StaticChunking(Body):
    """Sizes in tokens of the store's embedder."""

    max_chunk_size_tokens: int
    chunk_overlap_tokens: int


class ChunkingStrategy(Body):
    """OpenAI's `auto`, or `static` with sizes; or one of ours by name, its sizes beside it, each with a default."""

    type: Literal["auto", "static"] | Strategy
    static: StaticChunking | None = None
    max_chunk_size_tokens: int | None = None
    chunk_overlap_tokens: int | None = None
    parent_chunk_size_tokens: int | None = None

    def chunking(self) -> Chunking | None:
        """The strategy and sizes, or None for `auto`. Raises InvalidRequestError."""
        match self.type:
            case "auto":
                return None
            case "static":
                return self._static()
            case strategy:
                return self._own(strategy)

    def _static(self) -> Chunking:
        if self.static is None:
            raise InvalidRequestError("chunking_strategy.static is missing.", param="chunking_strategy.static")
        size, overlap = self.static.max_chunk_size_tokens, self.static.chunk_overlap_tokens
        _check_range("static.max_chunk_size_tokens", size, MIN_CHUNK, MAX_CHUNK)
        _check_range("static.chunk_overlap_tokens", overlap, 0, size // 2)
        return Chunking(max_tokens=size, overlap_tokens=overlap)

    def _own(self, strategy: Strategy) -> Chunking:
        size = self.max_chunk_size_tokens
        if size is None:
            size = CHILD_CHUNK if strategy == "parent_child" else Chunking().max_tokens
        overlap = self.chunk_overlap_tokens
        if overlap is None:
            overlap = 0 if strategy == "semantic" else size // 8
        _check_range("max_chunk_size_tokens", size, MIN_CHUNK, MAX_CHUNK)
        _check_range("chunk_overlap_tokens", overlap, 0, 0 if strategy == "semantic" else size // 2)
        if strategy != "parent_child":
            return Chunking(strategy=strategy, max_tokens=size, overlap_tokens=overlap)
        parent = MAX_CHUNK if self.parent_chunk_size_tokens is None else self.parent_chunk_size_tokens
        _check_range("parent_chunk_size_tokens", parent, size, MAX_CHUNK)
        return Chunking(strategy=strategy, max_tokens=size, overlap_tokens=overlap, parent_tokens=parent)


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        param = f"chunking_strategy.{name}"
        allowed = f"from {low} to {high}" if low < high else str(low)
        raise InvalidRequestError(f"{param} is {value}; it must be {allowed}.", param=param)


class ExpiresAfter(Body):
    """When an unused store expires."""

    anchor: Literal["last_active_at"]
    days: int = Field(ge=1, le=365)


class StoreCreate(Body):
    """POST /v1/vector_stores."""

    name: Name = ""
    file_ids: list[str] = Field([], max_length=500)
    metadata: dict[str, str] | None = None
    chunking_strategy: ChunkingStrategy | None = None
    expires_after: ExpiresAfter | None = None
    access: list[str] | None = None  #: of its documents without a list of their own; null is everybody
    denied: list[str] | None = None  #: none of its documents, whatever their own lists say


class StoreModify(Body):
    """POST /v1/vector_stores/{id}. What is not sent stays as it is."""

    name: Name | None = None
    metadata: dict[str, str] | None = None
    expires_after: ExpiresAfter | None = None  #: null takes it away
    access: list[str] | None = None  #: null takes it away
    denied: list[str] | None = None  #: null takes it away


class FileAttach(Body):
    """POST /v1/vector_stores/{id}/files."""

    file_id: str
    external_id: Annotated[str, Field(min_length=1, max_length=2048, pattern=r"^[^\x00]*$")] | None = None
    title: Annotated[str, Field(max_length=1024, pattern=r"^[^\x00]*$")] | None = None
    attributes: dict[str, Any] | None = None
    access: list[str] | None = None  #: when it is not sent, a known document keeps its list
    denied: list[str] | None = None  #: so here
    chunking_strategy: ChunkingStrategy | None = None
    bulk: bool = False  #: one of many: single uploads go before it


class BatchCreate(Body):
    """POST /v1/vector_stores/{id}/file_batches. As OpenAI has it, the shared fields are for `file_ids` only; each of
    `files` has its own."""

    file_ids: list[str] | None = Field(None, max_length=MAX_BATCH)
    files: list[FileAttach] | None = Field(None, max_length=MAX_BATCH)
    attributes: dict[str, Any] | None = None
    chunking_strategy: ChunkingStrategy | None = None

    def attached(self) -> list[FileAttach]:
        """The files one by one, each once where they are given by id. Raises InvalidRequestError."""
        if (self.file_ids is None) == (self.files is None):
            raise InvalidRequestError("Send file_ids or files: one of the two.", param="file_ids")
        if self.files is None:
            attached = [
                FileAttach(file_id=file_id, attributes=self.attributes, chunking_strategy=self.chunking_strategy)
                for file_id in dict.fromkeys(self.file_ids or ())
            ]
        else:
            attached = self.files
        if not attached:
            raise InvalidRequestError("The batch has no files. Send at least one.", param="file_ids")
        return attached


class HybridWeights(Body):
    """Weights of the two searches in the fused score; only their ratio counts."""

    embedding_weight: float = Field(1.0, ge=0)
    text_weight: float = Field(1.0, ge=0)


class RankingOptions(Body):
    """How hits are ordered and cut."""

    ranker: Literal[
        "auto", "none", "default-2024-08-21", "default_2024_08_21", "default-2024-11-15", "bookwheel-rerank"
    ] = "auto"  #: the last one lets the reranker judge the best hits
    diversity: float | None = Field(None, ge=0, le=1)  #: MMR's lambda: 1 for relevance alone, copies left out
    score_threshold: float = Field(0.0, ge=0, le=1)
    hybrid_search: HybridWeights | None = None

    def question(
        self, text: str, *, limit: int, filter: Mapping[str, Any] | None, path: str = "ranking_options"
    ) -> Question:
        """A search for the text, ranked by these options. Raises InvalidRequestError."""
        return Question(
            text=text,
            limit=limit,
            filter=filter,
            score_threshold=self.score_threshold,
            dense_weight=self.dense_weight(path=path),
            rerank=self.ranker == "bookwheel-rerank",
            diversity=self.diversity,
        )

    def dense_weight(self, *, path: str = "ranking_options") -> float | None:
        """The share of the embedding in the fused score, None for our own. Raises InvalidRequestError."""
        if self.hybrid_search is None:
            return None
        total = self.hybrid_search.embedding_weight + self.hybrid_search.text_weight
        if not total:
            param = f"{path}.hybrid_search"
            raise InvalidRequestError(f"{param}: one of the two weights must be above zero.", param=param)
        return self.hybrid_search.embedding_weight / total


class Search(Body):
    """POST /v1/vector_stores/{id}/search."""

    query: QueryText | Annotated[list[QueryText], Field(min_length=1, max_length=16)]
    query_vector: Vector = None  #: of one query, in place of what the embedder would make of it
    max_num_results: int = Field(10, ge=1, le=50)
    filters: dict[str, Any] | None = None
    ranking_options: RankingOptions = RankingOptions()
    rewrite_query: bool = False


class PlainSearch(Body):
    """POST /v1/search."""

    query: QueryText | Annotated[list[QueryText], Field(min_length=1, max_length=16)]
    query_vector: Vector = None  #: of one query, in place of what the embedder would make of it
    top_k: int = Field(10, ge=1, le=50)
    filter: dict[str, Any] | None = None
    vector_store_ids: list[str] = Field([], max_length=MAX_STORES)
    stores: list[Name] = Field([], max_length=MAX_STORES)  #: names
    ranking_options: RankingOptions = RankingOptions()


TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
#: Lists of tokens are refused.
TEXTS = {"anyOf": [TEXT, {"type": "array", "items": TEXT, "minItems": 1, "maxItems": MAX_TEXTS}]}


class EmbeddingsCreate(Body):
    """POST /v1/embeddings."""

    input: Annotated[str | list[str] | list[int] | list[list[int]], WithJsonSchema(TEXTS)]
    model: str
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None

    def texts(self) -> list[str]:
        """The input as a list. Raises InvalidRequestError for token lists, empty texts, none and too many."""
        texts = [self.input] if isinstance(self.input, str) else self.input
        if not 1 <= len(texts) <= MAX_TEXTS:
            raise InvalidRequestError(f"input has {len(texts)} texts; it must be 1 to {MAX_TEXTS}.", param="input")
        checked = list[str]()
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                raise InvalidRequestError(
                    "input holds tokens, which another model's tokenizer made. Send the text itself.", param="input"
                )
            if not text.strip():
                raise InvalidRequestError(f"input[{index}] is empty.", param=f"input[{index}]")
            checked.append(text)
        return checked


class RerankDocument(Body):
    """A text to be ranked, as an object."""

    text: str


class RerankCreate(Body):
    """POST /v2/rerank, in Cohere's shape."""

    model: str
    query: QueryText
    documents: list[str | RerankDocument] = Field(min_length=1, max_length=MAX_RANKED)
    top_n: int | None = Field(None, ge=1)
    return_documents: bool = False

    def texts(self) -> list[str]:
        """The documents' texts."""
        return [document if isinstance(document, str) else document.text for document in self.documents]


class TextPart(Body):
    """A part of a message; only text is read."""

    type: str
    text: str = ""


class ChatMessage(Body):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None

    def text(self) -> str:
        """Its text parts, joined."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content or () if part.type == "text")


class StreamOptions(Body):
    """Options of a streamed answer."""

    include_usage: bool = False


class JsonSchema(Body):
    """A JSON schema with a name, as OpenAI has it; it always holds, `strict` or not."""

    name: Annotated[str, Field(max_length=64)] = "answer"
    schema_: dict[str, Any] = Field(alias="schema")


class ResponseFormat(Body):
    """What a chat answers in: text, any JSON object, or JSON that a schema accepts."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: JsonSchema | None = None

    def wanted(self) -> Mapping[str, Any] | None:
        """The JSON schema that an answer must fit, None for text. Raises InvalidRequestError."""
        if self.type == "json_schema" and self.json_schema is None:
            raise InvalidRequestError("response_format.json_schema is missing.", param="response_format.json_schema")
        given = None if self.json_schema is None else self.json_schema.schema_
        return wanted_schema(self.type, given, param="response_format.json_schema.schema")


def wanted_schema(type: str, given: Any, *, param: str) -> Mapping[str, Any] | None:
    """The JSON schema that an answer must fit, None for text. Raises InvalidRequestError."""
    if type == "text":
        return None
    return ANY_OBJECT if type == "json_object" else check_schema(given, param=param)


class ChatCreate(Body):
    """POST /v1/chat/completions."""

    model: str
    messages: list[ChatMessage] = Field(min_length=1, max_length=1000)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)  #: the older name of the next
    max_completion_tokens: int | None = Field(None, ge=1)
    response_format: ResponseFormat = ResponseFormat()
    vector_store_ids: list[str] = Field([], max_length=10)
    filters: dict[str, Any] | None = None
    max_num_results: int = Field(8, ge=1, le=50)
    ranking_options: RankingOptions = RankingOptions()


class TenantModify(Body):
    """POST /v1/tenant. What is not sent stays as it is."""

    generator: Annotated[str, Field(max_length=200)] | None = None


class AttributesUpdate(Body):
    """POST /v1/vector_stores/{id}/files/{file_id}. What is not sent stays as it is."""

    attributes: dict[str, Any] | None = None
    access: list[str] | None = None
    denied: list[str] | None = None
