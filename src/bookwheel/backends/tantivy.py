"""BM25 with tantivy: an index in a directory, one writing process, any number of reading ones.

The index holds ids and terms, no text. All languages share one field, for tantivy averages a field's length over all
chunks, which would spoil the scores of a language with a field of its own and few chunks. A chunk's terms are made
here, by the rules of its language, and carry its name ("de:haus"), so that a word is as rare as it is in its own
language. A question's words are looked for in the form that each language in the index gives them.
"""

import asyncio
import math
import re
import shutil
import threading
import unicodedata
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from uuid import UUID

import structlog
from tantivy import (
    Document,
    FieldType,
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

from bookwheel.errors import IndexUnavailableError
from bookwheel.types import Candidate, Change, KeywordEntry, Reach, Scope

ENTRIES_AT_ONCE = 500  # held outside the writer
WRITER_BYTES = 64 << 20
LONGEST_TERM = 128  # bytes
QUESTION_CHARACTERS = 4_000  # read of a question
QUESTION_WORDS = 96  # searched for: the rarest
LARGE = 10_000  # chunks from which on common words are spared
COMMON, EVERYWHERE = 0.2, 0.5  # share of all chunks: above, a word only adds to scores; above, it is left out
FEW = 100  # chunks of a language below which a word is about as rare as in all others
INLINE = 20_000  # chunks up to which a search is over sooner than a thread would start it
STEMMERS: Mapping[str, str] = {
    "ar": "arabic", "ca": "catalan", "da": "danish", "de": "german", "el": "greek", "en": "english", "es": "spanish",
    "eu": "basque", "fi": "finnish", "fr": "french", "hu": "hungarian", "hy": "armenian", "it": "italian",
    "nl": "dutch", "no": "norwegian", "pt": "portuguese", "ro": "romanian", "ru": "russian", "sv": "swedish",
    "ta": "tamil", "tr": "turkish",
}  # fmt: skip
PLAIN = "plain"  # every other language: no stemmer
SPACELESS = frozenset({"ja", "zh", "ko", "th", "lo", "km", "my"})
CHARACTERS = "characters"  # the languages in SPACELESS, which share their characters: no stemmer
POSITION = "position"  # the term of the one document that remembers how far the index has come

# Scripts that are written without spaces, or glue particles on (Korean): searched by characters and pairs of them.
_SPACELESS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]+"
)

# How tantivy says that an index cannot be read, now or later, or was made by another version of us.
_BROKEN = re.compile(r"corrupt|InvalidData|UnexpectedEof|DoesNotExist|Schema error|ncompatible")

log = structlog.get_logger()

Word = tuple[str, ...]  # the forms of one word of a question, one for each language asked for


class _MissingIndexError(IndexUnavailableError):
    """There is no keyword index yet. A worker builds it."""


class _BrokenIndexError(IndexUnavailableError):
    """The keyword index cannot be read. A worker builds it anew."""


