"""The memory as a value: the keys and values that a long-context model left behind.

In: tensors that reading wrote. Out: ``LongContextMemory``, which never changes. Knows no model.

Keys are rotated for the positions they were read at. Layers that see all keep every token; layers with a
window keep what the next token will see. Shape letters: L layers of a group, B rows (parts), H kv heads,
T entries, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from memorag_core.memory.block_memory import BlockMemory
from memorag_core.memory.kv_cache import KeyValues, Room


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
    def place(self) -> int:
        """Where the rows stand."""
        return self.tokens

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


class LongContextMemory(BlockMemory[Block]):
    """What a long-context model is left with: what its layers keep of every token."""

    __slots__ = ()

    @property
    def row_tokens(self) -> int:
        """Tokens of the longest row: how far its positions reach."""
        return self.blocks[0].tokens
