"""What texts share: content words by their stems, pairs of characters where no spaces are, numbers by their value."""

import re

from bookwheel.quantities import keys_of, quantities
from bookwheel.sentences import SPACELESS, words

_STEM = 6  # letters that must agree: enough for founded and founding


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


EMPTY = _set(
    "a an the of in on at to for from by with as and or but if is are was were be been being do does did done has have"
    " had what which who whom whose when where why how much that this these those it its their his her he she they him"
    " them there can could would should will may might about into than then also s t i you we me my your our us so such"
    " up out while both each other any some all more most very just only own same it's one first"
    " about roughly approximately nearly almost around circa"
    " not no nor never without neither none cannot"  # polarity.py is about these
)
# Forms of verbs that no stem brings together.
_VERBS = (
    "begin began begun,build built,write wrote written,win won,lose lost,rise rose risen,fall fell fallen,grow grew"
    " grown,lead led,hold held,sell sold,buy bought,make made,take took taken,give gave given,find found,leave left,"
    "become became,know knew known,speak spoke spoken,choose chose chosen,drive drove driven,bring brought,teach taught"
    ",fight fought,think thought,keep kept,lie lay,meet met,pay paid,run ran"
    ",say said,see saw seen,send sent,spend spent,stand stood,strike struck"
    ",tell told,wear wore worn,break broke broken,come came,go went gone,get got,feel felt"
    ",draw drew drawn,die died dying,use used using,call called"
)
_FORMS = {form: group.split()[0] for group in _VERBS.split(",") for form in group.split()}
_NUMBER_WORDS = _set(
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen"
    " nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion trillion percent"
)
_SPACELESS = re.compile(rf"[{SPACELESS}]")
_HIRAGANA = re.compile(r"[\u3041-\u309f]")


def terms(text: str) -> frozenset[str]:
    """The text's content: stems, pairs of characters that do not begin with hiragana, and "#" before each number."""
    numbers = frozenset(f"#{key}" for key in keys_of([one for one in quantities(text) if one.firm]))
    return frozenset(term for term, _, _ in in_order(text)) | numbers


def in_order(text: str) -> list[tuple[str, int, int]]:
    """The content words as they stand, with their spans; numbers are not among them."""
    found, before = list[tuple[str, int, int]](), ("", -1)
    for word, start, end in words(text):
        if _SPACELESS.match(word):
            if before[1] == start and not _HIRAGANA.match(before[0]):
                found.append((before[0] + word, start - 1, end))
            before = (word, end)
        elif word not in EMPTY and word not in _NUMBER_WORDS and not word[0].isdigit():
            found.append((stem(word), start, end))
    return found


def stem(word: str) -> str:
    """Enough of a casefolded word to find its other forms."""
    word = _FORMS.get(word, word)
    return word.removesuffix("s")[:_STEM] if len(word) > 3 else word
