"""Finding tokens word by word gives what the tokenizer gives."""

import pytest
from hypothesis import given
from hypothesis import strategies as some
from tokenizers import Tokenizer
from tokenizers.models import BPE, WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from bookwheel import cutting
from bookwheel.cutting import Counter, Span

PIECES = ["[UNK]", *"abcdefgh1234.,-", *(f"##{letter}" for letter in "abcdefgh1234"), "whale", "##ship", "sea"]
LETTERS = some.characters(exclude_categories=("Cs", "Cc"))  # control characters are cleaned away, which joins words
TEXTS = some.text(LETTERS | some.sampled_from("ab whaleship sea.,\n\t\u3000\u4eba"), max_size=200)


@pytest.fixture(scope="module")
def bert() -> Tokenizer:
    """A small tokenizer of BERT's kind."""
    made = Tokenizer(WordPiece({piece: number for number, piece in enumerate(PIECES)}, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = BertNormalizer(), BertPreTokenizer()
    return made


def counted(tokenizer: Tokenizer, text: str) -> int:
    """Tokens as the tokenizer counts them."""
    return len(tokenizer.encode(text, add_special_tokens=False).ids)


@given(texts=some.lists(TEXTS, max_size=5))
def test_the_same_as_the_tokenizer(bert: Tokenizer, texts: list[str]) -> None:
    """Also for words seen before."""
    counter = Counter(bert)
    for text in [*texts, *texts]:
        assert counter.count(text) == counted(bert, text)


@given(before=TEXTS, text=TEXTS, after=TEXTS)
def test_tokens_begin_where_the_tokenizer_says(bert: Tokenizer, before: str, text: str, after: str) -> None:
    """In a part of a longer text, whose ends are where words end."""
    within = Span(len(before) + 1, len(before) + 1 + len(text))
    offsets = bert.encode(text, add_special_tokens=False).offsets
    expected = [within.start + first for first, end in offsets if end > first]
    assert Counter(bert).starts(f"{before} {text} {after}", within) == expected


def test_forgetting_changes_nothing(bert: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text whose words overflow the memory is counted whole, and long words are not kept."""
    monkeypatch.setattr(cutting, "KNOWN_WORDS", 4)
    counter = Counter(bert)
    for text in ("a b c", "a b c d e", "whaleship", "whaleship f", "whaleship " + "a" * 99, "c sea d"):
        assert counter.count(text) == counted(bert, text)
    assert "a" * 99 not in counter._known
    assert len(counter._known) <= 5


def test_a_tokenizer_that_reads_across_spaces_is_asked_as_a_whole() -> None:
    """Its tokens may hold a space."""
    tokens = {token: number for number, token in enumerate(["a", " ", "b", "a ", "a b"])}
    across = Tokenizer(BPE(tokens, [("a", " "), ("a ", "b")]))
    assert Counter(across).count("a b") == counted(across, "a b") == 1
