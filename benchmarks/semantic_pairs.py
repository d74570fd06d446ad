"""Pairs of questions for the semantic cache: minimal edits that ask something else, and paraphrases that do not.

Four sources: rules over the data sets' questions (the rules know nothing of the words of `bookwheel.wording`), pairs
written by hand (`semantic_pairs.tsv`: same or other, kind, two questions), SQuAD 2's unanswerable questions beside the
answerable ones on the same passage, which people wrote to look alike, and other languages. Everything is drawn with a
fixed seed. `half` splits by the first question: the rules of the likeness check were made on one half only.
"""

import random
import re
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from harness import DATA, read_lines

HAND = Path(__file__).with_name("semantic_pairs.tsv")
SETS = ("squad_dev", "debian_docs", "financebench_pdf", "qa_wiki_25k", "cranfield", "multihop_wiki_22k")
EACH = 40  # pairs of each rule
LONGEST = 160  # characters of a question

OPPOSITES = """more less|most least|highest lowest|largest smallest|biggest smallest|before after|first last|north south
east west|left right|increase decrease|increased decreased|maximum minimum|enable disable|install uninstall|start stop
import export|upload download|with without|include exclude|included excluded|allowed forbidden|win lose|won lost
buy sell|sold bought|add remove|open close|upper lower|high low|higher lower|positive negative|legal illegal|early late
begin end|began ended|northern southern|eastern western|above below|inside outside|better worse|best worst|old new
oldest newest|input output|public private|male female|strong weak|possible impossible|direct indirect|rich poor
support oppose|supported opposed|asset liability|assets liabilities|gain loss|profit loss|internal external|can cannot
all some|always never|only also|connect disconnect|mount unmount|read write|create delete|local remote|static dynamic"""
SWAPS = {
    f"{left} {right}": (left, right)
    for line in OPPOSITES.splitlines()
    for left, right in (pair.split() for pair in line.split("|"))
}
SYNONYMS = (
    ("begin", "start"), ("began", "started"), ("start", "begin"), ("largest", "biggest"), ("biggest", "largest"),
    ("create", "make"), ("located", "situated"), ("purchase", "buy"), ("large", "big"), ("movie", "film"),
    ("kind", "type"), ("type", "kind"), ("primary", "main"), ("main", "primary"), ("happen", "occur"),
    ("delete", "remove"), ("use", "utilize"), ("reside", "live"), ("help", "assist"), ("occupation", "profession"),
    ("company", "firm"), ("need", "require"), ("country", "nation"), ("established", "founded"), ("get", "obtain"),
    ("errors", "error"), ("picture", "photo"), ("solve", "fix"), ("own", "possess"), ("allow", "permit"),
)  # fmt: skip
ASKED = (
    ("When ", "Where "), ("Where ", "When "), ("Who ", "When "), ("Why ", "How "), ("How many ", "How much "),
    ("How do ", "Why do "), ("How can ", "When can "), ("How does ", "Why does "), ("When did ", "Why did "),
)  # fmt: skip
TENSES = ((" was ", " is "), (" is ", " was "), (" are ", " were "), (" did ", " will "), (" is ", " will be "))
UNITS = ("miles kilometers|dollars euros|percent percentage points|feet meters|million billion|pounds kilograms|"
         "hours days|days weeks|years months|minutes seconds|MB GB|acres hectares|Celsius Fahrenheit")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two questions, and whether the answer to one is the answer to the other."""

    same: bool
    kind: str
    source: str  #: rule, hand, squad2 or language
    one: str
    other: str


def half(pair: Pair) -> str:
    """develop or report: by the first question, so that all edits of it fall together."""
    return "report" if zlib.crc32(pair.one.lower().encode()) % 2 else "develop"


def all_pairs() -> list[Pair]:
    """Every pair but SQuAD 2's, which need cosines: see `natural_candidates`."""
    return [*written(), *by_rule(), *languages()]


