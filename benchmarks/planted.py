"""Sentences made of passages, true and false: what benchmarks/grounding.py judges the check by.

Every edit takes a sentence that stands in a passage, a source of chance and the material around it, and returns the
edited sentence, or None where the sentence has nothing to edit in that way.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

JAPANESE = re.compile(r"[\u3040-\u30ff]")
NUMBER = re.compile(r"(?<![\w.,])\d[\d,]*(?:\.\d+)?(?![\w,]*\d)")
YEAR = re.compile(r"(?<![\d,.])(?:1[0-9]|20)\d\d(?![\d,.]\d)(?!\d)")
NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]+(?: [A-Z][a-z]+)*")
JAPANESE_NAME = re.compile(r"[\u30a1-\u30fa\u30fc]{3,}|[\u4e00-\u9fff]{2,5}(?=[はがのをに、])")
PRONOUN = re.compile(r"^(?:It|He|She|They)\b")


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _table(text: str) -> dict[str, str]:
    return dict(pair.split("=") for pair in text.split())


NOT_NAMES = _set(
    "January February March April May June July August September October November December Monday Tuesday Wednesday"
    " Thursday Friday Saturday Sunday The This There These It He She They In"
)
SYNONYMS = _table(
    "big=large large=big also=additionally many=numerous several=some began=started started=began used=employed"
    " built=constructed constructed=built important=significant became=turned,into show=demonstrate"
    " shows=demonstrates made=created created=made near=close,to received=got however=but main=principal"
    " people=persons often=frequently usually=typically because=since although=though found=discovered"
    " located=situated known=recognised while=whereas primarily=mainly mainly=primarily various=different"
    " approximately=about about=approximately such=like help=assist allowed=permitted required=needed"
    " included=contained includes=contains including=among,them said=stated called=termed refers=relates"
    " major=chief famous=well-known died=passed,away entire=whole region=area area=region city=town"
    " common=widespread further=additional provided=supplied provides=supplies established=set,up"
    " despite=in,spite,of during=in,the,course,of developed=evolved"
)
JAPANESE_SYNONYMS = {
    "である。": "です。", "した。": "しました。", "している。": "しています。", "された。": "されました。",
    "ており": "ていて", "また、": "さらに", "しかし、": "だが", "など": "等", "ため、": "ので、",
    "使用": "利用", "最も": "一番", "現在": "今", "重要": "大切",
    "行われ": "実施され", "呼ばれ": "称され", "開始": "始動",
    "多く": "たくさん", "場所": "所", "大きな": "巨大な", "作られ": "製作され",
}  # fmt: skip
INVENTED = (
    "which was painted bright green by local volunteers",
    "a fact that surprised visiting engineers from abroad",
    "and its roof is covered with copper tiles",
    "largely thanks to a generous donation of an anonymous baker",
    "after a long quarrel over the colour of the uniforms",
    "and a small museum sells handmade chocolate there",
    "which weekly newspapers mocked in several cartoons",
    "mostly because of cheap imported glass bottles",
)
JAPANESE_INVENTED = (
    "地元の画家が緑色に塗り替えた",
    "屋根は銅板で覆われている",
    "外国の技師たちを驚かせた",
    "小さな売店で菓子が売られている",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What an edit may draw on."""

    chance: random.Random
    title: str
    next_sentence: str | None  #: of the same passage
    donors: Sequence[str]  #: texts of other passages, for names
    stranger: str | None  #: a sentence of a passage that is not among the hits


Edit = Callable[[str, Around], str | None]


def is_japanese(text: str) -> bool:
    """Whether there are kana in it."""
    return bool(JAPANESE.search(text))


def verbatim(sentence: str, _around: Around) -> str | None:
    """As it stands."""
    return sentence


def dropped(sentence: str, _around: Around) -> str | None:
    """Without what stands in brackets, between commas or behind the last comma."""
    if is_japanese(sentence):
        clauses = sentence.split("、")
        return "、".join(clauses[1:]) if len(clauses) >= 3 else None
    shorter = re.sub(r" \([^()]*\)|, which [^,]+(?=,)", "", sentence, count=1)
    if shorter == sentence and sentence.count(",") == 1:
        shorter = re.sub(r", [^,]*(?=[.]$)", "", sentence)
    return shorter if shorter != sentence and len(shorter.split()) >= 6 else None


