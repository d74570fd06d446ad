"""Request bodies: what callers may send. Fields of OpenAI's that have no meaning here are ignored."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bookwheel.errors import InvalidRequestError
from bookwheel.types import Chunking, Strategy

Name = Annotated[str, Field(max_length=256, pattern=r"^[^\x00]*$")]
QueryText = Annotated[str, Field(min_length=1, max_length=8192)]

MIN_CHUNK, MAX_CHUNK = 64, 1024  #: tokens
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


class StoreCreate(Body):
    """POST /v1/vector_stores."""

    name: Name = ""
    file_ids: list[str] = Field([], max_length=500)
    metadata: dict[str, str] | None = None
    chunking_strategy: ChunkingStrategy | None = None


class StoreModify(Body):
    """POST /v1/vector_stores/{id}."""

    name: Name | None = None
    metadata: dict[str, str] | None = None


class FileAttach(Body):
    """POST /v1/vector_stores/{id}/files."""

    file_id: str
    external_id: Annotated[str, Field(min_length=1, max_length=2048, pattern=r"^[^\x00]*$")] | None = None
    title: Annotated[str, Field(max_length=1024, pattern=r"^[^\x00]*$")] | None = None
    attributes: dict[str, Any] | None = None
    access: list[str] | None = None  #: when it is not sent, a known document keeps its list
    chunking_strategy: ChunkingStrategy | None = None
    bulk: bool = False  #: one of many: single uploads go before it


class HybridWeights(Body):
    """Weights of the two searches in the fused score; only their ratio counts."""

    embedding_weight: float = Field(1.0, ge=0)
    text_weight: float = Field(1.0, ge=0)


class RankingOptions(Body):
    """How hits are ordered and cut."""

    ranker: str = "auto"
    score_threshold: float = Field(0.0, ge=0, le=1)
    hybrid_search: HybridWeights | None = None


class Search(Body):
    """POST /v1/vector_stores/{id}/search."""

    query: QueryText | Annotated[list[QueryText], Field(min_length=1, max_length=16)]
    max_num_results: int = Field(10, ge=1, le=50)
    filters: dict[str, Any] | None = None
    ranking_options: RankingOptions = RankingOptions()
    rewrite_query: bool = False


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


class ChatCreate(Body):
    """POST /v1/chat/completions."""

    model: str
    messages: list[ChatMessage] = Field(min_length=1, max_length=1000)
    stream: bool = False
    stream_options: StreamOptions | None = None
    vector_store_ids: list[str] = Field([], max_length=10)
    filters: dict[str, Any] | None = None
    max_num_results: int = Field(8, ge=1, le=50)


class AttributesUpdate(Body):
    """POST /v1/vector_stores/{id}/files/{file_id}. What is not sent stays as it is."""

    attributes: dict[str, Any] | None = None
    access: list[str] | None = None
