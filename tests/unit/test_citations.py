"""Citations: quotes are always the document's own text, and streaming changes nothing."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookwheel.citations import CitationStream, cite, verify
from bookwheel.testing.doubles import a_hit
from bookwheel.types import Citation, Hit

FIRST = "# Dams\n\nDr. Lee built 3.5 dams in 1990. They hold\nback *water* for the U.S. city. Nobody swims."
SECOND = "東大寺は奈良にある。大仏は有名である。高さは約15メートルだ。"


DOCUMENT = "x" * 100 + FIRST + "y" * 11 + SECOND
HITS = [a_hit(FIRST, start=100), a_hit(SECOND, start=111 + len(FIRST))]


def stream(draft: list[str], hits: list[Hit]) -> tuple[str, tuple[Citation, ...]]:
    """What the streaming form makes of these pieces."""
    citing = CitationStream(hits)
    parts = [part for piece in draft for part in citing.feed(piece)] + citing.finish()
    texts = [part for part in parts if isinstance(part, str)]
    return "".join(texts), tuple(part for part in parts if isinstance(part, Citation))


def test_a_verbatim_sentence_is_quoted_exactly() -> None:
    """A sentence that stands in the passage is its own quote, with offsets into the document."""
    text, (citation,) = cite("Dr. Lee built 3.5 dams in 1990. [1]", HITS)
    assert text == "Dr. Lee built 3.5 dams in 1990. [1]"
    assert citation.quote == "Dr. Lee built 3.5 dams in 1990."
    assert citation.start == DOCUMENT.index("Dr. Lee")
    assert citation.answer_offset == text.index(" [1]")
    assert citation.hit is HITS[0]


def test_whitespace_and_markup_do_not_matter() -> None:
    """The quote keeps the passage's own line breaks and markup where the answer has none."""
    _, (citation,) = cite("They hold back water for the U.S. city.[1]", HITS)
    assert citation.quote == "They hold\nback *water* for the U.S. city."


def test_a_paraphrase_quotes_the_closest_sentence() -> None:
    """A sentence in other words gets the sentence of the passage that shares most with it."""
    _, (citation,) = cite("Water is kept for a city, and they store it [1].", HITS)
    assert citation.quote == "They hold\nback *water* for the U.S. city."


def test_a_japanese_paraphrase_quotes_the_closest_sentence() -> None:
    """Texts without spaces are compared by characters."""
    _, (citation,) = cite("大仏の高さは15メートルです。[2]", HITS)
    assert citation.quote == "高さは約15メートルだ。"


def test_nothing_shared_quotes_the_passage() -> None:
    """Where no word is shared, the whole passage is the quote: no sentence is singled out by chance."""
    _, (citation,) = cite("Ganz anders. [1]", HITS)
    assert citation.quote == FIRST


@pytest.mark.parametrize(
    ("draft", "text", "indexes"),
    [
        ("A water [2]. B [1].", "A water [1]. B [2].", [1, 2]),
        ("A [2][1] and B [2]", "A [1][2] and B [1]", [1, 2, 1]),
        ("A [2, 1]", "A [1][2]", [1, 2]),
        ("A【2】 B", "A[1] B", [1]),
        ("A [7]. B [0].", "A. B.", []),
        ("A [7, 2].", "A [1].", [1]),
        ("A [1][1]", "A [1][1]", [1]),
        ("array[x] and [1990] and [note]", "array[x] and [1990] and [note]", []),
        ("[1]", "[1]", [1]),
        (" [2] A", "[1] A", [1]),
        ("ends with [", "ends with [", []),
        ("", "", []),
    ],
)
def test_markers_are_renumbered(draft: str, text: str, indexes: list[int]) -> None:
    """Numbers follow first appearance, unknown ones vanish with their space, and other brackets stay."""
    final, citations = cite(draft, HITS)
    assert final == text
    assert [citation.index for citation in citations] == indexes


def test_each_marker_belongs_to_its_own_claim() -> None:
    """Two markers in one sentence cite what stands before each."""
    text, citations = cite("Dr. Lee built 3.5 dams [1] but nobody swims [1].", HITS)
    assert [citation.quote for citation in citations] == ["Dr. Lee built 3.5 dams", "Nobody swims."]
    assert [text[: citation.answer_offset].split()[-1] for citation in citations] == ["dams", "swims"]


def test_blank_hits_are_unknown() -> None:
    """A hit without text cannot support anything."""
    assert cite("A [1].", [a_hit(" \n")]) == ("A.", ())


def test_text_flows_at_once() -> None:
    """Only a possible marker and the space before it are held back."""
    citing = CitationStream(HITS)
    assert citing.feed("Dams hold") == ["Dams hold"]
    assert citing.feed(" water [") == [" water"]
    assert citing.feed("1") == []
    first, second = citing.feed("]. More")[0:2]
    assert first == " [1]"
    assert isinstance(second, Citation)
    assert citing.feed(" [a") == [" [a"]


def test_verify_refuses_another_text() -> None:
    """A citation is true only of the text and the place that it names."""
    _, (citation,) = cite("Nobody swims. [1]", HITS)
    assert verify(citation, DOCUMENT)
    assert not verify(citation, "z" + DOCUMENT)
    assert not verify(replace(citation, quote="Nobody sank"), DOCUMENT)
    assert not verify(replace(citation, start=0, end=5, quote="xxxxx"), DOCUMENT)


bits = st.sampled_from(
    [
        *"ab .。、[]【】1,230-\n*大仏",
        "Dr. ",
        "water",
        "[1]",
        "[2]",
        " [1, 2]",
        "[9]",
        "Nobody swims.",
        "They hold back",
        "大仏は",
    ]
)
drafts = st.lists(bits, max_size=30).map("".join)
passages = st.lists(bits, max_size=30).map("".join)


@given(drafts, st.lists(passages, max_size=3))
def test_quotes_are_always_verbatim(draft: str, texts: list[str]) -> None:
    """Whatever is drafted about whatever passages, each quote is the document's text at its offsets, and not empty."""
    document, hits = "", []
    for text in texts:
        hits.append(a_hit(text, start=len(document)))
        document += text + "|"
    final, citations = cite(draft, hits)
    for citation in citations:
        assert verify(citation, document)
        assert citation.quote.strip() == citation.quote != ""
        assert final[: citation.answer_offset] == final[: citation.answer_offset].rstrip()
        assert f"[{citation.index}]" in final[citation.answer_offset :]
    assert final == final.lstrip()


@given(drafts, st.data())
def test_streaming_equals_whole(draft: str, data: st.DataObject) -> None:
    """However a draft is cut into pieces, text and citations are those of the whole."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(draft)), max_size=8)))
    pieces = [draft[start:end] for start, end in zip([0, *cuts], [*cuts, len(draft)], strict=True)]
    assert stream(pieces, HITS) == cite(draft, HITS)
    assert stream(list(draft), HITS) == cite(draft, HITS)