class TantivyIndex:
    """Fills ports.KeywordIndex."""

    def __init__(self, directory: Path, *, writable: bool) -> None:
        self.directory = directory
        self.writable = writable
        self._schema = _schema()
        self._writer: IndexWriter | None = None
        self._writing = threading.Lock()
        self._view: _View | None = None
        self._position: tuple[_Stamp, int] | None = None  #: as of which commit of ours

    async def apply(self, changes: Sequence[Change], entries: AsyncIterator[KeywordEntry]) -> None:
        """See ports.KeywordIndex: one commit holds the removals, the live chunks and the position."""
        if changes:
            pulled = _pulled(entries, asyncio.get_running_loop())
            work = partial(self._apply, changes=changes, entries=pulled)
            await asyncio.to_thread(self._commit, work, changes[-1].sequence)

    async def position(self) -> int:
        """See ports.KeywordIndex. A writer makes an index where there is none, and throws away one it cannot read."""
        try:
            known = self._position  # a commit in another thread may take it away meanwhile
            if known is not None and known[0] == self._stamp():
                return known[1]
            return self._current().position()
        except _MissingIndexError:
            if self.writable:  # so that readers find an empty index instead of none
                await self.reset(0)
        except _BrokenIndexError:
            if self.writable:
                await asyncio.to_thread(self._discard)
        return 0

    async def reset(self, position: int) -> None:
        """See ports.KeywordIndex."""
        await asyncio.to_thread(self._commit, IndexWriter.delete_all_documents, position)

    async def size(self) -> int:
        """See ports.KeywordIndex."""
        return max(0, self._current().size - 1)  # one entry notes the position

    async def search(
        self, text: str, *, scope: Scope, reach: Reach, limit: int, documents: Sequence[UUID] | None = None
    ) -> Sequence[Candidate]:
        """See ports.KeywordIndex."""
        view = self._current()
        readers = _reader_terms(scope, reach)
        if not readers or limit < 1 or (documents is not None and not documents):
            return []
        inside = self._inside(scope, readers, documents)
        if view.size <= INLINE:
            return view.search(text, inside, limit)
        return await asyncio.to_thread(view.search, text, inside, limit)

    async def ping(self) -> None:
        """See ports.KeywordIndex."""
        if self.writable:
            await self.position()
        self._current()

    def close(self) -> None:
        """Let the writer go after its merges. Idempotent."""
        with self._writing, _translated():
            writer, self._writer = self._writer, None
            if writer is not None:
                writer.wait_merging_threads()

    def _inside(self, scope: Scope, readers: Sequence[str], documents: Sequence[UUID] | None) -> "list[_Clause]":
        """What the caller may read, and the documents where they are named, as filters that do not score."""
        filters = [_any_of(self._schema, "reader", readers)]
        if documents is not None:
            filters.append(_any_of(self._schema, "document", [document.hex for document in documents]))
        clauses = [(Occur.Must, Query.const_score_query(query, 0.0)) for query in filters]
        if scope.principals:
            clauses.append((Occur.MustNot, _any_of(self._schema, "denied", sorted(scope.principals))))
        return clauses

    def _stamp(self) -> "_Stamp":
        try:
            meta = (self.directory / "meta.json").stat()
        except OSError as error:
            raise _MissingIndexError("The keyword index is not built yet; a worker builds it.") from error
        return meta.st_mtime_ns, meta.st_ino

    def _current(self) -> "_View":
        """The newest commit. Another process may have made it, so the file that names it is looked at each time."""
        stamp = self._stamp()
        view = self._view
        if view is None or view.stamp != stamp:
            with _translated():
                self._view = view = _open_view(self.directory, self._schema, stamp)
        return view

    def _commit(self, work: Callable[[IndexWriter], object], position: int) -> None:
        if not self.writable:
            raise IndexUnavailableError("This process only reads the keyword index; a worker writes it.")
        with self._writing, self._thrown_away_if_broken(), _translated():
            writer = self._writer or self._open_writer()
            self._writer = None  # after an error, what it holds uncommitted goes with it
            self._position = None
            work(writer)
            self._note(writer, position)
            writer.commit()
            self._writer = writer
            self._position = self._stamp(), position

    @contextmanager
    def _thrown_away_if_broken(self) -> Iterator[None]:
        try:
            yield
        except _BrokenIndexError:
            self._throw_away()
            raise

    def _open_writer(self) -> IndexWriter:
        self.directory.mkdir(parents=True, exist_ok=True)
        return Index(self._schema, str(self.directory)).writer(WRITER_BYTES, 1)

    def _discard(self) -> None:
        with self._writing:
            self._throw_away()

    def _throw_away(self) -> None:
        """An index that cannot be read goes; the follow walk fills a new one."""
        log.warning("keyword index unreadable, built anew", directory=str(self.directory))
        self._view = self._writer = None
        shutil.rmtree(self.directory, ignore_errors=True)

    def _apply(self, writer: IndexWriter, changes: Sequence[Change], entries: Iterable[KeywordEntry]) -> None:
        last = {change.document_id: change for change in changes}
        for change in last.values():
            if change.operation == "publish":
                writer.delete_documents_by_term("document", change.document_id.hex)
            else:
                writer.delete_documents_by_query(self._up_to(change))
        for entry in entries:
            published = last.get(entry.document_id)
            if published is None or published.operation == "publish":
                writer.add_document(_document(entry))

    def _up_to(self, change: Change) -> Query:
        """The chunks of the change's document, of its version and below."""
        document = Query.term_query(self._schema, "document", change.document_id.hex, "basic")
        versions = Query.range_query(self._schema, "version", FieldType.Integer, upper_bound=change.version)
        return Query.boolean_query([(Occur.Must, document), (Occur.Must, versions)])

    def _note(self, writer: IndexWriter, position: int) -> None:
        writer.delete_documents_by_term("kind", POSITION)
        note = Document()
        note.add_text("kind", POSITION)
        note.add_integer("number", position)
        writer.add_document(note)


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """One commit, as a reader sees it."""

    stamp: "_Stamp"
    schema: Schema
    searcher: Searcher
    kinds: Mapping[str, int]  #: the languages that chunks were analysed in, and how many in each
    size: int  #: chunks of all tenants

    def position(self) -> int:
        """The last applied sequence, 0 when none is noted."""
        with _translated():
            found = self.searcher.search(Query.term_query(self.schema, "kind", POSITION, "basic"), 1).hits
            numbers = self.searcher.fast_field_values("number", [address for _, address in found])
        return int(numbers[0] or 0) if numbers else 0

    def search(self, text: str, inside: "Sequence[_Clause]", limit: int) -> list[Candidate]:
        """The best chunks. A large index is searched for the rarer words; all count when that finds too few."""
        with _translated():
            rare, common, everywhere = self._by_rarity(question_words(text, self.kinds))
            found = self._run(rare, common, inside, limit)
            if len(found) < limit and (common or everywhere):
                found = self._run([*rare, *common, *everywhere], [], inside, limit)
        return found

    def _by_rarity(self, words: Iterable[Word]) -> "tuple[list[_Terms], list[_Terms], list[_Terms]]":
        """Words that find chunks, words that add to their scores, words that hardly tell chunks apart."""
        counted = [{form: self.searcher.doc_freq("text", form) for form in word} for word in words]
        ranked = sorted(((sum(terms.values()), terms) for terms in counted), key=lambda one: one[0])
        known = [(count / self.size, terms) for count, terms in ranked if count][:QUESTION_WORDS]
        if self.size < LARGE or not known or known[0][0] > COMMON:
            return [terms for _, terms in known], [], []
        return (
            [terms for share, terms in known if share <= COMMON],
            [terms for share, terms in known if COMMON < share <= EVERYWHERE],
            [terms for share, terms in known if share > EVERYWHERE],
        )

    def _run(
        self, words: "Sequence[_Terms]", also: "Sequence[_Terms]", inside: "Sequence[_Clause]", limit: int
    ) -> list[Candidate]:
        if not words:
            return []
        any_word = Query.boolean_query([(Occur.Should, self._word(word)) for word in words])
        clauses = [*inside, (Occur.Must, any_word)]
        clauses += [(Occur.Should, self._word(word)) for word in also]
        hits = self.searcher.search(Query.boolean_query(clauses), limit, count=False).hits
        ids = self.searcher.fast_field_values("number", [address for _, address in hits])
        return [
            Candidate(chunk_id=int(chunk_id), score=float(score))
            for (score, _), chunk_id in zip(hits, ids, strict=True)
            if chunk_id is not None
        ]

    def _word(self, terms: "_Terms") -> Query:
        """A word counts once, in the language where it scores best."""
        share = sum(terms.values()) / self.size
        queries = [self._term(form, count, share) for form, count in terms.items() if count]
        return queries[0] if len(queries) == 1 else Query.disjunction_max_query(queries)

    def _term(self, form: str, count: int, share: float) -> Query:
        """One term, weighed by its rarity among the chunks of its language: tantivy knows its rarity among all."""
        query = Query.term_query(self.schema, "text", form, "freq")
        if len(self.kinds) == 1:
            return query
        peers = self.kinds[form.partition(":")[0]]
        own = (count + FEW * share) / (peers + FEW)
        return Query.boost_query(query, _rarity(own * self.size, self.size) / _rarity(count, self.size))