def written() -> list[Pair]:
    """The pairs written by hand."""
    rows = [line.split("\t") for line in HAND.read_text().splitlines()]
    return [Pair(same=row[0] == "same", kind=row[1], source="hand", one=row[2], other=row[3]) for row in rows]


def questions() -> list[str]:
    """Distinct questions of the data sets, shuffled with a fixed seed."""
    found: dict[str, None] = {}
    for name in SETS:
        found |= dict.fromkeys(line["text"].strip() for line in read_lines(DATA / name / "queries.jsonl"))
    found |= dict.fromkeys(_asked_claims())
    kept = [text for text in found if 15 <= len(text) <= LONGEST and "\n" not in text]
    random.Random(5).shuffle(kept)
    return kept


def _asked_claims() -> Iterator[str]:
    """SciFact's claims as questions."""
    for line in read_lines(DATA / "scifact" / "queries.jsonl"):
        if (match := re.fullmatch(r"(.+?) (is|are|can|has) (.+?)\.", line["text"].strip())) is not None:
            yield f"{match[2].capitalize()} {match[1]} {match[3]}?"


# Rules: a question to its edit, or None where the rule says nothing. Each gets a source of chance.

Rule = Callable[[str, random.Random], str | None]


def _year(text: str, chance: random.Random) -> str | None:
    return _sub(r"\b(1[5-9]|20)\d\d\b", lambda found: str(int(found[0]) + chance.choice((-10, -2, -1, 1, 3, 10))), text)


def _number(text: str, chance: random.Random) -> str | None:
    return _sub(r"(?<![\d.,])\d{1,3}(?![\d.,]*\d)", lambda found: str(int(found[0]) + chance.choice((1, 2, 7))), text)


def _digit(text: str, chance: random.Random) -> str | None:
    return _sub(r"\d(?=\D*$)", lambda found: str((int(found[0]) + chance.randint(1, 9)) % 10), text)


def _month(text: str, chance: random.Random) -> str | None:
    months = [date(2000, month, 1).strftime("%B") for month in range(1, 13) if month != 5]  # may is a verb as well
    return _sub("|".join(rf"\b{month}\b" for month in months), lambda f: _unlike(f[0], months, chance), text)


def _quarter(text: str, chance: random.Random) -> str | None:
    return _sub(r"\bQ[1-4](?=\D|20)", lambda found: _unlike(found[0], ["Q1", "Q2", "Q3", "Q4"], chance), text)


def _unlike(value: str, values: Sequence[str], chance: random.Random) -> str:
    return chance.choice([one for one in values if one != value])


def _negated(text: str, _: random.Random) -> str | None:
    match = re.match(r"((?:Who|What|Which|When|Where|Why)\b.*? (?:was|is|are|were|can|should|does|do|did)) (.+)", text)
    yes = re.match(r"((?:Is|Are|Can|Does|Do|Did|Was|Were|Should) (?:the )?\w+) (.+)", text)
    found = match or yes
    return f"{found[1]} not {found[2]}" if found else None


def _opposite(text: str, chance: random.Random) -> str | None:
    pairs = list(SWAPS.values())
    chance.shuffle(pairs)
    for left, right in pairs:
        for word, put in ((left, right), (right, left)):
            if re.search(rf"\b{word}\b", text):
                return re.sub(rf"\b{word}\b", put, text, count=1)
    return None


def _unit(text: str, _: random.Random) -> str | None:
    for pair in UNITS.split("|"):
        left, right = pair.split(" ", 1)
        for word, put in ((left, right), (right, left)):
            if re.search(rf"\b{word}\b", text):
                return re.sub(rf"\b{word}\b", put, text, count=1)
    return None


_NAME = re.compile(r"(?<=[a-z,] )[A-Z][\w-]+(?: [A-Z][\w-]+)*")
_NAMES = (
    "Napoleon",
    "Kenya",
    "Siemens",
    "Lake Geneva",
    "Oracle",
    "the Danube",
    "Mary Smith",
    "Toyota",
    "Peru",
    "Fedora",
)


def _name(text: str, chance: random.Random) -> str | None:
    names = _NAME.findall(text)
    return text.replace(chance.choice(names), chance.choice(_NAMES), 1) if names else None


