"""Asks of an FAQ as people make them: few questions often, most seldom (Zipf), and each in several wordings.

`workload()` draws them from the data sets' real questions (debian_docs, SQuAD) and from the pairs written by hand. A
topic is one question; its wordings are the question itself and its paraphrases by the rules of semantic_pairs.py, also
two rules after each other. The same seed gives the same asks. Run it to see what it makes:

    uv run python benchmarks/faq_workload.py
"""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness import DATA, read_lines
from semantic_pairs import LONGEST, SAME_RULES, written

OPENINGS = (
    "Please tell me: {}", "Hello, {}", "Can you tell me: {}", "I would like to know: {}", "Hi there, {}",
    "Do you happen to know: {}", "I was wondering, {}", "Quick question: {}",
)  # fmt: skip
ORIGINAL_SHARE = 0.4  # of the asks of a topic, those in the words of the data set
FEWEST, MOST = 4, 20  # paraphrases of a topic
TRIES = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One question of the workload."""

    topic: int  #: asks of one topic have one answer
    text: str
    original: bool  #: whether in the words of the data set


def workload(asks: int = 5000, *, topics: int = 300, exponent: float = 1.05, seed: int = 7) -> list[Ask]:
    """So many asks in order. The topic of rank r (from 1) is asked in proportion to r ** -exponent."""
    chance = random.Random(seed)
    wordings = list(_topics(topics, chance))
    weights = [(rank + 1) ** -exponent for rank in range(len(wordings))]
    return [_ask(topic, wordings[topic], chance) for topic in chance.choices(range(len(wordings)), weights, k=asks)]


def _ask(topic: int, wordings: Sequence[str], chance: random.Random) -> Ask:
    original = chance.random() < ORIGINAL_SHARE
    return Ask(topic=topic, text=wordings[0] if original else chance.choice(wordings[1:]), original=original)


def _topics(count: int, chance: random.Random) -> Iterator[list[str]]:
    """The first so many questions, in chance order, that can be worded in enough ways: each with its wordings."""
    by_hand = {pair.one: [pair.other] for pair in written() if pair.same and pair.one.isascii()}
    texts = [*by_hand, *_real_questions()]
    chance.shuffle(texts)
    made = ([text, *_paraphrases(text, by_hand.get(text, []), chance)] for text in dict.fromkeys(texts))
    enough = (wordings for wordings in made if len(wordings) > FEWEST)
    yield from (wordings for wordings, _ in zip(enough, range(count), strict=False))


def _real_questions() -> list[str]:
    """FAQ questions of debian_docs and as many of SQuAD."""
    found: list[str] = []
    for name in ("debian_docs", "squad_dev"):
        lines = read_lines(DATA / name / "queries.jsonl")
        random.Random(name).shuffle(lines)
        texts = (line["text"].strip() for line in lines)
        found += [text for text in texts if text.endswith("?") and text.count("?") == 1 and len(text) <= LONGEST][:250]
    return found


def _paraphrases(text: str, known: Sequence[str], chance: random.Random) -> list[str]:
    """Up to MOST other wordings, in the order in which they were found."""
    found = dict.fromkeys(known)
    for _ in range(TRIES):
        if len(found) >= MOST:
            break
        worded = text
        for rule in chance.sample(list(SAME_RULES.values()), 2):
            worded = rule(worded, chance) or worded
        if worded == text:
            worded = chance.choice(OPENINGS).format(text[0].lower() + text[1:] if text[1:2].islower() else text)
        if worded != text:
            found[worded] = None
    return list(found)


def main() -> None:
    """What the workload is made of."""
    asks = workload()
    topics = Counter(ask.topic for ask in asks)
    texts = Counter(ask.text for ask in asks)
    print(f"{len(asks)} asks of {len(topics)} topics in {len(texts)} wordings")
    print(f"in the data set's words: {sum(ask.original for ask in asks) / len(asks):.1%}")
    print(f"asks that an exact cache of endless size would answer: {1 - len(texts) / len(asks):.1%}")
    print(f"asks that a perfect semantic cache would answer: {1 - len(topics) / len(asks):.1%}")
    print(f"the most asked topic: {topics.most_common(1)[0][1] / len(asks):.1%}")
    for topic in range(3):
        print(sorted({ask.text for ask in asks if ask.topic == topic}))


if __name__ == "__main__":
    main()
