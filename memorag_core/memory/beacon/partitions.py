"""Long texts in parts: how a text is read that one memory cannot hold well.

In: a host model, rows of a text. Out: blocks of a memory, a row a part. Knows no words; how a text grows by
parts is for ``memorag_core.memory.part_reader`` to say.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from memorag_core.memory.beacon.cache import BeaconMemory, Block
from memorag_core.memory.beacon.host import Host
from memorag_core.memory.beacon.prefill import empty_block, read, read_windows
from memorag_core.memory.beacon.schedule import Stream
from memorag_core.memory.block_memory import Progress
from memorag_core.memory.part_reader import PartReader
from memorag_core.memory.partitions import Cut

BLOCK_ROWS = 128
"""Parts kept in one block: what appending copies at most, and what is asked in one run."""

READ_TOKENS_CPU, READ_TOKENS = 1 << 11, 1 << 16
"""Raw tokens that are run at once over the parts that are read together: on a CPU what its caches hold, else
what keeps a GPU busy."""


class BeaconParts(PartReader[Block, BeaconMemory]):
    """Reads a text into parts of slots.

    A window, once closed, depends on nothing behind it: where documents at the end are taken back, the slots
    of closed windows stay, and the tokens of the one that was open are read again.

    Args:
        host: the model.
        stream: the place of an empty stream.
        cut: see ``PartReader``, as what follows.
        head: likewise.
        progress: told of every window.
    """

    _memory_type = BeaconMemory

    def __init__(
        self,
        host: Host,
        stream: Stream,
        *,
        cut: Cut | None,
        head: Sequence[int] = (),
        progress: Progress | None = None,
    ) -> None:
        super().__init__(host.device, cut=cut, head=head, progress=progress)
        self._host = host
        self._stream = stream

    def _empty(self) -> Block:
        return empty_block(self._host, self._stream, rows=1)

    def _read(self, row: Block, ids: Tensor) -> Block:
        return read(self._host, row, ids, progress=self.progress).block

    def _most_rows(self, tokens: int) -> int:
        return BLOCK_ROWS

    def _joined(self, blocks: Sequence[Block], rows: Sequence[Tensor]) -> Block:
        """The rows are read a few at a time in one work store."""
        host, stream = self._host, self._stream
        after = blocks[0].stream if blocks else stream.after(len(rows[0]))
        slots = host.allocate(rows=sum(block.rows for block in blocks) + len(rows), length=after.slots)
        row = 0
        for block in blocks:
            slots.of_rows(row, row + block.rows).write(block.slots)
            row += block.rows
        if rows:
            tokens = READ_TOKENS_CPU if host.device.type == "cpu" else READ_TOKENS
            together = max(1, min(len(rows), tokens // stream.window))
            work = host.allocate(rows=together, length=after.slots + stream.window)
            for start in range(0, len(rows), together):
                some = torch.stack(list(rows[start : start + together]))
                store = work.of_rows(0, len(some))
                read_windows(host, store, stream, some, progress=self.progress)
                slots.of_rows(row, row + len(some)).write(store.span(0, after.slots))
                row += len(some)
        return Block(after, slots, slots.span(0, 0))

    def _reusable(self, row: Block, tokens: int) -> int:
        return tokens - tokens % row.stream.window

    def _shortened(self, row: Block, tokens: int) -> Block:
        return row.closed(tokens)
