"""BM25 with tantivy: an index in a directory, one writing process, any number of reading ones.

The index holds ids and terms, no text. Each language has a field with its own stemmer; Chinese, Japanese and Korean are
indexed by pairs of characters. A chunk fills exactly one field, so the sum over the fields is its score.
"""

import asyncio
import shutil
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import structlog
from tantivy import (
    Document,
    Filter,
    Index,
    IndexWriter,
    Occur,
    Query,
    Schema,
    SchemaBuilder,
    Searcher,
    TextAnalyzer,
    TextAnalyzerBuilder,
    Tokenizer,
)

from bookwheel.errors import IndexUnavailableError, StorageFullError
from bookwheel.language import SPACELESS, detect, within
from bookwheel.types import Candidate, Change, KeywordEntry, Scope

WRITER_BYTES = 64 << 20
LONGEST_TERM = 100  # bytes
QUERY_TERMS = 96
POSITION = "position"  # the term of the one document that remembers how far the index has come
PAIRS, PLAIN = "pairs", "plain"
STEMMERS: Mapping[str, str] = {
    "ar": "arabic", "da": "danish", "de": "german", "el": "greek", "en": "english", "es": "spanish", "fi": "finnish",
    "fr": "french", "hu": "hungarian", "it": "italian", "nl": "dutch", "no": "norwegian", "pt": "portuguese",
    "ro": "romanian", "ru": "russian", "sv": "swedish", "ta": "tamil", "tr": "turkish",
}  # fmt: skip
OWN_SCRIPT = frozenset({"ar", "el", "ru", "ta"})
FIELDS = (*STEMMERS, PLAIN, PAIRS)

T = TypeVar("T")
log = structlog.get_logger()


class TantivyIndex:
    """Fills ports.KeywordIndex."""

    def __init__(self, directory: Path, *, writable: bool) -> None:
        self.directory = directory
        self.writable = writable
        self._analyzers = {field: _analyzer(field) for field in FIELDS}
        self._schema = _schema()
        self._index: Index | None = None
        self._writer: IndexWriter | None = None
        self._stamp: tuple[int, int] | None = None  # of meta.json when the reader was last loaded
        self._present: tuple[str, ...] = ()  # fields that hold anything
        self._lock = asyncio.Lock()

    async def apply(self, changes: Sequence[Change], entries: Sequence[KeywordEntry]) -> None:
        """See ports.KeywordIndex: removals first, then the live chunks, then the position, in one commit."""
        if changes:
            await self._write(lambda writer: self._apply(writer, changes, entries))

    async def position(self) -> int:
        """See ports.KeywordIndex."""
        try:
            searcher = self._searcher()
        except IndexUnavailableError:
            if not self.writable:
                raise
            self._discard()
            return 0
        hits = searcher.search(Query.term_query(self._schema, "kind", POSITION), 1).hits if searcher else []
        return int(searcher.fast_field_values("number", [hits[0][1]])[0] or 0) if searcher and hits else 0

    async def reset(self, position: int) -> None:
        """See ports.KeywordIndex."""
        await self._write(lambda writer: self._reset(writer, position))

    async def search(
        self, text: str, *, scope: Scope, limit: int, documents: Sequence[UUID] | None = None
    ) -> list[Candidate]:
        """See ports.KeywordIndex."""
        searcher = self._searcher()
        wanted = self._text_query(text) if searcher and scope.store_ids and limit > 0 else None
        if searcher is None or wanted is None or documents == []:
            return []
        must = [wanted, self._one_of("store", scope.store_ids), self._one_of("tenant", [scope.tenant_id])]
        if documents is not None:
            must.append(self._one_of("document", documents))
        with _translated():
            hits = searcher.search(Query.boolean_query([(Occur.Must, query) for query in must]), limit, False).hits
            ids = searcher.fast_field_values("number", [address for _, address in hits])
        return [
            Candidate(chunk_id=int(chunk_id), score=float(score))
            for (score, _), chunk_id in zip(hits, ids, strict=True)
            if chunk_id is not None
        ]

    async def ping(self) -> None:
        """See ports.KeywordIndex."""
        self._searcher()

    def close(self) -> None:
        """Let the writer go, after its merges. Idempotent."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.wait_merging_threads()

    async def _write(self, work: Callable[[IndexWriter], None]) -> None:
        if not self.writable:
            raise IndexUnavailableError("This process only reads the keyword index; a worker writes it.")
        async with self._lock:
            await asyncio.to_thread(self._commit, work)

    def _commit(self, work: Callable[[IndexWriter], None]) -> None:
        with _translated():
            if self._writer is None:
                self._writer = self._open().writer(WRITER_BYTES, 1)
            try:
                work(self._writer)
                self._writer.commit()
            except BaseException:
                self._writer = None  # what it holds uncommitted goes with it
                raise

    def _apply(self, writer: IndexWriter, changes: Sequence[Change], entries: Sequence[KeywordEntry]) -> None:
        last = {change.document_id: change.operation for change in changes}
        for document in last:
            writer.delete_documents_by_term("document", document.hex)
        for entry in entries:
            if last.get(entry.document_id) != "remove":
                writer.add_document(_document(entry))
        self._note(writer, changes[-1].sequence)

    def _reset(self, writer: IndexWriter, position: int) -> None:
        writer.delete_all_documents()
        self._note(writer, position)

    def _note(self, writer: IndexWriter, position: int) -> None:
        writer.delete_documents_by_term("kind", POSITION)
        note = Document()
        note.add_text("kind", POSITION)
        note.add_integer("number", position)
        writer.add_document(note)

    def _open(self) -> Index:
        if self._index is None:
            self.directory.mkdir(parents=True, exist_ok=True)
            index = Index(self._schema, str(self.directory))
            for field, analyzer in self._analyzers.items():
                index.register_tokenizer(field, analyzer)
            index.config_reader("manual")
            self._index = index
        return self._index

    def _discard(self) -> None:
        """Throw an unreadable index away; the outbox fills a new one."""
        log.warning("keyword index unreadable, made anew", directory=str(self.directory))
        self._index = self._writer = self._stamp = None
        shutil.rmtree(self.directory, ignore_errors=True)

    def _searcher(self) -> Searcher | None:
        """A searcher over the newest commit; None while no writer has made an index yet."""
        stamp = self._meta_stamp()
        if stamp is None:
            return None
        with _translated():
            if stamp != self._stamp:
                index = self._open()
                index.reload()
                searcher = index.searcher()
                self._present = tuple(field for field in FIELDS if searcher.doc_freq("kind", field))
                self._stamp = stamp
            return self._open().searcher()

    def _meta_stamp(self) -> tuple[int, int] | None:
        try:
            meta = (self.directory / "meta.json").stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise IndexUnavailableError(f"The keyword index cannot be read: {error.strerror}.") from error
        return meta.st_mtime_ns, meta.st_ino

    def _text_query(self, text: str) -> Query | None:
        """Every field that may hold the question's language, each with the question's terms as it analyses them."""
        normalised = normalise(text)
        parts = [
            (Occur.Should, Query.term_query(self._schema, field, term, "freq"))
            for field in self._fields_of(normalised)
            for term in self._terms(field, normalised)
        ]
        return Query.boolean_query(parts) if parts else None

    def _fields_of(self, text: str) -> Iterator[str]:
        detected = detect(text)
        for field in self._present:
            if field == PAIRS:
                searched = detected in SPACELESS
            elif field in OWN_SCRIPT:
                searched = detected == field
            else:  # a short question rarely shows its language: all that share the script
                searched = detected not in SPACELESS and detected not in OWN_SCRIPT
            if searched or field == PLAIN:
                yield field

    def _terms(self, field: str, text: str) -> list[str]:
        return list(dict.fromkeys(self._analyzers[field].analyze(text)))[:QUERY_TERMS]

    def _one_of(self, field: str, ids: Sequence[UUID]) -> Query:
        return Query.const_score_query(Query.term_set_query(self._schema, field, [one.hex for one in ids]), 0.0)


def normalise(text: str) -> str:
    """Full-width forms and ligatures as the letters that people type."""
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


def field_of(language: str) -> str:
    """The field of a chunk's language."""
    if language in SPACELESS:
        return PAIRS
    return language if language in STEMMERS else PLAIN


