"""How much may be said: a question is embedded, and all of a conversation is counted, while others wait."""

from collections.abc import Sequence
from typing import TypedDict

from bookwheel.errors import InvalidRequestError

MAX_QUESTION = 8_192  #: characters, as of a search
MAX_SAID = 200_000  #: characters of a request, and of the turns before it


INSTRUCTING = frozenset({"system", "developer"})


class Message(TypedDict):
    """One turn of a conversation."""

    role: str
    content: str


def asked(said: Sequence[Message], *, param: str) -> tuple[str, Sequence[Message]]:
    """The question, which is the last user message, and what was said before it. Raises InvalidRequestError."""
    last = next((at for at in range(len(said) - 1, -1, -1) if said[at]["role"] == "user"), None)
    if last is None or not (question := said[last]["content"].strip()):
        raise InvalidRequestError(f"{param} needs a user message with text: the question.", param=param)
    return question, said[:last]


def told_and_said(messages: Sequence[Message]) -> tuple[str, Sequence[Message]]:
    """What instructs the model, joined, and the turns of the conversation."""
    told = [message["content"] for message in messages if message["role"] in INSTRUCTING]
    return "\n\n".join(told), [message for message in messages if message["role"] not in INSTRUCTING]


def check_length(question: str, others: Sequence[str], *, param: str) -> None:
    """Raises InvalidRequestError when a request says too much."""
    if len(question) > MAX_QUESTION:
        raise InvalidRequestError(
            f"The question, which is the last user message, has more than {MAX_QUESTION:,} characters. Shorten it, or"
            " add the text to a store and ask about it.",
            param=param,
        )
    if len(question) + sum(map(len, others)) > MAX_SAID:
        raise InvalidRequestError(
            f"The conversation has more than {MAX_SAID:,} characters. Leave earlier turns out.", param=param
        )


def recent(messages: Sequence[Message]) -> Sequence[Message]:
    """The newest messages that fit."""
    said = 0
    for kept, message in enumerate(reversed(messages)):
        said += len(message["content"])
        if said > MAX_SAID:
            return messages[len(messages) - kept :]
    return messages
