"""Long texts in parts: how a text is read that is longer than the model can see.

In: a host model, rows of a text. Out: blocks of a memory, a row a part. Knows no words; how a text grows by
parts is for ``memorag_core.memory.part_reader`` to say.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from memorag_core.memory.block_memory import Progress
from memorag_core.memory.longcontext.host import Host
from memorag_core.memory.longcontext.memory import Block, LongContextMemory
from memorag_core.memory.longcontext.prefill import empty_block, read
from memorag_core.memory.part_reader import PartReader
from memorag_core.memory.partitions import Cut

BLOCK_ROWS, BLOCK_BYTES = 128, 1 << 28
"""Parts, and bytes of them, that are kept in one block if there are more than one: what appending copies at
most, and what is asked in one run."""

RESERVED = 2048
"""Positions that "auto" leaves to a request and its reply, or a quarter of them if that is less."""


class LongContextParts(PartReader[Block, LongContextMemory]):
    """Reads a text into parts that the model can see.

    Where documents at the end are taken back, nothing is read again, or, where layers have dropped what lay
    behind their window, all of the last part that stays.

    Args:
        host: the model.
        chunk: tokens that are run at once.
        cut: see ``PartReader``, as what follows.
        head: likewise.
        progress: told of every chunk.
    """

    _memory_type = LongContextMemory

    def __init__(
        self,
        host: Host,
        *,
        chunk: int,
        cut: Cut,
        head: Sequence[int] = (),
        progress: Progress | None = None,
    ) -> None:
        super().__init__(host.device, cut=cut, head=head, progress=progress)
        self._host = host
        self._chunk = chunk

    def _empty(self) -> Block:
        return empty_block(self._host, rows=1)

    def _read(self, row: Block, ids: Tensor) -> Block:
        return read(self._host, row, ids, chunk=self._chunk, progress=self.progress).block

    def _most_rows(self, tokens: int) -> int:
        return max(1, min(BLOCK_ROWS, BLOCK_BYTES // self._host.layout.nbytes(tokens)))

    def _joined(self, blocks: Sequence[Block], rows: Sequence[Tensor]) -> Block:
        """As many rows are read together as make a chunk."""
        host = self._host
        length = blocks[0].tokens if blocks else len(rows[0])
        together = max(1, min(len(rows), self._chunk // length))
        if not blocks and together >= len(rows):
            return self._read(empty_block(host, rows=len(rows)), torch.stack(list(rows)))
        count = sum(block.rows for block in blocks) + len(rows)
        kept = tuple(
            host.allocate(number, rows=count, length=group.kept(length))
            for number, group in enumerate(host.layout.groups)
        )
        row = 0

        def write(block: Block) -> None:
            for whole, entries in zip(kept, block.kept, strict=True):
                whole.of_rows(row, row + block.rows).write(entries)

        for block in blocks:
            write(block)
            row += block.rows
        for start in range(0, len(rows), together):
            some = torch.stack(list(rows[start : start + together]))
            write(self._read(empty_block(host, rows=len(some)), some))
            row += len(some)
        return Block(length, count, kept, (None,) * len(kept))

    def _reusable(self, row: Block, tokens: int) -> int:
        kept = all(group.kept(row.tokens) == row.tokens for group in self._host.layout.groups)
        return tokens if kept else 0

    def _shortened(self, row: Block, tokens: int) -> Block:
        return Block(tokens, 1, tuple(entries.span(0, tokens) for entries in row.kept), row.rooms)
