"""A retriever or an index of LlamaIndex as a searcher beneath the clues.

In: a ``BaseRetriever`` or a ``BaseIndex``. Out: what asks it with the question and every clue. A passage
carries its node, so that the node comes back as it was. Knows neither clues nor how lists are fused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llama_index.core import VectorStoreIndex
from llama_index.core.indices.base import BaseIndex
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore

from llama_index_memorag.nodes import NODE
from memorag_core import FanOut, FoundPassage, InputError

MakeRetriever = Callable[[int], BaseRetriever]
"""A retriever that finds so many nodes, where that can be chosen."""


class RetrieverSearcher:
    """Asks a retriever of LlamaIndex, on the thread of whoever searches."""

    def __init__(self, make: MakeRetriever) -> None:
        self._make = make

    def search(self, query: str, k: int, /) -> Sequence[FoundPassage]:
        """What the retriever finds for a query, best first."""
        return [_passage(found) for found in self._make(k).retrieve(query)]


class AsyncRetrieverSearcher(RetrieverSearcher):
    """Asks a retriever of LlamaIndex that can be awaited."""

    async def asearch(self, query: str, k: int, /) -> Sequence[FoundPassage]:
        """``search`` by the retriever's own async method."""
        return [_passage(found) for found in await self._make(k).aretrieve(query)]


def fan_out(over: object, *, concurrency: int, timeout: float | None) -> FanOut:
    """What asks a retriever or an index with a question and its clues at once.

    A vector index is asked for as many nodes as the fusion reads of a list; a retriever gives as many as it
    was made for. Where a retriever has no async method of its own, LlamaIndex would run its sync one on the
    event loop: it is run in threads instead.

    Args:
        over: A ``BaseRetriever`` or a ``BaseIndex``.
        concurrency: The most searches at once.
        timeout: Seconds that each search has; None waits as long as it takes.

    Raises:
        InputError: Something else, or a number that cannot be used.
    """
    make = _make(over)
    has_async = type(make(1))._aretrieve is not BaseRetriever._aretrieve
    searcher = (AsyncRetrieverSearcher if has_async else RetrieverSearcher)(make)
    name = type(over).__name__
    return FanOut(searcher, concurrency=concurrency, timeout=timeout, name=name)


def _make(over: Any) -> MakeRetriever:
    if isinstance(over, VectorStoreIndex):
        return lambda k: over.as_retriever(similarity_top_k=k)
    if isinstance(over, BaseIndex):
        retriever = over.as_retriever()
        return lambda _: retriever
    if isinstance(over, BaseRetriever):
        return lambda _: over
    raise InputError(
        f"'over' is a {type(over).__name__}; expected a retriever or an index of LlamaIndex, such as "
        "VectorStoreIndex.from_documents(documents) or index.as_retriever(similarity_top_k=20)."
    )


def _passage(found: NodeWithScore) -> FoundPassage:
    node = found.node
    # A node of an image has no text; its id stands in for it, so that it is not taken for empty.
    text = node.get_content()
    return FoundPassage(
        text if text.strip() else node.node_id, id=node.node_id, score=found.score, metadata={NODE: node}
    )