def _lower_name(text: str, chance: random.Random) -> str | None:
    edited = _name(text, chance)
    return edited.lower() if edited else None


def _roles(text: str, _: random.Random) -> str | None:
    names = list(dict.fromkeys(_NAME.findall(text)))
    if len(names) != 2 or names[0] in names[1] or names[1] in names[0] or re.search(rf"{names[0]} (?:and|or) ", text):
        return None
    if " between " in text.lower():
        return None
    return text.replace(names[0], "\0").replace(names[1], names[0]).replace("\0", names[1])


def _one_letter(text: str, chance: random.Random) -> str | None:
    names = [name for name in _NAME.findall(text) if len(name) > 4]
    if not names:
        return None
    name = chance.choice(names)
    at = chance.randrange(1, len(name))
    return text.replace(
        name, name[:at] + chance.choice("aeioulmnrst".replace(name[at].lower(), "")) + name[at + 1 :], 1
    )


def _question_word(text: str, chance: random.Random) -> str | None:
    fitting = [(one, other) for one, other in ASKED if text.startswith(one)]
    if not fitting:
        return None
    one, other = chance.choice(fitting)
    return other + text.removeprefix(one)


def _tense(text: str, chance: random.Random) -> str | None:
    fitting = [(one, other) for one, other in TENSES if one in text]
    if not fitting:
        return None
    one, other = chance.choice(fitting)
    return text.replace(one, other, 1)


def _added(text: str, chance: random.Random) -> str | None:
    match = re.search(r"\bthe (?=[a-z]{4,})", text)
    word = chance.choice(("former", "second", "northern", "proposed", "smallest", "second-largest", "fake"))
    return f"{text[: match.end()]}{word} {text[match.end() :]}" if match else None


def _sub(pattern: str, put: Callable[[re.Match[str]], str], text: str) -> str | None:
    edited = re.sub(pattern, put, text, count=1)
    return edited if edited != text else None


def _synonym(text: str, chance: random.Random) -> str | None:
    pairs = [(one, other) for one, other in SYNONYMS if re.search(rf"\b{one}\b", text)]
    if not pairs:
        return None
    one, other = chance.choice(pairs)
    return re.sub(rf"\b{one}\b", other, text, count=1)


def _polite(text: str, chance: random.Random) -> str | None:
    if not re.match(r"(?:What|Who|Where|When|Why|How|Which) ", text):
        return None
    opening = chance.choice(
        ("Please tell me: ", "Can you tell me ", "Do you know ", "Hello, ", "I would like to know ")
    )
    return opening + text[0].lower() + text[1:]


def _contracted(text: str, _: random.Random) -> str | None:
    edited = re.sub(r"^(What|Who|Where|How|When|Why) is ", r"\1's ", text)
    edited = re.sub(r"\b(is|are|was|were|does|did|do) not\b", r"\1n't", edited)
    return edited if edited != text else None


_AUXILIARIES = "is|are|was|were|did|does|do|can|has|have|will|would|should|could|had"


def _which(text: str, _: random.Random) -> str | None:
    if re.match(rf"What (?:{_AUXILIARIES})\b", text):
        return None
    return _sub(r"^(Which|What) (?=[a-z]+ (?!of))", lambda found: "What " if found[1] == "Which" else "Which ", text)


def _in_year(text: str, _: random.Random) -> str | None:
    if re.match(r"(?:In )?[Ww]hat year ", text):
        return _sub(r"^(?:In )?[Ww]hat year (?=did|was|were)", lambda __: "When ", text)
    return None


def _fronted(text: str, _: random.Random) -> str | None:
    match = re.fullmatch(r"((?:Who|What|When|Where|How|Which|Why) .+) ((?:in|during) (?:\w+ )?\d{4})\?", text)
    if match is None:
        return None
    return f"{match[2][0].upper()}{match[2][1:]}, {match[1][0].lower()}{match[1][1:]}?"


def _lowered(text: str, _: random.Random) -> str | None:
    return text.lower().rstrip("?").rstrip()