def _schema() -> Schema:
    builder = SchemaBuilder()
    builder.add_integer_field("number", indexed=False, fast=True)  # the chunk's id, or the position
    for name in ("kind", "tenant", "store", "document"):
        builder.add_text_field(name, tokenizer_name="raw", index_option="basic")
    for field in FIELDS:
        builder.add_text_field(field, tokenizer_name=field, index_option="freq")
    return builder.build()


def _analyzer(field: str) -> TextAnalyzer:
    if field == PAIRS:
        return TextAnalyzerBuilder(Tokenizer.ngram(2, 2)).filter(Filter.lowercase()).build()
    builder = TextAnalyzerBuilder(Tokenizer.simple())
    builder = builder.filter(Filter.remove_long(LONGEST_TERM)).filter(Filter.lowercase())
    if field in STEMMERS:
        builder = builder.filter(Filter.stemmer(STEMMERS[field]))
    return builder.filter(Filter.ascii_fold()).build()


def _document(entry: KeywordEntry) -> Document:
    document = Document()
    field = field_of(within(entry.text, entry.language))
    document.add_integer("number", entry.chunk_id)
    document.add_text("kind", field)
    document.add_text("tenant", entry.tenant_id.hex)
    document.add_text("store", entry.store_id.hex)
    document.add_text("document", entry.document_id.hex)
    document.add_text(field, normalise(f"{entry.title}\n{entry.text}" if entry.title else entry.text))
    return document


@contextmanager
def _translated() -> Iterator[None]:
    """Tantivy raises ValueError and OSError for everything."""
    try:
        yield
    except (ValueError, OSError, RuntimeError) as error:
        if "No space left" in str(error):
            raise StorageFullError from error
        raise IndexUnavailableError(f"The keyword index does not answer: {error}") from error
