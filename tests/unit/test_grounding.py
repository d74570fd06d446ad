"""Checked drafts: sentences come out with the citations they rest on, and nothing else of the text changes."""

import re
import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookwheel.citations import cite, verify
from bookwheel.errors import EmbedderUnavailableError
from bookwheel.grounding import UNSUPPORTED, GroundedStream
from bookwheel.ports import Vectors
from bookwheel.sentences import NOTE
from bookwheel.testing.doubles import HashEmbedder, a_hit
from bookwheel.types import CheckedSentence, Citation, Hit, UnsupportedPolicy

DAM = (
    "The Hoover Dam stands in the Black Canyon of the Colorado River. Construction began in 1931 under Frank Crowe. "
    "It was dedicated on September 30, 1935, by President Franklin D. Roosevelt. Its lake is Lake Mead."
)
RIVER = "The Colorado River is 2,330 km long. Seven U.S. states share its water. Fishing is popular."
TEMPLE = "東大寺は奈良県奈良市にある寺院である。大仏の高さは約15メートルである。聖武天皇が8世紀に建立した。"
HITS = [
    a_hit(DAM, title="Hoover Dam"),
    a_hit(RIVER, start=len(DAM), title="Colorado River"),
    a_hit(TEMPLE, start=len(DAM + RIVER), title="東大寺"),
]
DOCUMENT = DAM + RIVER + TEMPLE
SPACED_NOTE = re.compile(rf"\s*{NOTE}")


class FixedEmbedder(HashEmbedder):
    """Every text has the same cosine with the first one of its call; None is one that is down."""

    def __init__(self, cosine: float | None) -> None:
        super().__init__()
        self.cosine, self.calls = cosine, 0

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of two dimensions."""
        self.calls += 1
        if self.cosine is None:
            raise EmbedderUnavailableError
        other = [self.cosine, (1 - self.cosine**2) ** 0.5]
        return np.array([[1.0, 0.0], *[other for _ in texts[1:]]], np.float32)


async def checked(
    pieces: Sequence[str], policy: UnsupportedPolicy = "mark", hits: Sequence[Hit] = HITS
) -> tuple[str, list[Citation], float, list[CheckedSentence]]:
    """What comes of a draft in these pieces."""
    stream = GroundedStream(hits, policy=policy)
    parts = [part for piece in pieces for part in await stream.feed(piece)] + await stream.finish()
    text = "".join(part for part in parts if isinstance(part, str))
    return text, [part for part in parts if isinstance(part, Citation)], stream.grounding, stream.sentences


HERE = "Here is what the documents say:"
NOTHING = "I could not find anything about pandas in these documents."


@pytest.mark.parametrize(
    ("draft", "text"),
    [
        ("Construction began in 1931. [1]", "Construction began in 1931. [1]"),
        ("Construction began in 1931 [2].", "Construction began in 1931 [1]."),
        ("Construction began in 1931.", "Construction began in 1931. [1]"),
        ("[2] Construction began in 1931.", "Construction began in 1931. [1]"),
        ("Construction began in 1931. [1][2]", "Construction began in 1931. [1]"),
        ("Construction began in 1931. [1, 3]", "Construction began in 1931. [1]"),
        ("Construction began in 1931. [9]", "Construction began in 1931. [1]"),
        ("Fishing is popular. [1] Its lake is Lake Mead. [2]", "Fishing is popular. [1] Its lake is Lake Mead. [2]"),
        ("Construction began in 1932. [1]", f"Construction began in 1932.{UNSUPPORTED}"),
        ("Fishing is popular. [2] Pandas eat bamboo [2].", f"Fishing is popular. [1] Pandas eat bamboo.{UNSUPPORTED}"),
        (f"{HERE}\n\n- Fishing is popular. [2]\n", f"{HERE}\n\n- Fishing is popular. [1]"),
        (f"{HERE} [1]\nFishing is popular. [2]", f"{HERE}\nFishing is popular. [1]"),
        (NOTHING, NOTHING),
        ("[1]", ""),
        ("大仏の高さは約15メートルである。[1]", "大仏の高さは約15メートルである。[1]"),
        ("大仏の高さは約16メートルである。[3]", f"大仏の高さは約16メートルである。{UNSUPPORTED}"),
    ],
)
async def test_sentences_and_markers(draft: str, text: str) -> None:
    """Right markers stay, wrong ones are replaced, missing ones added; what nothing supports is marked."""
    assert (await checked([draft]))[0].rstrip() == text


@pytest.mark.parametrize("cited", ["Fishing is popular. [1]", "Construction began in 1931. [2]"])
async def test_a_swapped_citation_ends_at_the_right_passage(cited: str) -> None:
    """The citation quotes the passage that says it."""
    text, (citation,), _, _ = await checked([cited])
    assert citation.quote in cited
    assert citation.quote != ""
    assert text[: citation.answer_offset] in cited


async def test_two_passages_are_both_cited() -> None:
    """A sentence of which each passage says one half cites both."""
    draft = "The Hoover Dam stands in the Black Canyon, and seven U.S. states share the Colorado River's water."
    text, citations, _, _ = await checked([draft])
    assert text == f"{draft} [1][2]"
    assert {citation.hit.title for citation in citations} == {"Hoover Dam", "Colorado River"}


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        ("mark", f"Fishing is popular. [1] Pandas eat bamboo.{UNSUPPORTED}\nIts lake is Lake Mead. [2]"),
        ("drop", "Fishing is popular. [1]\nIts lake is Lake Mead. [2]"),
        ("keep", "Fishing is popular. [1] Pandas eat bamboo. [1]\nIts lake is Lake Mead. [2]"),
    ],
)
async def test_policies(policy: UnsupportedPolicy, text: str) -> None:
    """The same sentence marked, left out, and kept; the summary tells of it in each case."""
    draft = "Fishing is popular. [2] Pandas eat bamboo. [2]\n\nIts lake is Lake Mead. [1]".replace("\n\n", "\n")
    final, _, score, sentences = await checked([draft.replace("\nIts", "\n- Its")], policy)
    assert final.replace("- ", "") == text
    assert [one.supported for one in sentences] == [True, False, True]
    assert sentences[1].reason == "words"
    assert 0.5 < score < 0.8


async def test_the_summary_points_into_the_text() -> None:
    """Each sentence stands where the summary says, with the numbers that are shown behind it."""
    text, _, _, sentences = await checked(
        ["Fishing is popular. [2] Pandas eat bamboo. Construction began in 1931. [1]"]
    )
    assert [text[one.start : one.end] for one in sentences] == [
        "Fishing is popular. [1]",
        f"Pandas eat bamboo.{UNSUPPORTED}",
        "Construction began in 1931. [2]",
    ]
    assert [one.citations for one in sentences] == [(1,), (), (2,)]


MARKDOWN = """# The dam

