"""The numbers of a text in one form, whoever wrote them: 1,000 = 1000 = one thousand, $1.2 billion = 1,200 million,
30 September 1935 = 1935-09-30, １億２千万 = 120,000,000.

A number is a key that compares by equality; a month is a key of its own, so a date is three keys. The 19 of COVID-19
and the 1.10 of version 1.10 are the keys "covid-19" and "1.10", not the numbers 19 and 1.1. Units and signs are not
kept: measures.py compares them. No text raises.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

ROUNDED = 0.05  # how far a number that is said to be about may be from the true one, as a share of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A number of a text."""

    keys: tuple[str, ...]  #: what it may mean: most have one meaning, "1.000" and "1973-74" two
    value: float | None  #: of the first meaning; None for months and version numbers
    about: bool = False  #: the text says about, roughly, nearly
    firm: bool = True  #: must be said: "one" and "second" may be other words, and "two examples" may be listed
    start: int = 0  #: characters of the normalised text
    end: int = 0  #: behind the digits and their scale
    other: str | None = None  #: a key that will do for it too: COVID 19 for COVID-19, and the other way round
    bare: bool = False  #: without scale: a table's heading may say that it is in millions


def _list(text: str) -> list[str]:
    return text.split()


_ONES = _list(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen"
)
_TENS = _list("twenty thirty forty fifty sixty seventy eighty ninety")
_ORDINALS = _list(
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth"
    " sixteenth seventeenth eighteenth nineteenth"
)
_WORDS = (
    {word: value for value, word in enumerate(_ONES)}
    | {word: 10 * value for value, word in enumerate(_TENS, 2)}
    | {word: value for value, word in enumerate(_ORDINALS, 1)}
    | {"twentieth": 20, "thirtieth": 30, "dozen": 12}
)
_SCALES = {"hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
_SHORT_SCALES = {"k": 1e3, "mn": 1e6, "bn": 1e9, "m": 1e6, "b": 1e9}
_SPACELESS_SCALES = {"千": 1e3, "万": 1e4, "億": 1e8, "兆": 1e12}
_COUNTED = 10  # so far words count what a text lists without saying how many: two examples are ...
_MONTHS = _list("january february march april may june july august september october november december")

_NUMBER_WORD = "|".join(sorted({*_WORDS, *_SCALES}, key=len, reverse=True))
_MONTH = (
    "Jan(?:uary)?|Feb(?:ruary)?|March|Mar|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?"
    "|Nov(?:ember)?|Dec(?:ember)?"
)
_FOUND = re.compile(
    r"(?P<iso>(?<!\d)\d{4}-\d{2}-\d{2}(?!\d))"
    r"|(?P<spaceless>(?<![\d.,])\d[\d,.]*[千万億兆]+(?:\d[\d,.]*[千万億兆]*)*)"
    r"|(?:(?<![A-Za-z_\d])|(?<=\bv)(?=\d+\.))(?<!\d[.,])(?P<digits>\d+(?:[.,]\d+)*)"
    r"(?:[ -]?(?P<scale>hundred|thousand|million|billion|trillion|mn|bn|k|m|b)\b)?(?P<month>月)?"
    rf"|\b(?P<words>(?:{_NUMBER_WORD})(?:(?:[ -]|,? and )(?:{_NUMBER_WORD}))*)\b",
    re.IGNORECASE,
)
_DIGIT, _LATIN, _SPELLED = re.compile(r"\d"), re.compile("[a-z]+"), frozenset((*_WORDS, *_SCALES))
_NAMED_MONTH = re.compile(rf"\b(?P<name>{_MONTH})\b\.?(?P<digit>,? ?\d)?")
_ABOUT = re.compile(
    r"(?:\b(?:about|roughly|approximately|approx\.|around|nearly|almost|some|circa|ca?\.|close to|just over|just under"
    r"|over|under|more than|less than|at least|up to|etwa|rund|ungefähr|environ)|[~≈]|約|およそ|ほぼ)"
    r"(?: an?)? ?[$€£¥]?$",
    re.IGNORECASE,
)
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_DOTTED = re.compile(r"\d{1,3}(?:\.\d{3})+(?:,\d+)?")
_DECIMAL_COMMA = re.compile(r"\d+,\d{1,2}")
_HEADED = re.compile(r"\b(?:in|dollars?|amounts?)? ?(thousand|million|billion)s\b|(百万|千)円", re.IGNORECASE)
_NARROW_SPACE = re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3})")
_APOSTROPHE = re.compile(r"(?<=\d)['’](?=\d{3}(?!\d))")
# Groups of three behind plain spaces are one number where a unit or word follows. Behind a name or a word that counts
# they may be two, as in "Apollo 11 300 kg" and "page 12 500 men".
_SPACED = re.compile(
    r"(?<![\w.,:/-])(?<!\d )[1-9]\d{0,2}(?: \d{3})+(?![\d.,]?\d)(?= ?(?:[^\W\d]|[%$€£¥]))"
    r"|(?<=[$€£¥])[1-9]\d{0,2}(?: \d{3})+(?![\d]| \d)"
)
_COUNTS = re.compile(
    r"(?:(?!(?:The|A|About|Some|Over|Nearly|Almost|In|Of|With|Around|Roughly)\b)\b[A-Z]\w*|\b(?:number|no|page|pages|table"
    r"|figure|chapter|section|part|article|line|row|item|step|day|week|month|year|version|class|grade|level|phase|type"
    r"|room|group))\.? ?$"
)
_VERSION = re.compile(r"(?:\b(?:version|release|ver\.?|v\.?)|バージョン) ?$", re.IGNORECASE)
_NAME_BEFORE = re.compile(r"(?<![\w-])([A-Z][A-Za-z]*)([ -])$")
_FREE_BEFORE = frozenset(_list("mid pre post late early since non circa inter sub over under around us fy q"))
_I = str.maketrans("\u0130\u0131", "Ii")  # patterns that ignore case take these for an i


