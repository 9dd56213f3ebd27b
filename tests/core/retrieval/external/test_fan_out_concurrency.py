from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from contextvars import ContextVar

import pytest

from memorag_core.errors import RetrievalError
from memorag_core.retrieval import FanOut
from memorag_core.types import Clue, FoundPassage
from tests.core.interrupts import interrupted_at
from tests.core.retrieval.external.searching import AsyncTold, Told

PAUSE = 0.02
MANY = [(f"question {n}", [Clue(f"clue {n}", "span")]) for n in range(32)]
TEXTS = [text for question, (clue,) in MANY for text in (question, clue.text)]
TABLE = {text: [FoundPassage(text)] for text in TEXTS}
PAUSES = dict.fromkeys(TEXTS, PAUSE)
KINDS = pytest.mark.parametrize("kind", [Told, AsyncTold])

trace: ContextVar[str] = ContextVar("trace", default="none")


@KINDS
@pytest.mark.parametrize("concurrency", [1, 5, 8])
def test_no_more_searches_run_at_once_than_allowed_and_as_many_as_can(
    kind: type[Told], concurrency: int
) -> None:
    for way in ("at once", "awaited"):
        searcher = kind(TABLE, pauses=PAUSES)
        fan_out = FanOut(searcher, concurrency=concurrency)
        if way == "at once":
            found = fan_out.retrieve_batch(MANY)
        else:
            found = asyncio.run(fan_out.aretrieve_batch(MANY))
        assert all(len(one.evidence) == 2 for one in found)
        assert sorted(searcher.asked) == sorted(TEXTS)
        assert searcher.most_at_once == concurrency


def test_threads_are_used_again_and_are_gone_afterwards() -> None:
    before = threading.active_count()
    used: set[int] = set()

    def search(query: str, k: int) -> list[str]:
        used.add(threading.get_ident())
        time.sleep(0.001)
        return [query]

    FanOut(search, concurrency=4).retrieve_batch(MANY)
    assert 1 <= len(used) <= 4
    end = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_threads_that_share_a_fan_out_get_what_one_gets() -> None:
    fan_out = FanOut(Told(TABLE))
    expected = [one.evidence for one in fan_out.retrieve_batch(MANY)]
    found: list[bool] = []

    def ask() -> None:
        found.append([one.evidence for one in fan_out.retrieve_batch(MANY)] == expected)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 4


@KINDS
def test_searches_see_the_context_of_who_asked_and_cannot_change_it(kind: type[Told]) -> None:
    seen: list[str] = []

    def search() -> list[FoundPassage]:
        seen.append(trace.get())
        trace.set("a search")
        return []

    searcher = kind(dict.fromkeys(TEXTS, search))
    token = trace.set("the caller")
    try:
        FanOut(searcher, concurrency=3).retrieve_batch(MANY)
        asyncio.run(FanOut(searcher, concurrency=3).aretrieve_batch(MANY))
    finally:
        assert trace.get() == "the caller"
        trace.reset(token)
    assert seen == ["the caller"] * 2 * len(TEXTS)


@KINDS
async def test_the_loop_goes_on_while_searches_and_a_reranker_run(kind: type[Told]) -> None:
    gaps: list[float] = []

    async def tick() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.005)
            gaps.append(time.monotonic() - began)

    def slow(query: str, passages: Sequence[str]) -> list[float]:
        time.sleep(0.6)
        return [1.0] * len(passages)

    searcher = kind(TABLE, pauses=dict.fromkeys(TEXTS, 0.6))
    ticking = asyncio.create_task(tick())
    found = await FanOut(searcher).aretrieve_batch(MANY[:1], reranker=slow)
    ticking.cancel()
    assert len(found[0].evidence) == 2
    assert len(gaps) > 20
    assert max(gaps) < 0.5


async def test_a_searcher_that_can_be_awaited_takes_no_thread() -> None:
    threads: set[int] = set()

    def seen() -> list[FoundPassage]:
        threads.add(threading.get_ident())
        return []

    await FanOut(AsyncTold(dict.fromkeys(TEXTS, seen))).aretrieve_batch(MANY)
    assert threads == {threading.get_ident()}


async def test_cancelling_cancels_the_searches_that_run_and_begins_no_other() -> None:
    searcher = AsyncTold(TABLE, pauses=dict.fromkeys(TEXTS, 20.0))
    task = asyncio.create_task(FanOut(searcher, concurrency=3).aretrieve_batch(MANY))
    while len(searcher.asked) < 3:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(searcher.cancelled) == sorted(searcher.asked) == sorted(TEXTS[:3])


async def test_cancelling_leaves_searches_on_threads_alone_and_begins_no_other() -> None:
    released = threading.Event()

    def wait() -> list[FoundPassage]:
        released.wait(20)
        return []

    searcher = Told(dict.fromkeys(TEXTS, wait))
    task = asyncio.create_task(FanOut(searcher, concurrency=3).aretrieve_batch(MANY))
    while len(searcher.asked) < 3:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    released.set()
    await asyncio.sleep(0.1)
    assert sorted(searcher.asked) == sorted(TEXTS[:3])


async def test_a_wrong_answer_cancels_the_other_searches() -> None:
    searcher = AsyncTold({TEXTS[0]: lambda: None}, pauses=dict.fromkeys(TEXTS[1:], 20.0))
    with pytest.raises(ValueError, match="gave None"):
        await FanOut(searcher, concurrency=3).aretrieve_batch(MANY)
    assert sorted(searcher.cancelled) == sorted(searcher.asked[1:])
    assert len(searcher.asked) <= 4


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_interrupt_of_any_thread_at_any_line_of_searching_hangs_nobody() -> None:
    """A search whose thread is broken off has failed; the others are found."""
    fan_out = FanOut(Told(TABLE), concurrency=2)

    def search() -> None:
        with suppress(RetrievalError):  # where all searches of the question were broken off
            fan_out.retrieve_batch(MANY[:1])

    number, ended = 0, [True]
    while ended[-1] and number < 120:
        thread = threading.Thread(
            target=lambda number=number: ended.append(
                interrupted_at(number, search, files=("concurrent_search.py", "locking.py"), threads=True)
            ),
            daemon=True,
        )
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
        number += 7
    assert number > 40
    assert len(fan_out.retrieve_batch(MANY[:1])[0].evidence) == 2