def _how(text: str, chance: random.Random) -> str | None:
    match = re.match(r"How (?:do|can) (?:I|you) (.+)", text)
    return (
        f"{chance.choice(('How to', 'How can one', 'What is the way to', 'How would I'))} {match[1]}" if match else None
    )


def _tell(text: str, chance: random.Random) -> str | None:
    match = re.fullmatch(r"What (?:is|are) (the .+?)\?", text)
    return f"{chance.choice(('Tell me', 'Please give me', 'Name'))} {match[1]}." if match else None


def _possessive(text: str, _: random.Random) -> str | None:
    match = re.fullmatch(r"What (is|was) the (\w+) of ([A-Z]\w+)\?", text)
    return f"What {match[1]} {match[3]}'s {match[2]}?" if match else None


def _passive(text: str, _: random.Random) -> str | None:
    match = re.fullmatch(r"Who (invented|discovered|founded|designed|composed|directed|painted|developed) (.+)\?", text)
    return f"Who was {match[2]} {match[1]} by?" if match else None


OTHER_RULES: dict[str, Rule] = {
    "years": _year, "numbers": _number, "digit": _digit, "months": _month, "quarters": _quarter, "negation": _negated,
    "opposite": _opposite, "units": _unit, "entity": _name, "entity in lower case": _lower_name, "roles": _roles,
    "one letter": _one_letter, "question": _question_word, "tense": _tense, "word added": _added,
}  # fmt: skip
SAME_RULES: dict[str, Rule] = {
    "synonym": _synonym, "polite": _polite, "contraction": _contracted, "which": _which, "in what year": _in_year,
    "fronted date": _fronted, "case": _lowered, "how": _how, "tell me": _tell, "possessive": _possessive,
    "passive": _passive,
}  # fmt: skip


def by_rule() -> list[Pair]:
    """Up to EACH pairs of each rule; a question serves one rule of each table."""
    return [*_drawn(OTHER_RULES, same=False, seed=1), *_drawn(SAME_RULES, same=True, seed=2)]


def _drawn(rules: dict[str, Rule], *, same: bool, seed: int) -> list[Pair]:
    chance = random.Random(seed)
    made: dict[str, list[Pair]] = defaultdict(list)
    for text in questions():
        for kind in sorted(rules, key=lambda name: len(made[name])):
            if len(made[kind]) < EACH and (edited := rules[kind](text, chance)) and edited != text:
                made[kind].append(Pair(same=same, kind=kind, source="rule", one=text, other=edited))
                break
    return [pair for pairs in made.values() for pair in pairs]


def languages() -> list[Pair]:
    """Other languages: a changed number is another question, case and punctuation are not."""
    chance = random.Random(3)
    lines = [*read_lines(DATA / "xquad" / "queries.jsonl"), *read_lines(DATA / "jaquad" / "queries.jsonl")]
    texts = [line["text"].strip() for line in lines]
    chance.shuffle(texts)
    foreign = [text for text in texts if len(text) <= LONGEST and not text.isascii()]
    changed = [(text, edited) for text in foreign if (edited := _digit(text, chance))][:EACH]
    return [
        *(Pair(same=False, kind="digit", source="language", one=one, other=two) for one, two in changed),
        *(Pair(same=True, kind="case", source="language", one=text, other=text.rstrip("?？")+" !")
          for text in foreign[:EACH]),
    ]  # fmt: skip


def natural_candidates() -> list[Pair]:
    """SQuAD 2: each unanswerable question with the answerable ones on its passage."""
    by_passage: dict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for line in read_lines(DATA / "squad2_dev" / "queries.jsonl"):
        by_passage[line["metadata"]["about"]][line["metadata"]["unanswerable"]].append(line["text"].strip())
    return [
        Pair(same=False, kind="unanswerable", source="squad2", one=one, other=other)
        for answerable, unanswerable in by_passage.values()
        for one in answerable
        for other in unanswerable
        if one.lower() != other.lower()  # four of them are the same question
    ]