def normalised(text: str) -> str:
    """The text as `quantities` counts its characters: full-width forms made plain, a comma between groups of three."""
    commas = _APOSTROPHE.sub(",", _NARROW_SPACE.sub(",", text))
    return _SPACED.sub(_joined, unicodedata.normalize("NFKC", commas))


def quantities(text: str) -> list[Quantity]:
    """The numbers and months of a text in the order of their kinds; time is linear in it."""
    plain = normalised(text).translate(_I)
    return [*_numbers(plain), *_months(plain)]


def scales_of(text: str) -> frozenset[float]:
    """What the text's headings say its bare numbers are in: (in millions), Dollars in thousands, 単位：百万円."""
    found = _HEADED.findall(normalised(text).translate(_I))
    return frozenset(_SCALES[word.casefold()] if word else {"百万": 1e6, "千": 1e3}[sign] for word, sign in found)


def keys_of(numbers: Sequence[Quantity], scales: frozenset[float] = frozenset()) -> frozenset[str]:
    """Every key that these numbers may stand for, with what a table's headings scale them to."""
    keys = {key for number in numbers for key in number.keys}
    bare = [number.value for number in numbers if number.bare and number.value is not None]
    return frozenset(keys | {_key(value * scale) for value in bare for scale in scales})


def stands(number: Quantity, keys: frozenset[str], others: Sequence[Quantity] = ()) -> bool:
    """Whether a number is among the keys; one that is said to be about may be near one of the others."""
    if any(key in keys for key in number.keys) or number.other in keys:
        return True
    if not number.about or number.value is None or is_year(number):
        return False
    near = max(ROUNDED * abs(number.value), 0.5 * _last_digit(number.value))
    return any(other.value is not None and abs(other.value - number.value) <= near for other in others)


