"""What a memory or an index was packed into, read as data that anybody may have changed.

In: values of a header. Out: the same values, or a ``StoreError``. Knows no memory and no files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from memorag_core.errors import MemoRAGError, MissingExtraError, StoreError, UnsupportedModelError

_UNFIT = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError, MemoRAGError)

MOST = 2**48
"""No count in a header is larger: what is counted would not fit any disk."""


def whole_number(value: Any, name: str, least: int = 0, most: int = MOST) -> int:
    """A whole number of a header.

    Args:
        value: as it was read.
        name: what the error calls it.
        least: the smallest that there may be.
        most: the largest.

    Raises:
        TypeError: it is something else; for ``unpacking``, which says what it belongs to.
    """
    if type(value) is not int or not least <= value <= most:
        raise TypeError(f"{name} is {value!r:.80}, expected a whole number from {least} to {most}")
    return value


def expect_format(found: Any, expected: int) -> None:
    """Refuse a memory that is packed in another format than this release reads.

    Raises:
        StoreError: it is.
    """
    if found != expected:
        raise StoreError(
            f"The memory is packed in format {found!r}; this release reads {expected}. Open it with the "
            "release that wrote it, or memorize the text again."
        )


@contextmanager
def unpacking(what: str, remedy: str) -> Iterator[None]:
    """Tell of whatever does not fit as of damage.

    Args:
        what: is read; the error begins with it.
        remedy: what the user can do.

    Raises:
        StoreError: for every other error of reading values.
    """
    try:
        yield
    except (StoreError, MissingExtraError, UnsupportedModelError):
        raise
    except _UNFIT as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's, which need not be loaded
            raise
        raise StoreError(
            f"{what} is damaged: it lacks a value or has a wrong one: {error!r:.300}. {remedy}"
        ) from error
