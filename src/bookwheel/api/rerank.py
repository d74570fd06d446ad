"""/v2/rerank: texts in the order in which they answer a query, in Cohere's shape."""

from typing import Any
from uuid import uuid4

from starlette.responses import Response

from bookwheel.api.bodies import RerankCreate
from bookwheel.api.embeddings import TheTurn, counted
from bookwheel.api.models import RERANKER
from bookwheel.api.wiring import JSON, ThePorts, router
from bookwheel.errors import NotFoundError

routes = router("rerank")


@routes.post("/v2/rerank")
async def rerank(body: RerankCreate, ports: ThePorts, turn: TheTurn) -> Response:
    """The documents with their relevance, best first; equal ones in their order."""
    known = (RERANKER, ports.reranker.model)
    if body.model not in known:
        raise NotFoundError(f"No reranker {body.model[:80]!r}. Use {' or '.join(dict.fromkeys(known))}.", param="model")
    texts = body.texts()
    await counted(texts, ports.embedders[ports.space.id], param="documents")
    async with turn:
        scores = await ports.reranker.rerank(body.query, texts)
    best = sorted(range(len(texts)), key=lambda index: -scores[index])[: body.top_n]
    results: list[dict[str, Any]] = [{"index": index, "relevance_score": scores[index]} for index in best]
    if body.return_documents:
        for result in results:
            result["document"] = {"text": texts[result["index"]]}
    meta = {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}
    return JSON({"id": str(uuid4()), "results": results, "meta": meta, "model": ports.reranker.model})