def _joined(match: re.Match[str]) -> str:
    """1 500 tonnes with a comma for its space, unless what stands before it may count with the first group."""
    counts = _COUNTS.search(match.string, max(0, match.start() - 20), match.start())
    return match[0] if counts else match[0].replace(" ", ",")


def _numbers(text: str) -> Iterator[Quantity]:
    if not _DIGIT.search(text) and _SPELLED.isdisjoint(_LATIN.findall(text.casefold())):
        return  # most sentences: a quick look in place of the long pattern
    before: re.Match[str] | None = None
    for match in _FOUND.finditer(text):
        about = bool(_ABOUT.search(text, max(0, match.start() - 20), match.start()))
        if match["iso"]:
            yield from _iso(match)
        elif match["spaceless"]:
            yield _one(_spaceless(match["spaceless"]), match, about)
        elif match["words"]:
            yield from _spelled(match, about)
        elif match["month"]:
            yield from _numbered_months(match) or [_digits(text, match, before, about)]
        else:
            yield _digits(text, match, before, about)
        before = match


def _numbered_months(match: re.Match[str]) -> list[Quantity]:
    """The months of 5月 and 1,2月 with the other numbers of 2019.5月; nothing where none of them is a month."""
    parts = [float(digits) for digits in re.split("[.,]", match["digits"])]
    if _GROUPED.fullmatch(match["digits"]) or not any(1 <= part <= 12 for part in parts):
        return []
    return [_month(int(part), match) if 1 <= part <= 12 else _one(part, match) for part in parts]


def _month(number: int, match: re.Match[str]) -> Quantity:
    return Quantity(keys=(f"month {number}",), value=None, start=match.start(), end=match.end())


def _iso(match: re.Match[str]) -> Iterator[Quantity]:
    year, month, day = map(int, match["iso"].split("-"))
    yield _one(year, match)
    yield _month(month, match)
    yield _one(day, match)


def _digits(text: str, match: re.Match[str], before: re.Match[str] | None, about: bool) -> Quantity:
    """A number in digits with its scale."""
    written = match["digits"]
    readings = _readings(written)
    end = match.end("digits")
    if not readings or ("." in written and _VERSION.search(text, max(0, match.start() - 10), match.start())):
        return Quantity(keys=(written,), value=None, start=match.start(), end=end)
    scale = _scale(text, match)
    name = _name_before(text, match)
    named = f"{name[0]}-{written}" if name else None
    if name and named and name[1] == "-" and scale == 1:
        return Quantity(keys=(named,), value=None, other=_key(readings[0]), start=match.start(), end=end)
    values = [reading * scale for reading in readings]
    if before is not None and (year := _second_year(text, before, match)):
        values.append(year)
    keys = tuple(dict.fromkeys(map(_key, values)))
    end = end if scale == 1 else match.end()
    return Quantity(keys=keys, value=values[0], about=about, start=match.start(), end=end, bare=scale == 1, other=named)


def _name_before(text: str, match: re.Match[str]) -> tuple[str, str] | None:
    """covid and - for the 19 of COVID-19; nothing before years (Euro-2016) and behind what is no name (Mid-19th)."""
    before = _NAME_BEFORE.search(text, max(0, match.start() - 20), match.start())
    if before is None or len(match["digits"]) == 4:
        return None
    name = before[1].casefold()
    is_free = name in _FREE_BEFORE or any(month.startswith(name) for month in _MONTHS)
    return None if is_free else (name, before[2])


def _readings(written: str) -> list[float]:
    """What the digits may mean; nothing for version numbers and the like."""
    if _GROUPED.fullmatch(written):
        return [float(written.replace(",", ""))]
    if _DOTTED.fullmatch(written):
        dotted = float(written.replace(".", "").replace(",", "."))
        return [float(written), dotted] if written.count(".") == 1 and "," not in written else [dotted]
    if _DECIMAL_COMMA.fullmatch(written):
        return [float(written.replace(",", "."))]
    try:
        return [float(written.replace(",", ""))] if written.count(".") <= 1 else []
    except ValueError:  # digits of a script that float does not read
        return []


