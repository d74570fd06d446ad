"""A LlamaIndex retriever over a running Bookwheel.

from bookwheel.integrations.llamaindex import BookwheelRetriever

retriever = BookwheelRetriever(url="http://127.0.0.1:8000", stores=["papers"], top_k=5)
nodes = retriever.retrieve("Which trials reported adverse events?")
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from bookwheel.client import Client

try:
    from llama_index.core.retrievers import BaseRetriever
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("LlamaIndex is missing. Install it with `pip install bookwheel[llamaindex]`.") from error


class BookwheelRetriever(BaseRetriever):
    """Passages as nodes with scores; in `metadata` the attributes and where the passage stands.

    Raises BookwheelErrors, as bookwheel.client does.
    """

    def __init__(
        self,
        *,
        url: str = "http://127.0.0.1:8000",
        stores: Sequence[str] = (),
        vector_store_ids: Sequence[str] = (),
        top_k: int = 10,
        filter: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Stores by names or ids, all where none is given. `options` go to LlamaIndex's BaseRetriever."""
        super().__init__(**options)
        self._url = url
        self._asked: dict[str, Any] = {
            "top_k": top_k,
            "filter": filter,
            "stores": stores,
            "vector_store_ids": vector_store_ids,
        }

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        with Client(self._url) as client:
            results = client.find(query_bundle.query_str, **self._asked)
        return [NodeWithScore(node=_node(found), score=found["score"]) for found in results]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)


def _node(found: Mapping[str, Any]) -> TextNode:
    document = found["document"]
    return TextNode(
        id_=f"{document['id']}:{document['start']}",
        text=found["text"],
        metadata={**document["attributes"], **document},
        start_char_idx=document["start"],
        end_char_idx=document["end"],
        excluded_embed_metadata_keys=list(document),
        excluded_llm_metadata_keys=[name for name in document if name not in ("title", "filename", "page")],
    )
