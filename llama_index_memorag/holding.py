"""What those share that hold a ``MemoRAG``: it is checked, and shared by copies.

In: a MemoRAG. Out: the same one. Knows neither questions nor documents.
"""

from __future__ import annotations

from typing import Any, Self

from memorag_core import InputError, MemoRAG


def as_memorag(value: object) -> MemoRAG:
    """Return ``value`` when it is a MemoRAG.

    Raises:
        InputError: When it is something else.
    """
    if isinstance(value, MemoRAG):
        return value
    raise InputError(
        f"'memorag' is a {type(value).__name__}; expected a memorag_core.MemoRAG that has memorized a text: "
        "MemoRAG().memorize(text), or MemoRAG.load(path)."
    )


class HoldsMemory:
    """Holds what was memorized.

    A copy, deep or not, holds the same memory, and whatever else is held. What is in a MemoRAG cannot be
    pickled, so neither can what holds it.
    """

    def __copy__(self) -> Self:
        own = getattr(super(), "__copy__", None)  # a model of pydantic has more to copy
        if own is not None:
            same: Self = own()
            return same
        copied = object.__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.__copy__()
