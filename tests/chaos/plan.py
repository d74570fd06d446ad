"""What a chaos run does: documents that are put, changed, deleted and put again, all known beforehand from a seed."""

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

DOCUMENTS = 500
ROUNDS = 150
FILE_KINDS = ("html", "md", "pdf")
ONE_FILE_IN = 12
FILES, FILE_ROUNDS = 30, 15  # of the run with files alone
FILE_BYTES = (10_000, 150_000)  # of a real one
SENTENCES = (3, 14)  # of a document: one chunk or two
TITLE = re.compile(rb"<title>([^<\n]+)")
MARKER = re.compile(r"Record (\w+) revision (\d+)")

_SUBJECTS = ["harbour", "orchard", "glacier", "archive", "lantern", "compass", "meadow", "furnace", "violin", "quarry"]
_VERBS = ["feeds", "crosses", "measures", "remembers", "borrows", "repairs", "follows", "carries", "divides", "warms"]
_OBJECTS = ["rivers", "ledgers", "winters", "sailors", "bridges", "engines", "letters", "gardens", "signals", "markets"]
_TAILS = [
    "before dawn",
    "in silence",
    "after the storm",
    "for a century",
    "without thanks",
    "by candlelight",
    "in the north",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One revision of one document. Every sentence names both, so that every chunk can be told."""

    name: str  #: the caller's id
    revision: int  #: from 1; grows over deletions too
    kind: str  #: "text", or the suffix of a file
    text: str  #: of a real file only what to search for
    raw: bytes | None = None  #: a real file, which names neither

    @property
    def filename(self) -> str:
        """The file's name as it is uploaded."""
        return f"{self.name}.{self.kind}"

    def data(self) -> bytes:
        """The file's bytes."""
        if self.raw is not None:
            return self.raw
        if self.kind == "html":
            body = "".join(f"<p>{html.escape(line)}</p>" for line in self.text.splitlines())
            return f"<!doctype html><title>{self.name}</title><body>{body}</body>".encode()
        return pdf(self.text.splitlines()) if self.kind == "pdf" else self.text.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What the driver does in one go; no document comes twice in it."""

    texts: tuple[Item, ...]  #: in one NDJSON request
    files: tuple[Item, ...]
    deletions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All rounds, and what must be there after them."""

    rounds: tuple[Round, ...]
    final: Mapping[str, Item]


def make_plan(seed: int, *, documents: int = DOCUMENTS, rounds: int = ROUNDS) -> Plan:
    """The plan of a seed: about 60 % of the documents change, 40 % are deleted, half of these come back."""
    random = Random(seed)
    lives = []
    for number in range(documents):
        is_file = number % ONE_FILE_IN == 0
        kind = FILE_KINDS[number // ONE_FILE_IN % len(FILE_KINDS)] if is_file else "text"
        lives.append(_life(f"{'page' if is_file else 'note'}{number:03}", kind, random))
    return _spread(lives, rounds, random)


def make_file_plan(seed: int, folder: Path, *, files: int = FILES, rounds: int = FILE_ROUNDS) -> Plan:
    """HTML files of some length, real ones where there are any: all come, half change, some go, some come back."""
    random = Random(seed)
    real = [path for path in sorted(folder.rglob("*.html")) if path.stat().st_size in range(*FILE_BYTES)]
    pages = [path.read_bytes() for path in random.sample(real, 2 * files)] if len(real) >= 2 * files else []
    lives = []
    for number in range(files):
        name = f"page{number:03}"
        items: list[Item | str] = [_page(name, revision, pages, random) for revision in range(1, 3 - number % 2)]
        if number % 5 == 0:
            items.append(name)
        if number % 10 == 0:
            items.append(_page(name, 3, pages, random))
        lives.append(items)
    return _spread(lives, rounds, random)


def _page(name: str, revision: int, pages: Sequence[bytes], random: Random) -> Item:
    if not pages:
        return _item(name, revision, "html", random, sentences=(100, 400))
    raw = random.choice(pages)
    title = TITLE.search(raw)
    text = title[1].decode(errors="replace") if title else "documentation"
    return Item(name=name, revision=revision, kind="html", text=text, raw=raw)


def _spread(lives: Sequence[Sequence[Item | str]], rounds: int, random: Random) -> Plan:
    """The events of each document in order, in rounds of chance."""
    events: list[list[Item | str]] = [[] for _ in range(rounds)]
    for life in lives:
        for place, event in zip(sorted(random.sample(range(rounds), len(life))), life, strict=True):
            events[place].append(event)
    last = [life[-1] for life in lives]
    final = {item.name: item for item in last if isinstance(item, Item)}
    return Plan(rounds=tuple(_round(some) for some in events), final=final)


def _life(name: str, kind: str, random: Random) -> list[Item | str]:
    """Revisions in order; the name alone is a deletion."""
    count = random.choice((1, 1, 2, 3, 4))
    life: list[Item | str] = [_item(name, revision, kind, random) for revision in range(1, count + 1)]
    fate = random.random()
    if fate < 0.4:
        life.append(name)
    if fate < 0.2:
        life.append(_item(name, count + 1, kind, random))
    return life


def _item(name: str, revision: int, kind: str, random: Random, *, sentences: tuple[int, int] = SENTENCES) -> Item:
    lines = [
        f"Record {name} revision {revision}: the {random.choice(_SUBJECTS)} {random.choice(_VERBS)}"
        f" {random.choice(_OBJECTS)} {random.choice(_TAILS)}, number {random.randrange(10_000)}."
        for _ in range(random.randint(*sentences))
    ]
    return Item(name=name, revision=revision, kind=kind, text="\n".join(lines))


def _round(events: Sequence[Item | str]) -> Round:
    items = [event for event in events if isinstance(event, Item)]
    return Round(
        texts=tuple(item for item in items if item.kind == "text"),
        files=tuple(item for item in items if item.kind != "text"),
        deletions=tuple(event for event in events if isinstance(event, str)),
    )


def pdf(lines: Sequence[str]) -> bytes:
    """A PDF of one page with these lines."""
    shown = "".join(f"({line}) Tj 0 -14 Td " for line in lines)
    stream = f"BT /F1 9 Tf 40 750 Td {shown}ET".encode("latin-1")
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Count 1/Kids[4 0 R]>>",
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
        b"<</Type/Page/Parent 2 0 R/Resources<</Font<</F1 3 0 R>>>>/MediaBox[0 0 612 792]/Contents 5 0 R>>",
        b"<</Length %d>>\nstream\n%s\nendstream" % (len(stream), stream),
    ]
    out, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    trailer = b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(out))
    return out + b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1) + table + trailer