| what | value |
|---|---|
| length | 2,330 km [2] |
| height | 999 m [2] |

> Fishing is popular. [2]

1. Construction began in 1931. [1]
2. Its lake is Lake Mead. [1]

```python
print("Pandas eat bamboo. [1]")
```
"""


async def test_markdown_survives() -> None:
    """Tables, quotes, lists and code keep their lines; a mark stands in its cell."""
    text, _, _, _ = await checked([MARKDOWN])
    bare = SPACED_NOTE.sub("", text).replace(UNSUPPORTED, "")
    assert bare.splitlines() == SPACED_NOTE.sub("", MARKDOWN).splitlines()
    assert 'print("Pandas eat bamboo. [1]")' in text
    assert f"| height | 999 m{UNSUPPORTED} |" in text
    assert "| length | 2,330 km [1] |" in text


async def test_nothing_is_claimed() -> None:
    """An answer without claims scores 1, and so does the empty one."""
    assert (await checked(["I could not find that."]))[2] == 1.0
    assert await checked([]) == ("", [], 1.0, [])


async def test_verbatim_sentences_are_not_embedded_and_come_as_cited() -> None:
    """What the extractive generator writes comes out as `cite` makes it, without a call of the embedder."""

    draft = "Construction began in 1931 under Frank Crowe. [1] Its lake is Lake Mead. [1] Fishing is popular. [2]"
    embedder = FixedEmbedder(None)
    stream = GroundedStream(HITS, embedder=embedder)
    parts = await stream.feed(draft) + await stream.finish()
    text, citations = cite(draft, HITS)
    assert "".join(part for part in parts if isinstance(part, str)) == text
    assert tuple(part for part in parts if isinstance(part, Citation)) == citations
    assert embedder.calls == 0


@pytest.mark.parametrize(
    "draft",
    [
        "Construction began in 1931 under Frank [1] Seven U.S. states share its water. [2]",
        "「東大寺は奈良県奈良市にある寺院である。」と書いている。 [3]",
        "The Hoover Dam stands in the Black Canyon [1], Seven U.S. states share its water [2].",
    ],
)
async def test_parts_of_sentences_are_quoted_too(draft: str) -> None:
    """A marker behind a part of a sentence stays where that part stands in its passage; speech goes on behind it."""
    hits = [*HITS[:2], a_hit("「東大寺は奈良県奈良市にある寺院である。」と書いている。", start=2_000)]
    text, citations, score, _ = await checked([draft], hits=hits)
    assert (text, tuple(citations), score) == (*cite(draft, hits), 1.0)


async def test_scraps_prove_nothing() -> None:
    """A sentence put together from scraps of its passage is judged as a whole."""
    hits = [a_hit("Goodwill impairment was not recorded. Revenue was recorded.")]
    _, _, score, _ = await checked(["Goodwill impairment was [1] recorded [1]."], hits=hits)
    assert score == 0


@pytest.mark.parametrize(("cosine", "supported"), [(0.9, True), (0.2, False), (None, False)])
async def test_meaning_decides_where_words_leave_it_open(cosine: float | None, supported: bool) -> None:
    """Half of the words agree: the embedder is asked, and when it is down the words have the last say."""
    stream = GroundedStream(
        [a_hit("Many people like to go fishing there. Boats are rare.")], embedder=FixedEmbedder(cosine)
    )
    await stream.feed("People enjoy fishing trips. [1]")
    await stream.finish()
    assert [one.supported for one in stream.sentences] == [supported]


async def test_sentences_come_as_soon_as_they_are_complete() -> None:
    """A sentence is not held back by those behind it."""
    stream = GroundedStream(HITS)
    assert await stream.feed("Fishing is popular. [2]") == []
    assert (
        "".join(str(one) for one in (await stream.feed(" Its lake is Lake Mead, they say"))[:1])
        == "Fishing is popular."
    )


@pytest.mark.parametrize("part", ["a ", "[", ". ", "\n", "[1] ", "Fishing is popular. [2] ", "- a\n", "```\n"])
async def test_long_answers_take_linear_time(part: str) -> None:
    """Twice the draft takes about twice the time, not four times, whole and letter by letter."""
    small, large = [part * (8_000 // len(part)), part * (32_000 // len(part))]
    times = list[float]()
    for draft in (small, large):
        began = time.perf_counter()
        await checked([draft])
        await checked(list(draft))
        times.append(time.perf_counter() - began)
    assert times[1] < 9 * times[0] + 0.5


bits = st.sampled_from(
    [
        "Fishing is popular.",
        "Construction began in 1931",
        " under Frank Crowe. ",
        "Pandas eat bamboo. ",
        "U.S. ",
        "Dr. ",
        " [1]",
        "[2]",
        " [1, 3]",
        " [9]",
        "\n",
        "\n\n",
        "- ",
        "1. ",
        "| a | 5 |\n",
        "|---|---|\n",
        "```\n",
        "# Head\n",
        "> ",
        "大仏は高い。",
        "大仏の高さは約15メートルである。",
        "!",
        " ",
        "...",
        "“",
        "”",
        ")",
        "The ",
        "the dam",
        "[",
        "]",
        "3.5",
        "?",
        ":",
        "|",
    ]
)
drafts = st.lists(bits, max_size=25).map("".join)


@given(drafts, st.sampled_from(["mark", "drop", "keep"]), st.data())
async def test_pieces_do_not_matter(draft: str, policy: UnsupportedPolicy, data: st.DataObject) -> None:
    """However the draft is cut, text, citations and summary are those of the whole."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(draft)), max_size=8)))
    pieces = [draft[start:end] for start, end in zip([0, *cuts], [*cuts, len(draft)], strict=True)]
    whole = await checked([draft], policy)
    assert await checked(pieces, policy) == whole
    assert await checked(list(draft), policy) == whole


@given(drafts)
async def test_only_markers_and_marks_change(draft: str) -> None:
    """Without markers and marks the text is the draft, line by line, and every quote is the document's."""
    text, citations, score, sentences = await checked([draft])
    assert _bare(text) == _bare(draft)
    assert all(verify(citation, DOCUMENT) for citation in citations)
    assert all(text[: one.answer_offset].strip() for one in citations)
    assert 0 <= score <= 1
    assert all(0 <= one.start <= one.end <= len(text) for one in sentences)


def _bare(text: str) -> list[str]:
    """The lines with their words, without markers, marks and the space beside them."""
    return [re.sub(r"[ \t]", "", line) for line in re.sub(NOTE, "", text.replace(UNSUPPORTED, "")).strip().split("\n")]
