"""Many searches at once, each with its own time: on threads, or awaited.

In: a searcher, texts, how many passages each search should give. Out: for each text what was found, or why
nothing was. Knows neither questions nor clues, and fuses nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from math import inf
from queue import Empty, SimpleQueue
from threading import Thread, current_thread
from time import monotonic
from typing import Any, TypeAlias

from memorag_core.protocols import AsyncSearcher, Searcher
from memorag_core.retrieval.external.searchers import checked_passages
from memorag_core.system.locking import LOOK, Lock
from memorag_core.types import FoundPassage


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one search: passages, or an error that kept it from giving any."""

    found: tuple[FoundPassage, ...]
    error: Exception | None
    seconds: float


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A call that has ended: what it gave, or what it raised."""

    given: object
    error: BaseException | None
    seconds: float


_TAKEN = 1.0
"""Seconds within which a thread that has taken a call says so, if nothing has broken it off."""

_Search: TypeAlias = Callable[[str, int], Any]


def search_all(
    searcher: Searcher, texts: Sequence[str], k: int, *, concurrency: int, timeout: float | None
) -> list[Outcome]:
    """Search for texts on daemon threads, and wait for all of them.

    A search that is not done in its time is given up, and another one begins in its place. Its thread cannot
    be ended: it stays until the search ends by itself, but holds up neither this call nor the end of the
    interpreter.

    Args:
        searcher: Called on several threads at once, each time in a copy of the caller's context.
        texts: What to search for, begun in this order.
        k: Passages that each search is asked for.
        concurrency: The most searches that are waited for at once.
        timeout: Seconds that each search has, from its own beginning; None waits as long as it takes.

    Returns:
        One outcome a text, in their order.

    Raises:
        InputError: The searcher gave something else than passages.
        BaseException: What is no Exception and was raised in a search, such as KeyboardInterrupt.
    """
    outcomes: dict[int, Outcome] = {}
    began: dict[int, float] = {}  # those that run; the first began first, so its time is over first
    works: dict[int, _Work] = {}
    waiting = deque(range(len(texts)))
    ended: SimpleQueue[tuple[int, _Attempt]] = SimpleQueue()
    workers = _Workers()
    try:
        while waiting or began:
            while waiting and len(began) < concurrency:
                place = waiting.popleft()
                began[place] = monotonic()
                works[place] = workers.run(
                    _call(searcher.search, texts[place], k), partial(_tell, ended, place)
                )
            first = next(iter(began))
            left = inf if timeout is None else max(0.0, began[first] + timeout - monotonic())
            lost = next((place for place in began if workers.lost(works[place])), None)
            try:
                place, attempt = ended.get(timeout=0 if lost is not None else min(left, LOOK))
            except Empty:
                if lost is not None:
                    outcomes[lost] = Outcome((), _broken_off(), monotonic() - began.pop(lost))
                elif left <= LOOK:
                    outcomes[first] = Outcome((), _late(timeout), monotonic() - began.pop(first))
                continue
            if began.pop(place, None) is not None:  # else it was given up
                outcomes[place] = _outcome(attempt, searcher)
    finally:
        workers.close()
    return [outcomes[place] for place in range(len(texts))]


async def asearch_all(
    searcher: Searcher, texts: Sequence[str], k: int, *, concurrency: int, timeout: float | None
) -> list[Outcome]:
    """``search_all`` for an event loop, which is never blocked.

    Searches are awaited where the searcher has ``asearch``, and run on daemon threads where it has not. When
    this is cancelled, so are the searches that are awaited; those on threads are left alone, and no other one
    begins.
    """
    free = asyncio.Semaphore(concurrency)
    workers = _Workers()
    asearch: Callable[[str, int], Awaitable[Any]]
    if isinstance(searcher, AsyncSearcher):
        asearch = searcher.asearch
    else:
        asearch = partial(_on_thread, workers, searcher.search)

    async def one(text: str) -> Outcome:
        async with free:
            began = monotonic()
            try:
                async with asyncio.timeout(timeout) as time:
                    given = await asearch(text, k)
            except Exception as error:
                late = isinstance(error, TimeoutError) and time.expired()
                return Outcome((), _late(timeout) if late else error, monotonic() - began)
            return Outcome(checked_passages(given, searcher), None, monotonic() - began)

    tasks = [asyncio.create_task(one(text)) for text in texts]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
    finally:
        workers.close()


@dataclass(slots=True, eq=False)
class _Work:
    """A call, whom to tell of it, and the thread that has taken it."""

    call: Callable[[], _Attempt]
    told: Callable[[_Attempt], None]
    thread: Thread | None = None
    missed: float | None = None  # since when it neither waits nor is known to be taken


class _Workers:
    """Daemon threads that run calls; a new one is begun only where all others are busy.

    A ThreadPoolExecutor will not do: at its end the interpreter waits for the threads of one, also for those
    that hang.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[_Work | None] = SimpleQueue()
        self._lock = Lock()
        self._free = 0
        self._threads: list[Thread] = []

    def run(self, call: Callable[[], _Attempt], told: Callable[[_Attempt], None]) -> _Work:
        """Run a call, and tell what came of it, on the same thread."""
        with self._lock:
            new = not self._free
            if not new:
                self._free -= 1
        work = _Work(call, told)
        self._calls.put(work)
        if new:
            thread = Thread(target=self._work, name="memorag-search", daemon=True)
            thread.start()
            self._threads.append(thread)
        return work

    def lost(self, work: _Work) -> bool:
        """Whether the thread of a call has ended, so that it tells no more than it has told."""
        if work.thread is not None:
            return not work.thread.is_alive()
        if not self._calls.empty():
            work.missed = None
            return not any(thread.is_alive() for thread in self._threads)
        work.missed = work.missed if work.missed is not None else monotonic()
        return monotonic() - work.missed > _TAKEN

    def close(self) -> None:
        """Let the threads end, each after what it runs."""
        for _ in self._threads:
            self._calls.put(None)

    def _work(self) -> None:
        while (work := self._calls.get()) is not None:
            work.thread = current_thread()
            attempt = work.call()
            with self._lock:
                self._free += 1  # before it is told of, so that who hears of it finds a free thread
            work.told(attempt)