def reordered(sentence: str, _around: Around) -> str | None:
    """The first clause moved to the end."""
    if is_japanese(sentence):
        clauses = sentence.rstrip("。").split("、")
        return f"{'、'.join(clauses[1:-1] + clauses[:1] + clauses[-1:])}。" if len(clauses) >= 3 else None
    match = re.fullmatch(
        r"((?:In|On|By|During|After|At|With|For|From|As|When|Although|Since) [^,]{3,80}), ([^;:]+)\.", sentence
    )
    if match is None:
        return None
    rest = match[2]
    return f"{rest[0].upper()}{rest[1:]} {match[1][0].lower()}{match[1][1:]}."


def reworded(sentence: str, _around: Around) -> str | None:
    """With up to three words of the same meaning."""
    edited, done = sentence, 0
    table = JAPANESE_SYNONYMS if is_japanese(sentence) else SYNONYMS
    for word, other in table.items():
        pattern = re.escape(word) if is_japanese(sentence) else rf"(?<= ){word}\b"
        edited, count = re.subn(pattern, other.replace(",", " "), edited, count=1)
        done += count
        if done == 3:
            break
    return edited if done else None


def named(sentence: str, around: Around) -> str | None:
    """The name in place of the pronoun that it begins with."""
    return PRONOUN.sub(around.title, sentence) if PRONOUN.match(sentence) and around.title else None


def merged(sentence: str, around: Around) -> str | None:
    """One sentence of two."""
    if not around.next_sentence:
        return None
    if is_japanese(sentence):
        return f"{sentence.rstrip('。')}、また{around.next_sentence}"
    following = around.next_sentence
    if following.split()[0] in ("The", "It", "This", "These", "He", "She", "They", "In", "A", "However"):
        following = following[0].lower() + following[1:]
    return f"{sentence.rstrip('.')}, and {following}"


def stranger(_sentence: str, around: Around) -> str | None:
    """A sentence of a passage that is not there."""
    return around.stranger


def invented(sentence: str, around: Around) -> str | None:
    """With something added that nobody said."""
    if is_japanese(sentence):
        return f"{sentence.rstrip('。')}、{around.chance.choice(JAPANESE_INVENTED)}。"
    return f"{sentence.rstrip('.')}, {around.chance.choice(INVENTED)}."


def wrong_year(sentence: str, around: Around) -> str | None:
    """A year a little off."""
    found = list(YEAR.finditer(sentence))
    if not found:
        return None
    match = around.chance.choice(found)
    year = int(match[0]) + around.chance.choice((-10, -3, -2, -1, 1, 2, 3, 10))
    return sentence[: match.start()] + str(year) + sentence[match.end() :]


def wrong_digits(sentence: str, around: Around) -> str | None:
    """A number with two digits swapped, or one changed."""
    found = [match for match in NUMBER.finditer(sentence) if not YEAR.fullmatch(match[0])]
    if not found:
        return None
    match = around.chance.choice(found)
    digits = [at for at, letter in enumerate(match[0]) if letter.isdigit()]
    letters = list(match[0])
    if len(digits) >= 2 and letters[digits[0]] != letters[digits[1]] and letters[digits[1]] != "0":
        letters[digits[0]], letters[digits[1]] = letters[digits[1]], letters[digits[0]]
    else:
        letters[digits[0]] = str(int(letters[digits[0]]) % 9 + 1)
    return sentence[: match.start()] + "".join(letters) + sentence[match.end() :]


def wrong_scale(sentence: str, _around: Around) -> str | None:
    """Billions for millions."""
    for one, other in (("million", "billion"), ("billion", "million"), ("thousand", "million"), ("億", "万")):
        pattern = rf"(?<=\d){one}" if one == "億" else rf"(?<=\d ){one}\b"
        edited = re.sub(pattern, other, sentence, count=1)
        if edited != sentence:
            return edited
    return None


