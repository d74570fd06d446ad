"""The chunking strategies: what each promises, whatever the text."""

from itertools import pairwise
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bookwheel.chunk import BATCH_CHARACTERS, Cutter, batches, split
from bookwheel.ports import Vectors
from bookwheel.semantic import Joiner
from bookwheel.testing import HashEmbedder
from bookwheel.types import Chunking, CutText, Page, ParsedText, Piece

Strategy = Literal["structure", "fixed", "sentence", "parent_child", "semantic"]
STRATEGIES: tuple[Strategy, ...] = ("structure", "fixed", "sentence", "parent_child", "semantic")

EMBEDDER = HashEmbedder()
TOKENIZER = EMBEDDER.tokenizer
SIZE, OVERLAP, PARENT = 16, 4, 64


def chunking(strategy: Strategy, *, size: int = SIZE, overlap: int = OVERLAP) -> Chunking:
    """Small sizes, so that short texts show what happens."""
    return Chunking(strategy=strategy, max_tokens=size, overlap_tokens=overlap, parent_tokens=PARENT)


def count(text: str) -> int:
    """Tokens of a text: words and marks."""
    return len(TOKENIZER.encode(text, add_special_tokens=False))


def plain(text: str, *, markdown: bool = False, pages: tuple[Page, ...] = ()) -> ParsedText:
    """A parsed text."""
    return ParsedText(text=text, media_type="text/plain", format="markdown" if markdown else "plain", pages=pages)


async def passages(parsed: ParsedText, how: Chunking, *, embedder: HashEmbedder = EMBEDDER) -> list[Piece]:
    """The passages of a text, those of `semantic` joined."""
    made = list(split(parsed, chunking=how, tokenizer=TOKENIZER))
    if how.strategy != "semantic":
        return made
    joined = Joiner(embedder, how, None).joined(stream(made, per_batch=7))
    return [piece async for cut in joined for piece in cut.pieces]


async def stream(pieces: list[Piece], *, per_batch: int):
    """Pieces as a parser gives them."""
    for start in range(0, max(len(pieces), 1), per_batch):
        yield CutText(media_type="text/plain", title=None, warnings=(), pieces=pieces[start : start + per_batch])


