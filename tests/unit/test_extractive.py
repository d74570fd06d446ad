"""The extractive generator: few sentences, each of them in its passage, and silence where nothing supports one."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookwheel.backends.extractive import EMBEDDED, ExtractiveGenerator
from bookwheel.backends.openvino.embedder import OpenVinoEmbedder, open_embedder
from bookwheel.citations import cite, verify
from bookwheel.errors import EmbedderUnavailableError
from bookwheel.parts import Part
from bookwheel.ports import Vectors
from bookwheel.sentences import words
from bookwheel.testing.doubles import a_hit
from bookwheel.types import Hit, Prompt

DAM = (
    "The Hoover Dam stands in the Black Canyon of the Colorado River. Construction began in 1931 under Frank Crowe.[4] "
    "It was dedicated on September 30, 1935, by President Franklin D. Roosevelt. Its lake is Lake Mead."
)
RIVER = "The Colorado River is 2,330 km long. Seven U.S. states share its water. Fishing is popular."
FILING = "Net revenue rose 8 % to $4.1 billion. The Company repurchased shares. Goodwill impairment was not recorded."
TEMPLE = "東大寺は奈良県奈良市にある寺院である。大仏の高さは約15メートルである。聖武天皇が8世紀に建立した。"


class LetterEmbedder:
    """Vectors that count letters; notes what it was asked for, and can be down."""

    model, revision, dimensions, window = "letters", "1", 32, 512

    def __init__(self, *, down: bool = False) -> None:
        self.down, self.calls = down, list[Sequence[str]]()

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """One unit vector for each text."""
        if self.down:
            raise EmbedderUnavailableError
        self.calls.append(texts)
        counts = [[1 + sum(ord(letter) % 32 == slot for letter in text) for slot in range(32)] for text in texts]
        vectors = np.array(counts, np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Letters."""
        return [len(text) for text in texts]

    def coverage(self, text: str) -> float:
        """Knows everything."""
        return 1.0

    async def ping(self) -> None:
        """Always there."""


@pytest.fixture(scope="module")
def embedder() -> AsyncIterator[OpenVinoEmbedder]:
    """The embedder that the product uses."""
    opened = open_embedder(None, threads=1)
    yield opened
    opened.close()


async def answer(generator: ExtractiveGenerator, question: str, hits: Sequence[Hit]) -> str:
    """The whole draft."""
    return "".join([piece async for piece in generator.generate(Prompt(question=question, hits=hits))])


@pytest.mark.parametrize(
    ("question", "best"),
    [
        ("When did the construction of the Hoover Dam begin?", "Construction began in 1931 under Frank Crowe. [1]"),
        ("How long is the Colorado River?", "The Colorado River is 2,330 km long. [2]"),
        ("How many states share the water of the river?", "Seven U.S. states share its water. [2]"),
    ],
)
async def test_the_answering_sentence_is_written(embedder: OpenVinoEmbedder, question: str, best: str) -> None:
    """The sentence that answers is among those written, behind it the number of its passage."""
    hits = [a_hit(DAM, title="Hoover Dam"), a_hit(RIVER, score=0.6, title="Colorado River")]
    assert best in await answer(ExtractiveGenerator(embedder), question, hits)


async def test_japanese_is_answered_by_words(embedder: OpenVinoEmbedder) -> None:
    """Where the model cannot read the language, shared characters find the sentence."""
    draft = await answer(
        ExtractiveGenerator(embedder), "大仏の高さは何メートルですか？", [a_hit(FILING), a_hit(TEMPLE)]
    )
    assert "大仏の高さは約15メートルである。 [2]" in draft


@pytest.mark.parametrize(
    "question", ["What is the best pizza topping in Naples?", "ナポリで一番おいしいピザは何ですか？"]
)
async def test_strangers_get_no_answer(embedder: OpenVinoEmbedder, question: str) -> None:
    """A question about something else than the passages speak of gets the empty stream."""
    hits = [a_hit(FILING, title="Annual report"), a_hit(RIVER, title="Colorado River"), a_hit(TEMPLE, title="東大寺")]
    assert await answer(ExtractiveGenerator(embedder), question, hits) == ""


