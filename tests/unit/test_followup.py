"""A question that rests on what was said before is made self-contained; one that stands alone is left as it is."""

from typing import Any

import pytest

from bookwheel.followup import MAX_QUERY, rests_on_more, self_contained


def said(*turns: str) -> list[dict[str, Any]]:
    """User and assistant by turns, the user first."""
    return [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(turns)]


EIFFEL = said("Who designed the Eiffel Tower?", "It was designed by Stephen Sauvestre and Maurice Koechlin [1].")


@pytest.mark.parametrize(
    ("history", "question", "query"),
    [
        (EIFFEL, "and when was it built?", "and when was it built? Eiffel Tower"),
        (EIFFEL, "How tall is it?", "How tall is it? Eiffel Tower"),
        (EIFFEL, "Who owns it, and why?", "Who owns it, and why? Eiffel Tower"),
        (EIFFEL, "why?", "why? Eiffel Tower"),
        (EIFFEL, "how tall?", "how tall? Eiffel Tower"),
        (EIFFEL, "Tell me more.", "Tell me more. Eiffel Tower"),
        (EIFFEL, "What does that mean?", "What does that mean? Eiffel Tower"),
        (EIFFEL, "and the height?", "and the height? Eiffel Tower"),
        (EIFFEL, "What about its height?", "What about its height? Eiffel Tower"),
        (EIFFEL, "What about oxygen?", "What about oxygen?"),
        (EIFFEL, "When were they born?", "When were they born? Eiffel Tower"),
        (said("what is a bookwheel?", "A desk."), "who invented it?", "who invented it? bookwheel"),
        (
            said("How tall is a giraffe?", "5 m."),
            "What about an elephant?",
            "What about an elephant? tall giraffe",
        ),
        (
            said("When was the Brooklyn Bridge opened?", "In 1883."),
            "And the Golden Gate Bridge?",
            "And the Golden Gate Bridge? opened",
        ),
        (
            said("Wer hat den Eiffelturm entworfen?", "Sauvestre."),
            "Wann wurde es gebaut?",
            "Wann wurde es gebaut? Eiffelturm entworfen",
        ),
        (said("エッフェル塔は誰が設計しましたか", "ソーヴェストル"), "それはいつ建てられましたか", None),
    ],
)
def test_a_follow_up_takes_its_subject_from_the_question_before(
    history: list[dict[str, Any]], question: str, query: str | None
) -> None:
    """Pronouns without a noun, questions without a subject and mere words get the content words they rest on."""
    expected = query or f"{question} {history[0]['content']}"
    assert self_contained(question, history) == expected


@pytest.mark.parametrize(
    "question",
    [
        "Who invented the telephone?",
        "What is photosynthesis?",
        "photosynthesis",
        "And who invented the steam engine?",
        "When did Marie Curie win her first Nobel Prize?",
        "What is a bookwheel and who invented it?",
        "Which engine powers the ship that sank in 1912?",
        "Is there a museum in Rome?",
        "Wie hoch ist der Kölner Dom?",
        "¿Qué es la fotosíntesis?",
        "富士山の高さは何メートルですか",
    ],
)
def test_a_question_that_stands_alone_is_left_alone(question: str) -> None:
    """Its own noun, name or keyword is enough, whatever was said before."""
    assert not rests_on_more(question)
    assert self_contained(question, EIFFEL) == question


def test_a_chain_keeps_its_subject() -> None:
    """The third question rests on the first when the second named nothing new."""
    history = [*EIFFEL, *said("and when was it built?", "From 1887 to 1889 [1].")]
    assert self_contained("How tall is it?", history) == "How tall is it? Eiffel Tower"


def test_a_person_may_stand_in_the_answer() -> None:
    """`he` can mean somebody whom only the answer named."""
    query = self_contained("When was he born?", EIFFEL)
    assert query.startswith("When was he born? ")
    assert {"Eiffel", "Stephen", "Sauvestre"} <= set(query.split())


@pytest.mark.parametrize("history", [[], [{"role": "system", "content": "Be brief about the Eiffel Tower."}]])
def test_without_a_question_before_nothing_is_added(history: list[dict[str, Any]]) -> None:
    """There is nothing to rest on; instructions are no question."""
    assert self_contained("How tall is it?", history) == "How tall is it?"


@pytest.mark.parametrize("question", ["", "?", "it", "\x00", "a" * 5_000, "it " * 3_000])
def test_any_text_is_taken(question: str) -> None:
    """Odd texts come back bounded, as something that can be searched for."""
    query = self_contained(question, EIFFEL)
    assert query.startswith(question.strip())
    assert len(query) <= max(len(question), MAX_QUERY)
