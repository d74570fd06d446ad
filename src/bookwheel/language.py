"""Which language a text is in: its script first, English by its function words, the rest by a model loaded when needed.

The model (py3langid) costs 70 MB and half a second once, then 0.1 ms a text. So it is asked about documents, not about
chunks, and a library in English, Japanese or Chinese never loads it.
"""

import re
from functools import cache
from typing import Protocol

UNKNOWN = "und"

_PLACE = 300  # characters looked at in each of three places of a long text
_COUNTED = 256  # characters, evenly spread, whose scripts are counted
_MODEL_SAMPLE = 160  # characters the model reads: more costs in proportion and is hardly better
_MIN_CONFIDENCE = 0.5  # below, short texts come out as Aragonese
_SHARED = {"in", "is", "was", "for", "as", "by", "are", "to", "of", "it", "be", "had"}  # other languages have them too
_OWN = {
    "the",
    "and",
    "that",
    "with",
    "from",
    "this",
    "which",
    "were",
    "have",
    "has",
    "not",
    "what",
    "who",
    "when",
    "how",
}
_ENGLISH = frozenset(_SHARED | _OWN | {"their", "its", "been", "his", "her", "they"})
_ENGLISH_SHARE = 0.18
_LETTERS = re.compile(r"[^\W\d_]+")
_SCRIPTS = {  # a script with one language of note has that language's code
    "ja": "\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f",
    "zh": "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",
    "ko": "\uac00-\ud7af\u1100-\u11ff\u3130-\u318f",
    "th": "\u0e00-\u0e7f",
    "lo": "\u0e80-\u0eff",
    "km": "\u1780-\u17ff",
    "my": "\u1000-\u109f",
    "el": "\u0370-\u03ff\u1f00-\u1fff",
    "he": "\u0590-\u05ff",
    "hy": "\u0530-\u058f",
    "ka": "\u10a0-\u10ff",
    "ta": "\u0b80-\u0bff",
    "Cyrillic": "\u0400-\u052f",
    "Arabic": "\u0600-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufeff",
    "Devanagari": "\u0900-\u097f",
    "Latin": "A-Za-z\u00c0-\u024f\u1e00-\u1eff",
}
_COUNTERS = {name: re.compile(f"[{characters}]+") for name, characters in _SCRIPTS.items()}
_MIN_KANA = 0.05  # of kana and Han together: Japanese has far more, Chinese none
_SCRIPT_OF = {
    **dict.fromkeys(("ru", "uk", "bg", "be", "mk", "sr", "kk", "ky", "mn", "tg", "tt", "ba"), "Cyrillic"),
    **dict.fromkeys(("ar", "fa", "ur", "ps", "ug"), "Arabic"),
    **dict.fromkeys(("hi", "mr", "ne", "sa"), "Devanagari"),
    **{name: name for name in _SCRIPTS if name.islower()},
}
_FAMILIES = {"nn": "no", "nb": "no", "wuu": "zh", "yue": "zh", "arz": "ar", "ary": "ar"}


class _Model(Protocol):
    def classify(self, text: str) -> tuple[str, float]:
        """The likeliest language and how likely it is, 0 to 1."""
        ...


def detect(text: str) -> str:
    """The ISO 639-1 code of the text's main language, or "und"."""
    sample = _sample(text)
    main = script(sample)
    if main.islower():
        return main
    if main == "Latin" and _is_english(sample):
        return "en"
    return _ask_model(sample) if _LETTERS.search(sample) else UNKNOWN


def of_part(text: str, whole: str) -> str:
    """The language of a part of a document in the language `whole`: that, unless the part is in another script."""
    main = script(text)
    if not main or main == _SCRIPT_OF.get(whole, "Latin") or (main == "zh" and whole == "ja"):
        return whole
    return detect(text)


def script(text: str) -> str:
    """The main script: a language's code where it has one language, else its name; "" without letters we know."""
    text = text[:: 1 + len(text) // _COUNTED]
    if text.isascii():
        return "Latin" if _COUNTERS["Latin"].search(text) else ""
    counts = {name: sum(map(len, counter.findall(text))) for name, counter in _COUNTERS.items()}
    kana, han = counts["ja"], counts["zh"]
    if kana and kana >= _MIN_KANA * (kana + han):
        counts["ja"] += han
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] else ""


def _sample(text: str) -> str:
    """A short text itself; of a long one its beginning, middle and end, for title pages mislead."""
    if len(text) <= 3 * _PLACE:
        return text
    middle = len(text) // 2
    return f"{text[:_PLACE]} {text[middle : middle + _PLACE]} {text[-_PLACE:]}"


def _is_english(sample: str) -> bool:
    words = _LETTERS.findall(sample.lower())
    known = [word for word in words if word in _ENGLISH]
    return len(set(known) - _SHARED) >= 2 and len(known) >= _ENGLISH_SHARE * len(words)


def _ask_model(sample: str) -> str:
    start = max(0, (len(sample) - _MODEL_SAMPLE) // 2)
    for part in (sample[start : start + _MODEL_SAMPLE], sample):  # all of it only when a part, full of names, misleads
        found, confidence = _model().classify(part)
        language = _FAMILIES.get(found, found)
        if confidence >= _MIN_CONFIDENCE and len(language) == 2:
            return language
    return UNKNOWN


@cache
def _model() -> _Model:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    model: _Model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)  # type: ignore[no-untyped-call]
    return model
