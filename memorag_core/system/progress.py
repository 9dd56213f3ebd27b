"""How far reading, encoding and condensing have come, shown or told.

In: how much there is, and how much was done. Out: a bar on a terminal, calls of a function, or nothing. Knows
nothing of the work.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from memorag_core.protocols import ShowProgress


@contextmanager
def progress_bar(
    total: int, what: str, *, unit: str, shown: ShowProgress, scaled: bool = False
) -> Iterator[Callable[[int], object]]:
    """A bar for some work; gives what is to be told how much more of it was done.

    Where none is shown, tqdm is not touched: it takes locks that an interrupt can leave held.

    Args:
        total: How much there is.
        what: What is being done.
        unit: Of what.
        shown: Whether to show it; None shows it on terminals. A function is called instead, with how much is
            done, how much there is, and ``what``: before the work begins, and then as it goes on. What it
            raises ends the work.
        scaled: Whether to write thousands and millions in short.
    """
    if shown is None:
        shown = sys.stderr is not None and sys.stderr.isatty()
    if callable(shown):
        yield _telling(shown, total, what)
        return
    if not shown:
        yield _nothing
        return
    from tqdm import tqdm

    with tqdm(total=total, desc=what, unit=unit, unit_scale=scaled) as bar:
        yield bar.update


def _telling(listener: Callable[[int, int, str], object], total: int, what: str) -> Callable[[int], None]:
    done = 0

    def told(more: int) -> None:
        nonlocal done
        done += more
        listener(done, total, what)

    told(0)
    return told


def _nothing(done: int) -> None:
    return None
