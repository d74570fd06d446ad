"""Many small documents in one request: NDJSON lines in, one result a line out, upsert by your own ids.

uv run bookwheel up
uv run python examples/many_documents.py        # --url http://127.0.0.1:8000
"""

import sys

from bookwheel.client import Client

ARTICLES = [
    {"id": "a/1", "title": "Tides", "text": "Spring tides come at new and full moon.", "attributes": {"year": 2021}},
    {"id": "a/2", "title": "Comets", "text": "A comet's tail points away from the sun.", "attributes": {"year": 2024}},
]


def main(url: str) -> None:
    """Put, put again, search with a filter, delete."""
    with Client(url) as client:
        store = client.call("POST", "/v1/vector_stores", json={"name": "articles"})["id"]
        for result in client.put_documents(store, ARTICLES):
            print(result)
        client.wait(store)
        assert [result["status"] for result in client.put_documents(store, ARTICLES)] == ["unchanged", "unchanged"]
        page = client.search(store, "When is the sea highest?", filters={"year": {"$lt": 2024}})
        assert [hit["document"]["external_id"] for hit in page["data"]] == ["a/1"]
        client.delete_document(store, "a/1")
        assert client.search(store, "When is the sea highest?", filters={"year": {"$lt": 2024}})["data"] == []
        client.call("DELETE", f"/v1/vector_stores/{store}")


if __name__ == "__main__":
    main(sys.argv[2] if sys.argv[1:2] == ["--url"] else "http://127.0.0.1:8000")
