"""Long texts in parts: how a text is read that is longer than the model can see.

In: a host model, a memory, the next token ids of its text. Out: the memory of the text so far, a row a part.
Knows no words; where parts start is for ``memorag_core.cut`` to say.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from memorag_core.cut import Cut
from memorag_core.errors import InputError
from memorag_core.keyvalues import KeyValues
from memorag_core.longcontext.host import Host
from memorag_core.longcontext.memory import Block, LongContextMemory
from memorag_core.longcontext.reading import Progress, empty_block, read

BLOCK_ROWS, BLOCK_BYTES = 128, 1 << 28
"""Parts, and bytes of them, that are kept in one block if there are more than one: what appending copies at
most, and what is asked in one run."""


def read_parts(
    host: Host,
    memory: LongContextMemory | None,
    ids: Tensor,
    *,
    cut: Cut,
    head: Sequence[int],
    chunk: int,
    progress: Progress | None = None,
) -> LongContextMemory:
    """Continue a text that is cut into parts.

    Args:
        host: the model.
        memory: the memory of the text so far; None for its beginning.
        ids: [T] int64, T of 1 or more, on the host's device.
        cut: how the text is cut; the head of a part counts beside the cut's tokens.
        head: ids that every part begins with.
        chunk: tokens that are run at once.
        progress: told of every chunk.

    Raises:
        InputError: the memory was made or continued by other means, so that its last tokens are not known.
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
        block = memory.blocks[0] if memory is not None else empty_block(host, rows=1)
        beginning = head_ids if memory is None else head_ids[:0]
        done = read(host, block, torch.cat((beginning, ids))[None], chunk=chunk, progress=progress)
        return LongContextMemory((done.block,), len(head) + total, recent)

    kept = list(memory.blocks) if memory is not None else []
    if 0 < before < cut.capacity:  # the first part is still open: it is filled up
        kept = [read(host, kept[0], ids[None, : cut.capacity - before], chunk=chunk, progress=progress).block]
        count = 1
    else:
        count = cut.whole(before)
    starts = cut.starts(total)[count:]
    tokens = torch.stack([known[start - first : start - first + cut.capacity] for start in starts])
    rows = torch.cat((head_ids.expand(len(starts), -1), tokens), dim=1)
    return LongContextMemory(_append(host, kept, count, rows, chunk, progress), len(head) + total, recent)


def _append(
    host: Host, blocks: Sequence[Block], count: int, rows: Tensor, chunk: int, progress: Progress | None
) -> tuple[Block, ...]:
    """The first ``count`` rows of the blocks, then new ones; blocks that are full are taken as they are."""
    most = max(1, min(BLOCK_ROWS, BLOCK_BYTES // host.layout.nbytes(rows.shape[1])))
    done: list[Block] = []
    for block in blocks:
        if count < block.rows or block.rows < most:
            break
        done.append(block)
        count -= block.rows
    open_block = blocks[len(done)].of_rows(0, count) if count else None
    while len(rows) or open_block is not None:
        old = open_block.rows if open_block is not None else 0
        new = max(0, min(most - old, len(rows)))
        done.append(_read_block(host, open_block, rows[:new], chunk, progress))
        rows, open_block = rows[new:], None
    return tuple(done)


def _read_block(
    host: Host, before: Block | None, rows: Tensor, chunk: int, progress: Progress | None
) -> Block:
    """One block of rows that are there and rows that are read, as many together as make a chunk."""
    length = rows.shape[1]
    together = max(1, min(len(rows), chunk // length))
    if before is None and together >= len(rows):
        return read(host, empty_block(host, rows=len(rows)), rows, chunk=chunk, progress=progress).block
    old = before.rows if before is not None else 0
    kept: list[KeyValues] = []
    for number, group in enumerate(host.layout.groups):
        kept.append(host.allocate(number, rows=old + len(rows), length=group.kept(length)))
        if before is not None:
            kept[-1].of_rows(0, old).write(before.kept[number])
    for start in range(0, len(rows), together):
        some = rows[start : start + together]
        done = read(host, empty_block(host, rows=len(some)), some, chunk=chunk, progress=progress).block
        for whole, entries in zip(kept, done.kept, strict=True):
            whole.of_rows(old + start, old + start + len(some)).write(entries)
    return Block(length, old + len(rows), tuple(kept), (None,) * len(kept))