def _scale(text: str, match: re.Match[str]) -> float:
    """The factor behind the digits. A lone m or b is one only behind an amount of money: 5 m is a length."""
    word = (match["scale"] or "").casefold()
    if word in ("m", "b") and text[max(0, match.start() - 1) : match.start()] not in tuple("$€£¥"):
        return 1
    return _SCALES.get(word) or _SHORT_SCALES.get(word) or 1


def _second_year(text: str, before: re.Match[str], match: re.Match[str]) -> float | None:
    """1974 for the 74 of 1973-74."""
    between = text[before.end() : match.start()]
    if between in ("-", "–", "/") and len(before[0]) == 4 and before[0].isdecimal() and len(match["digits"]) == 2:
        return float(before[0][:2] + match["digits"])
    return None


def _spaceless(written: str) -> float:
    """The value of 1億2千万."""
    parts = re.findall(r"(\d+(?:[,.]\d+)?)[,.]?([千万億兆]*)", written)
    return sum(
        float(digits.replace(",", "")) * prod(_SPACELESS_SCALES[one] for one in scales) for digits, scales in parts
    )


def _spelled(match: re.Match[str], about: bool) -> Iterator[Quantity]:
    """Numbers in words: twenty-five, one hundred and ten, nineteenth."""
    words = [word for word in re.findall(r"[a-z]+", match["words"].casefold()) if word != "and"]
    for group in _groups(words):
        value = _worth(group)
        firm = value > _COUNTED and not (len(group) == 1 and group[0] in _SCALES)
        yield Quantity(keys=(_key(value),), value=value, about=about, firm=firm, start=match.start(), end=match.end())


def _groups(words: Sequence[str]) -> list[list[str]]:
    """The words cut where a new number begins: two, three; nineteen, ninety."""
    groups: list[list[str]] = []
    for word in words:
        joins = bool(groups) and (
            word in _SCALES or groups[-1][-1] in _SCALES or (groups[-1][-1] in _TENS and 0 < _WORDS[word] < 10)
        )
        groups[-1].append(word) if joins else groups.append([word])
    return groups


def _worth(words: Sequence[str]) -> float:
    total = part = 0.0
    for word in words:
        if word == "hundred":
            part = (part or 1.0) * 100  # a float: too many make it infinite, not too large
        elif word in _SCALES:
            total, part = total + (part or 1.0) * _SCALES[word], 0.0
        else:
            part += _WORDS[word]
    return total + part


def _months(text: str) -> Iterator[Quantity]:
    """Named months; May and March only beside a number, because they are other words too."""
    for match in _NAMED_MONTH.finditer(text):
        beside = match["digit"] or text[max(0, match.start() - 3) : match.start()].strip()[-1:].isdigit()
        if match["name"] in ("May", "March", "Mar") and not beside:
            continue
        number = next(at for at, name in enumerate(_MONTHS, 1) if name.startswith(match["name"].casefold()[:3]))
        yield _month(number, match)


def _one(value: float, match: re.Match[str], about: bool = False) -> Quantity:
    return Quantity(keys=(_key(value),), value=float(value), about=about, start=match.start(), end=match.end())


def _key(value: float) -> str:
    return f"{value:.10g}"


def is_year(number: Quantity) -> bool:
    """Whether a number may be a year: it is whole and from 1000 to 2100."""
    return number.bare and number.value is not None and number.value.is_integer() and 1000 <= number.value <= 2100


def _last_digit(value: float) -> float:
    """The worth of the last digit that is not nought: 100 for 1,200."""
    digits = f"{abs(value):.10g}"
    if "e" in digits or not value:
        return 0.0
    if "." in digits:
        return float(10.0 ** -len(digits.partition(".")[2]))
    return float(10.0 ** (len(digits) - len(digits.rstrip("0"))))
