"""A LangChain retriever over a running Bookwheel.

from bookwheel.integrations.langchain import BookwheelRetriever

retriever = BookwheelRetriever(url="http://127.0.0.1:8000", stores=["papers"], top_k=5)
documents = retriever.invoke("Which trials reported adverse events?")
"""

from typing import Any

from bookwheel.client import Client

try:
    from langchain_core.callbacks import CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("LangChain is missing. Install it with `pip install bookwheel[langchain]`.") from error


class BookwheelRetriever(BaseRetriever):
    """Passages as documents: the text, and in `metadata` the score, the attributes and where the passage stands.

    Raises BookwheelErrors, as bookwheel.client does. Asynchronous calls run in LangChain's threads.
    """

    url: str = "http://127.0.0.1:8000"
    stores: tuple[str, ...] = ()  #: names; all stores where neither names nor ids are given
    vector_store_ids: tuple[str, ...] = ()
    top_k: int = 10
    filter: dict[str, Any] | None = None

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:  # noqa: ARG002
        with Client(self.url) as client:
            results = client.find(
                query,
                top_k=self.top_k,
                filter=self.filter,
                stores=self.stores,
                vector_store_ids=self.vector_store_ids,
            )
        return [
            Document(
                id=f"{found['document']['id']}:{found['document']['start']}",
                page_content=found["text"],
                metadata={**found["document"]["attributes"], **found["document"], "score": found["score"]},
            )
            for found in results
        ]
