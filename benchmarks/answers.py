"""Extractive answers through the real API: how many contain a gold answer, and whether every citation is true.

    uv run python benchmarks/answers.py

SQuAD dev for the answers (three sentences at most), the 10-K filings of financebench_pdf and the HTML of debian_docs
for citations: every quote must stand verbatim in the cited document at the stated offsets, and on the stated page.
"""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bookwheel.client import Client
from bookwheel.parse import parse
from harness import DATA, Figure, ingest, load, read_lines, report, running

QUESTIONS = 500
PAGES = 150  # HTML files of debian_docs
FILINGS = 3


def normalised(text: str) -> str:
    """For comparison only: case folded, white space collapsed."""
    return " ".join(text.casefold().split())


def ask_all(client: Client, store_id: str, questions: Sequence[str]) -> list[dict[str, Any]]:
    """Completions for all questions, in order."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda question: client.ask(store_id, question), questions))


def gold_answers(client: Client) -> list[Figure]:
    """The share of answers of at most three sentences with a gold answer in them."""
    data = load("squad_dev", queries=QUESTIONS)
    store_id, _ = ingest(client, "squad_dev", data.corpus)
    completions = ask_all(client, store_id, [query["text"] for query in data.queries])
    good = too_long = abstained = 0
    for query, completion in zip(data.queries, completions, strict=True):
        answer = completion["choices"][0]["message"]
        too_long += len(answer["annotations"]) > 3
        abstained += not completion["bookwheel"]["supported"]
        quotes = [one["file_citation"]["quote"] for one in answer["annotations"]]
        good += any(normalised(gold) in normalised(quote) for gold in query["metadata"]["answers"] for quote in quotes)
    if too_long:
        raise SystemExit(f"{too_long} answers have more than three sentences")
    detail = f"{len(completions)} questions over {len(data.corpus)} passages; {abstained} abstained"
    return [
        Figure(
            name="extractive answers with a gold answer",
            value=100 * good / len(completions),
            bar=75,
            unit="%",
            detail=detail,
        )
    ]


def citation_truth(client: Client) -> list[Figure]:
    """The share of citations whose quote stands where they say, checked against the files read anew."""
    store_id = client.call("POST", "/v1/vector_stores", json={"name": "citations"})["id"]
    filings = sorted((DATA / "financebench_pdf" / "files").glob("*.pdf"))[:FILINGS]
    pages = [path for path in sorted((DATA / "debian_docs" / "files").rglob("*.html")) if path.is_file()][:PAGES]
    for path in [*filings, *pages]:
        client.add_file(store_id, path, external_id=str(path.relative_to(DATA)), filename=path.name)
    client.wait(store_id)
    questions = [one["text"] for one in read_lines(DATA / "financebench_pdf" / "queries.jsonl")]
    questions += [one["text"] for one in read_lines(DATA / "debian_docs" / "queries.jsonl")][:100]
    citations = [
        one["file_citation"]
        for completion in ask_all(client, store_id, questions)
        for one in completion["choices"][0]["message"]["annotations"]
    ]
    texts: dict[str, Any] = {}
    true = sum(stands(citation, texts) for citation in citations)
    paged = sum(citation["page"] is not None for citation in citations)
    detail = f"{len(citations)} citations ({paged} with pages) in {len(filings)} filings and {len(pages)} HTML files"
    return [
        Figure(
            name="citations that stand where they say",
            value=100 * true / len(citations),
            bar=100,
            unit="%",
            detail=detail,
        )
    ]


def stands(citation: dict[str, Any], texts: dict[str, Any]) -> bool:
    """Whether the quote is the text between its offsets, inside its page."""
    name = citation["external_id"]
    if name not in texts:
        texts[name] = parse(DATA / name, Path(name).name, ocr=False)
    parsed = texts[name]
    if parsed.text[citation["start"] : citation["end"]] != citation["quote"] or not re.search(r"\w", citation["quote"]):
        print(f"not verbatim: {citation}")
        return False
    page = next((page for page in parsed.pages if page.number == citation["page"]), None)
    inside = page is None or page.start <= citation["start"] < citation["end"] <= page.end
    if not inside or (parsed.pages and page is None):
        print(f"not on its page: {citation}")
        return False
    return True


def main() -> None:
    """Both figures on one server."""
    with running() as server, Client(server.url) as client:
        report("answers", gold_answers(client))
        report("answers", citation_truth(client))


if __name__ == "__main__":
    main()
