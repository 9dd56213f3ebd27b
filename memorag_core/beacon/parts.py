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
from memorag_core.cut import Span
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
    recent = known[len(known) - min(cut.overlap, total) :].cpu()
    head_ids = torch.tensor(head, dtype=torch.long, device=ids.device)

    def row(span: Span) -> Tensor:
        return torch.cat((head_ids, known[span[0] - first : span[1] - first]))

    growth = cut.growth(before, total)
    blocks = list(memory.blocks) if memory is not None else []
    if growth.rest is not None:
        start, end = growth.rest
        more = known[None, start - first : end - first]
        blocks.append(read(host, blocks.pop(), more, progress=progress).block)
    if growth.whole or growth.last is not None:  # then all that were read are full
        blocks = _append(host, blocks, [row(span) for span in growth.whole], stream, progress)
    if growth.last is not None:
        beginning = empty_block(host, stream, rows=1)
        blocks.append(read(host, beginning, row(growth.last)[None], progress=progress).block)
    return BeaconMemory(tuple(blocks), len(head) + total, recent)


def _append(
    host: Host,
    blocks: Sequence[Block],
    rows: Sequence[Tensor],
    stream: Stream,
    progress: Progress | None,
) -> list[Block]:
    """Full parts and new ones of their size; blocks of many rows are taken as they are."""
    done = [block for block in blocks if block.rows == BLOCK_ROWS]
    loose = blocks[len(done) :]  # a block that has room for rows, and perhaps a row that has become full
    while rows or loose:
        new = min(BLOCK_ROWS - sum(block.rows for block in loose), len(rows))
        done.append(loose[0] if len(loose) == 1 and not new else _joined(host, loose, rows[:new], stream, progress))
        rows, loose = rows[new:], []
    return done

def _joined(
    host: Host, blocks: Sequence[Block], rows: Sequence[Tensor], stream: Stream, progress: Progress | None
) -> Block:
    """One block of rows that are there and rows that are read, a few at a time in one work store."""
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
            some = torch.stack(rows[start : start + together])
            store = work.of_rows(0, len(some))
            read_windows(host, store, stream, some, progress=progress)
            slots.of_rows(row, row + len(some)).write(store.span(0, after.slots))
            row += len(some)
    return Block(after, slots, slots.span(0, 0))
