"""A raise at a chosen line of the packages, as an interrupt of a thread may come at any."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import memorag_core

CORE = str(Path(memorag_core.__file__).parent)
_NAMES = {path.name for path in Path(CORE).rglob("*.py")}


class Interrupt(KeyboardInterrupt):
    """What is raised."""


def interrupted_at(
    number: int,
    action: Callable[[], object],
    *,
    files: Collection[str] = (),
    threads: bool = False,
) -> bool:
    """Run an action, and raise at the line that it runs as this number, counted from 0.

    Args:
        number: Of the line.
        action: What is interrupted; the interrupt does not come out of here, all else does.
        files: Names of the modules whose lines count, such as "corpus.py"; none for the whole core.
        threads: Whether the lines of threads that are begun meanwhile count as well.

    Returns:
        Whether there was such a line.
    """
    unknown = {name for name in files if not name.startswith("test_")} - _NAMES
    assert not unknown, f"no module is called {sorted(unknown)}: its lines are not interrupted"
    numbers = count()
    raised = False

    def of_line(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal raised
        if event == "line" and next(numbers) == number:
            raised = True
            raise Interrupt
        return of_line

    def of_call(frame: FrameType, event: str, _: Any) -> Any:
        path = frame.f_code.co_filename
        counts = Path(path).name in files if files else path.startswith(CORE)
        return of_line if counts else None

    before = sys.gettrace()
    if threads:
        threading.settrace(of_call)
    sys.settrace(of_call)
    try:
        action()
    except Interrupt:
        pass
    finally:
        sys.settrace(before)
        if threads:
            threading.settrace(before)
    return raised
