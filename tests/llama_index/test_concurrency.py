"""Many questions at once on one memory: the same as one by one, and the event loop is never held up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from statistics import median
from typing import Any

import pytest
from llama_index.core.schema import NodeWithScore, QueryBundle

from llama_index_memorag import MemoRAGQueryTransform, MemoRAGRetriever, MemoRAGSummaryRetriever
from tests.core.doubles import SentenceModel
from tests.llama_index.conftest import remembering
from tests.llama_index.doubles import WordRetriever, slow, vector_index

QUESTIONS = [f"Who mends timepieces in house {number}?" for number in range(64)]
ASKING = 0.2
FREE = 0.02  # a question asked on the loop holds it up for longer; the median, for the machine has pauses too


class Slow(SentenceModel):
    """Takes its time over each call, with the interpreter free for others, as a model in native code does."""

    def recollect(self, *given: Any, **how: Any) -> Any:
        time.sleep(ASKING)
        return super().recollect(*given, **how)


@asynccontextmanager
async def ticking() -> AsyncIterator[list[float]]:
    """The pauses between the ticks of a clock on the loop, in seconds."""
    pauses: list[float] = []

    async def tick() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            pauses.append(now - last)
            last = now

    ticker = asyncio.create_task(tick())
    await asyncio.sleep(0)
    try:
        yield pauses
    finally:
        ticker.cancel()


def dumped(found: Sequence[NodeWithScore]) -> list[dict[str, Any]]:
    return [one.model_dump() for one in found]


def over_index() -> Any:
    return vector_index()


def over_slow_retriever() -> Any:
    return WordRetriever(before=slow(0.02, where="Where does"))


@pytest.mark.parametrize("over", [lambda: None, over_index, over_slow_retriever])
@pytest.mark.parametrize("kind", [MemoRAGRetriever, MemoRAGSummaryRetriever])
async def test_64_questions_at_once_are_as_one_by_one_and_the_loop_ticks_on(
    kind: type[MemoRAGRetriever], over: Any
) -> None:
    one_by_one = kind(remembering(SentenceModel()), 2, over=over())
    expected = [dumped(one_by_one.retrieve(question)) for question in QUESTIONS]
    retriever = kind(remembering(Slow()), 2, over=over())
    async with ticking() as pauses:
        found = await asyncio.gather(*(retriever.aretrieve(question) for question in QUESTIONS))
    assert [dumped(one) for one in found] == expected
    assert len(pauses) > 20
    assert median(pauses) < FREE


async def test_transforms_awaited_at_once_are_as_one_by_one() -> None:
    one_by_one = MemoRAGQueryTransform(remembering(SentenceModel()))
    expected = [one_by_one.run(question) for question in QUESTIONS]
    transform = MemoRAGQueryTransform(remembering(Slow()))
    async with ticking() as pauses:
        assert await asyncio.gather(*(transform.arun(question) for question in QUESTIONS)) == expected
    assert median(pauses) < FREE


async def test_a_cancelled_question_ends_and_leaves_the_others_alone() -> None:
    retriever = MemoRAGRetriever(remembering(Slow()), 1)
    given_up = asyncio.create_task(retriever.aretrieve(QUESTIONS[0]))
    kept = asyncio.create_task(retriever.aretrieve(QUESTIONS[1]))
    await asyncio.sleep(0.01)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    assert len(await kept) == 1


async def test_the_ticker_hears_what_holds_up_the_loop() -> None:
    class Blocking(MemoRAGRetriever):
        async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
            return self._retrieve(query_bundle)  # as the base class does

    retriever = Blocking(remembering(Slow()), 1)
    async with ticking() as pauses:
        for question in QUESTIONS[:8]:
            await retriever.aretrieve(question)
            await asyncio.sleep(0)
    assert median(pauses) > FREE