def wrong_name(sentence: str, around: Around) -> str | None:
    """A name of another passage of as many words, after the same kind of word where there is one."""
    pattern = JAPANESE_NAME if is_japanese(sentence) else NAME
    found = [match for match in pattern.finditer(sentence) if match[0] not in NOT_NAMES]
    if not found:
        return None
    match = around.chance.choice(found)
    kind = _kind(sentence, match)
    donors = [
        other[0]
        for text in around.donors
        for other in pattern.finditer(text)
        if _kind(text, other) == kind and other[0] not in NOT_NAMES and other[0] not in sentence
    ]
    donors = [donor for donor in donors if donor not in match[0] and match[0] not in donor]
    if not donors:
        return None
    return sentence[: match.start()] + around.chance.choice(donors) + sentence[match.end() :]


def _kind(text: str, match: re.Match[str]) -> tuple[object, ...]:
    """What names must share to be exchanged: words and the preposition before, or script and length."""
    if is_japanese(text):
        return ("katakana",) if "\u30a1" <= match[0][0] <= "\u30fc" else ("kanji", len(match[0]))
    before = text[: match.start()].split()[-1:]
    place = before[0] if before and before[0] in ("in", "at", "from", "by", "of", "to", "with") else ""
    return len(match[0].split()), place


JAPANESE_NEGATIONS = {
    "ではない。": "である。", "しなかった。": "した。", "である。": "ではない。", "した。": "しなかった。",
    "れた。": "れなかった。", "ている。": "ていない。", "だ。": "ではない。", "なった。": "ならなかった。",
}  # fmt: skip


def negated(sentence: str, _around: Around) -> str | None:
    """Denied, or no longer denied."""
    if is_japanese(sentence):
        for end, other in JAPANESE_NEGATIONS.items():
            if sentence.endswith(end):
                return sentence.removesuffix(end) + other
        return None
    if re.search(r" not (?!only)", sentence):
        return sentence.replace(" not ", " ", 1)
    edited = re.sub(
        r"\b(is|was|are|were|has been|have been|had|can|could|would|will|must)(?= [a-z])", r"\1 not", sentence, count=1
    )
    return edited if edited != sentence else None


TURNS = {
    "before": "after", "after": "before", "increased": "decreased", "decreased": "increased", "rose": "fell",
    "more than": "less than", "less than": "more than", "largest": "smallest", "highest": "lowest", "won": "lost",
    "northern": "southern", "southern": "northern", "higher": "lower", "lower": "higher", "increase": "decrease",
    "decrease": "increase", "north": "south", "south": "north", "east": "west", "west": "east", "above": "below",
}  # fmt: skip


def turned(sentence: str, _around: Around) -> str | None:
    """With its direction turned round."""
    for word, other in TURNS.items():
        edited = re.sub(rf"(?<= ){word}\b", other, sentence, count=1)
        if edited != sentence:
            return edited
    return None


def statement(question: str, answer: str) -> str | None:
    """A question and its answer as a statement, as far as word order can do it."""
    asked = question.strip().rstrip("?").strip()
    subject = re.fullmatch(
        r"(?:Who|What|Which \w+) ((?!do|is|was|are|were|has|have|had|can|did|does)[a-z]+(?:ed|s|t|e) .+)", asked
    )
    if subject:
        return f"{answer[0].upper()}{answer[1:]} {subject[1]}."
    being = re.fullmatch(r"(?:Who|What|Where|When) (is|was|are|were) (.+)", asked)
    if being:
        return f"{being[2][0].upper()}{being[2][1:]} {being[1]} {answer}."
    deed = re.fullmatch(
        r"(?:What|Where|When|How many \w+|In what (?:year|city|country)|Who) (?:did|does|do) (.+)", asked
    )
    return f"{deed[1][0].upper()}{deed[1][1:]}: {answer}." if deed else None


TRUE: dict[str, Edit] = {
    "verbatim": verbatim, "clause dropped": dropped, "order changed": reordered, "synonyms": reworded,
    "name for pronoun": named, "two merged": merged,
}  # fmt: skip
FALSE: dict[str, Edit] = {
    "not in the passages": stranger, "invented attribute": invented, "wrong year": wrong_year,
    "wrong digits": wrong_digits, "wrong scale": wrong_scale, "wrong name": wrong_name, "negated": negated,
    "direction turned": turned,
}  # fmt: skip
