"""The lines of the core that a change executes, and an interrupt at one of them.

Unlike ``tests.core.interrupts``, which counts lines, this knows them by module and line: so the same ones are
met in every run, and an interrupt can be put where it matters.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import memorag_core

CORE = Path(memorag_core.__file__).parent


class Moment(NamedTuple):
    """Before a line is executed for the ``time``-th time."""

    module: str
    line: int
    time: int


def moments(work: Callable[[], object]) -> list[Moment]:
    """All moments at which an interrupt could come while this is run, in order."""
    found: list[Moment] = []
    times: dict[tuple[str, int], int] = {}

    def heard(module: str, line: int) -> None:
        times[module, line] = times.get((module, line), 0) + 1
        found.append(Moment(module, line, times[module, line]))

    with _lines_heard(heard):
        work()
    return found


def first_and_last(found: Sequence[Moment]) -> list[Moment]:
    """Of the moments at each line the first and the last, in order."""
    last = {(one.module, one.line): one.time for one in found}
    return [one for one in found if one.time in (1, last[one.module, one.line])]


def interrupted(work: Callable[[], object], at: Moment) -> BaseException | None:
    """Run this with a ``KeyboardInterrupt`` at a moment; what came out of it, or None."""
    times = 0

    def heard(module: str, line: int) -> None:
        nonlocal times
        if (module, line) == (at.module, at.line):
            times += 1
            if times == at.time:
                raise KeyboardInterrupt

    try:
        with _lines_heard(heard):
            work()
    except BaseException as error:
        return error.with_traceback(None)  # whose frames would hold what they held
    return None


@contextmanager
def _lines_heard(heard: Callable[[str, int], None]) -> Iterator[None]:
    names: dict[str, str | None] = {}

    def module_of(file: str) -> str | None:
        if file not in names:
            path = Path(file)
            names[file] = str(path.relative_to(CORE)) if path.is_relative_to(CORE) else None
        return names[file]

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        module = module_of(frame.f_code.co_filename)
        if module is None:
            return None
        if event == "line":
            heard(module, frame.f_lineno)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)
