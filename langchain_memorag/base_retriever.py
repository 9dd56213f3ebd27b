"""A retriever or a vector store of LangChain beneath the clues, in the shape in which the core searches.

In: a retriever or store, and the callbacks of the run that each query belongs to. Out: passages, with a score
where the store says how relevant they are. Knows neither questions nor clues, and fuses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackManager, CallbackManager
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import VectorStore

from langchain_memorag.documents import passage
from memorag_core import FanOut, FoundPassage, InputError

CallbacksOfQuery: TypeAlias = Callable[[str], BaseCallbackManager]
"""The callbacks of the run that a query belongs to; for ``asearch``, async ones."""


def checked_base_retriever(value: Any) -> Any:
    """A retriever or vector store; None stays.

    Raises:
        InputError: Something else.
    """
    if value is None or isinstance(value, BaseRetriever | VectorStore):
        return value
    raise InputError(
        f"'base_retriever' is a {value.__name__ if isinstance(value, type) else type(value).__name__}; "
        "expected a retriever or a vector store of LangChain, made and filled. A function can be wrapped in "
        "a retriever of your own (langchain_core.retrievers.BaseRetriever)."
    )


def fan_out(
    base_retriever: BaseRetriever | VectorStore,
    callbacks: CallbacksOfQuery,
    *,
    concurrency: int,
    timeout: float | None,
) -> FanOut:
    """A retriever or vector store as the core searches it, whose runs are traced as those of any retriever.

    ``concurrency`` and ``timeout`` are those of ``FanOut``, which refuses what cannot be used.
    """
    searcher: RetrieverSearcher | StoreSearcher
    if isinstance(base_retriever, VectorStore):
        searcher = StoreSearcher(base_retriever, callbacks)
    else:
        searcher = RetrieverSearcher(base_retriever, callbacks)
    name = type(base_retriever).__name__
    return FanOut(searcher, concurrency=concurrency, timeout=timeout, name=name)


@dataclass(frozen=True, slots=True)
class RetrieverSearcher:
    """A retriever of LangChain. How many documents it gives is its own choice, and it gives no scores."""

    retriever: BaseRetriever
    callbacks: CallbacksOfQuery

    def search(self, query: str, _: int, /) -> Sequence[FoundPassage]:
        """The documents that the retriever gives."""
        found = self.retriever.invoke(query, {"callbacks": self.callbacks(query)})
        return [passage(document) for document in found]

    async def asearch(self, query: str, _: int, /) -> Sequence[FoundPassage]:
        """The documents that the retriever gives, awaited."""
        found = await self.retriever.ainvoke(query, {"callbacks": self.callbacks(query)})
        return [passage(document) for document in found]


@dataclass(frozen=True, slots=True)
class StoreSearcher:
    """A vector store of LangChain. Scores are its relevance scores; where it has none, there are none."""

    store: VectorStore
    callbacks: CallbacksOfQuery

    def search(self, query: str, k: int, /) -> Sequence[FoundPassage]:
        """The ``k`` documents that are nearest, in a retriever's run as vector stores begin none."""
        manager = CallbackManager.configure(self.callbacks(query))
        run = manager.on_retriever_start(None, query, name=type(self.store).__name__)
        try:
            found: list[tuple[Document, float | None]]
            try:
                # What stores define. The method without a dash warns of every score that is a hair above 1,
                # and a clue is often word for word what is found.
                found = [*self.store._similarity_search_with_relevance_scores(query, k)]
            except NotImplementedError:  # the store does not say which of its scores are good
                found = [(document, None) for document in self.store.similarity_search(query, k)]
        except BaseException as error:
            run.on_retriever_error(error)
            raise
        run.on_retriever_end([document for document, _ in found])
        return [passage(document, score) for document, score in found]

    async def asearch(self, query: str, k: int, /) -> Sequence[FoundPassage]:
        """``search``, awaited."""
        manager = AsyncCallbackManager.configure(self.callbacks(query))
        run = await manager.on_retriever_start(None, query, name=type(self.store).__name__)
        try:
            found: list[tuple[Document, float | None]]
            try:
                found = [*await self.store._asimilarity_search_with_relevance_scores(query, k)]
            except NotImplementedError:
                found = [(document, None) for document in await self.store.asimilarity_search(query, k)]
        except BaseException as error:
            await run.on_retriever_error(error)
            raise
        await run.on_retriever_end([document for document, _ in found])
        return [passage(document, score) for document, score in found]
