"""Every error that a caller can meet, in OpenAI's JSON shape.

* BookwheelError
  + InvalidRequestError (400)
    - InvalidFilterError
    - InvalidDocumentError
    - StoreExpiredError
  + AuthenticationError (401)
  + PermissionDeniedError (403)
  + NotFoundError (404)
  + RequestTimeoutError (408)
  + ConflictError (409)
    - StaleVersionError
    - IdempotencyKeyReusedError
    - IdempotencyKeyBusyError
    - DataDirectoryInUseError
  + PreconditionFailedError (412)
  + TooLargeError (413)
  + UnprocessableFileError (422)
    - UnsupportedFileError
    - EncryptedFileError
    - BrokenFileError
    - NoTextError
    - NeedsOcrError
    - ParseTimeoutError
    - ParseMemoryError
    - TooManyChunksError
  + SettingsError (500)
  + SourceError (502)
    - SourceGoneError
    - FetchRefusedError
    - FetchFailedError
  + BrokenOffError (500)
  + AnswerFormatError (502)
  + OverloadedError (429, retryable)
    - RateLimitError
  + QuotaError (429)
  + UnavailableError (503, retryable)
    - DatabaseUnavailableError
    - IndexUnavailableError
    - EmbedderUnavailableError
    - GeneratorUnavailableError
    - RerankerUnavailableError
    - CacheUnavailableError
    - LimiterUnavailableError
  + StorageFullError (507, retryable)

A class's docstring is its default message: what is wrong, then what to do. `status` is the HTTP status, `code` the
machine-readable name, `retryable` whether the same call may succeed later. Backends translate their own errors
into these at their border.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from bookwheel.redaction import redacted

LONGEST_MESSAGE = 4_000  #: characters: what callers sent may be in it, and looking for secrets takes time


class BookwheelError(Exception):
    """Something went wrong inside Bookwheel. The log has the details under this request id."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False

    def __init__(
        self, message: str | None = None, *, param: str | None = None, retry_after: float | None = None
    ) -> None:
        self.message = redacted((message or " ".join((self.__doc__ or "").split()))[:LONGEST_MESSAGE])
        self.param = param
        self.retry_after = retry_after  #: seconds, where it is known when the same call may succeed
        super().__init__(self.message)

    def body(self) -> dict[str, Any]:
        """The JSON body of the HTTP response: `{"error": {"message", "type", "param", "code"}}`."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


class InvalidRequestError(BookwheelError):
    """The request is not valid. Correct the field named in `param`."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_request"


class InvalidFilterError(InvalidRequestError):
    """The filter is not valid. See the filter grammar in docs/api/search.md."""

    code = "invalid_filter"


class InvalidDocumentError(InvalidRequestError):
    """The document line is not valid: it needs at least `id` and `text`, both strings."""

    code = "invalid_document"


class StoreExpiredError(InvalidRequestError):
    """The vector store has expired and its documents are gone. Attach files to it, or modify it, to use it again."""

    code = "vector_store_expired"


class AuthenticationError(BookwheelError):
    """The API key is missing, unknown, expired or revoked. Send `Authorization: Bearer bw-...` with a key of yours."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class PermissionDeniedError(BookwheelError):
    """This key's role does not allow it. Use a key of the role that the message names."""

    status = 403
    type = "permission_error"
    code = "permission_denied"


class NotFoundError(BookwheelError):
    """There is no such thing here, or this key may not see it. Check the id."""

    status = 404
    type = "invalid_request_error"
    code = "not_found"


class RequestTimeoutError(BookwheelError):
    """The body of the request came too slowly. Send it again over a better connection, or in smaller parts."""

    status = 408
    type = "invalid_request_error"
    code = "request_timeout"


class ConflictError(BookwheelError):
    """The thing changed or is taken. Read it again, then retry."""

    status = 409
    type = "invalid_request_error"
    code = "conflict"


class StaleVersionError(ConflictError):
    """A newer version of the document exists, so this one is not published. Nothing to do."""

    code = "stale_version"


class IdempotencyKeyReusedError(ConflictError):
    """The Idempotency-Key was used for another request. Send each new request with a new key."""

    code = "idempotency_key_reused"


class IdempotencyKeyBusyError(ConflictError):
    """A request with this Idempotency-Key is still running. Send it again in a moment to get its answer."""

    code = "idempotency_key_in_use"


class DataDirectoryInUseError(ConflictError):
    """Another Bookwheel holds this data directory. Stop it, or choose another with --data-dir."""

    code = "data_directory_in_use"


class PreconditionFailedError(BookwheelError):
    """Somebody changed it since it was read. Read it again, and send the change with the ETag that comes with it."""

    status = 412
    type = "invalid_request_error"
    code = "precondition_failed"


class TooLargeError(BookwheelError):
    """The upload is larger than the limit. Split it, or raise BOOKWHEEL_MAX_FILE_BYTES."""

    status = 413
    type = "invalid_request_error"
    code = "too_large"


class UnprocessableFileError(BookwheelError):
    """No text could be read from the file."""

    status = 422
    type = "invalid_request_error"
    code = "unprocessable_file"