@pytest.mark.parametrize("texts", [[], ["", "  \n"], ["---\n***"]])
async def test_nothing_to_read_gives_no_answer(texts: list[str]) -> None:
    """Without words in the hits nothing is written, and nothing embedded."""
    letters = LetterEmbedder()
    assert await answer(ExtractiveGenerator(letters), "What?", [a_hit(text) for text in texts]) == ""
    assert letters.calls == []


async def test_words_answer_while_the_embedder_is_down() -> None:
    """An embedder that does not answer costs quality, not the answer."""
    draft = await answer(
        ExtractiveGenerator(LetterEmbedder(down=True)), "Which states share the water?", [a_hit(RIVER)]
    )
    assert "Seven U.S. states share its water. [1]" in draft


async def test_sentences_of_a_passage_keep_its_order() -> None:
    """The passage with the best sentence comes first, and its sentences as they stand in it."""
    text = "Alpha rivers flow. Beta rivers flow north fast. Gamma rivers."
    draft = await answer(ExtractiveGenerator(LetterEmbedder()), "Do beta rivers flow north fast?", [a_hit(text)])
    assert draft == "Alpha rivers flow. [1] Beta rivers flow north fast. [1] Gamma rivers. [1]"


async def test_a_sentence_in_two_chunks_is_written_once() -> None:
    """Neighbouring chunks overlap; an answer does not repeat itself."""
    hits = [
        a_hit("Dams hold water. Extra words here."),
        a_hit("water. Dams hold water. Other things there.", score=0.9),
    ]
    draft = await answer(ExtractiveGenerator(LetterEmbedder()), "Do dams hold water?", hits)
    assert draft.count("Dams hold water.") == 1


async def test_the_embedding_batch_is_bounded() -> None:
    """However much the hits hold, one batch of at most EMBEDDED sentences and the question is embedded."""
    letters = LetterEmbedder()
    await answer(ExtractiveGenerator(letters), "Which dam?", [a_hit("A dam stands here. " * 5 + "More. " * 300)] * 20)
    assert [len(call) <= EMBEDDED + 1 for call in letters.calls] == [True]


bits = st.sampled_from(
    [
        "Dams hold water. ",
        "The dam ",
        "in 1990",
        ". ",
        "\n",
        "\n- ",
        "# ",
        "| a | b |\n",
        "[3]",
        "[[1]2]",
        "【1, 2】",
        "大仏は高い。",
        "water",
        "x" * 90,
    ]
)


@given(st.lists(st.lists(bits, max_size=25).map("".join), max_size=5))
async def test_every_written_sentence_is_cited_truly(texts: list[str]) -> None:
    """At most three sentences, one citation each, whose quote is the document's text and has the sentence's words."""
    document, hits = "", list[Hit]()
    for text in texts:
        hits.append(a_hit(text, start=len(document)))
        document += text + "|"
    prompt = Prompt(question="Do dams hold water?", hits=hits)
    pieces = [piece async for piece in ExtractiveGenerator(LetterEmbedder()).generate(prompt)]
    _, citations = cite("".join(pieces), hits)
    assert len(pieces) <= 3
    assert len(citations) == len(pieces)
    assert all(verify(citation, document) for citation in citations)
    for piece, citation in zip(pieces, citations, strict=True):
        assert citation.hit is hits[int(piece.rpartition("[")[2].rstrip("]")) - 1]
        assert len(citation.quote) <= 400
        written = [word for word, _, _ in words(piece)]
        assert [word for word, _, _ in words(citation.quote)] == written


async def test_an_embedder_that_hangs_costs_no_more_than_its_part_of_a_search() -> None:
    """The words decide then; and while it is left alone nobody waits for it at all."""

    class Hanging(LetterEmbedder):
        """One that never answers."""

        asked = 0

        async def embed(self, texts: Sequence[str]) -> Vectors:
            """For ever."""
            self.asked += 1
            await asyncio.Event().wait()
            return await super().embed(texts)

    embedder = Hanging()
    part = Part("embed", unavailable=EmbedderUnavailableError, seconds=0.01)
    generator = ExtractiveGenerator(embedder, part=part)
    prompt = Prompt(question="Do dams hold water?", hits=[a_hit("Dams hold water.")])
    for _ in range(6):
        assert [piece async for piece in generator.generate(prompt)] == ["Dams hold water. [1]"]
    assert embedder.asked == 3
