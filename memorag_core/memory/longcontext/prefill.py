"""Reading: tokens in, chunk by chunk, and a longer memory out.

In: a host model, a block of a memory, token ids. Out: the block after them, and the logits after the last
one. Knows no text, no questions and no parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from memorag_core.memory.block_memory import Progress
from memorag_core.memory.kv_cache import KeyValues, Room, claimed_room
from memorag_core.memory.longcontext.attention import ReadPass
from memorag_core.memory.longcontext.host import Host
from memorag_core.memory.longcontext.layout import Group
from memorag_core.memory.longcontext.memory import Block

CHUNK = 2048
"""Tokens that are run at once: enough to keep a GPU busy, few enough for small peaks."""


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What came of reading.

    Attributes:
        block: the memory after the tokens.
        logits: [B, vocabulary] float32, after the last token.
    """

    block: Block
    logits: Tensor


def empty_block(host: Host, *, rows: int) -> Block:
    """A block that has read nothing."""
    groups = range(len(host.layout.groups))
    kept = tuple(host.allocate(group, rows=rows, length=0) for group in groups)
    return Block(0, rows, kept, (None,) * len(kept))


def read(host: Host, block: Block, ids: Tensor, *, chunk: int, progress: Progress | None = None) -> Reading:
    """Continue a block with tokens.

    Layers that see all write behind what they have, in the block's own room if it is free, else what they
    have moves once to a larger one. Layers with a window go on in a work store of a window and a chunk.

    Args:
        host: the model.
        block: what was read before; it stays as it is.
        ids: [B, T] int64, T of 1 or more, on the host's device.
        chunk: tokens of all rows that are run at once.
        progress: told of every chunk.
    """
    each = min(max(1, chunk // block.rows), ids.shape[1])
    total = block.tokens + ids.shape[1]
    grown = [
        _Growing(host, number, group, block, total, each) for number, group in enumerate(host.layout.groups)
    ]
    logits = ids.new_zeros(0)
    kept = False
    try:
        for start in range(0, ids.shape[1], each):
            some = ids[:, start : start + each]
            before = block.tokens + start
            stores, filled = [one.store for one in grown], [one.filled for one in grown]
            positions = torch.arange(before, before + some.shape[1], device=ids.device)[None]
            logits = host.run(some, positions, ReadPass(host.layout, stores, filled, before))
            for one in grown:
                one.advance(some.shape[1])
            if progress is not None:
                progress(some.numel())
        kept = True
    finally:
        for one in grown:
            one.release(total if kept else block.tokens)
    after = Block(total, block.rows, tuple(one.entries() for one in grown), tuple(one.room for one in grown))
    return Reading(after, logits)


class _Growing:
    """The entries of one group while a block is continued; used by one call."""

    def __init__(self, host: Host, number: int, group: Group, block: Block, total: int, chunk: int) -> None:
        self._group = group
        self.room: Room | None = None
        self.filled = block.kept[number].length
        if group.window is None:
            self.room = claimed_room(block.rooms[number], block.kept[number], total)
            self.store = self.room.store
        else:
            length = min(total, group.window - 1 + chunk)
            self.store = host.allocate(number, rows=block.rows, length=length)
            self.store.span(0, self.filled).write(block.kept[number])

    def advance(self, count: int) -> None:
        """Count the entries of a chunk in; what no later token sees goes."""
        self.filled += count
        kept = self._group.kept(self.filled)
        if kept < self.filled:
            last = self.store.span(self.filled - kept, self.filled)
            self.store.span(0, kept).write(KeyValues(last.keys.clone(), last.values.clone()))
            self.filled = kept

    def entries(self) -> KeyValues:
        """What is kept, as a value."""
        entries = self.store.span(0, self.filled)
        return entries if self.room is not None else KeyValues(entries.keys.clone(), entries.values.clone())

    def release(self, end: int) -> None:
        """Let others continue behind ``end``."""
        if self.room is not None:
            self.room.release(end)
