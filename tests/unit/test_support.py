"""What a sentence needs to be supported: its numbers, its names, its words, and that the passage does not deny it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookwheel.claims import claims, plain
from bookwheel.polarity import contradicts
from bookwheel.quantities import keys_of, quantities
from bookwheel.support import Grounder
from bookwheel.testing.doubles import a_hit

FILING = (
    "Net sales rose 8 % to $1.2 billion in 2022, compared with $1,113 million in 2021. "
    "The Company repurchased 3,000 shares from the Vanguard Group in March. "
    "Goodwill impairment was not recorded. Operations in Norway began on 2019-09-30."
)
DAM = (
    "The Hoover Dam stands in the Black Canyon of the Colorado River. Construction began in 1931 under Frank Crowe. "
    "It was dedicated on September 30, 1935, by President Franklin D. Roosevelt. Its lake is Lake Mead. "
    "The Organization of Dam Owners and Engineers met there twice."
)
TEMPLE = "東大寺は奈良県奈良市にある寺院である。大仏の高さは約15メートルである。聖武天皇が8世紀に建立した。"
GROUNDER = Grounder([a_hit(FILING, title="Acme annual report"), a_hit(DAM, title="Hoover Dam"), a_hit(TEMPLE)])


@pytest.mark.parametrize(
    "sentence",
    [
        "Net sales rose by 8 percent to 1,200 million dollars in 2022.",
        "In 2021 net sales were roughly $1.1 billion.",
        "The Company repurchased three thousand shares from the Vanguard Group in March.",
        "Operations in Norway began on September 30, 2019.",
        "Operations in Norway began on 30 September 2019.",
        "No goodwill impairment was recorded.",
        "The Hoover Dam was dedicated on September 30, 1935, by President Roosevelt.",
        "Under Frank Crowe, construction began in 1931.",
        "The ODOE met there twice.",
        "Construction of the dam began in 1931, and Roosevelt dedicated it in 1935.",
        "Acme's net sales rose 8 % in 2022.",
        "大仏の高さは約15メートルです。",
        "8世紀に聖武天皇が建立した。",
    ],
)
def test_supported(sentence: str) -> None:
    """Numbers and dates in other forms, names by part or acronym, another order, two sentences in one."""
    verdict = GROUNDER.judge(sentence)
    assert verdict.supported, verdict
    assert verdict.score >= 0.6


@pytest.mark.parametrize(
    ("sentence", "reason"),
    [
        ("Net sales rose 8 % to $1.2 million in 2022.", "numbers"),
        ("Net sales rose 9 % to $1.2 billion in 2022.", "numbers"),
        ("In 2021 net sales were $1.1 billion.", "numbers"),
        ("The Company repurchased four thousand shares from the Vanguard Group in March.", "numbers"),
        ("The Company repurchased 3,000 shares from the Vanguard Group in April.", "numbers"),
        ("Construction began in 1935 under Frank Crowe.", "numbers"),
        ("Net sales fell 8 % to $1.2 billion in 2022.", "meaning"),
        ("Goodwill impairment was recorded.", "meaning"),
        ("It was not dedicated on September 30, 1935.", "meaning"),
        ("Construction began in 1931 under Frank Miller.", "names"),
        ("Frank Crowe dedicated it on September 30, 1935, with Calvin Coolidge.", "names"),
        ("Operations in Sweden began on 2019-09-30.", "names"),
        ("Construction began in 1931 under Frank Crowe, who painted watercolours of desert lizards.", "words"),
        (
            "Under Frank Crowe construction of the Hoover Dam began in 1931 in the Black Canyon of the Colorado River,"
            " and desert lizards watched.",
            "words",
        ),
        ("Pandas eat bamboo all day long.", "words"),
        ("大仏の高さは約16メートルである。", "numbers"),
        ("大仏の高さは約15メートルではない。", "meaning"),
        ("桓武天皇が8世紀に建立した。", "names"),
        ("猫は魚をよく食べる動物だ。", "words"),
    ],
)
def test_unsupported(sentence: str, reason: str) -> None:
    """Each kind of fault is found, and named."""
    verdict = GROUNDER.judge(sentence)
    assert verdict.claims
    assert not verdict.supported
    assert reason in verdict.reasons


@pytest.mark.parametrize(
    ("hints", "hits"), [((1,), (2,)), ((2,), (2,)), ((), (2,)), ((9, 0, -1), (2,)), ((3, 2), (2,))]
)
@pytest.mark.parametrize("sentence", ["Its lake is Lake Mead.", "The lake of the dam is Lake Mead."])
def test_wrong_hints_are_replaced(sentence: str, hints: tuple[int, ...], hits: tuple[int, ...]) -> None:
    """Whatever the writer named, the passage that says it is found."""
    assert GROUNDER.judge(sentence, hints=hints).hits == hits


@pytest.mark.parametrize("sentence", ["Its lake is Lake Mead.", "Lake Mead is its lake."])
def test_a_hint_as_good_as_the_best_is_kept(sentence: str) -> None:
    """Of two passages that say the same, the writer's stays; both stay when both were named."""
    grounder = Grounder([a_hit(DAM), a_hit(f"{DAM} Neighbours overlap.")])
    assert grounder.judge(sentence, hints=[2]).hits == (2,)
    assert grounder.judge(sentence, hints=[1]).hits == (1,)
    assert set(grounder.judge(sentence, hints=[1, 2]).hits) == {1, 2}


