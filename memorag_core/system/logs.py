"""Other libraries' lines in the user's log.

In: the name of a library's logger. Out: that logger, silent below warnings. Knows nothing of what is logged.
"""

from __future__ import annotations

import logging


def quiet(name: str, *, own: int = logging.NOTSET) -> None:
    """Keep what a library says to its developers out of the user's log; warnings and errors pass.

    Some give their loggers a level of their own, so that each program that logs at all shows their DEBUG
    lines. A level that the user has chosen stays.

    Args:
        name: The library's logger.
        own: The level that it gives itself.
    """
    logger = logging.getLogger(name)
    if logger.level == own:
        logger.setLevel(logging.WARNING)
