"""Many searches at once, each with its own time: on threads, or awaited.

In: a searcher, texts, how many passages each search should give. Out: for each text what was found, or why
nothing was. Knows neither questions nor clues, and fuses nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from threading import Lock, Thread
from time import monotonic
from typing import Any

from memorag_core.protocols import AsyncSearcher, Searcher
from memorag_core.retrieval.external.searchers import checked_passages
from memorag_core.types import FoundPassage


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one search: passages, or an error that kept it from giving any."""

    found: tuple[FoundPassage, ...]
    error: Exception | None
    seconds: float


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A search that has ended: what it gave, or what it raised."""

    given: object
    error: BaseException | None


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
    waiting = deque(range(len(texts)))
    running: dict[Future[_Attempt], tuple[int, float]] = {}  # the first began first: its time is over first
    workers = _Workers()
    try:
        while waiting or running:
            while waiting and len(running) < concurrency:
                place = waiting.popleft()
                running[workers.run(searcher.search, texts[place], k)] = place, monotonic()
            first, (_, began) = next(iter(running.items()))
            left = None if timeout is None else max(0.0, began + timeout - monotonic())
            ended = wait(running, timeout=left, return_when=FIRST_COMPLETED).done
            for search in ended or {first}:
                place, began = running.pop(search)
                attempt = search.result() if ended else _Attempt(None, _late(timeout))
                outcomes[place] = _outcome(attempt, monotonic() - began, searcher)
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

    async def awaited(text: str) -> _Attempt:
        if not isinstance(searcher, AsyncSearcher):
            return await asyncio.wrap_future(workers.run(searcher.search, text, k))
        try:
            return _Attempt(await searcher.asearch(text, k), None)
        except Exception as error:
            return _Attempt(None, error)

    async def one(text: str) -> Outcome:
        async with free:
            began = monotonic()
            try:
                async with asyncio.timeout(timeout):
                    attempt = await awaited(text)
            except TimeoutError:
                attempt = _Attempt(None, _late(timeout))
            return _outcome(attempt, monotonic() - began, searcher)

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


class _Workers:
    """Daemon threads that search; a new one is begun only where all others are busy.

    A ThreadPoolExecutor will not do: at its end the interpreter waits for the threads of one, also for those
    that hang.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Callable[[], _Attempt], Future[_Attempt]] | None] = SimpleQueue()
        self._lock = Lock()
        self._free = 0
        self._threads = 0

    def run(self, search: Callable[[str, int], Any], text: str, k: int) -> Future[_Attempt]:
        """Begin a search, in a copy of the caller's context: retrievers keep traces and callbacks in it."""
        future: Future[_Attempt] = Future()
        future.set_running_or_notify_cancel()  # nobody can cancel it; who gives it up leaves it alone
        with self._lock:
            new = not self._free
            if new:
                self._threads += 1
            else:
                self._free -= 1
        self._calls.put((partial(copy_context().run, _attempt, search, text, k), future))
        if new:
            Thread(target=self._work, name="memorag-search", daemon=True).start()
        return future

    def close(self) -> None:
        """Let the threads end, each after what it runs."""
        for _ in range(self._threads):
            self._calls.put(None)

    def _work(self) -> None:
        while (work := self._calls.get()) is not None:
            call, future = work
            attempt = call()
            with self._lock:
                self._free += 1  # before the result is there, so that who waits for it finds a free thread
            future.set_result(attempt)


def _attempt(search: Callable[[str, int], Any], text: str, k: int) -> _Attempt:
    try:
        return _Attempt(search(text, k), None)
    except BaseException as error:  # raised again where it is waited for, if it must be
        return _Attempt(None, error)


def _outcome(attempt: _Attempt, seconds: float, searcher: Searcher) -> Outcome:
    if attempt.error is None:
        return Outcome(checked_passages(attempt.given, searcher), None, seconds)
    if isinstance(attempt.error, Exception):
        return Outcome((), attempt.error, seconds)
    raise attempt.error


def _late(timeout: float | None) -> TimeoutError:
    return TimeoutError(f"no answer within {timeout:g} s")
