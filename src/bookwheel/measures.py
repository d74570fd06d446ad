"""Numbers with what they measure: 5 mg is not 5 g, 20 dollars are not 20 euros, 2 % not 2 percentage points, -5 not 5.

Only a unit of the table below that stands directly at its number is one. Where a text names none nothing is compared.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bookwheel.quantities import Quantity, normalised, quantities

_NAMES = (
    "mg milligram milligrams/g gram grams/kg kilogram kilograms kilo kilos/t ton tons tonne tonnes"
    "/µg μg microgram micrograms/oz ounce ounces/lb lbs"
    "/mm millimetre millimetres millimeter millimeters ミリメートル/cm centimetre centimetres centimeter centimeters"
    " センチメートル センチ/m metre metres meter meters メートル/km kilometre kilometres kilometer kilometers"
    " キロメートル/mi mile miles/ft foot feet/inch inches/yd yard yards"
    "/ml millilitre millilitres milliliter milliliters/l litre litres liter liters/gallon gallons"
    "/ha hectare hectares/acre acres/kw kilowatt kilowatts/mw megawatt megawatts/gw gigawatt gigawatts"
    "/kb kilobyte kilobytes/mb megabyte megabytes/gb gigabyte gigabytes/tb terabyte terabytes"
    "/second seconds sec 秒/minute minutes min 分間/hour hours h 時間/day days 日間/week weeks 週間"
    "/month months か月 ヶ月/year years yr yrs 年間/°c celsius/°f fahrenheit"
    "/% percent パーセント/pp ポイント/$ usd dollar dollars ドル/€ eur euro euros ユーロ/£ gbp/¥ yen jpy 円"
)
_UNITS = {name: names.split()[0] for names in _NAMES.split("/") for name in names.split()}
_LATIN = "|".join(
    re.escape(name) for name in sorted(_UNITS, key=len, reverse=True) if name[-1].isascii() and name != "$"
)
_OTHER = "|".join(name for name in sorted(_UNITS, key=len, reverse=True) if not name[-1].isascii())
_BEHIND = re.compile(
    rf"[ -]?(?:(?P<points>(?:%|percent(?:age)?|per cent)[ -]points?\b)|(?P<percent>per ?cent\b)"
    rf"|(?:U\.?S\.? )?(?P<unit>(?:{_LATIN})(?![^\W\d_])|\$|{_OTHER}))",
    re.IGNORECASE,
)
_MONEY = re.compile(r"[$€£¥]$")
_MINUS = re.compile(r"(?:^|[\s(|])(?:[-−]|minus )[$€£¥]?$", re.IGNORECASE)
_FEWER = re.compile(
    r"\b(?:loss|lost|lose|fell|fall|declin|decreas|drop|down\b|negative|minus|below|lower|deficit|less|shrank|reduc"
    r"|outflow|used in|expense|cut)|損|減|赤字|マイナス|氷点下|下落|低下",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measure:
    """A number with its unit and sign."""

    number: Quantity
    unit: str | None
    negative: bool


def mismatched(claim: str, sources: Sequence[str]) -> bool:
    """Whether a number of the claim stands in the sources only with another unit or sign."""
    own = _measures(claim)
    if not own:
        return False
    theirs = [one for source in sources for one in _measures(source)]
    words_turn = any(_FEWER.search(text) or "|" in text for text in (claim, *sources))
    return any(_differs(one, theirs, signs=not words_turn) for one in own)


def _differs(own: _Measure, theirs: Sequence[_Measure], *, signs: bool) -> bool:
    same = [one for one in theirs if set(one.number.keys) & set(own.number.keys)]
    if not same:
        return False
    other_unit = own.unit is not None and all(one.unit not in (None, own.unit) for one in same)
    return other_unit or (signs and all(one.negative != own.negative for one in same))


def _measures(text: str) -> list[_Measure]:
    if not any(letter.isdigit() for letter in text):
        return []
    plain = normalised(text)
    found = [number for number in quantities(text) if number.value is not None and number.firm]
    return [_measure(plain, number) for number in found]


def _measure(plain: str, number: Quantity) -> _Measure:
    before = plain[max(0, number.start - 8) : number.start]
    return _Measure(number=number, unit=_unit(plain, number, before), negative=bool(_MINUS.search(before)))


def _unit(plain: str, number: Quantity, before: str) -> str | None:
    if money := _MONEY.search(before):
        return money[0]
    match = _BEHIND.match(plain, number.end)
    if match is None:
        return None
    if match["points"]:
        return "pp"
    return "%" if match["percent"] else _UNITS.get(match["unit"].casefold())