@pytest.mark.parametrize(
    "sentence",
    ["", "**Summary**", "## The dam", "Here is what the documents say:", "I could not find anything about this.",
     "The documents do not say when it was built.", "Hello!", "Would you like to know more?", "[1]", "---",
     "この文書には記載されていません。", "以下の通りです。"],
)  # fmt: skip
def test_nothing_is_claimed(sentence: str) -> None:
    """Headings, openings, questions and "not found" need no support."""
    assert not claims(sentence)
    assert not GROUNDER.judge(sentence).claims


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1,000", "one thousand"), ("1,000", "1000"), ("5 %", "five per cent"), ("$1.2 billion", "1,200 million"),
        ("$1.2bn", "1.2 billion"), ("1\u202f000", "1000"), ("twenty-five", "25"), ("the 19th century", "nineteenth"),
        ("１億２千万", "120,000,000"), ("1億2000万", "120 million"), ("3 October 1990", "1990-10-03"),
        ("1973-74", "1974"), ("１５メートル", "15"), ("one hundred and ten", "110"), ("2.500.000", "2.5 million"),
        ("1990s", "1990"),
    ],
)  # fmt: skip
def test_numbers_have_one_form(one: str, other: str) -> None:
    """However a number is written it is the same number."""
    assert keys_of(quantities(one)) & keys_of(quantities(other))


@pytest.mark.parametrize(
    ("one", "other"), [("5 m", "5,000,000"), ("1.5", "15"), ("version 2.0.1", "201"), ("1990", "1991"), ("A4", "4")]
)
def test_other_numbers_are_others(one: str, other: str) -> None:
    """What only looks alike is not the same number."""
    assert not keys_of(quantities(one)) & keys_of(quantities(other))


@pytest.mark.parametrize(
    ("claim", "source", "turned"),
    [
        ("He did not win the war.", "He won the war.", True),
        ("He won the war.", "He did not win the war.", True),
        ("He won the war.", "He won the war but did not keep the peace.", False),
        ("It opened before the war.", "It opened after the war.", True),
        ("It opened before the war.", "It opened before the war and closed after it.", False),
        ("Not only doctors came.", "Doctors came.", False),
        ("彼は東京に来なかった。", "彼は東京に来た。", True),
        ("彼は東京に来たかもしれない。", "彼は東京に来た。", False),
    ],
)
def test_the_opposite_is_seen(claim: str, source: str, turned: bool) -> None:
    """A negation or direction counts only where the other text says the same without it."""
    assert contradicts(claim, source) is turned


def test_markup_is_not_said() -> None:
    """List marks, emphasis and markers are taken off; numbers and their signs stay."""
    assert plain("- **Net sales** rose 8 % [1, 2] to *$1.2 billion*. [3]") == "Net sales rose 8 % to $1.2 billion."


def test_tables_in_millions() -> None:
    """A bare number of a table is in what its heading says."""
    grounder = Grounder(
        [a_hit("Consolidated statement (Millions)\n\n| Net sales | 34,229 |\n| Net income | 5,791 |\n")]
    )
    assert grounder.judge("Net sales were $34,229 million.").supported
    assert grounder.judge("Net sales were $34.229 billion.").supported
    assert grounder.judge("Net sales were $34,229 billion.").reasons == ("numbers",)


@given(st.text(max_size=120), st.lists(st.text(max_size=200), max_size=3), st.lists(st.integers(-2, 5), max_size=3))
def test_any_text_is_judged(sentence: str, texts: list[str], hints: list[int]) -> None:
    """Nothing fails whatever is written; hits are real, and spans lie in their passages."""
    verdict = Grounder([a_hit(text) for text in texts]).judge(sentence, hints=hints)
    assert 0 <= verdict.score <= 1
    assert len(verdict.spans) == len(verdict.hits)
    for number, (start, end) in zip(verdict.hits, verdict.spans, strict=True):
        assert 0 <= start < end <= len(texts[number - 1])


@given(
    st.lists(
        st.sampled_from(["Net sales rose.", "1億2千", "２.０", "9" * 400, "٣٤", "²", "1,2,3", "-", "one hundred", " "])
    )
)
def test_any_number_is_read(parts: list[str]) -> None:
    """Digits of any script and length are read or left alone."""
    assert isinstance(quantities("".join(parts)), list)
