"""Sentences are found where a reader sees them, and spans always point into the text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookwheel.sentences import split_quotes, split_sentences


def sentences(text: str) -> list[str]:
    """The texts of the spans."""
    return [text[start:end] for start, end in split_sentences(text)]


@pytest.mark.parametrize(
    "text",
    [
        "Dr. Smith met Mr. Jones and Mrs. Lee.",
        "The U.S. Army left the U.S.S.R. border.",
        "See No. 5 and Fig. 2 for details.",
        "J. R. R. Tolkien wrote it with C. S. Lewis.",
        "Pi is about 3.14, e.g. for i.e. circles.",
        "It rose 3.5 % to $1.2 million vs. plan.",
        "Apple Inc. reported sales at 5 p.m. Eastern time.",
        "He wrote for St. Martin's Press in vol. 3.",
        "「すごい。」と彼は言った。",
        "Version 2.0.1 of example.com/index.html is out.",
        "“Why?” he asked.",
        "Er kam am 3. Oktober nach Berlin.",
    ],
)
def test_one_sentence_stays_whole(text: str) -> None:
    """Abbreviations, initials, decimals, addresses and quoted speech do not end a sentence."""
    assert sentences(text) == [text]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("He lives in the U.S. The army left.", ["He lives in the U.S.", "The army left."]),
        ("It ended in 1990. He left.", ["It ended in 1990.", "He left."]),
        ("The answer was no. Then he left.", ["The answer was no.", "Then he left."]),
        ("He said “No.” She left.", ["He said “No.”", "She left."]),
        ("A fact.[12] Another one.", ["A fact.[12]", "Another one."]),
        ("**Bold.** Plain.", ["**Bold.**", "Plain."]),
        ("東大寺は寺院である。本当ですか？はい！次", ["東大寺は寺院である。", "本当ですか？", "はい！", "次"]),
        ("他说：“好。”然后走了。", ["他说：“好。”", "然后走了。"]),
        ("यह एक है। यह दो है।", ["यह एक है।", "यह दो है।"]),
        ("Wrapped prose goes\non here. Next\none.", ["Wrapped prose goes\non here.", "Next\none."]),
        ("First paragraph\n\nSecond paragraph", ["First paragraph", "Second paragraph"]),
    ],
)
def test_sentences_are_cut(text: str, expected: list[str]) -> None:
    """Terminators of several scripts end sentences, with the quotes and notes that close them."""
    assert sentences(text) == expected


def test_markdown_units_stand_alone() -> None:
    """Headings, list items and table rows are units with their markup; rules and fences are none."""
    text = "# 1. Heading\nProse here.\n\n- item one\n- item two\n  goes on\n1. first\n\n---"
    text += "\n| a. B | b |\n|---|---|\n| 1. | 2 |\n"
    assert sentences(text) == [
        "# 1. Heading",
        "Prose here.",
        "- item one",
        "- item two\n  goes on",
        "1. first",
        "| a. B | b |",
        "| 1. | 2 |",
    ]


@pytest.mark.parametrize("text", ["", " \n\t", "---\n***\n", "...", "|---|---|", "。！？"])
def test_nothing_without_words(text: str) -> None:
    """Text without letters or digits has no sentences."""
    assert split_sentences(text) == []


@given(st.text(alphabet=st.sampled_from(list("aB1 .!?。！「」と\n#-|*[](),;:é\u3000\r_")), max_size=300))
def test_spans_cover_every_word_in_order(text: str) -> None:
    """Spans are trimmed, ordered, disjoint and not empty, and no letter or digit is lost."""
    covered = 0
    for start, end in split_sentences(text):
        assert covered <= start < end
        assert text[start:end] == text[start:end].strip()
        assert not any(character.isalnum() for character in text[covered:start])
        assert any(character.isalnum() for character in text[start:end])
        covered = end
    assert not any(character.isalnum() for character in text[covered:])


def test_long_sentences_are_cut_at_clauses() -> None:
    """A sentence beyond the limit is cut behind a semicolon or comma, and the parts hold all its words."""
    text = "; ".join(["one clause, with a comma"] * 40) + "."
    parts = [text[start:end] for start, end in split_quotes(text, limit=100)]
    assert max(map(len, parts)) <= 100
    assert all(part[-1] in ";." for part in parts)
    assert " ".join(parts) == text


@given(st.text(max_size=2000), st.integers(min_value=2, max_value=120))
def test_quotes_keep_the_limit(text: str, limit: int) -> None:
    """No part is longer than the limit, whatever the text."""
    assert all(0 < end - start <= limit for start, end in split_quotes(text, limit=limit))
