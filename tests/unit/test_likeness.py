"""Two questions are the same only where nothing that an answer rests on is different."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookwheel.inflection import base
from bookwheel.likeness import difference, same_question

SAME = [
    ("What is the capital of France?", "what's the capital of france"),
    ("What is the capital of France?", "Tell me the capital of France."),
    ("What is the capital of France?", "What is France's capital?"),
    ("What is the population of France?", "How many people live in France?"),
    ("What is a kernel panic?", "Define kernel panic"),
    ("What is a kernel panic?", "What does kernel panic mean?"),
    ("How do I reset my password?", "How to reset my password"),
    ("How do I reset my password?", "how can one reset the password?"),
    ("How do I reset my password?", "Hello, could you please tell me how to reset my password?"),
    ("How do I reset my password?", "What are the steps to reset my password?"),
    ("Can I delete my account?", "Is it possible to delete my account?"),
    ("Why doesn't the printer work?", "Why does the printer not work?"),
    ("Why is the sky blue?", "Do you know why the sky is blue?"),
    ("When was the company founded?", "In what year was the company founded?"),
    ("Who wrote Hamlet?", "Who was Hamlet written by?"),
    ("Who wrote Hamlet?", "By whom was Hamlet written?"),
    ("Who wrote Hamlet?", "Who is the author of Hamlet?"),
    ("When did Google buy YouTube?", "When was YouTube bought by Google?"),
    ("Who won the cup in 1990?", "In 1990, who won the cup?"),
    ("How do I install Docker on Debian?", "On Debian, how do I install Docker?"),
    ("What is the difference between TCP and UDP?", "What is the difference between UDP and TCP?"),
    ("How do I turn on the alarm?", "How do I turn the alarm on?"),
    ("Which city is the largest in Spain?", "What city is the biggest in Spain?"),
    ("When did the war begin?", "When did the war start?"),
    ("When does the shop open?", "What time does the shop open?"),
    ("Can I add two files of 1,000 lines?", "Can I add 2 files of 1000 lines?"),
    ("How much is 25 percent?", "How much is twenty-five %?"),
    ("What happened in World War II?", "What happened in the Second World War?"),
    ("Is 10 GB enough?", "is 10GB enough"),
    ("How do I cancel an order?", "How do I cancel orders?"),
    ("population of France", "What is the population of France?"),
    ("Was ist die Hauptstadt von Spanien?", "was ist die hauptstadt von spanien"),
    ("フランスの首都はどこですか？", "フランスの首都はどこですか"),
]
DIFFERENT = [
    ("numbers", "Is port 80 open?", "Is port 8080 open?"),
    ("numbers", "Does it run on Python 3.1?", "Does it run on Python 3.10?"),
    ("numbers", "What is 15 percent of 80?", "What is 16 percent of 80?"),
    ("numbers", "Is O2 soluble?", "Is O4 soluble?"),
    ("numbers", "Is the limit -5?", "Is the limit 5?"),
    ("dates", "What was revenue in 2021?", "What was revenue in 2022?"),
    ("dates", "What were sales in Q1?", "What were sales in Q3?"),
    ("dates", "Are you open on Monday?", "Are you open on Sunday?"),
    ("dates", "What happened in March 1944?", "What happened in May 1944?"),
    ("negation", "Which mammals can fly?", "Which mammals cannot fly?"),
    ("negation", "Is the service available?", "Isn't the service available?"),
    ("negation", "Can I pay with a card?", "Can I pay without a card?"),
    ("negation", "Why do I need a visa?", "Why don't I need a visa?"),
    ("negation", "How do I delete all files?", "How do I delete all files except logs?"),
    ("direction", "What happened before the war?", "What happened after the war?"),
    ("direction", "Who was the first emperor?", "Who was the last emperor?"),
    ("direction", "What is the maximum size?", "What is the minimum size?"),
    ("direction", "How do I enable dark mode?", "How do I turn off dark mode?"),
    ("direction", "How do I export contacts?", "How do I import contacts?"),
    ("direction", "How do I install nginx?", "How do I uninstall nginx?"),
    ("direction", "Which states border Texas to the north?", "Which states border Texas to the south?"),
    ("direction", "Can all users post?", "Can some users post?"),
    ("units", "How many km is it?", "How many miles is it?"),
    ("units", "What is the limit in MB?", "What is the limit in GB?"),
    ("units", "Does it cost $50?", "Does it cost €50?"),
    ("units", "Did it rise by 2 percent?", "Did it rise by 2 percentage points?"),
    ("names", "Who leads Apple?", "Who leads Amazon?"),
    ("words", "who leads apple?", "who leads amazon?"),
    ("names", "Which foods hold vitamin A?", "Which foods hold vitamin B?"),
    ("words", "Is hepatitis A common?", "Is hepatitis common?"),
    ("names", "How do I sort in Java?", "How do I sort in JavaScript?"),
    ("words", "How do I write a class in C++?", "How do I write a class in C#?"),
    ("words", "What does grep -i do?", "What does grep -v do?"),
    ("words", "What does ls -r do?", "What does ls -R do?"),
    ("words", "What does it mean to say 👍?", "What does it mean to say 👎?"),
    ("words", "What is p+1?", "What is p-1?"),
    ("words", "Where is the file config.yaml?", "Where is the file config.json?"),
    ("words", "What is the area of Texas?", "What is the population of Texas?"),
    ("words", "Is it a valid token?", "Is it an invalid token?"),
    ("direction", "What is a tall building?", "What is the tallest building?"),
    ("words", "What is systemd?", "What does systemd do?"),
    ("words", "What is my name?", "What is your name?"),
    ("words", "Can I share my password?", "Should I share my password?"),
    ("question", "When was NASA founded?", "Where was NASA founded?"),
    ("question", "How was the bridge built?", "Why was the bridge built?"),
    ("question", "When did Luther die?", "At what time did Luther die?"),
    ("words", "What version can I use?", "What version should I use?"),
    ("tense", "Who is the president?", "Who was the president?"),
    ("tense", "When does the sale start?", "When did the sale start?"),
    ("order", "Who killed Caesar?", "Who did Caesar kill?"),
    ("order", "Who killed Caesar?", "Who was killed by Caesar?"),
    ("order", "When was Rome attacked?", "When did Rome attack?"),
    ("order", "When was the king of France attacked?", "When did the king of France attack?"),
    ("order", "When was Rome attacked by Carthage?", "When was Carthage attacked by Rome?"),
    ("order", "How do I get from Paris to Rome?", "How do I get from Rome to Paris?"),
    ("order", "Is Python faster than Ruby?", "Is Ruby faster than Python?"),
    ("order", "Is the capital of France in the south of Spain?", "Is the capital of Spain in the south of France?"),
    ("order", "Who is the father of the king?", "Who is the king of the father?"),
    ("words", "Wie schalte ich WLAN ein?", "Wie schalte ich WLAN aus?"),
    ("words", "¿Cómo viajo de París a Londres?", "¿Cómo viajo de Londres a París?"),
    ("words", "フランスの首都はどこですか？", "スペインの首都はどこですか？"),
    ("words", "パスワードを変更できますか？", "パスワードを変更できませんか？"),
]
QUESTIONS = sorted(
    {text for _, one, other in DIFFERENT for text in (one, other)} | {text for pair in SAME for text in pair}
)
ENGLISH = [
    text for text in QUESTIONS if text.isascii() and " ist " not in text and "-" not in text and " A " not in text
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_paraphrases_are_the_same(one: str, other: str) -> None:
    """Ways to ask, politeness, inflection, synonyms and moves that keep the roles change nothing."""
    assert difference(one, other) is None
    assert difference(other, one) is None


@pytest.mark.parametrize(("why", "one", "other"), DIFFERENT)
def test_what_an_answer_rests_on_makes_them_different(why: str, one: str, other: str) -> None:
    """The reason is told, the same both ways."""
    assert difference(one, other) == why
    assert difference(other, one) == why


@given(st.text(max_size=80))
def test_every_text_is_like_itself(text: str) -> None:
    """Whatever it is."""
    assert same_question(text, text)


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_two_texts_are_compared_alike_both_ways(one: str, other: str) -> None:
    """Symmetric, and no text is refused."""
    assert difference(one, other) == difference(other, one)


@given(st.sampled_from(QUESTIONS), st.sampled_from(QUESTIONS))
def test_questions_are_compared_alike_both_ways(one: str, other: str) -> None:
    """Symmetric where the rules have something to do."""
    assert difference(one, other) == difference(other, one)


@given(st.sampled_from(QUESTIONS), st.integers(0, 9), st.data())
def test_another_digit_is_another_question(text: str, digit: int, data: st.DataObject) -> None:
    """Wherever it stands."""
    places = [
        place for place, letter in enumerate(text) if letter.isascii() and letter.isdigit() and letter != str(digit)
    ]
    if places:
        place = data.draw(st.sampled_from(places))
        assert not same_question(text, f"{text[:place]}{digit}{text[place + 1 :]}")


@given(st.sampled_from(ENGLISH), st.data())
def test_a_not_more_is_another_question(text: str, data: st.DataObject) -> None:
    """Wherever it stands."""
    words = text.split()
    place = data.draw(st.integers(1, len(words)))
    assert not same_question(text, " ".join([*words[:place], "not", *words[place:]]))


@given(st.sampled_from(ENGLISH), st.sampled_from([str.upper, str.lower, str.capitalize]))
def test_case_changes_nothing(text: str, cased: Callable[[str], str]) -> None:
    """In words; of an option such as -r it counts."""
    assert same_question(text, cased(text))


@given(st.sampled_from(QUESTIONS), st.sampled_from([" ", "  ", "\n"]), st.sampled_from(["", "?", "??", " !", "."]))
def test_spaces_and_punctuation_change_nothing(text: str, space: str, end: str) -> None:
    """In any language."""
    assert same_question(text, f' "{space.join(text.rstrip("?？.").split(" "))}"{end}')


def test_a_long_text_is_like_itself_alone() -> None:
    """What is longer than a question is not looked into."""
    text = "What is the capital of France? " * 40
    assert same_question(text, text.lower())
    assert difference(text, text.replace("What is", "What's")) == "words"


@pytest.mark.parametrize(
    ("word", "plain"),
    [
        ("cities", "city"), ("boxes", "box"), ("passes", "pass"), ("children", "child"), ("created", "create"),
        ("planned", "plan"), ("planing", "plane"), ("configuring", "configure"), ("studied", "study"),
        ("began", "begin"), ("tallest", "tallest"), ("unable", "unable"), ("news", "news"), ("windows", "windows"),
        ("paris", "paris"), ("united", "united"), ("universities", "university"), ("universe", "universe"),
    ],
)  # fmt: skip
def test_only_inflection_is_taken_off(word: str, plain: str) -> None:
    """What makes another word stays."""
    assert base(word) == plain
