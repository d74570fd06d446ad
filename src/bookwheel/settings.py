"""Every setting: name, default, help. Read once at start from `BOOKWHEEL_*`; the unit is in the name.

One URL for each port, so that a running process shows its architecture in its environment. Secrets, which are keys
and URLs that may hold a password, can also stand in files: `BOOKWHEEL_<NAME>_FILE` is the path of one.
"""

import base64
import os
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from bookwheel.errors import SettingsError
from bookwheel.redaction import passwords, redacted, remember

MIB = 1 << 20
PREFIX = "BOOKWHEEL_"
MAX_SECRET_BYTES = 1 << 16
SIGNING_KEY_BYTES = 32


class Settings(BaseSettings):
    """The table of settings."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True)

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
    answer_links: Literal["neutralise", "keep", "documents"] = Field(
        "neutralise",
        description="What becomes of links, images and HTML in an answer's text: `neutralise` leaves text that no"
        " browser follows, `documents` keeps addresses that stand in its passages, `keep` changes nothing.",
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

    host: str = Field("127.0.0.1", description="Address the API listens on. Beyond loopback, callers need keys.")
    limits_url: str = Field(
        "postgresql:",
        description="Where limits are counted for all processes: `postgresql:` (the catalog's), `redis://HOST`,"
        " `memory:` (each process by itself), or `off:` for no limits of requests and tokens.",
    )
    limit_requests_per_minute: int = Field(
        100, ge=0, description="Requests in any minute of a key or user whose own limit is not set; 0: any number."
    )
    limit_tenant_requests_per_minute: int = Field(
        500, ge=0, description="Requests in any minute of a tenant whose own limit is not set; 0: any number."
    )
    limit_tokens_per_minute: int = Field(
        0, ge=0, description="Tokens of language models in any minute of a key or user; 0: any number."
    )
    limit_tenant_tokens_per_minute: int = Field(
        0, ge=0, description="Tokens of language models in any minute of a tenant; 0: any number."
    )
    limit_concurrent_requests: int = Field(0, ge=0, description="Requests at once of a key or user; 0: any number.")
    limit_tenant_concurrent_requests: int = Field(0, ge=0, description="Requests at once of a tenant; 0: any number.")
    limit_embedding_tokens_per_day: int = Field(
        0, ge=0, description="Tokens that a tenant may have embedded in any 24 hours; 0: any number."
    )

    auth: Literal["auto", "keys"] = Field(
        "auto",
        description="`auto`: on loopback the machine's own users need no key, anywhere else every caller does; `keys`:"
        " always. Set `keys` when a proxy on this machine lets others in.",
    )
    hosts: str = Field(
        "",
        description="Host names, separated by `,`, by which a proxy asks for /mcp, and for anything where callers need"
        " no key; this machine's own names always may.",
    )
    api_key: SecretStr = Field(SecretStr(""), description="The key that the command line sends.")
    signing_key: SecretStr = Field(
        SecretStr(""),
        description="Private Ed25519 key that signs receipts, 32 bytes as base64; one is made and kept when empty.",
    )
    oidc_issuer: str = Field(
        "", description="Address of an OpenID Connect issuer, whose tokens callers may send in place of a key."
    )
    oidc_audience: str = Field("bookwheel", description="The audience that tokens must name.")
    oidc_jwks_url: str = Field("", description="Where the issuer's keys are; found through its discovery when empty.")
    oidc_tenant_claim: str = Field(
        "", description="Claim that holds the tenant's id; empty: all its users are of the default tenant."
    )
    oidc_groups_claim: str = Field("groups", description="Claim that names the caller's groups, for access lists.")
    oidc_role_claim: str = Field(
        "roles", description="Claim with reader, writer or admin; without one, callers are readers."
    )
    oidc_attribute_claims: str = Field(
        "",
        description="Claims, separated by `,`, such as `department`: callers see only documents whose attribute of the"
        " same name has the claim's value.",
    )
    port: int = Field(8000, ge=0, le=65535, description="Port the API listens on; 0 picks a free one.")
    tls_cert: str = Field(
        "",
        description="Path of the API's certificate with its chain, in PEM; empty: no TLS. Read again when it changes.",
    )
    tls_key: str = Field("", description="Path of the certificate's key, in PEM; empty: it stands in the same file.")
    tls_key_password: SecretStr = Field(SecretStr(""), description="Of an encrypted key.")
    tls_client_ca: str = Field(
        "", description="Path of the CA that signs callers' certificates, in PEM; set, every caller must show one."
    )
    ca: str = Field("", description="Path of a CA, in PEM, that the command line trusts to have signed the API's.")
    client_cert: str = Field("", description="Path of the certificate that the command line shows to the API.")
    client_key: str = Field("", description="Path of its key; empty: it stands in the same file.")
    upstream_ca: str = Field(
        "", description="Path of a CA, in PEM, that is trusted besides the public ones for servers of models."
    )
    upstream_client_cert: str = Field("", description="Path of the certificate that is shown to servers of models.")
    upstream_client_key: str = Field("", description="Path of its key; empty: it stands in the same file.")
    cors_origins: str = Field(
        "", description="Origins, separated by `,`, whose pages may call the API from a browser; empty: none."
    )
    header_seconds: float = Field(10.0, gt=0, description="Longest time for TLS, and for the head of a request.")
    body_stall_seconds: float = Field(
        30.0, gt=0, description="Longest silence in the body of a request, and of who reads an answer."
    )
    min_bytes_per_second: int = Field(
        500, ge=1, description="Least average speed of a body, and of who reads an answer, after that time."
    )
    max_connections: int = Field(2_000, ge=1, description="Most open connections of each API process.")
    max_connections_per_address: int = Field(
        500, ge=1, description="Most of them from one address; this machine's own, a proxy's, do not count."
    )
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
        "auto",
        description="Folders, separated by `:`, below which a directory source may lie; empty allows none. `auto`:"
        " anywhere for the machine's own user, where the server asks for no keys, and nowhere for callers with one.",
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
    query_log: Literal["off", "redacted", "full"] = Field(
        "off",
        description="What the log says about questions: `off` nothing; `redacted` length, language and a hash that only"
        " this process can make; `full` their text.",
    )

    @cached_property
    def directory(self) -> Path:
        """`data_dir`, absolute."""
        return self.data_dir.expanduser().resolve()

    @field_validator("signing_key")
    @classmethod
    def _signs(cls, value: SecretStr) -> SecretStr:
        """A key that cannot sign is refused at the start, not by the first receipt."""
        if given := value.get_secret_value():
            try:
                size = len(base64.b64decode(given, validate=True))
            except ValueError:
                size = 0
            if size != SIGNING_KEY_BYTES:
                raise ValueError(f"should be {SIGNING_KEY_BYTES} bytes as base64")
        return value

    @field_validator("*")
    @classmethod
    def _unambiguous(cls, value: Any, info: ValidationInfo) -> Any:
        """A password with @ or / as it is would be taken for a host by one part and shown by another."""
        if str(info.field_name).endswith("_url") and "://" in value:
            authority, *rest = re.split("[/?#]", value.partition("://")[2], maxsplit=1)
            cut = ":" in authority and "@" not in authority and "@" in "".join(rest)
            if cut or authority.count("@") > 1:
                raise ValueError("should have its password percent-encoded (@ is %40, / is %2F)")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the names are pydantic's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given in the program, then the environment, then files that the environment names."""
        return init_settings, env_settings, _SecretFiles(settings_cls)

    def secrets(self) -> Iterator[str]:
        """Every key and password."""
        for name in secret_names():
            value = getattr(self, name)
            yield from [value.get_secret_value()] if isinstance(value, SecretStr) else passwords(value)

    def environment(self, **others: str) -> dict[str, str]:
        """The environment for a process with the same settings, but for `others`. Secrets that stand in files stay
        there."""
        replaced = {f"{PREFIX}{name.upper()}_FILE" for name in others}
        made = {name: value for name, value in os.environ.items() if name not in replaced}
        for name, value in self:
            variable = PREFIX + name.upper()
            if name not in secret_names() or not made.get(f"{variable}_FILE"):
                made[variable] = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        return made | {PREFIX + name.upper(): value for name, value in others.items()}

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Without passwords."""
        for name, value in super().__repr_args__():
            yield name, redacted(value) if isinstance(value, str) else value


def secret_names() -> frozenset[str]:
    """Settings that may hold a secret: keys, and URLs for their passwords."""
    fields = Settings.model_fields.items()
    return frozenset(name for name, field in fields if name.endswith("_url") or field.annotation is SecretStr)


class _SecretFiles(PydanticBaseSettingsSource):
    """Secrets from the files that `BOOKWHEEL_<NAME>_FILE` names."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - pydantic's
        """What the file holds, without white space at its end. Raises SettingsError, also when the environment has the
        secret too."""
        variable = PREFIX + field_name.upper()
        path = os.environ.get(f"{variable}_FILE")
        if not path:
            return None, field_name, False
        if os.environ.get(variable):
            raise SettingsError(f"{variable} and {variable}_FILE are both set. Keep one of them.")
        return _content(Path(path), f"{variable}_FILE"), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Those that are given."""
        found = {name: self.get_field_value(self.settings_cls.model_fields[name], name)[0] for name in secret_names()}
        return {name: value for name, value in found.items() if value is not None}


def _content(path: Path, variable: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SECRET_BYTES + 1)
        if len(data) > MAX_SECRET_BYTES:
            raise SettingsError(f"{variable} names {str(path)!r}, which is too large for a secret. Name another file.")
        return data.decode().rstrip()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SettingsError(f"{variable} names {str(path)!r}, which cannot be read: {reason}.") from error
    except UnicodeDecodeError:  # without the cause, which repeats the bytes
        raise SettingsError(f"{variable} names {str(path)!r}, which is no text. Write the secret as UTF-8.") from None


def load_settings(**overrides: Any) -> Settings:
    """Read the environment; values given here win. From then on logs and errors hide what is secret in it. Raises
    SettingsError with the setting, its value unless it is a secret, and the reason."""
    try:
        settings = Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"])
        reason = first["msg"].lower().removeprefix("value error, ")
        shown = "a value that" if name in secret_names() else f"value {first['input']!r}:"
        raise SettingsError(f"{PREFIX}{name.upper()} has {shown} {reason}.") from None
    remember(settings.secrets())
    return settings
