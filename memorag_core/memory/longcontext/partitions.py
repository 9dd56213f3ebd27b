"""Long texts in parts: how a text is read that is longer than the model can see.

In: a host model, a memory, the next token ids of its text. Out: the memory of the text so far, a row a part.
Knows no words; where parts start is for ``memorag_core.memory.partitions`` to say.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from memorag_core.memory.local_model import text_of
from memorag_core.memory.longcontext.host import Host
from memorag_core.memory.longcontext.memory import Block, LongContextMemory
from memorag_core.memory.longcontext.prefill import Progress, empty_block, read
from memorag_core.memory.partitions import Cut, Span
from memorag_core.memory.tokenized_text import DocumentSpan, ReadText

BLOCK_ROWS, BLOCK_BYTES = 128, 1 << 28
"""Parts, and bytes of them, that are kept in one block if there are more than one: what appending copies at
most, and what is asked in one run."""

RESERVED = 2048
"""Positions that "auto" leaves to a request and its reply, or a quarter of them if that is less."""


def read_parts(
    host: Host,
    memory: LongContextMemory | None,
    ids: Tensor,
    documents: Sequence[DocumentSpan],
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
        documents: where the documents among them stand in the text.
        cut: how the text is cut; the head of a part counts beside the cut's tokens.
        head: ids that every part begins with.
        chunk: tokens that are run at once.
        progress: told of every chunk.

    Raises:
        InputError: the memory was made or continued by other means, so that what it read is not known.
    """
    before = text_of(memory) if memory is not None else ReadText.empty()
    text = before.followed_by(ids, documents)
    growth = cut.growth(len(before), len(text))
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
        blocks.append(read(host, blocks.pop().on(host.device), more, chunk=chunk, progress=progress).block)
    if growth.whole or growth.last is not None:  # then all that were read are full
        blocks = _append(host, blocks, [row(span) for span in growth.whole], chunk, progress)
    if growth.last is not None:
        last = row(growth.last)[None]
        blocks.append(read(host, empty_block(host, rows=1), last, chunk=chunk, progress=progress).block)
    return LongContextMemory(tuple(blocks), len(head) + len(text), text)


def _append(
    host: Host, blocks: Sequence[Block], rows: list[Tensor], chunk: int, progress: Progress | None
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
    # A block that has room for rows, and perhaps a row that has become full.
    loose = [block.on(host.device) for block in blocks[len(done) :]]
    while rows or loose:
        new = max(0, min(most - sum(block.rows for block in loose), len(rows)))
        if len(loose) == 1 and not new:
            done.append(loose[0])
        else:
            done.append(_joined(host, loose, rows[:new], chunk, progress))
        rows, loose = rows[new:], []
    return done


def _joined(
    host: Host, blocks: Sequence[Block], rows: list[Tensor], chunk: int, progress: Progress | None
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


def to_reread(host: Host, memory: LongContextMemory, documents: int, *, cut: Cut, head: int) -> int:
    """Tokens that ``cut_back`` reads again.

    That is none, or, where layers have dropped what lay behind their window, all of the last part that stays.

    Args:
        host: the model.
        memory: of a text.
        documents: how many stay.
        cut: how the text is cut.
        head: tokens that stand before the text of every part.
    """
    row, tokens = _last_row(memory, documents, cut, head)
    return 0 if row.tokens == tokens or _keeps_all(host, row) else tokens


def cut_back(
    host: Host,
    memory: LongContextMemory,
    documents: int,
    *,
    cut: Cut,
    head: Sequence[int],
    chunk: int,
    progress: Progress | None = None,
) -> LongContextMemory:
    """The memory of a text's first documents, as if the others had never been read.

    Args:
        host: the model.
        memory: of a text; it stays as it is.
        documents: how many stay, 1 or more.
        cut: how the text is cut.
        head: ids that every part begins with.
        chunk: tokens that are run at once.
        progress: told of every chunk.
    """
    text = text_of(memory).first(documents)
    spans = cut.spans(len(text))
    row, tokens = _last_row(memory, documents, cut, len(head))
    if row.tokens != tokens and _keeps_all(host, row):
        row = Block(tokens, 1, tuple(entries.span(0, tokens) for entries in row.kept), row.rooms)
    elif row.tokens != tokens:
        ids = torch.cat((torch.tensor(head, dtype=torch.int32), text.ids[spans[-1][0] :]))
        more = ids[None].to(device=host.device, dtype=torch.long)
        row = read(host, empty_block(host, rows=1), more, chunk=chunk, progress=progress).block
    blocks: list[Block] = []
    rows = len(spans) - 1
    for block in memory.blocks:
        if not rows:
            break
        blocks.append(block if block.rows <= rows else block.of_rows(0, rows))
        rows -= blocks[-1].rows
    blocks.append(row)
    if tokens == len(head) + cut.capacity:
        blocks = _append(host, blocks, [], chunk, progress)
    return LongContextMemory(tuple(blocks), len(head) + len(text), text)


def _last_row(memory: LongContextMemory, documents: int, cut: Cut, head: int) -> tuple[Block, int]:
    """The row in which the first documents end, and the tokens that it will have then."""
    spans = cut.spans(len(text_of(memory).first(documents)))
    start, end = spans[-1]
    return memory.row(len(spans) - 1).blocks[0], head + end - start


def _keeps_all(host: Host, row: Block) -> bool:
    return all(group.kept(row.tokens) == row.tokens for group in host.layout.groups)
