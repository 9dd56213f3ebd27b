"""Bars that show how far reading, encoding and condensing have come.

In: how much there is, and how much was done. Out: a bar on a terminal, or nothing. Knows nothing of the work.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(
    total: int, what: str, *, unit: str, shown: bool | None, scaled: bool = False
) -> Iterator[Callable[[int], object]]:
    """A bar for some work; gives what is to be told how much more of it was done.

    Where none is shown, tqdm is not touched: it takes locks that an interrupt can leave held.

    Args:
        total: How much there is.
        what: What is being done.
        unit: Of what.
        shown: Whether to show it; None shows it on terminals.
        scaled: Whether to write thousands and millions in short.
    """
    if shown is None:
        shown = sys.stderr is not None and sys.stderr.isatty()
    if not shown:
        yield _nothing
        return
    from tqdm import tqdm

    with tqdm(total=total, desc=what, unit=unit, unit_scale=scaled) as bar:
        yield bar.update


def _nothing(done: int) -> None:
    return None
