"""Long texts in parts: where a text is cut that one memory cannot hold well, and how the parts are read.

In: a host model, a memory, the next token ids of its text. Out: the memory of the text so far, a row a part.
Knows no words.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from memorag_core.beacon.cache import BeaconMemory, Block
from memorag_core.beacon.host import Host
from memorag_core.beacon.reading import Progress, empty_block, read, read_windows
from memorag_core.beacon.windows import Stream
from memorag_core.cut import Cut as Cut
from memorag_core.errors import InputError

BLOCK_ROWS = 128
"""Parts kept in one block: what appending copies at most, and what is asked in one run."""

READ_TOKENS_CPU, READ_TOKENS = 1 << 11, 1 << 16
"""Raw tokens that are run at once over the parts that are read together: on a CPU what its caches hold, else
what keeps a GPU busy."""


def read_parts(
    host: Host,
    memory: BeaconMemory | None,
    ids: Tensor,
    *,
    stream: Stream,
    cut: Cut,
    head: Sequence[int] = (),
    progress: Progress | None = None,
) -> BeaconMemory:
    """Continue a text that is cut into parts.

    Args:
        host: the model.
        memory: the memory of the text so far; None for its beginning.
        ids: [T] int64, T of 1 or more, on the host's device.
        stream: the place of an empty stream.
        cut: how the text is cut; the head of a part counts into its capacity beside the cut's tokens.
        head: ids that every part begins with.
        progress: told of every window.

    Raises:
        InputError: the memory was continued by other means, so that its last tokens are not known.
    """
    before = memory.tokens - len(head) if memory is not None else 0
    total = before + len(ids)
    known = ids
    if memory is not None:
        if memory.recent is None:
            raise InputError(
                "This memory was made or continued by feed(), so it cannot be cut into parts. Continue it "
                "with feed(), or memorize the text again."
            )
        known = torch.cat((memory.recent.to(ids.device), ids))
    first = total - len(known)  # the place in the text of the first token that is known
    recent = known[-cut.capacity :].cpu()
    head_ids = torch.tensor(head, dtype=torch.long, device=ids.device)

    if total <= cut.capacity:
        block = memory.blocks[0] if memory is not None else empty_block(host, stream, rows=1)
        beginning = head_ids if memory is None else head_ids[:0]
        done = read(host, block, torch.cat((beginning, ids))[None], progress=progress)
        return BeaconMemory((done.block,), len(head) + total, recent)

    kept = list(memory.blocks) if memory is not None else []
    if 0 < before < cut.capacity:  # the first part is still open; it closes where the second began to matter
        kept = [read(host, kept[0], ids[None, : cut.capacity - before], progress=progress).block]
        count = 1
    else:
        count = cut.whole(before)
    starts = cut.starts(total)[count:]
    tokens = torch.stack([known[start - first : start - first + cut.capacity] for start in starts])
    rows = torch.cat((head_ids.expand(len(starts), -1), tokens), dim=1)
    return BeaconMemory(_append(host, kept, count, rows, stream, progress), len(head) + total, recent)


def _append(
    host: Host, blocks: Sequence[Block], count: int, rows: Tensor, stream: Stream, progress: Progress | None
) -> tuple[Block, ...]:
    """The first ``count`` rows of the blocks, then new ones; blocks that are full are taken as they are."""
    done: list[Block] = []
    for block in blocks:
        if count < block.rows or block.rows < BLOCK_ROWS:
            break
        done.append(block)
        count -= block.rows
    open_block = blocks[len(done)].row(0, count) if count else None
    while len(rows) or open_block is not None:
        old = open_block.rows if open_block is not None else 0
        new = min(BLOCK_ROWS - old, len(rows))
        done.append(_read_block(host, open_block, rows[:new], stream, progress))
        rows, open_block = rows[new:], None
    return tuple(done)


def _read_block(
    host: Host, before: Block | None, rows: Tensor, stream: Stream, progress: Progress | None
) -> Block:
    """One block of rows that are there and rows that are read, a few at a time in one work store."""
    after = stream.after(rows.shape[1]) if before is None else before.stream
    old = before.rows if before is not None else 0
    slots = host.allocate(rows=old + len(rows), length=after.slots)
    if before is not None:
        slots.of_rows(0, old).write(before.slots)
    tokens = READ_TOKENS_CPU if host.device.type == "cpu" else READ_TOKENS
    together = max(1, min(len(rows), tokens // stream.window))
    work = host.allocate(rows=together, length=after.slots + stream.window)
    for start in range(0, len(rows), together):
        some = rows[start : start + together]
        store = work.of_rows(0, len(some))
        read_windows(host, store, stream, some, progress=progress)
        slots.of_rows(old + start, old + start + len(some)).write(store.span(0, after.slots))
    return Block(after, slots, slots.span(0, 0))