_Stamp = tuple[int, int]  # time and inode of the file that names a commit
_Clause = tuple[Occur, Query]
_Terms = Mapping[str, int]  # the forms of one word, and how many chunks hold each


def _rarity(count: float, chunks: int) -> float:
    """BM25's inverse document frequency."""
    return math.log1p((max(chunks - count, 0) + 0.5) / (count + 0.5))


def chunk_terms(text: str, kind: str) -> list[str]:
    """The terms of a chunk: words by the rules of its language, spaceless scripts by characters and pairs of them."""
    rest, grams = _parts(text)
    return [f"{kind}:{term}" for term in (*_analyzer(kind).analyze(rest), *grams)]


def question_words(text: str, kinds: Iterable[str]) -> list[Word]:
    """The distinct words of a question, each in the forms that chunks of these languages hold it in."""
    rest, grams = _parts(text[:QUESTION_CHARACTERS])
    analysed = zip(*([f"{kind}:{term}" for term in _analyzer(kind).analyze(rest)] for kind in kinds), strict=True)
    return list(dict.fromkeys([*analysed, *(tuple(f"{kind}:{gram}" for kind in kinds) for gram in grams)]))


def _parts(text: str) -> tuple[str, list[str]]:
    """What has words, and the grams of what has none. Full-width forms and ligatures become the letters people type."""
    normalised = unicodedata.normalize("NFKC", text)
    runs = [] if normalised.isascii() else _SPACELESS.findall(normalised)
    return _SPACELESS.sub(" ", normalised) if runs else normalised, [gram for run in runs for gram in _grams(run)]


