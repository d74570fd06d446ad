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
    ("Which animal of the sea is the largest?", "What is the largest animal of the sea?"),
    ("What happened on 5 May?", "What happened at 5 May?"),
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
# A second set of pairs, by families: who does what to whom, passives, prepositions, modals, words that are no synonyms.
FAMILIES = [
    ("names", "How much do I owe you?", "How much do you owe me?"),
    ("names", "Who do I owe?", "Who owes me?"),
    ("names", "What do you charge me?", "What do I charge you?"),
    ("names", "When must you notify me?", "When must I notify you?"),
    ("names", "What happens if you cancel my order?", "What happens if I cancel your order?"),
    ("names", "How do you process my data?", "How do I process your data?"),
    ("words", "How do you process my data?", "How do I process my data?"),
    ("names", "How do you see me?", "How do I see you?"),
    ("names", "Who do I report to?", "Who reports to me?"),
    ("names", "Where do you live?", "Where do I live?"),
    ("words", "Is my data safe?", "Is your data safe?"),
    ("words", "Where is our office?", "Where is your office?"),
    ("words", "Who are we?", "Who are you?"),
    ("names", "Can I cancel my order?", "Can you cancel my order?"),
    ("words", "Who was given the prize?", "Who gave the prize?"),
    ("words", "Who was paid the bonus?", "Who paid the bonus?"),
    ("words", "Who was told the truth?", "Who told the truth?"),
    ("words", "Who was offered the job?", "Who offered the job?"),
    ("words", "Who was sent the letter?", "Who sent the letter?"),
    ("words", "Who was shown the plan?", "Who showed the plan?"),
    ("words", "Who was awarded the prize?", "Who awarded the prize?"),
    ("words", "Who was denied the loan?", "Who denied the loan?"),
    ("words", "Who was asked the question?", "Who asked the question?"),
    ("words", "Who was sold the house?", "Who sold the house?"),
    ("words", "Which team was given the penalty?", "Which team gave the penalty?"),
    ("words", "When was the team given the penalty?", "When did the team give the penalty?"),
    ("direction", "What is in the box?", "What is on the box?"),
    ("words", "Is it at 5 km of Rome?", "Is it within 5 km of Rome?"),
    ("words", "Are you open at 5?", "Are you open within 5?"),
    ("words", "Is it paid in 30 days?", "Is it paid within 30 days?"),
    ("direction", "Do you pay on time?", "Do you pay in time?"),
    ("words", "What is the visa for the US?", "What is the visa of the US?"),
    ("words", "What is the price for gold?", "What is the price in gold?"),
    ("words", "What is chocolate milk?", "What is milk in the chocolate?"),
    ("direction", "Where is the book on the table?", "Where is the table book?"),
    ("words", "What is the Bank of Ireland?", "What is the bank in Ireland?"),
    ("direction", "Can I drink the tap water?", "Am I allowed to drink the tap water?"),
    ("names", "How can I vote?", "How should I vote?"),
    ("words", "Where can I smoke?", "Where do I smoke?"),
    ("words", "When can you fire an employee?", "When do you fire an employee?"),
    ("words", "How many days can I take?", "How many days do I take?"),
    ("words", "Who can I call?", "Who do I call?"),
    ("words", "Are you open at 9 am?", "Are you open at 9?"),
    ("words", "Did a few people come?", "Did few people come?"),
    ("words", "Is there a little water?", "Is there little water?"),
    ("names", "Do you ship to us?", "Do you ship to the US?"),
    ("names", "Who rules Great Britain?", "Who rules the UK?"),
    ("direction", "Is the answer right?", "Is the answer correct?"),
    ("words", "What is the goal of the club?", "What is the aim of the club?"),
    ("words", "What is the issue with the car?", "What is the problem with the car?"),
    ("words", "How does it function?", "How does it work?"),
    ("words", "Where is the store?", "Where is the shop?"),
    ("words", "What is the main school?", "What is the primary school?"),
    ("direction", "How do I remove the app?", "How do I uninstall the app?"),
    ("direction", "How do I delete the app?", "How do I remove the app?"),
    ("words", "Can I see a doctor?", "Can I check a doctor?"),
    ("words", "How long do you keep data?", "How long do you retain data?"),
    ("words", "How do I fix the car?", "How do I repair the car?"),
    ("direction", "How do I prevent war?", "How do I avoid war?"),
    ("words", "What do you mean?", "What are you?"),
    ("words", "Where was penicillin found?", "Where was penicillin?"),
    ("words", "What is the population of HIV in Rome?", "How many people live with HIV in Rome?"),
    ("words", "What is x-1?", "What is x1?"),
    ("words", "Is the door open?", "Does the door open?"),
    ("words", "Is he like you?", "Does he like you?"),
    ("words", "Who is like Rome?", "Who likes Rome?"),
    ("words", "Who was it?", "Who did it?"),
    ("words", "What are you doing?", "What do you do?"),
    ("words", "What is programming?", "What is a program?"),
    ("direction", "What is a rose?", "What is a rise?"),
    ("names", "What is an LED?", "What is a lead?"),
    ("words", "What is a shot?", "What is a shoot?"),
    ("words", "What are the terms?", "What is the term?"),
    ("words", "What is security?", "What are securities?"),
    ("words", "What is the cloud?", "What is a cloud?"),
    ("words", "What is that error?", "What is the error?"),
    ("words", "How much is a glass of wine?", "How much is a wine glass?"),
    ("direction", "How old must I be?", "How tall must I be?"),
    ("words", "How long has he been president?", "How long was he president?"),
    ("tense", "How long has he lived here?", "How long did he live here?"),
    ("tense", "Who has won the cup?", "Who won the cup?"),
    ("direction", "Who is the richest man in the world?", "Who is the richest man of all time?"),
    ("tense", "What is population of France?", "What was the population of France?"),
    ("tense", "population of France", "What was the population of France?"),
    ("words", "Do you know Python?", "What is Python?"),
    ("words", "Tell me a joke.", "What is a joke?"),
    ("words", "Give me a refund.", "What is a refund?"),
    ("words", "Name a fruit.", "What is a fruit?"),
    ("words", "How do I define a class?", "How do I explain a class?"),
    ("dates", "What year is it?", "When is it?"),
    ("direction", "In what year did he die?", "On what date did he die?"),
    ("words", "What is the name of the file?", "What is the file?"),
    ("words", "How many different coins are there?", "How many coins are there?"),
    ("names", "What do you do if I lose my card?", "What should I do if I lose my card?"),
    ("words", "May I smoke?", "Can I smoke?"),
    ("words", "Could he swim?", "Can he swim?"),
    ("words", "Shall I pay?", "Will I pay?"),
    ("direction", "What are you used to?", "What are you used for?"),
    ("words", "How do people find my profile?", "How do I find my profile?"),
    ("direction", "What is the best way to learn French?", "How do I learn French?"),
    ("words", "When was it delivered?", "When was it shipped?"),
    ("direction", "What is the highest mountain?", "What is the tallest mountain?"),
    ("words", "Who was named president?", "Who was called president?"),
    ("order", "Which fees must I not pay?", "Which fees do I not need to pay?"),
    ("words", "Who is hit?", "Who hit?"),
    ("words", "Who is left?", "Who left?"),
    ("direction", "Is 5 min enough?", "Is 5 minimum enough?"),
    ("words", "When is tea time?", "What time is tea?"),
    ("words", "Is it exactly 5 km?", "Is it 5 km?"),
    ("words", "Who trusts in God?", "Who trusts God?"),
    ("words", "Who looks at me?", "Who looks for me?"),
    ("words", "Is it due on Monday?", "Is it due by Monday?"),
    ("words", "What is he made of?", "What is he made for?"),
    ("words", "Who made him king?", "Who was made king?"),
    ("tense", "What did he have built?", "What did he build?"),
    ("tense", "Who had the car repaired?", "Who repaired the car?"),
    ("direction", "Who stopped to smoke?", "Who stopped smoking?"),
    ("direction", "Who remembered to lock it?", "Who remembered locking it?"),
    ("numbers", "Which one is it?", "Which 1 is it?"),
    ("numbers", "What is Python 3?", "What is Python -3?"),
    ("words", "Whose brother is Tom?", "Who is Tom's brother?"),
    ("words", "Who is his boss?", "Whose boss is he?"),
    ("order", "What eats birds?", "What do birds eat?"),
    ("order", "Who does Tom love?", "Who loves Tom?"),
    ("order", "Who is Tom helping?", "Who is helping Tom?"),
    ("order", "What is Tom eating?", "What is eating Tom?"),
    ("order", "Who was Tom seen with?", "Who was seen with Tom?"),
    ("order", "Is Tom taller than Ann?", "Is Ann taller than Tom?"),
    ("order", "Can only staff park?", "Can staff only park?"),
    ("order", "Did only Tom eat?", "Did Tom only eat?"),
    ("order", "Is a dog an animal?", "Is an animal a dog?"),
    ("order", "Are all cats pets?", "Are all pets cats?"),
    ("order", "Is Rome in Italy?", "Is Italy in Rome?"),
    ("negation", "Who is not a member?", "Who is a member?"),
    ("negation", "What if I do not pay?", "What if I pay?"),
    ("words", "Who can teach?", "Who can be taught?"),
    ("words", "Who must tell?", "Who must be told?"),
    ("words", "Who wants to pay?", "Who wants to be paid?"),
    ("order", "When will Tom be paid?", "When will Tom pay?"),
    ("order", "Has Tom been paid?", "Has Tom paid?"),
    ("tense", "Has Tom left?", "Is Tom left?"),
    ("words", "Who has been paid?", "Who has paid?"),
    ("order", "Is Tom to pay?", "Is Tom to be paid?"),
    ("order", "Why was Tom fired?", "Why did Tom fire?"),
    ("order", "How was Tom paid?", "How did Tom pay?"),
    ("order", "Where are cars sold?", "Where do cars sell?"),
    ("order", "What is the effect of A on B?", "What is the effect of B on A?"),
    ("direction", "What is the distance from the earth?", "What is the distance to the earth?"),
    ("direction", "Who wrote to Tom?", "Who wrote Tom?"),
    ("order", "Who did Tom write about?", "Who wrote about Tom?"),
    ("direction", "Who did Tom write for?", "Who did Tom write to?"),
    ("words", "How do I log in?", "How do I log out?"),
    ("words", "Who is older, Tom or Ann?", "Who is older, Tom and Ann?"),
    ("units", "Is $5 ok?", "Is 5 ok?"),
    ("numbers", "Is -5 ok?", "Is 5 ok?"),
]
# Where case or a sign counts: not for the tests that change it.
SPELLING = [
    ("units", "5 Mb is how long?", "5 MB is how long?"),
    ("units", "Is it 5 Mb?", "Is it 5 MB?"),
    ("words", "Is 100 Mbps fast?", "Is 100 MBps fast?"),
    ("names", "How much is 5 mW?", "How much is 5 MW?"),
    ("words", "How much is 5mW?", "How much is 5MW?"),
    ("names", "What is Fe?", "What is FE?"),
    ("names", "What is Co?", "What is CO?"),
    ("names", "What is Polish?", "What is polish?"),
    ("names", "Is IT safe?", "Is it safe?"),
    ("names", "What is AIDS?", "What is AID?"),
    ("names", "What is SARS?", "What is SAR?"),
    ("names", "Who directed Alien?", "Who directed Aliens?"),
    ("names", "who directed alien?", "Who directed Aliens?"),
    ("words", "What is []?", "What is {}?"),
    ("words", "What is ()?", "What is []?"),
    ("words", "What is a[0]?", "What is a{0}?"),
    ("words", "What is 3-5?", "What is 3 5?"),
    ("numbers", "Is it .5 km?", "Is it 5 km?"),
    ("words", "What is 5! in C?", "What is 5 in C?"),
    ("words", "What is the ratio 1:2?", "What is the ratio 1 2?"),
    ("names", "What is Apple's price?", "What is the price of apples?"),
    ("names", "What is C?", "What is C++?"),
    ("words", "What is .NET?", "What is net?"),
    ("numbers", "Is 1,5 enough?", "Is 1.5 enough?"),
    ("numbers", "Is 10:30 ok?", "Is 1030 ok?"),
    ("words", "What does ~/ mean?", "What does / mean?"),
    ("words", "What is a==b?", "What is a!=b?"),
    ("words", "What is a<b?", "What is a>b?"),
    ("words", "What is x^2?", "What is x2?"),
    ("words", "What is x_1?", "What is x1?"),
    ("names", "Is Java in IT?", "Is Java in it?"),
    ("names", "What does WHO do?", "What does who do?"),
    ("names", "Who leads the WHO?", "Who leads the who?"),
    ("units", "How many MB is 1 Gb?", "How many MB is 1 GB?"),
]
QUESTIONS = sorted(
    {text for _, one, other in DIFFERENT + FAMILIES for text in (one, other)} | {text for pair in SAME for text in pair}
)
ENGLISH = [
    text for text in QUESTIONS if text.isascii() and " ist " not in text and "-" not in text and " A " not in text
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_paraphrases_are_the_same(one: str, other: str) -> None:
    """Ways to ask, politeness, inflection, synonyms and moves that keep the roles change nothing."""
    assert difference(one, other) is None
    assert difference(other, one) is None


@pytest.mark.parametrize(("why", "one", "other"), DIFFERENT + FAMILIES + SPELLING)
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