class UnsupportedFileError(UnprocessableFileError):
    """Files of this type are not supported. Convert it to PDF, DOCX, HTML, Markdown or text."""

    code = "unsupported_file"


class EncryptedFileError(UnprocessableFileError):
    """The file is protected by a password. Remove the password, then add it again."""

    code = "encrypted_file"


class BrokenFileError(UnprocessableFileError):
    """The file is damaged and cannot be read. Open it in its program, save it again, then add it again."""

    code = "broken_file"


class NoTextError(UnprocessableFileError):
    """The file has no text. Nothing was indexed."""

    code = "no_text"


class NeedsOcrError(UnprocessableFileError):
    """The file is an image without a text layer. Install Tesseract (apt install tesseract-ocr), then add it again."""

    code = "needs_ocr"


class ParseTimeoutError(UnprocessableFileError):
    """Reading the file took too long. Split it, or raise BOOKWHEEL_PARSE_TIMEOUT_SECONDS."""

    code = "parse_timeout"


class ParseMemoryError(UnprocessableFileError):
    """Reading the file needed too much memory. Split it, or raise BOOKWHEEL_PARSE_MEMORY_BYTES."""

    code = "parse_memory"


class TooManyChunksError(UnprocessableFileError):
    """The document makes too many passages. Split it, or raise BOOKWHEEL_MAX_CHUNKS_PER_DOCUMENT."""

    code = "too_many_chunks"


class SettingsError(BookwheelError):
    """A setting is not valid. `bookwheel check` lists all settings and what they accept."""

    code = "invalid_setting"


class SourceError(BookwheelError):
    """The source cannot be read. Its documents stay as they are until it can be read again."""

    status = 502
    code = "source_error"


class SourceGoneError(SourceError):
    """The place is gone. Its documents stay until it is back or the source is removed."""

    code = "source_gone"


class FetchRefusedError(SourceError):
    """The address is not public. Use a public one, or set BOOKWHEEL_FETCH_ALLOW_PRIVATE=true on a trusted network."""

    code = "fetch_refused"


class FetchFailedError(SourceError):
    """The page could not be fetched. It is tried again later."""

    code = "fetch_failed"

    def __init__(self, message: str | None = None, *, param: str | None = None, http_status: int | None = None) -> None:
        super().__init__(message, param=param)
        self.http_status = http_status  #: what the site answered, if it did


class BrokenOffError(BookwheelError):
    """The worker that wrote this answer was lost, and it cannot be continued as it began. Ask again."""

    code = "broken_off"


class AnswerFormatError(BookwheelError):
    """The model wrote no JSON that response_format accepts, also when it was asked again. Simplify the schema, or use
    another model."""

    status = 502
    code = "invalid_model_output"


class OverloadedError(BookwheelError):
    """Too many requests wait for the same service. Send it again after the seconds in Retry-After."""

    status = 429
    type = "rate_limit_error"
    code = "overloaded"
    retryable = True


class RateLimitError(OverloadedError):
    """A rate limit is reached. Send it again after the seconds in Retry-After."""

    code = "rate_limit_exceeded"

    def __init__(
        self,
        message: str | None = None,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, param=param, retry_after=retry_after)
        self.headers = dict(headers or {})  #: how the limits stand, in OpenAI's x-ratelimit-*


class QuotaError(BookwheelError):
    """The tenant holds or has used as much as it may. Remove something, or ask the operator for a larger limit."""

    status = 429
    type = "insufficient_quota"
    code = "insufficient_quota"


class UnavailableError(BookwheelError):
    """A part of the service does not answer. Retry in a moment; `bookwheel check` says which part."""

    status = 503
    code = "unavailable"
    retryable = True


class DatabaseUnavailableError(UnavailableError):
    """The database does not answer. Check BOOKWHEEL_DATABASE_URL and that PostgreSQL runs, then retry."""

    code = "database_unavailable"


class IndexUnavailableError(UnavailableError):
    """A search index does not answer. Retry in a moment; `bookwheel check` says which."""

    code = "index_unavailable"


class EmbedderUnavailableError(UnavailableError):
    """The embedder does not answer. Check BOOKWHEEL_EMBEDDER_URL, then retry."""

    code = "embedder_unavailable"


class GeneratorUnavailableError(UnavailableError):
    """The answer generator does not answer. Check BOOKWHEEL_GENERATOR_URL, then retry."""

    code = "generator_unavailable"


class RerankerUnavailableError(UnavailableError):
    """The reranker does not answer. Check BOOKWHEEL_RERANKER_URL, then retry."""

    code = "reranker_unavailable"


class CacheUnavailableError(UnavailableError):
    """The cache does not answer. Check BOOKWHEEL_CACHE_URL; answers go on without it."""

    code = "cache_unavailable"


class LimiterUnavailableError(UnavailableError):
    """The store of the limits does not answer. Check BOOKWHEEL_LIMITS_URL; requests go on without it."""

    code = "limiter_unavailable"


class StorageFullError(BookwheelError):
    """The disk is full. Free some space; unfinished documents go on by themselves."""

    status = 507
    code = "storage_full"
    retryable = True