WORDS = st.sampled_from(
    ["whale", "Ahab's", "the", "1851", "白鯨は海に", "いる。", "end.", "🐳", "...", "x" * 300, "Sea!"]
)
GAPS = st.sampled_from([" ", "  ", "\n", "\n\n", "\t", "", "\n\n# Head\n\n", "\n```\n", "\n| a | b |\n| 1 | 2 |\n"])
TEXT = st.lists(st.tuples(WORDS, GAPS), max_size=200).map(lambda parts: "".join(word + gap for word, gap in parts))


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=40, deadline=None)
@given(text=TEXT | st.text(max_size=300), markdown=st.booleans(), overlap=st.integers(0, SIZE // 2))
async def test_every_strategy_keeps_all_within_bounds(
    strategy: Strategy, text: str, markdown: bool, overlap: int
) -> None:
    """Whatever the text: every letter and digit is covered, offsets are exact, sizes are bounded."""
    made = await passages(plain(text, markdown=markdown), chunking(strategy, overlap=overlap))
    done = 0
    for piece in made:
        assert piece.text == text[piece.start : piece.end] == piece.text.strip()
        assert any(character.isalnum() for character in piece.text)
        assert not any(character.isalnum() for character in text[done : piece.start])
        assert count(piece.text) <= SIZE
        assert piece.end > done
        done = piece.end
    assert not any(character.isalnum() for character in text[done:])


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_no_passage_or_section_crosses_a_page(strategy: Strategy) -> None:
    """Each lies on the page that it names."""
    pages, text = [], ""
    for number, page in enumerate(["A whale swims here. " * 9, "", "An oak grows there. " * 7, "The end."], 1):
        pages.append(Page(number=number, start=len(text), end=len(text) + len(page)))
        text += page + "\n\n"
    made = await passages(plain(text, pages=tuple(pages)), chunking(strategy))
    assert {piece.page for piece in made} == {1, 3, 4}
    for piece in made:
        page = pages[(piece.page or 0) - 1]
        assert page.start <= piece.start < piece.end <= page.end
        if piece.section:
            assert page.start <= piece.section.start < piece.section.end <= page.end


@pytest.mark.parametrize("strategy", ["structure", "fixed", "sentence"])
async def test_overlaps_are_bounded(strategy: Strategy) -> None:
    """Neighbours share something, but at most the tokens asked for; with 0 they share nothing."""
    parsed = plain(" ".join(f"Number {number}." for number in range(200)))
    made = await passages(parsed, chunking(strategy))
    shared = [count(parsed.text[after.start : before.end]) for before, after in pairwise(made)]
    assert 0 < max(shared) <= OVERLAP
    apart = await passages(parsed, chunking(strategy, overlap=0))
    assert all(before.end <= after.start for before, after in pairwise(apart))


async def test_fixed_windows_are_full_and_regard_nothing() -> None:
    """Every window but the last has exactly the size, across sentences and headings."""
    parsed = plain("# One\n\na b c d e.\n\n## Two\n\n" * 30, markdown=True)
    made = await passages(parsed, chunking("fixed", overlap=0))
    assert {count(piece.text) for piece in made[:-1]} == {SIZE}
    assert any("## Two\n\n# One" in piece.text for piece in made)


async def test_fixed_windows_are_word_safe() -> None:
    """A window ends before a word, not inside it, where there are spaces."""
    parsed = plain("harpooneer's " * 100)
    made = await passages(parsed, chunking("fixed", size=20, overlap=5))
    assert all(piece.text.startswith("harpooneer") and piece.text.endswith("'s") for piece in made)


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, SIZE - 1), min_size=1, max_size=60), overlap=st.integers(0, SIZE // 2))
async def test_a_sentence_is_never_broken(lengths: list[int], overlap: int) -> None:
    """Passages begin and end where sentences do, also when an overlap would leave no room for the next one."""
    parsed = plain(" ".join("word " * (length - 1) + "end." for length in lengths))
    made = await passages(parsed, chunking("sentence", overlap=overlap))
    assert all(piece.text.endswith("end.") for piece in made)
    assert all(piece.start == 0 or parsed.text[: piece.start].rstrip().endswith("end.") for piece in made)


async def test_a_sentence_that_alone_exceeds_the_size_is_broken() -> None:
    """It is cut between words; the sentences around it stay whole."""
    parsed = plain("Short one. " + "long " * 40 + "end. Short two.")
    made = await passages(parsed, chunking("sentence", overlap=0))
    assert made[0].text == "Short one."
    assert made[-1].text.endswith("Short two.")
    assert all(count(piece.text) <= SIZE for piece in made)


async def test_children_lie_in_their_section() -> None:
    """Sections are at most the parent's size, lie under one heading, are numbered in order and hold their children."""
    text = "# Whales\n\n" + "They swim in the sea. " * 30 + "\n\n# Oaks\n\n" + "They grow on land. " * 5
    made = await passages(plain(text, markdown=True), chunking("parent_child"))
    sections = list(dict.fromkeys(piece.section for piece in made))
    assert [section.ordinal for section in sections if section] == list(range(len(sections)))
    assert len(sections) > 2
    for piece in made:
        section = piece.section
        assert section is not None
        assert section.text == text[section.start : section.end]
        assert count(section.text) <= PARENT
        assert section.start <= piece.start < piece.end <= section.end
        assert not ("swim" in section.text and "grow" in section.text)
    assert sum(len({child.start for child in made if child.section is section}) > 1 for section in sections) > 1


async def test_headings_in_a_row_are_one_section() -> None:
    """A heading without text of its own goes with the one below it."""
    parsed = plain("# Book\n\n## Part\n\n### Chapter\n\nCall me Ishmael.\n\n### Next\n\nSome years ago.", markdown=True)
    made = await passages(parsed, chunking("parent_child"))
    assert [piece.section.text[:6] for piece in made if piece.section] == ["# Book", "### Ne"]


class TwoTopics(HashEmbedder):
    """Whales point one way, oaks the other."""

    async def embed(self, texts: list[str]) -> Vectors:  # type: ignore[override]
        """One of two vectors."""
        made = np.zeros((len(texts), 64), np.float32)
        made[range(len(texts)), [int("oak" in text) for text in texts]] = 1.0
        return made


async def test_semantic_passages_end_where_the_topic_changes() -> None:
    """No passage holds both topics, though each would fit; passages of one topic are filled."""
    text = " ".join(("The whale swims far. " * 4 + "The oak grows tall. " * 4).strip() for _ in range(12))
    made = await passages(plain(text), chunking("semantic", size=64, overlap=0), embedder=TwoTopics())
    assert not any("whale" in piece.text and "oak" in piece.text for piece in made)
    assert len(made) == 24


async def test_semantic_passages_stay_under_their_heading() -> None:
    """Groups under different headings are not joined, however near they are."""
    text = "# One\n\nThe whale swims.\n\n# Two\n\nThe whale swims."
    made = await passages(plain(text, markdown=True), chunking("semantic", size=64, overlap=0), embedder=TwoTopics())
    assert [piece.heading_path for piece in made] == [("One",), ("Two",)]
    assert made[1].embed_text == made[1].text


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_segments_have_the_offsets_of_the_whole(strategy: Strategy) -> None:
    """A text that comes in segments is cut at the same offsets as text[start:end] of the whole, under its headings."""
    text = "".join(f"# Head {n}\n\n" + f"Sentence {n} about whales. " * 20 + "\n\n" for n in range(9))
    places = [0, 700, 1400, 2800, len(text)]
    cutter = Cutter(chunking=chunking(strategy), tokenizer=TOKENIZER)
    made = []
    for start, end in pairwise(places):
        part = ParsedText(text=text[start:end], media_type="text/markdown", format="markdown", base=start)
        made += list(cutter.pieces(part))
    assert all(piece.text == text[piece.start : piece.end] for piece in made)
    assert all(piece.heading_path == (f"Head {text.count('# Head', 0, piece.start + 6) - 1}",) for piece in made)
    ordinals = [piece.section.ordinal for piece in made if piece.section]
    assert ordinals == sorted(ordinals)
    assert len({piece.section for piece in made}) == (ordinals[-1] + 1 if ordinals else 1)


def test_code_goes_on_in_the_next_segment() -> None:
    """A # inside code is no heading, also when the code began in the segment before."""
    cutter = Cutter(chunking=chunking("structure"), tokenizer=TOKENIZER)
    first, second = "# Real\n\n```\ncode\n", "# no heading\n```\n\ntext"
    parts = [
        ParsedText(text=first, media_type="text/markdown", format="markdown"),
        ParsedText(text=second, media_type="text/markdown", format="markdown", base=len(first)),
    ]
    made = [piece for part in parts for piece in cutter.pieces(part)]
    assert {piece.heading_path for piece in made} == {("Real",)}


def test_batches_are_bounded() -> None:
    """At most 256 pieces and about a million characters, sections counted once for each batch."""
    parsed = plain("They swim in the sea. " * 3000)
    made = list(batches(split(parsed, chunking=chunking("structure"), tokenizer=TOKENIZER)))
    assert {len(batch) for batch in made[:-1]} == {256}
    long = plain("x" * 3_000_000)
    sizes = [
        sum(len(piece.text) for piece in batch)
        for batch in batches(split(long, chunking=Chunking(max_tokens=20_000), tokenizer=TOKENIZER))
    ]
    assert len(sizes) > 2
    assert max(sizes) <= BATCH_CHARACTERS + 16 * 20_000
