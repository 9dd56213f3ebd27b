"""Retrievers of a user's own for the tests: one that really searches, one that says what it was told to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from threading import Lock

from memorag_core.retrieval.bm25 import BM25Index
from memorag_core.types import Chunk, FoundPassage


class Searched:
    """BM25 over chunks as a retriever of the user's own. Remembers what it was asked."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self.chunks = chunks
        self.index = BM25Index.build(chunks)
        self.asked: list[tuple[str, int]] = []

    def search(self, query: str, k: int, /) -> Sequence[FoundPassage]:
        self.asked.append((query, k))
        (ranking,) = self.index.search([query], k)
        return [
            FoundPassage(self.chunks[ordinal].text, id=self.chunks[ordinal].id, score=score)
            for ordinal, score in ranking
        ]


class Told:
    """Gives for each query what a table says, after a pause where there is one; nothing for what it has not.

    An exception in the table is raised, a function in it is called. Counts how many searches ran at once.
    """

    def __init__(
        self,
        table: Mapping[str, Sequence[FoundPassage] | BaseException | Callable[[], object]],
        *,
        pauses: Mapping[str, float] | None = None,
    ) -> None:
        self.table = table
        self.pauses = pauses or {}
        self.asked: list[str] = []
        self.most_at_once = 0
        self._running = 0
        self._lock = Lock()

    def search(self, query: str, k: int, /) -> Sequence[FoundPassage]:
        self._enter(query)
        try:
            time.sleep(self.pauses.get(query, 0.0))
            return self._answer(query)
        finally:
            self._leave()

    def _enter(self, query: str) -> None:
        with self._lock:
            self.asked.append(query)
            self._running += 1
            self.most_at_once = max(self.most_at_once, self._running)

    def _leave(self) -> None:
        with self._lock:
            self._running -= 1

    def _answer(self, query: str) -> Sequence[FoundPassage]:
        said = self.table.get(query, ())
        if isinstance(said, BaseException):
            raise said
        return said() if callable(said) else said  # type: ignore[return-value]


class AsyncTold(Told):
    """The same, awaited. Remembers which searches were cancelled."""

    def __init__(
        self,
        table: Mapping[str, Sequence[FoundPassage] | BaseException | Callable[[], object]],
        *,
        pauses: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(table, pauses=pauses)
        self.cancelled: list[str] = []

    async def asearch(self, query: str, k: int, /) -> Sequence[FoundPassage]:
        self._enter(query)
        try:
            await asyncio.sleep(self.pauses.get(query, 0.0))
            return self._answer(query)
        except asyncio.CancelledError:
            self.cancelled.append(query)
            raise
        finally:
            self._leave()
