"""What the passages of one answer say, read once and only as far as it is asked for."""

from functools import cached_property

from bookwheel.claims import plain
from bookwheel.names import capitalised, initials, plain_words
from bookwheel.quantities import keys_of, normalised, quantities, scales_of
from bookwheel.sentences import Span, split_quotes, words
from bookwheel.terms import terms
from bookwheel.types import Hit


class Part:
    """A sentence of a passage."""

    def __init__(self, passage: "Passage", span: Span) -> None:
        self.passage, self.span = passage, span
        self.text = plain(passage.hit.text[slice(*span)])

    @cached_property
    def terms(self) -> frozenset[str]:
        return terms(self.text) | self.passage.scaled(self.text)

    def windows(self) -> list[str]:
        """The sentence, and the sentence with the one before it."""
        at = self.passage.parts.index(self)
        before = self.passage.parts[at - 1].text if at else ""
        return [self.text, f"{before} {self.text}".strip()]


class Passage:
    """A hit's text, read once."""

    def __init__(self, hit: Hit) -> None:
        self.hit = hit

    @cached_property
    def words(self) -> list[tuple[str, int, int]]:
        return words(self.hit.text)

    @cached_property
    def joined(self) -> str:
        return f" {' '.join(word for word, _, _ in self.words)} " if self.words else ""

    @cached_property
    def wholes(self) -> frozenset[str]:
        """The words of each of its sentences, as `joined`."""
        return frozenset(f" {' '.join(word for word, _, _ in words(part.text))} " for part in self.parts)

    def span_of(self, wanted: str) -> Span:
        """Where words that stand in `joined` stand in the text."""
        first = self.joined.count(" ", 0, self.joined.index(wanted) + 1) - 1
        return self.words[first][1], self.words[first + wanted.count(" ") - 2][2]

    @cached_property
    def parts(self) -> list[Part]:
        return [Part(self, span) for span in split_quotes(self.hit.text)]

    @cached_property
    def head(self) -> str:
        return " \n".join((self.hit.title or "", *self.hit.heading_path))

    @cached_property
    def head_terms(self) -> frozenset[str]:
        return terms(self.head)

    @cached_property
    def terms(self) -> frozenset[str]:
        return self.head_terms.union(*(part.terms for part in self.parts))

    @cached_property
    def text(self) -> str:
        return normalised(f"{self.head}\n{self.hit.text}")

    @cached_property
    def plain_words(self) -> frozenset[str]:
        return plain_words(self.text)

    @cached_property
    def initials(self) -> str:
        return initials(self.text)

    @cached_property
    def capitalised(self) -> frozenset[str]:
        return capitalised(self.text)

    @cached_property
    def _scales(self) -> frozenset[float]:
        return scales_of(self.text)

    def scaled(self, text: str) -> frozenset[str]:
        """Terms of the numbers of a table that is in millions."""
        return frozenset(f"#{key}" for key in keys_of(quantities(text), self._scales)) if self._scales else frozenset()
