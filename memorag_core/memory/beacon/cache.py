"""The memory as a value: keys and values of slots and of the unfinished window, and the room it grows in.

In: tensors that reading wrote. Out: ``BeaconMemory``, which never changes. Knows no model.

A slot keeps its position for ever, so its key is stored rotated for it; entries of the unfinished window are
rotated for theirs. A memory's slots are a view of an allocation with room behind them. Whoever continues the
memory claims that room, writes behind the last slot, and gets a longer view of the same allocation; only one
can have it, a second continuation of the same memory copies the slots first.

Shape letters: L layers, B rows (parts), H kv heads, M slots, T entries, D head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from memorag_core.errors import InputError
from memorag_core.memory.beacon.schedule import Stream
from memorag_core.memory.block_memory import BlockMemory
from memorag_core.memory.kv_cache import KeyValues as KeyValues
from memorag_core.memory.kv_cache import Room as Room


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Rows that were read in step: their slots, their unfinished window, and the place of their streams.

    Attributes:
        stream: where all rows stand.
        slots: M entries, keys rotated for positions 0 to M - 1.
        tail: the entries of the unfinished window in stream order, keys rotated for positions from M on.
        room: where ``slots`` lies and may grow; None when it lies alone.
    """

    stream: Stream
    slots: KeyValues
    tail: KeyValues
    room: Room | None = None

    @property
    def rows(self) -> int:
        """Rows, B."""
        return self.slots.rows

    @property
    def tokens(self) -> int:
        """Raw tokens of each row."""
        return self.stream.tokens

    @property
    def place(self) -> Stream:
        """Where the rows stand."""
        return self.stream

    @property
    def nbytes(self) -> int:
        """Bytes of the keys and values."""
        return self.slots.nbytes + self.tail.nbytes

    def of_rows(self, start: int, stop: int) -> Block:
        """A view of some rows."""
        return Block(self.stream, self.slots.of_rows(start, stop), self.tail.of_rows(start, stop))

    def on(self, device: str | torch.device) -> Block:
        """The same rows on a device; themselves where they lie there, else without room to grow."""
        slots, tail = self.slots.on(device), self.tail.on(device)
        if slots.keys is self.slots.keys and tail.keys is self.tail.keys:
            return self
        return Block(self.stream, slots, tail)

    def closed(self, tokens: int) -> Block:
        """A view of what the block was when its stream stood at the end of a window, ``tokens`` in."""
        stream = Stream(self.stream.window, self.stream.ratio, tokens)
        return Block(stream, self.slots.span(0, stream.slots), self.tail.span(0, 0))


class BeaconMemory(BlockMemory[Block]):
    """What a beacon model is left with: slots for windows that are closed, and all of the last one."""

    __slots__ = ()

    @property
    def stream(self) -> Stream:
        """Where the first row's stream stands: window, ratio, filled, since_beacon, slots."""
        return self.blocks[0].stream

    @property
    def slots(self) -> int:
        """Memory slots of the first row, M."""
        return self.stream.slots

    @property
    def ratio(self) -> int:
        """Raw tokens for one slot."""
        return self.stream.ratio

    @classmethod
    def stack(cls, memories: Sequence[BeaconMemory]) -> BeaconMemory:
        """Memories of equally many tokens as the rows of one; shares their bytes.

        Raises:
            InputError: there are none, or they do not stand at the same place.
        """
        if not memories:
            raise InputError("No memories to stack; expected one or more.")
        places = {block.stream for memory in memories for block in memory.blocks}
        if len(places) > 1:
            raise InputError(
                f"The memories to stack stand at different places: {sorted(map(str, places))}. Expected "
                "memories of equally many tokens, of one model and one ratio."
            )
        blocks = tuple(block for memory in memories for block in memory.blocks)
        return cls(blocks, memories[0].stream.tokens)
