"""What a sentence of an answer claims: its plain words, or nothing where it opens, asks, or says it found nothing."""

import re

from bookwheel.sentences import NOTE, words
from bookwheel.terms import in_order

_NOTES = re.compile(rf"\s*{NOTE}")
_LEAD = re.compile(r"^(?:[ \t]*(?:>|[-*+•][ \t]|\(?\d{1,3}[.)][ \t](?=\S)))*[ \t]*")
_MARKUP = re.compile(r"[*_`]{1,3}(?=\S)|(?<=\S)[*_`]{1,3}")
_HEADING = re.compile(r"^[ \t>]*#{1,6}[ \t]|^\s*\*\*[^*]+\*\*:?\s*$")
_NOTHING = re.compile(
    r"^(?:sorry\b|unfortunately, (?:i|we|the|there)\b|i(?:'|’)m sorry|not found in (?:these|the)\b"
    r"|(?:i|we) (?:could not|couldn[’']t|cannot|can[’']t|was unable|were unable|am unable|am not able|do not|don[’']t)"
    r" (?:find|see|know|have|tell|determine|answer|locate|say)\b"
    r"|there is no (?:information|mention|answer)\b|no (?:information|mention|answer)\b"
    r"|(?:the|these|none of the|your|this) (?:(?:provided|given|retrieved|available|above) )?"
    r"(?:documents?|passages?|sources?|context|texts?|excerpts?)(?: provided)? (?:do|does|did|say|says|mention)"
    r"(?: not|n[’']t| nothing)\b"
    r"|(?:hello|hi|hey|sure|certainly|of course|great question|thanks|thank you|yes|no|okay)\b[^.!]{0,30}[.!,]*$"
    r"|(?:i hope|let me know|please let|feel free|if you (?:have|need|want|would like)|would you like)\b"
    r"|here(?:'s|’s| is| are) (?:what|the|a|an|some)\b.{0,80}:$|(?:申し訳|すみません))",
    re.IGNORECASE,
)
_SPACELESS_NOTHING = re.compile(
    r"(?:見つかりません|記載(?:されて|が?)(?:い)?(?:ません|ない|ありません)|わかりません|分かりません|情報は?が?ありません"
    r"|以下の(?:通り|とおり)(?:です|である)?[。：:]?$|书中没有|没有提到|未提及)"
)


def plain(sentence: str) -> str:
    """The sentence in one line without [n] markers, list marks and emphasis."""
    line = " ".join(_NOTES.sub("", sentence).split())
    return _MARKUP.sub("", _LEAD.sub("", line)).strip()


def claims(sentence: str) -> bool:
    """Whether the sentence says something that a passage must support."""
    if _HEADING.match(sentence):
        return False
    text = plain(sentence)
    if not words(text) or text.endswith(("?", "？")):
        return False
    has_number = any(letter.isdigit() for letter in text)
    if text.endswith((":", "：")) and not has_number:
        return False
    if _NOTHING.match(text) or _SPACELESS_NOTHING.search(text):
        return False
    return has_number or bool(in_order(text))
