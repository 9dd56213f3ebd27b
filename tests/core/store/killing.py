"""Writers in processes of their own, killed at random moments.

The writers are forked by a server process that has run nothing but imports. Forked by the test process
itself, they would share its locks: tqdm has one across processes, and who is killed with it keeps it forever.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext

import pytest

SECONDS = 120.0
"""What starting or ending a process may take at most."""

needs_fork_server = pytest.mark.skipif(
    "forkserver" not in multiprocessing.get_all_start_methods(), reason="needs a fork server"
)

Change = Callable[[int], None]


@cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.core.store.test_kills"])  # imported once, not in every writer
    return context


def _write(said: Connection, make_change: Callable[[], Change], first: int, steps: int) -> None:
    """Make one change after the other and say when each begins."""
    try:
        change, step = make_change(), first
        while True:
            said.send(step)
            change(step)
            step = (step + 1) % steps
    except BaseException as error:
        said.send(repr(error))


def _killed(
    make_change: Callable[[], Change], first: int, steps: int, *, changes: int, seconds: float
) -> int:
    """The change that a writer was making when it was killed, so long after it began the last of some."""
    context = _context()
    told, said = context.Pipe(duplex=False)
    process = context.Process(target=_write, args=(said, make_change, first, steps), daemon=True)
    process.start()
    said.close()
    begun: list[int | str] = []
    try:
        for _ in range(changes):
            assert told.poll(SECONDS), f"The writer said nothing for {SECONDS:g} seconds."
            begun.append(told.recv())
        time.sleep(seconds)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join(SECONDS)
        assert process.exitcode in (-signal.SIGKILL, 0), process.exitcode
        while told.poll(0):  # true at the end of the pipe, too
            begun.append(told.recv())
    except EOFError:
        pass
    finally:
        told.close()
    last = begun[-1]
    assert isinstance(last, int), last
    return last


def survived(
    make_change: Callable[[], Change],
    state: Callable[[int], bool],
    *,
    steps: int,
    kills: int,
    longest: float,
) -> Iterator[int]:
    """Kill writers in the first few changes they make; gives each change that one was in.

    ``make_change()`` is called in the writer (so it must pickle) and makes changes 0 to ``steps`` - 1 in
    turn; ``state(n)`` says whether the store is as change n leaves it.
    """
    moments, next_step = random.Random(7), 0
    for _ in range(kills):
        step = _killed(
            make_change, next_step, steps, changes=moments.randint(1, 3), seconds=moments.uniform(0, longest)
        )
        after = state(step)
        assert after or state((step - 1) % steps)
        yield step
        next_step = (step + 1) % steps if after else step
