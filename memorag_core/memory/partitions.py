"""Where a text is cut that one memory cannot hold well: the arithmetic of parts.

In: how many tokens a text has. Out: where its parts start, and what has to be read when it grows. Knows no
model and no tokens.

A text of at most C tokens is one part. A longer one is covered by parts that start a stride apart and hold C
tokens, the last one what is left. So appending changes the last part only, by continuing it, and reading at
once or in pieces gives the same parts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

from memorag_core.errors import InputError

Span: TypeAlias = tuple[int, int]
"""Tokens of a text: from the first to the one after the last."""


@dataclass(frozen=True, slots=True)
class Growth:
    """What is read when a text grows, as spans of its tokens.

    Attributes:
        rest: what continues the last part there is; None where that is full or there is none.
        whole: the new parts that hold all they can.
        last: a new part that holds less.
    """

    rest: Span | None
    whole: tuple[Span, ...]
    last: Span | None


@dataclass(frozen=True, slots=True)
class Cut:
    """How a text is cut into parts.

    Attributes:
        capacity: tokens of a part, C.
        overlap: tokens that neighbouring parts share, less than C.
    """

    capacity: int
    overlap: int

    @property
    def stride(self) -> int:
        """Tokens from the start of a part to the start of the next."""
        return self.capacity - self.overlap

    def parts(self, total: int) -> int:
        """Parts of so many tokens, 1 or more."""
        return 1 + max(0, -((self.capacity - total) // self.stride))

    def spans(self, total: int) -> list[Span]:
        """What each part of so many tokens holds."""
        starts = (part * self.stride for part in range(self.parts(total)))
        return [(start, min(start + self.capacity, total)) for start in starts]

    def holding(self, start: int, end: int, total: int) -> range:
        """The parts that hold any of the tokens from ``start`` to ``end``."""
        first = max(0, -((self.capacity - 1 - start) // self.stride))
        last = max(first, (end - 1) // self.stride)
        return range(min(first, self.parts(total) - 1), min(last + 1, self.parts(total)))

    def growth(self, read: int, total: int) -> Growth:
        """What to read when a text of ``read`` tokens has grown to ``total``."""
        spans = self.spans(total)
        fresh = spans[self.parts(read) if read else 0 :]
        end = spans[self.parts(read) - 1][1]
        rest = (read, end) if read and read < end else None
        short = bool(fresh) and fresh[-1][1] - fresh[-1][0] < self.capacity
        return Growth(rest, tuple(fresh[:-1] if short else fresh), fresh[-1] if short else None)

    def to_read(self, read: int, total: int) -> int:
        """Tokens to run when a text of ``read`` tokens has grown to ``total``."""
        return total - read + (self.parts(total) - self.parts(read)) * self.overlap


def alike(
    rows: range, wanted: Sequence[Collection[int] | None]
) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Rows side by side that the same questions are put to.

    Args:
        rows: parts that lie in one block.
        wanted: for each question the parts it is put to; None for all.

    Yields:
        The first row and the one after the last, counted from the block's first, and the questions' numbers;
        rows that nobody asks are left out.
    """

    def asked(part: int) -> tuple[int, ...]:
        return tuple(number for number, parts in enumerate(wanted) if parts is None or part in parts)

    for questions, run in groupby(rows, key=asked):
        parts = list(run)
        if questions:
            yield parts[0] - rows.start, parts[-1] + 1 - rows.start, questions


def check_documents(documents: int, read: int) -> None:
    """Refuse a number of documents that a memory cannot be cut back to."""
    if not isinstance(documents, int) or isinstance(documents, bool) or not 0 <= documents <= read:
        raise InputError(f"{documents!r} documents were to stay; expected 0 to {read}, as many as were read.")
