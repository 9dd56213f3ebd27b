"""The memory as a value: blocks of rows, a row for each part of the text.

In: blocks that reading made. Out: ``BlockMemory``, which never changes, and views of its rows. Knows no
model; what a row holds is for each kind of memory to say.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, Self, TypeAlias, TypeVar

import torch
from torch import Tensor

from memorag_core.errors import InputError
from memorag_core.memory.tokenized_text import ReadText

Progress: TypeAlias = Callable[[int], object]
"""Told how many raw tokens, over all rows, were read since the last call."""


class Block(Protocol):
    """Rows of a memory that were read in step."""

    @property
    def rows(self) -> int:
        """How many, B."""
        ...

    @property
    def tokens(self) -> int:
        """Raw tokens of each row."""
        ...

    @property
    def place(self) -> Hashable:
        """Where the rows stand; the same for rows that can be continued in step."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values."""
        ...

    def of_rows(self, start: int, stop: int) -> Self:
        """A view of some rows."""
        ...

    def on(self, device: str | torch.device) -> Self:
        """The same rows on a device; themselves where they lie there."""
        ...


B = TypeVar("B", bound=Block)


@dataclass(frozen=True, slots=True, eq=False)
class BlockMemory(Generic[B]):
    """What is left after reading: an immutable value, shared freely between threads.

    Attributes:
        blocks: the rows, in order; all at the same place but the last part of a text that was cut, which may
            have come less far.
        tokens: raw tokens read; over all parts where a text was cut into parts, else of each row.
        text: what was read, for a memory of text; None where ``feed`` made or continued it.
    """

    blocks: tuple[B, ...]
    tokens: int
    text: ReadText | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        places = [block.place for block in self.blocks]
        if not places or len({*places[:-1]}) > 1 or self.blocks[-1].tokens > self.blocks[0].tokens:
            raise InputError(
                f"The blocks of a memory stand at {places}; expected one or more, all at the same place but "
                "the last, which may have come less far."
            )

    @property
    def parts(self) -> int:
        """Rows that are asked together, B."""
        return sum(block.rows for block in self.blocks)

    @property
    def nbytes(self) -> int:
        """Bytes of the keys and values."""
        return sum(block.nbytes for block in self.blocks)

    def row(self, index: int) -> Self:
        """One row as a memory of its own; shares its bytes.

        Raises:
            InputError: there is no such row.
        """
        place = index
        for block in self.blocks:
            if 0 <= place < block.rows:
                return replace(
                    self, blocks=(block.of_rows(place, place + 1),), tokens=block.tokens, text=None
                )
            place -= block.rows
        raise InputError(f"Row {index} was asked for; expected 0 to {self.parts - 1}.")

    def first_rows(self, rows: int) -> list[B]:
        """The blocks of the first rows; shares their bytes."""
        blocks: list[B] = []
        for block in self.blocks:
            if not rows:
                break
            blocks.append(block if block.rows <= rows else block.of_rows(0, rows))
            rows -= blocks[-1].rows
        return blocks

    def on(self, device: str | torch.device) -> Self:
        """The same memory on a device, such as "cpu" while nobody asks it; itself where it lies there.

        Its model can be asked and continued all the same: it takes one block at a time to where it computes.
        """
        blocks = tuple(block.on(device) for block in self.blocks)
        here = all(moved is block for moved, block in zip(blocks, self.blocks, strict=True))
        return self if here else replace(self, blocks=blocks)


M = TypeVar("M", bound=BlockMemory[Any])


def text_of(memory: BlockMemory[Any]) -> ReadText:
    """What a memory has read.

    Raises:
        InputError: it was made or continued by ``feed``, so that its text is not known.
    """
    if memory.text is None:
        raise InputError(
            "This memory was made or continued by feed(), so that its text is not known. Continue it with "
            "feed(), or memorize the text again."
        )
    return memory.text


def check_rows(ids: Tensor, memory: BlockMemory[Any]) -> None:
    """Refuse ids [B, T] that have not a row for each row of the memory."""
    if ids.shape[0] != memory.parts:
        raise InputError(
            f"The input_ids have {ids.shape[0]} rows and the memory {memory.parts}; expected the same. Feed "
            "a row for each row of the memory, or take one with memory.row(i)."
        )
