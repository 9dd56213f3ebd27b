"""Long texts in parts: how a text that is cut is read, continued and cut back, a row of the memory a part.

In: a memory, the next token ids of its text. Out: the memory of the text so far. Knows no words and no kind
of model; where parts start is for ``memorag_core.memory.partitions`` to say.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import takewhile
from typing import Generic

import torch
from torch import Tensor

from memorag_core.memory.block_memory import B, M, Progress, text_of
from memorag_core.memory.partitions import Cut, Span
from memorag_core.memory.tokenized_text import DocumentSpan, ReadText


class PartReader(ABC, Generic[B, M]):
    """Reads a text into the parts of a memory; subclasses read rows. Made for one call.

    Args:
        device: where the model computes.
        cut: how the text is cut, None for one part; the head of a part counts beside the cut's tokens.
        head: ids that every part begins with.
        progress: told of all that is read; an attribute, to be set before.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        cut: Cut | None,
        head: Sequence[int] = (),
        progress: Progress | None = None,
    ) -> None:
        self.progress = progress
        self._device = device
        self._cut = cut
        self._head = torch.tensor(head, dtype=torch.long, device=device)

    # What a kind of memory says of its rows

    _memory_type: type[M]

    @abstractmethod
    def _empty(self) -> B:
        """A row that has read nothing."""

    @abstractmethod
    def _read(self, row: B, ids: Tensor) -> B:
        """Continue a row with ids [1, T] int64, T of 1 or more; both lie on the model's device."""

    @abstractmethod
    def _most_rows(self, tokens: int) -> int:
        """Rows of so many tokens that are kept in one block: what appending copies at most."""

    @abstractmethod
    def _joined(self, blocks: Sequence[B], rows: Sequence[Tensor]) -> B:
        """One block of rows that are there and rows [T] that are read, all of the same length."""

    @abstractmethod
    def _reusable(self, row: B, tokens: int) -> int:
        """How many of a row's first ``tokens`` stay as they are when those behind them go."""

    @abstractmethod
    def _shortened(self, row: B, tokens: int) -> B:
        """A view of what the row was at so many tokens, 1 or more, that are reusable."""

    # What follows from it

    def to_read(self, memory: M | None, tokens: int) -> int:
        """Tokens that reading so many behind a memory runs: those that parts share, twice."""
        before = len(text_of(memory)) if memory is not None else 0
        return self._cut.to_read(before, before + tokens) if self._cut is not None else tokens

    def read(self, memory: M | None, ids: Tensor, documents: Sequence[DocumentSpan]) -> M:
        """Continue a text.

        Args:
            memory: the memory of the text so far; None for its beginning.
            ids: [T] int64, T of 1 or more, on the model's device.
            documents: where the documents among them stand in the text.

        Raises:
            InputError: the memory was made or continued by other means, so that what it read is not known.
        """
        before = text_of(memory) if memory is not None else ReadText.empty()
        text = before.followed_by(ids, documents)
        growth = self._cut_of(text).growth(len(before), len(text))

        def tokens(span: Span) -> Tensor:
            start, end = span
            if start >= len(before):
                return ids[start - len(before) : end - len(before)]
            return text.ids[start:end].to(device=ids.device, dtype=torch.long)

        def row(span: Span) -> Tensor:
            return torch.cat((self._head, tokens(span)))

        blocks = list(memory.blocks) if memory is not None else []
        if growth.rest is not None:
            blocks.append(self._read(blocks.pop().on(self._device), tokens(growth.rest)[None]))
        if growth.whole or growth.last is not None:  # then all that were read are full
            blocks = self._with_rows(blocks, [row(span) for span in growth.whole])
        if growth.last is not None:
            blocks.append(self._read(self._empty(), row(growth.last)[None]))
        return self._memory(blocks, text)

    def to_reread(self, memory: M, documents: int) -> int:
        """Tokens that ``cut_back`` reads again."""
        row, tokens = self._last_row(memory, text_of(memory).first(documents))
        return 0 if row.tokens == tokens else tokens - self._reusable(row, tokens)

    def cut_back(self, memory: M, documents: int) -> M:
        """The memory of a text's first documents, as if the others had never been read.

        Args:
            memory: of a text; it stays as it is.
            documents: how many stay, 1 or more.
        """
        text = text_of(memory).first(documents)
        cut = self._cut_of(text)
        row, tokens = self._last_row(memory, text)
        if row.tokens != tokens:
            kept = self._reusable(row, tokens)
            row = self._shortened(row, kept) if kept else self._empty()
            start, _ = cut.spans(len(text))[-1]
            ids = text.ids[start:].to(device=self._device, dtype=torch.long)
            again = torch.cat((self._head, ids))[kept:]
            if len(again):
                row = self._read(row.on(self._device), again[None])
        blocks = [*memory.first_rows(cut.parts(len(text)) - 1), row]
        if tokens == len(self._head) + cut.capacity:
            blocks = self._with_rows(blocks, [])
        return self._memory(blocks, text)

    def _memory(self, blocks: Sequence[B], text: ReadText) -> M:
        return self._memory_type(tuple(blocks), len(self._head) + len(text), text)

    def _cut_of(self, text: ReadText) -> Cut:
        return self._cut if self._cut is not None else Cut(len(text) + 1, 0)

    def _last_row(self, memory: M, text: ReadText) -> tuple[B, int]:
        """The row in which the beginning of a memory's text ends, and the tokens that it will have then."""
        spans = self._cut_of(text).spans(len(text))
        start, end = spans[-1]
        return memory.row(len(spans) - 1).blocks[0], len(self._head) + end - start

    def _with_rows(self, blocks: Sequence[B], rows: list[Tensor]) -> list[B]:
        """Full parts and new ones [T] of their size; blocks of many rows are taken as they are."""
        if not blocks and not rows:
            return []
        most = self._most_rows(blocks[0].tokens if blocks else len(rows[0]))
        done = list(takewhile(lambda block: block.rows >= most, blocks))
        # A block that has room for rows, and perhaps a row that has become full.
        loose = [block.on(self._device) for block in blocks[len(done) :]]
        while rows or loose:
            new = max(0, min(most - sum(block.rows for block in loose), len(rows)))
            if len(loose) == 1 and not new:
                done.append(loose[0])
            else:
                done.append(self._joined(loose, rows[:new]))
            rows, loose = rows[new:], []
        return done
