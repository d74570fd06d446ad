"""Documents of which every sentence is known, questions about them, and a language model's answers about them."""

import re
from collections.abc import Iterator

from bookwheel.client import Client
from bookwheel.prompt import NOT_FOUND
from tests.scripted_upstream import Answer, chat

NAMES = (
    "Arvik",
    "Belmont",
    "Corrie",
    "Dunmore",
    "Eskholm",
    "Fairhaven",
    "Greville",
    "Hallasund",
    "Innerby",
    "Jarlsund",
)
COMMON = (
    "Every lighthouse of this coast burned colza oil.",
    "The keepers of this coast wrote a log each night.",
)
MADE_UP = "The moon is made of green cheese."  #: what the scripted model adds, and no reader may see
SENTENCES = frozenset((*COMMON, NOT_FOUND)) | {
    sentence
    for number, name in enumerate(NAMES)
    for sentence in (
        f"The lighthouse of {name} was built in {1801 + 7 * number}.",
        f"Its tower is {20 + number} metres high.",
    )
}
_MARKER = re.compile(r"\s*\[\d+\]")
_SENTENCE = re.compile(r"(?<=\.)\s+")


def documents() -> Iterator[dict[str, str]]:
    """As NDJSON lines."""
    for number, name in enumerate(NAMES):
        built = f"The lighthouse of {name} was built in {1801 + 7 * number}. Its tower is {20 + number} metres high."
        yield {"id": name.lower(), "text": f"{built} {' '.join(COMMON)}"}


def put_documents(client: Client) -> str:
    """The id of a store that holds them, searchable by both indexes."""
    store_id = client.store("shore")
    results = list(client.put_documents(store_id, documents()))
    assert all("error" not in result for result in results), results
    assert client.wait(store_id)["completed"] == len(NAMES)
    assert client.wait_for_keywords()
    return store_id


def question(number: int) -> str:
    """About one of the documents; with another number it is another question for every cache."""
    name = NAMES[number % len(NAMES)]
    return f"When was the lighthouse of {name} built, and what oil did it burn? Asked as number {number}."


def strange(text: str) -> list[str]:
    """Sentences that no document holds; citation marks are none."""
    plain = " ".join(_MARKER.sub("", text).split())
    return [sentence for sentence in _SENTENCE.split(plain) if sentence and sentence not in SENTENCES]


# ---- what the scripted language model says

WORDS = re.findall(r"\s*\S+", f"{COMMON[0]} [1] {MADE_UP} [1] {COMMON[1]} [1]")
HALF = len(WORDS) - 4  #: words that bring a whole sentence out before the answer ends


def whole_answer() -> Answer:
    """Two sentences that the documents support, and one that they do not."""
    return chat(*WORDS)


def half_an_answer() -> Answer:
    """The same, silent before its end."""
    return chat(*WORDS, stall_after=HALF)
