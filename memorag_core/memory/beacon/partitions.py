"""Long texts in parts: where a text is cut that one memory cannot hold well, and how the parts are read.

In: a host model, a memory, the next token ids of its text. Out: the memory of the text so far, a row a part.
Knows no words.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from memorag_core.memory.beacon.cache import BeaconMemory, Block
from memorag_core.memory.beacon.host import Host
from memorag_core.memory.beacon.prefill import Progress, empty_block, read, read_windows
from memorag_core.memory.beacon.schedule import Stream
from memorag_core.memory.local_model import text_of
from memorag_core.memory.partitions import Cut as Cut
from memorag_core.memory.partitions import Span
from memorag_core.memory.tokenized_text import DocumentSpan, ReadText

BLOCK_ROWS = 128
"""Parts kept in one block: what appending copies at most, and what is asked in one run."""

READ_TOKENS_CPU, READ_TOKENS = 1 << 11, 1 << 16
"""Raw tokens that are run at once over the parts that are read together: on a CPU what its caches hold, else
what keeps a GPU busy."""


def read_parts(
    host: Host,
    memory: BeaconMemory | None,
    ids: Tensor,
    documents: Sequence[DocumentSpan],
    *,
    stream: Stream,
    cut: Cut | None,
    head: Sequence[int] = (),
    progress: Progress | None = None,
) -> BeaconMemory:
    """Continue a text, in parts where it is cut.

    Args:
        host: the model.
        memory: the memory of the text so far; None for its beginning.
        ids: [T] int64, T of 1 or more, on the host's device.
        documents: where the documents among them stand in the text.
        stream: the place of an empty stream.
        cut: how the text is cut, None for one part; the head of a part counts into its capacity beside the
            cut's tokens.
        head: ids that every part begins with.
        progress: told of every window.

    Raises:
        InputError: the memory was made or continued by other means, so that what it read is not known.
    """
    before = text_of(memory) if memory is not None else ReadText.empty()
    text = before.followed_by(ids, documents)
    growth = (cut or Cut(len(text) + 1, 0)).growth(len(before), len(text))
    head_ids = torch.tensor(head, dtype=torch.long, device=ids.device)

    def tokens(span: Span) -> Tensor:
        start, end = span
        if start >= len(before):
            return ids[start - len(before) : end - len(before)]
        return text.ids[start:end].to(device=ids.device, dtype=torch.long)

    def row(span: Span) -> Tensor:
        return torch.cat((head_ids, tokens(span)))

    blocks = list(memory.blocks) if memory is not None else []
    if growth.rest is not None:
        more = tokens(growth.rest)[None]
        blocks.append(read(host, blocks.pop().on(host.device), more, progress=progress).block)
    if growth.whole or growth.last is not None:  # then all that were read are full
        blocks = _append(host, blocks, [row(span) for span in growth.whole], stream, progress)
    if growth.last is not None:
        beginning = empty_block(host, stream, rows=1)
        blocks.append(read(host, beginning, row(growth.last)[None], progress=progress).block)
    return BeaconMemory(tuple(blocks), len(head) + len(text), text)


def _append(
    host: Host,
    blocks: Sequence[Block],
    rows: list[Tensor],
    stream: Stream,
    progress: Progress | None,
) -> list[Block]:
    """Full parts and new ones of their size; blocks of many rows are taken as they are."""
    done = [block for block in blocks if block.rows == BLOCK_ROWS]
    # A block that has room for rows, and perhaps a row that has become full.
    loose = [block.on(host.device) for block in blocks[len(done) :]]
    while rows or loose:
        new = min(BLOCK_ROWS - sum(block.rows for block in loose), len(rows))
        if len(loose) == 1 and not new:
            done.append(loose[0])
        else:
            done.append(_joined(host, loose, rows[:new], stream, progress))
        rows, loose = rows[new:], []
    return done


def _joined(
    host: Host, blocks: Sequence[Block], rows: list[Tensor], stream: Stream, progress: Progress | None
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


def to_reread(memory: BeaconMemory, documents: int, *, cut: Cut | None, head: int) -> int:
    """Tokens that ``cut_back`` reads again: those since a window was last closed, a window less one at most.

    Args:
        memory: of a text.
        documents: how many stay.
        cut: how the text is cut.
        head: tokens that stand before the text of every part.
    """
    row, tokens = _last_row(memory, documents, cut, head)
    return 0 if row.stream.tokens == tokens else tokens % row.stream.window


def cut_back(
    host: Host,
    memory: BeaconMemory,
    documents: int,
    *,
    cut: Cut | None,
    head: Sequence[int] = (),
    progress: Progress | None = None,
) -> BeaconMemory:
    """The memory of a text's first documents, as if the others had never been read.

    A window, once closed, depends on nothing behind it: the slots of closed windows are taken over, and the
    tokens of the one that was open at the end of the last document are read again.

    Args:
        host: the model.
        memory: of a text; it stays as it is.
        documents: how many stay, 1 or more.
        cut: how the text is cut.
        head: ids that every part begins with.
        progress: told of every window.
    """
    text = text_of(memory).first(documents)
    row, tokens = _last_row(memory, documents, cut, len(head))
    start, _ = _spans(len(text), cut)[-1]
    if row.stream.tokens != tokens:
        closed = tokens - tokens % row.stream.window
        row = row.closed(closed).on(host.device)
        ids = torch.cat((torch.tensor(head, dtype=torch.int32), text.ids[start:]))[closed:]
        if len(ids):
            more = ids[None].to(device=host.device, dtype=torch.long)
            row = read(host, row, more, progress=progress).block
    blocks: list[Block] = []
    rows = len(_spans(len(text), cut)) - 1
    for block in memory.blocks:
        if not rows:
            break
        blocks.append(block if block.rows <= rows else block.of_rows(0, rows))
        rows -= blocks[-1].rows
    stream = Stream(row.stream.window, row.stream.ratio)
    whole = cut is not None and tokens == len(head) + cut.capacity
    blocks = _append(host, [*blocks, row], [], stream, progress) if whole else [*blocks, row]
    return BeaconMemory(tuple(blocks), len(head) + len(text), text)


def _spans(tokens: int, cut: Cut | None) -> list[Span]:
    return (cut or Cut(tokens + 1, 0)).spans(tokens)


def _last_row(memory: BeaconMemory, documents: int, cut: Cut | None, head: int) -> tuple[Block, int]:
    """The row in which the first documents end, and the tokens that it will have then."""
    spans = _spans(len(text_of(memory).first(documents)), cut)
    start, end = spans[-1]
    return memory.row(len(spans) - 1).blocks[0], head + end - start
