"""The memory as a value: the keys and values that a long-context model left behind.

In: tensors that reading wrote. Out: ``LongContextMemory``, which never changes. Knows no model.

Keys are rotated for the positions they were read at. Layers that see all keep every token; layers with a
window keep what the next token will see. Shape letters: L layers of a group, B rows (parts), H kv heads,
T entries, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch

from memorag_core.errors import InputError
from memorag_core.memory.kv_cache import KeyValues, Room
from memorag_core.memory.tokenized_text import ReadText


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Rows that were read in step.

    Attributes:
        tokens: tokens of each row.
        rows: B.
        kept: for each group of layers its entries, [L, B, H, T, D]; the last one stands at position
            ``tokens`` - 1.
        rooms: for each group where its entries lie and may grow; None where they lie alone.
    """

    tokens: int
    rows: int
    kept: tuple[KeyValues, ...]
    rooms: tuple[Room | None, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the keys and values."""
        return sum(entries.nbytes for entries in self.kept)

    def on(self, device: str | torch.device) -> Block:
        """The same rows on a device; themselves where they lie there, else without room to grow."""
        kept = tuple(entries.on(device) for entries in self.kept)
        if all(moved.keys is old.keys for moved, old in zip(kept, self.kept, strict=True)):
            return self
        return Block(self.tokens, self.rows, kept, (None,) * len(kept))

    def of_rows(self, start: int, stop: int) -> Block:
        """A view of some rows."""
        kept = tuple(entries.of_rows(start, stop) for entries in self.kept)
        return Block(self.tokens, stop - start, kept, (None,) * len(kept))


@dataclass(frozen=True, slots=True, eq=False)
class LongContextMemory:
    """What is left after reading: an immutable value, shared freely between threads.

    Attributes:
        blocks: the rows, in order; all of equally many tokens, but the last part of a text that was cut,
            which may have fewer.
        tokens: tokens read; over all parts where a text was cut into parts, else of each row.
        text: what was read, for a memory of text; None where ``feed`` made or continued it.
    """

    blocks: tuple[Block, ...]
    tokens: int
    text: ReadText | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        tokens = [block.tokens for block in self.blocks]
        if not tokens or len({*tokens[:-1]}) > 1 or tokens[-1] > tokens[0]:
            raise InputError(
                f"The blocks of a memory have {tokens} tokens; expected one or more, equally many in all but "
                "the last, which may have fewer."
            )

    @property
    def parts(self) -> int:
        """Rows that are asked together, B."""
        return sum(block.rows for block in self.blocks)

    @property
    def row_tokens(self) -> int:
        """Tokens of the longest row: how far its positions reach."""
        return self.blocks[0].tokens

    @property
    def nbytes(self) -> int:
        """Bytes of the keys and values."""
        return sum(block.nbytes for block in self.blocks)

    def on(self, device: str | torch.device) -> LongContextMemory:
        """The same memory on a device, such as "cpu" while nobody asks it; itself where it lies there.

        Its model can be asked and continued all the same: it takes one block at a time to where it computes.
        """
        blocks = tuple(block.on(device) for block in self.blocks)
        here = all(moved is block for moved, block in zip(blocks, self.blocks, strict=True))
        return self if here else replace(self, blocks=blocks)

    def row(self, index: int) -> LongContextMemory:
        """One row as a memory of its own; shares its bytes.

        Raises:
            InputError: there is no such row.
        """
        place = index
        for block in self.blocks:
            if 0 <= place < block.rows:
                return LongContextMemory((block.of_rows(place, place + 1),), block.tokens)
            place -= block.rows
        raise InputError(f"Row {index} was asked for; expected 0 to {self.parts - 1}.")
