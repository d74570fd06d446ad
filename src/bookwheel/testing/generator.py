"""The contract of ports.Generator."""

import re

import pytest

from bookwheel.ports import Generator
from bookwheel.testing.doubles import a_hit
from bookwheel.types import Prompt

CITED = re.compile(r"\[(\d+)\]")
QUESTION = "Which animal of the sea is the largest?"
PASSAGES = (
    "The blue whale is the largest animal of the sea. It eats krill.",
    "Sharks live in the sea as well. The largest shark is the whale shark.",
)


class GeneratorContract:
    """Subclass it for a backend that fills ports.Generator."""

    @pytest.fixture
    def generator(self) -> Generator:
        """The generator under test."""
        raise NotImplementedError

    async def test_answer_cites_its_hits(self, generator: Generator) -> None:
        """The answer has text, and every [n] in it counts a hit that was given."""
        hits = [a_hit(text, score=1.0 / number, document=number) for number, text in enumerate(PASSAGES, start=1)]
        text = "".join([piece async for piece in generator.generate(Prompt(question=QUESTION, hits=hits))])
        assert "whale" in text
        cited = {int(number) for number in CITED.findall(text)}
        assert cited
        assert cited <= {1, 2}

    async def test_no_hits_no_answer(self, generator: Generator) -> None:
        """Without hits the stream is empty: nothing is made up."""
        assert [piece async for piece in generator.generate(Prompt(question=QUESTION, hits=[]))] == []

    async def test_history_is_taken(self, generator: Generator) -> None:
        """What was said before may be given, in OpenAI's shape."""
        history = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Ask me."}]
        prompt = Prompt(question=QUESTION, hits=[a_hit(PASSAGES[0])], history=history)
        pieces = [piece async for piece in generator.generate(prompt)]
        assert CITED.search("".join(pieces))

    async def test_ping_is_quiet(self, generator: Generator) -> None:
        """One that can answer says nothing."""
        await generator.ping()

    def test_model_is_named(self, generator: Generator) -> None:
        """Answers say who wrote them."""
        assert generator.model
