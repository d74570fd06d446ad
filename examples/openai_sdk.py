"""OpenAI's own client against Bookwheel: a file in, hits and a cited answer out.

uv run bookwheel up
uv run python examples/openai_sdk.py            # --url http://127.0.0.1:8000
"""

import sys

from openai import OpenAI

NOTE = b"""# The bridge at Arles

The bridge at Arles was finished in 1934. Its engineer was Marta Quill, who had built two bridges before.
"""


def main(url: str) -> None:
    """Upload, wait, search, ask."""
    client = OpenAI(base_url=f"{url}/v1", api_key="none")
    store = client.vector_stores.create(name="examples")
    client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=("bridge.md", NOTE))
    for hit in client.vector_stores.search(store.id, query="Who built the bridge?"):
        print(f"{hit.score:.2f} {hit.filename}: {hit.content[0].text[:60]!r}")
    answer = client.chat.completions.create(
        model=f"bookwheel/{store.id}", messages=[{"role": "user", "content": "Who was the engineer of the bridge?"}]
    )
    print(answer.choices[0].message.content)
    assert "Marta Quill" in (answer.choices[0].message.content or "")
    client.vector_stores.delete(store.id)


if __name__ == "__main__":
    main(sys.argv[2] if sys.argv[1:2] == ["--url"] else "http://127.0.0.1:8000")
