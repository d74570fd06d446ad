"""The same question twice: the second answer was kept, says so, and dies with the passage that it rests on.

uv run bookwheel up
uv run python examples/cached_answers.py        # --url http://127.0.0.1:8000
"""

import sys
from typing import Any

from bookwheel.client import Client

OPEN = {"id": "hours", "title": "The museum", "text": "The museum opens at nine in the morning on Sunday."}
LATER = {**OPEN, "text": "The museum opens at eleven in the morning on Sunday."}


def main(url: str) -> None:
    """Ask, ask again, in other words, without the cache; change the document, ask once more."""
    with Client(url) as client:
        store = client.call("POST", "/v1/vector_stores", json={"name": "museum"})["id"]

        def put(line: dict[str, str]) -> None:
            assert [result["status"] for result in client.put_documents(store, [line])] == ["in_progress"]
            client.wait(store)
            client.wait_for_keywords()  # nothing is kept before

        def ask(question: str, **headers: str) -> tuple[str, dict[str, Any] | None]:
            message = {"role": "user", "content": question}
            body = {"model": "bookwheel", "messages": [message], "vector_store_ids": [store]}
            answer = client.call("POST", "/v1/chat/completions", json=body, headers=headers)
            text, cache = answer["choices"][0]["message"]["content"], answer["bookwheel"]["cache"]
            print(question, text, cache["kind"] if cache else "anew", sep=" | ")
            return text, cache

        put(OPEN)
        first, cache = ask("When does the museum open on Sunday?")
        assert cache is None
        again, cache = ask("When does the museum open on Sunday?")
        assert again == first
        assert cache is not None
        assert cache["kind"] == "exact"
        again, cache = ask("Can you tell me when the museum opens on Sunday?")
        assert again == first
        assert cache is not None
        assert cache["kind"] == "semantic"
        assert ask("When does the museum close on Sunday?")[1] is None
        assert ask("When does the museum open on Sunday?", **{"Cache-Control": "no-cache"})[1] is None
        put(LATER)
        changed, cache = ask("When does the museum open on Sunday?")
        assert "eleven" in changed
        assert cache is None
        client.call("DELETE", f"/v1/vector_stores/{store}")


if __name__ == "__main__":
    main(sys.argv[2] if sys.argv[1:2] == ["--url"] else "http://127.0.0.1:8000")