def _call(search: _Search, text: str, k: int) -> Callable[[], _Attempt]:
    """A search in a context of its own, for retrievers that keep traces and callbacks in it."""
    return partial(copy_context().run, _attempt, search, text, k)


def _attempt(search: _Search, text: str, k: int) -> _Attempt:
    began = monotonic()
    try:
        return _Attempt(search(text, k), None, monotonic() - began)
    except BaseException as error:  # raised again on the thread that waits, where it must be
        return _Attempt(None, error, monotonic() - began)


def _outcome(attempt: _Attempt, searcher: Searcher) -> Outcome:
    if attempt.error is None:
        return Outcome(checked_passages(attempt.given, searcher), None, attempt.seconds)
    if isinstance(attempt.error, Exception):
        return Outcome((), attempt.error, attempt.seconds)
    raise attempt.error


def _tell(ended: SimpleQueue[tuple[int, _Attempt]], place: int, attempt: _Attempt) -> None:
    ended.put((place, attempt))


async def _on_thread(workers: _Workers, search: _Search, text: str, k: int) -> object:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[_Attempt] = loop.create_future()

    def settle(attempt: _Attempt) -> None:
        if not answer.done():  # else it was given up
            answer.set_result(attempt)

    def told(attempt: _Attempt) -> None:
        with suppress(RuntimeError):  # the loop has ended, and nobody waits any more
            loop.call_soon_threadsafe(settle, attempt)

    work = workers.run(_call(search, text, k), told)
    while not answer.done():
        lost = workers.lost(work)
        await asyncio.wait([answer], timeout=LOOK)  # what was told before is heard by then
        if lost and not answer.done():
            raise _broken_off()
    attempt = answer.result()
    if attempt.error is not None:
        raise attempt.error
    return attempt.given


def _broken_off() -> RuntimeError:
    return RuntimeError("the thread of the search was broken off")


def _late(timeout: float | None) -> TimeoutError:
    return TimeoutError(f"no answer within {timeout:g} s")
