"""Long texts in parts: how a text is read that is longer than the model can see.

In: a host model, a memory, the next token ids of its text. Out: the memory of the text so far, a row a part.
Knows no words; where parts start is for ``memorag_core.cut`` to say.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from memorag_core.cut import Cut, Span
from memorag_core.errors import InputError
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
    recent = known[len(known) - min(cut.overlap, total) :].cpu()
    head_ids = torch.tensor(head, dtype=torch.long, device=ids.device)

    def row(span: Span) -> Tensor:
        return torch.cat((head_ids, known[span[0] - first : span[1] - first]))

    growth = cut.growth(before, total)
    blocks = list(memory.blocks) if memory is not None else []
    if growth.rest is not None:
        start, end = growth.rest
        more = known[None, start - first : end - first]
        blocks.append(read(host, blocks.pop(), more, chunk=chunk, progress=progress).block)
    if growth.whole or growth.last is not None:  # then all that were read are full
        blocks = _append(host, blocks, [row(span) for span in growth.whole], chunk, progress)
    if growth.last is not None:
        last = row(growth.last)[None]
        blocks.append(read(host, empty_block(host, rows=1), last, chunk=chunk, progress=progress).block)
    return LongContextMemory(tuple(blocks), len(head) + total, recent)


def _append(
    host: Host, blocks: Sequence[Block], rows: Sequence[Tensor], chunk: int, progress: Progress | None
) -> list[Block]:
    """Full parts and new ones of their size; blocks of many rows are taken as they are."""
    if not blocks and not rows:
        return []
    length = blocks[0].tokens if blocks else len(rows[0])
    most = max(1, min(BLOCK_ROWS, BLOCK_BYTES // host.layout.nbytes(length)))
    done: list[Block] = []
    for block in blocks:
        if block.rows < most:
            break
        done.append(block)
    loose = blocks[len(done) :]  # a block that has room for rows, and perhaps a row that has become full
    while rows or loose:
        new = max(0, min(most - sum(block.rows for block in loose), len(rows)))
        if len(loose) == 1 and not new:
            done.append(loose[0])
        else:
            done.append(_joined(host, loose, rows[:new], chunk, progress))
        rows, loose = rows[new:], []
    return done


def _joined(
    host: Host, blocks: Sequence[Block], rows: Sequence[Tensor], chunk: int, progress: Progress | None
) -> Block:
    """One block of rows that are there and rows that are read, as many together as make a chunk."""
    length = blocks[0].tokens if blocks else len(rows[0])
    together = max(1, min(len(rows), chunk // length))
    if not blocks and together >= len(rows):
        return read(
            host, empty_block(host, rows=len(rows)), torch.stack(rows), chunk=chunk, progress=progress
        ).block
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
        some = torch.stack(rows[start : start + together])
        write(read(host, empty_block(host, rows=len(some)), some, chunk=chunk, progress=progress).block)
        row += len(some)
    return Block(length, count, kept, (None,) * len(kept))
