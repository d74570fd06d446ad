"""What a sentence needs to be supported: its numbers, its names, its words, and that the passage does not deny it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookwheel.claims import claims, plain
from bookwheel.polarity import contradicts
from bookwheel.quantities import keys_of, quantities, scales_of
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
    ("source", "false", "true"),
    [
        ("The mine sold about 1'500 tonnes of ore.", "The mine sold 500 tonnes.", "1500 tonnes of ore were sold."),
        ("The mine sold about 1’500 tonnes of ore.", "500 tonnes of ore.", "The mine sold 1,500 tonnes of ore."),
        ("The mine sold about 1 500 tonnes of ore.", "500 tonnes of ore.", "The mine sold 1500 tonnes of ore."),
        ("The mine sold $1 500 of ore.", "The mine sold $500 of ore.", "Ore of $1,500 was sold by the mine."),
        ("In 2019 500 men were named.", "In 2019 600 men were named.", "500 men were named in 2019."),
        ("On page 12 500 men are named.", "600 men are named on page 12.", "500 men are named on page 12."),
        ("It costs 3.5 million a year.", "It costs 3.", "It costs 3,500,000 a year."),
        ("Version 1.10 added the parser.", "Version 1.1 added the parser.", "The parser was added in version 1.10."),
        ("The tool v1.10 added a parser.", "The tool v1.1 added a parser.", "A parser was added by the tool v1.10."),
        ("COVID-19 closed schools for weeks.", "COVID closed schools for 19 weeks.", "Weeks COVID 19 closed schools."),
        ("COVID 19 closed schools.", "COVID 18 closed schools.", "Schools were closed by COVID-19."),
    ],
)  # fmt: skip
def test_a_number_is_read_whole(source: str, false: str, true: str) -> None:
    """Neither the end of a grouped number, nor the beginning of a version, nor a part of a name is a number."""
    grounder = Grounder([a_hit(source)])
    assert "numbers" in grounder.judge(false).reasons
    assert grounder.judge(true).supported


@pytest.mark.parametrize(
    ("source", "false", "true"),
    [
        ("Sales rose from 5 to 8 million.", "Sales rose from 8 to 5 million.", "From 5 to 8 million sales rose."),
        ("The war lasted from 1939 to 1945.", "The war lasted from 1945 to 1939.", "From 1939 to 1945 the war lasted."),
        ("Germany won the final 3-1.", "Germany won the final 1-3.", "The final was won 3-1 by Germany."),
        ("Germany beat Brazil there.", "Brazil beat Germany there.", "Brazil was beaten by Germany there."),
        ("Real Madrid beat Barcelona there.", "Barcelona beat Real Madrid there.", "There Real Madrid beat Barcelona."),
        ("Paris and Rome got 3 and 5 seats, respectively.", "Paris and Rome got 5 and 3 seats, respectively.",
         "Respectively 3 and 5 seats were got by Paris and Rome."),
        ("Rome and Bonn signed 3 or 5 treaties.", "Rome signed 7 treaties.", "Bonn and Rome signed 5 or 3 treaties."),
        ("Sales rose from 5 in 2019 to 8 in 2020.", "Sales rose from 8 in 2019 to 5 in 2020.",
         "Sales rose to 8 in 2020 from 5 in 2019."),
        ("Revenue was $1.2 billion in 2019 and $1.4 billion in 2020.", "Revenue in 2019 was $1.4 billion.",
         "Revenue in 2020 was $1.4 billion."),
    ],
)  # fmt: skip
def test_what_changed_places_is_seen(source: str, false: str, true: str) -> None:
    """The same words in another order: false where two things stand in each other's place, true elsewhere."""
    grounder = Grounder([a_hit(source)])
    assert not grounder.judge(false).supported
    assert grounder.judge(true).supported


def test_a_name_that_comes_twice_has_no_one_place() -> None:
    """It may stand before and behind the same thing."""
    first = (
        "John was son of John III, Count of Soissons, and Marguerite of Montfort, daughter of Amaury, Count of Montfort"
    )
    grounder = Grounder([a_hit(f"{first}. Count of Soissons, inherited upon the death of his father in 1286.")])
    assert grounder.judge(f"{first}, and Count of Soissons, inherited upon the death of his father in 1286.").supported


@pytest.mark.parametrize(
    ("source", "false", "true"),
    [
        ("Patients took 5 mg a day.", "Patients took 5 g a day.", "Patients took 5 milligrams a day."),
        ("The lake is 5 m deep.", "The lake is 5 km deep.", "The lake is 5 metres deep."),
        ("A ticket costs 20 dollars.", "A ticket costs 20 euros.", "A ticket costs $20."),
        ("A ticket costs $20.", "A ticket costs €20.", "A ticket costs 20 US dollars."),
        ("The rate rose by 2 %.", "The rate rose by 2 percentage points.", "The rate rose by 2 percent."),
        ("It was -5 °C there.", "It was 5 °C there.", "It was minus 5 °C there."),
        ("It was 5 °C there.", "It was -5 °C there.", "There it was 5 °C."),
        ("Net income was -5 million.", "Net income was 5 million.", "The net loss was 5 million."),
        ("山の高さは15メートルである。", "山の高さは15キロメートルである。", "山の高さは15メートルです。"),
    ],
)
def test_units_and_signs_are_compared(source: str, false: str, true: str) -> None:
    """Where both sides name one; also where the words are the same and only a sign differs."""
    grounder = Grounder([a_hit(source)])
    assert "numbers" in grounder.judge(false).reasons
    assert grounder.judge(true).supported


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


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("1,2月", ["month 1", "month 2"]), ("１，２月", ["month 1", "month 2"]), ("3.5月", ["month 3", "month 5"]),
        ("12月", ["month 12"]), ("13月", ["13"]), ("2,000月", ["2000"]), ("2019.5月", ["2019", "month 5"]),
        ("9" * 5_000 + "月", ["inf"]),
        ("hundred " * 200, ["inf"]), ("sıx", ["6"]),
    ],
)  # fmt: skip
def test_odd_numbers_are_read(text: str, keys: list[str]) -> None:
    """Several months before one sign, digits and words beyond any number, letters that only look like an i."""
    assert [key for number in quantities(text) for key in number.keys] == keys


NUMERALS = st.lists(
    st.one_of(
        st.sampled_from(
            [*"0123456789１２٣²ⅷ,.，、-–/' 月年日千万億兆%$€ıİſ\n", "million", "twenty-", "first",
             "Version ", "v1.", "COVID-", "(in millions)", "May ", "9" * 400, "9" * 4_400]
        ),
        st.from_regex(r"[1-9１２]{1,2}[,.，'][1-9]{1,3}[月年日千億]", fullmatch=True),
        st.integers(1, 400).map(lambda times: "hundred " * times),
        st.text(max_size=3),
    ),
    max_size=30,
).map("".join)  # fmt: skip


@given(NUMERALS, NUMERALS)
def test_no_numerals_fail(sentence: str, text: str) -> None:
    """Whatever stands for a number in a passage or an answer, it is judged."""
    grounder = Grounder([a_hit(text)])
    assert 0 <= grounder.judge(sentence).score <= 1
    assert 0 <= grounder.judge(f"Sales were {text} in all.").score <= 1
    assert isinstance(scales_of(text), frozenset)


@given(
    st.lists(
        st.sampled_from(["Net sales rose.", "1億2千", "２.０", "9" * 400, "٣٤", "²", "1,2,3", "-", "one hundred", " "])
    )
)
def test_any_number_is_read(parts: list[str]) -> None:
    """Digits of any script and length are read or left alone."""
    assert isinstance(quantities("".join(parts)), list)
