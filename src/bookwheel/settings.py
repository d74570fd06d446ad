"""Every setting: name, default, help. Read once at start from `BOOKWHEEL_*`; the unit is in the name.

One URL for each port, so that a running process shows its architecture in its environment.
"""

from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from bookwheel.errors import SettingsError

MIB = 1 << 20


class Settings(BaseSettings):
    """The table of settings."""

    model_config = SettingsConfigDict(env_prefix="BOOKWHEEL_", frozen=True, extra="ignore")

    data_dir: Path = Field(
        Path("~/.local/share/bookwheel"), description="Where the embedded database, blobs and keyword index live."
    )
    database_url: str = Field("embedded:", description="`embedded:` or a PostgreSQL URL (pgvector 0.8 or newer).")
    keywords_url: str = Field("tantivy:", description="The keyword index: `tantivy:` (in data_dir).")
    blobs_url: str = Field("directory:", description="Where uploaded bytes live: `directory:` (in data_dir).")
    embedder_url: str = Field(
        "openvino:",
        description="`openvino:` (MiniLM from its package), `openvino:/path/to/a/model/directory`, or"
        " `openai:https://HOST/v1?model=NAME` for any server of that API.",
    )
    generator_url: str = Field(
        "extractive:",
        description="Who writes answers: `extractive:` needs no model; `openai:https://HOST/v1?model=NAME` any server"
        " of that API; `anthropic:?model=NAME`. Several, separated by spaces: the first is the default, callers choose"
        " by name.",
    )
    openai_api_key: SecretStr = Field(SecretStr(""), description="For `openai:` generators and embedders.")
    anthropic_api_key: SecretStr = Field(SecretStr(""), description="For `anthropic:` generators.")
    generator_timeout_seconds: float = Field(60.0, gt=0, description="Longest time that writing one answer may take.")
    generator_stall_seconds: float = Field(
        15.0, gt=0, description="Longest silence of a generator: before its first word, and between two."
    )
    generator_concurrency: int = Field(16, ge=1, description="Answers that each process has written at once.")
    generator_context_tokens: int = Field(4096, ge=256, description="Most tokens of passages in one prompt.")
    unsupported_sentences: Literal["mark", "drop", "keep"] = Field(
        "mark", description="What becomes of a sentence of an answer that no passage supports."
    )

    reranker_url: str = Field(
        "lexical:",
        description="Who reranks: `lexical:` (words and the embedder's cosine), `late:` (the embedder's token vectors),"
        " `cross-encoder:/path/to/a/model/directory`, or `cohere:https://HOST/v2/rerank?model=NAME` for a server of"
        " that shape.",
    )
    reranker_api_key: SecretStr = Field(SecretStr(""), description="For `cohere:` rerankers.")
    search_part_seconds: float = Field(
        2.0,
        gt=0,
        description="Longest time that a search waits for its embedding, vectors, keywords or reranker; it goes on"
        " without what takes longer.",
    )
    upstream_timeout_seconds: float = Field(
        5.0, gt=0, description="Longest time that a remote embedder or reranker may take for one request."
    )

    cache_url: str = Field(
        "postgresql:",
        description="Where caches are shared, behind each process's own: `postgresql:` (the catalog's), `redis://HOST`,"
        " `memory:` for none, or `off:` for no cache at all.",
    )
    cache_bytes: int = Field(64 * MIB, ge=MIB, description="Most memory of each process's own cache.")
    cache_answer_seconds: float = Field(86_400.0, gt=0, description="How long an answer is kept.")
    cache_search_seconds: float = Field(1_800.0, gt=0, description="How long what a search found is kept.")
    cache_embedding_seconds: float = Field(3_600.0, gt=0, description="How long the vector of a question is kept.")
    cache_fresh_seconds: float = Field(
        60.0,
        ge=0,
        description="How long a kept answer may miss a new document; 0 is strict: any change of a store ends its"
        " answers at once. A change of what an answer rests on always does.",
    )
    cache_similarity: float = Field(
        0.9, ge=0, le=1, description="Cosine from which an earlier question may answer for this; 1 for the same only."
    )

    host: str = Field("127.0.0.1", description="Address the API listens on; only loopback until keys exist.")
    mcp_hosts: str = Field(
        "", description="Host names, separated by `,`, by which a proxy asks for /mcp; this machine's own always may."
    )
    port: int = Field(8000, ge=0, le=65535, description="Port the API listens on; 0 picks a free one.")
    api_processes: int = Field(1, ge=1, description="API processes that `up` starts.")
    embed_threads: int = Field(0, ge=0, description="Threads of the embedder in each process; 0 means all cores.")
    ingest_concurrency: int = Field(3, ge=1, description="Jobs that one worker overlaps.")

    max_file_bytes: int = Field(512 * MIB, ge=1, description="Largest upload.")
    max_line_bytes: int = Field(16 * MIB, ge=1024, description="Largest line of an NDJSON upload.")
    parse_timeout_seconds: float = Field(
        120.0, gt=0, description="Longest time that reading one file may take, or one segment of a huge text."
    )
    parse_memory_bytes: int = Field(2048 * MIB, ge=256 * MIB, description="Most memory that reading one file may take.")
    max_chunks_per_document: int = Field(200_000, ge=1, description="Most passages that one document may make.")
    fetch_max_bytes: int = Field(64 * MIB, ge=1, description="Largest page that a source fetches, decompressed.")
    fetch_timeout_seconds: float = Field(30.0, gt=0, description="Longest time that fetching one page may take.")
    fetch_allow_private: bool = Field(
        False, description="Let sources fetch from private, loopback and other addresses that are not public."
    )
    source_roots: str = Field(
        "/", description="Folders, separated by `:`, below which a directory source may lie; empty allows none."
    )
    lease_seconds: float = Field(8.0, gt=0, description="A worker silent for this long loses its documents to another.")

    response_keep_days: int = Field(
        30, ge=1, description="Stored responses and the log of webhook deliveries are removed after so many days."
    )

    search_public_seconds: int = Field(
        0,
        ge=0,
        description="How long a proxy may keep what `GET /v1/search` found for callers without principals; 0: nobody"
        " keeps it for others, and its own reader asks each time whether it changed.",
    )
    popular_questions: int = Field(
        100,
        ge=0,
        description="So many of the questions asked most are answered anew before their kept answers die; 0: questions"
        " are not counted.",
    )

    log_level: str = Field("info", description="debug, info, warning or error.")
    log_format: str = Field("text", description="`text` for people, `json` for machines.")

    @cached_property
    def directory(self) -> Path:
        """`data_dir`, absolute."""
        return self.data_dir.expanduser().resolve()


def load_settings(**overrides: Any) -> Settings:
    """Read the environment; values given here win. Raises SettingsError with the setting, its value and the reason."""
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = "BOOKWHEEL_" + "_".join(str(part) for part in first["loc"]).upper()
        raise SettingsError(f"{name} has value {first['input']!r}: {first['msg'].lower()}.") from None
