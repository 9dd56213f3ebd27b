"""Calls that are begun at the same moment, each on a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

THREADS = 8


def at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """What each of them gave, or what it raised; no thread is waited for longer than a minute."""
    start = Barrier(len(calls), timeout=60)

    def begin(call: Callable[[], Any]) -> Any:
        start.wait()
        try:
            return call()
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return [one.result(timeout=60) for one in [pool.submit(begin, call) for call in calls]]