def _grams(run: str) -> Iterator[str]:
    """Characters and pairs: on JaQuAD recall@10 is .976, of pairs alone .968, with triples .972."""
    yield from run
    for index in range(len(run) - 1):
        yield run[index : index + 2]


@cache
def _analyzer(kind: str) -> TextAnalyzer:
    """Keeps one token for each word, whatever the language, so that forms can be told to be of one word."""
    builder = TextAnalyzerBuilder(Tokenizer.simple())
    builder = builder.filter(Filter.remove_long(LONGEST_TERM)).filter(Filter.lowercase())
    if kind in STEMMERS:
        builder = builder.filter(Filter.stemmer(STEMMERS[kind]))
    return builder.filter(Filter.ascii_fold()).build()  # after stemming: stemmers know accents


def _schema() -> Schema:
    builder = SchemaBuilder()
    builder.add_integer_field("number", fast=True)  # the chunk's id, signed; or the position
    builder.add_integer_field("version", fast=True)
    for name in ("kind", "reader", "denied", "document"):
        builder.add_text_field(name, tokenizer_name="raw", index_option="basic")
    builder.add_text_field("text", tokenizer_name="whitespace", index_option="freq")  # terms, made by chunk_terms
    return builder.build()


def _document(entry: KeywordEntry) -> Document:
    kind = CHARACTERS if entry.language in SPACELESS else entry.language if entry.language in STEMMERS else PLAIN
    document = Document()
    document.add_integer("number", entry.chunk_id)
    document.add_integer("version", entry.version)
    document.add_text("kind", kind)
    for term in _entry_terms(entry):
        document.add_text("reader", term)
    for name in entry.denied:
        document.add_text("denied", name)
    document.add_text("document", entry.document_id.hex)
    document.add_text("text", " ".join(chunk_terms(f"{entry.title}\n{entry.text}", kind)))
    return document


def _entry_terms(entry: KeywordEntry) -> list[str]:
    """Who may read a chunk: those on its document's own list, else those whom its store's list lets."""
    place = _place(entry.tenant_id, entry.store_id)
    return [place] if entry.access is None else [_listed(place, name) for name in entry.access]


def _reader_terms(scope: Scope, reach: Reach) -> list[str]:
    """The terms of which a chunk must have one."""
    opened = [_place(scope.tenant_id, store) for store in scope.store_ids if store in reach.open]
    listed = [_place(scope.tenant_id, store) for store in scope.store_ids if store in reach.listed]
    return opened + [_listed(place, name) for place in listed for name in sorted(scope.principals)]


def _place(tenant_id: UUID, store_id: UUID) -> str:
    """Tenant and store in one term: a store's id alone opens nothing."""
    return tenant_id.hex + store_id.hex


def _listed(place: str, name: str) -> str:
    return f"{place}:{name}"


def _any_of(schema: Schema, field: str, terms: Sequence[str]) -> Query:
    if len(terms) == 1:
        return Query.term_query(schema, field, terms[0], "basic")
    return Query.term_set_query(schema, field, terms)


def _open_view(directory: Path, schema: Schema, stamp: "_Stamp") -> _View:
    index = Index(schema, str(directory))
    index.config_reader("manual")
    searcher = index.searcher()
    kinds = {kind: count for kind, count in searcher.terms_with_prefix("kind", "") if kind != POSITION}
    return _View(stamp=stamp, schema=schema, searcher=searcher, kinds=kinds or {PLAIN: 1}, size=searcher.num_docs)


def _pulled(entries: AsyncIterator[KeywordEntry], loop: asyncio.AbstractEventLoop) -> Iterator[KeywordEntry]:
    """The entries, for a thread beside the loop, which fetches a few at a time."""
    while some := asyncio.run_coroutine_threadsafe(_some(entries), loop).result():
        yield from some


async def _some(entries: AsyncIterator[KeywordEntry]) -> list[KeywordEntry]:
    some: list[KeywordEntry] = []
    while len(some) < ENTRIES_AT_ONCE:
        try:
            some.append(await anext(entries))
        except StopAsyncIteration:
            break
    return some


@contextmanager
def _translated() -> Iterator[None]:
    """Tantivy raises ValueError, seldom OSError or RuntimeError, for everything."""
    try:
        yield
    except (ValueError, OSError, RuntimeError) as error:
        kind = _BrokenIndexError if _BROKEN.search(str(error)) else IndexUnavailableError
        raise kind(f"The keyword index does not answer: {str(error)[:300]}") from error
