"""Asking: questions and generated tokens follow a memory that stays as it is.

In: a host model, a block of a memory, prompts. Out: generated ids with their probabilities. Knows no text and
no kinds of clue.

All that askers bring lies in columns of their own, prompts of different lengths filled up on their left.
Shape letters: R lanes (prompts), B rows of the block; rows of the run count lane by lane, within a lane part
by part.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from memorag_core.memory.decoding import Ended, Generated, Replies, decode
from memorag_core.memory.kv_cache import KeyValues
from memorag_core.memory.longcontext.attention import NOWHERE, AskPass
from memorag_core.memory.longcontext.host import Host
from memorag_core.memory.longcontext.memory import Block


class Asking:
    """One call's run of R prompts over the B rows of a block; used by one thread and thrown away."""

    def __init__(self, host: Host, block: Block, *, lanes: int, columns: int) -> None:
        self._host = host
        self._block = block
        rows = lanes * block.rows
        groups = range(len(host.layout.groups))
        self._own = [host.allocate(group, rows=rows, length=columns) for group in groups]
        self._used = 0  # own columns written
        self._cells = torch.arange(rows, device=host.device)  # lane * B + part of each row
        self._positions = self._cells.new_zeros(lanes, 0)  # [R, columns used]

    def feed(self, prompts: Sequence[Tensor], replies: Replies | None = None, *, chunk: int) -> Tensor:
        """Feed every lane its prompt.

        Args:
            prompts: R tensors [B, T], T of 1 or more, not the same for all.
            replies: to them; None where nobody can end them.
            chunk: tokens of all rows that are run at once.

        Returns:
            [R * B, vocabulary] the logits after each row's last token.

        Raises:
            Ended: Who listens to the replies has ended them.
        """
        longest = max(prompt.shape[1] for prompt in prompts)
        ids = prompts[0].new_zeros(len(prompts), self._block.rows, longest)
        places = torch.full((len(prompts), longest), NOWHERE, device=ids.device)
        for lane, prompt in enumerate(prompts):
            length = prompt.shape[1]
            ids[lane, :, longest - length :] = prompt
            places[lane, longest - length :] = self._block.tokens + torch.arange(length, device=ids.device)
        each = max(1, chunk // len(self._cells))
        logits = ids.new_zeros(0)
        for start in range(0, longest, each):
            if replies is not None:
                replies.check_go_on()
            some = slice(start, start + each)
            logits = self._run(ids[:, :, some].flatten(0, 1), places[:, some])
        return logits

    def feed_one(self, ids: Tensor) -> Tensor:
        """Feed every row that goes on one token: ids [rows] -> logits [rows, vocabulary]."""
        return self._run(ids[:, None], self._positions[:, -1:] + 1)

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these; a lane without rows goes too."""
        index = torch.tensor(rows, device=self._cells.device)
        self._own = [
            KeyValues(own.keys.index_select(1, index), own.values.index_select(1, index)) for own in self._own
        ]
        cells = self._cells[index]
        parts = self._block.rows
        kept, lanes = torch.unique(cells // parts, return_inverse=True)
        self._positions = self._positions[kept]
        self._cells = lanes * parts + cells % parts

    def _run(self, ids: Tensor, places: Tensor) -> Tensor:
        """Run [rows, N] tokens at positions [R, N] -> [rows, vocabulary] after the last."""
        start, stop = self._used, self._used + ids.shape[1]
        self._reserve(stop)
        self._positions = torch.cat((self._positions, places), dim=1)
        running = AskPass(
            layout=self._host.layout,
            lanes=len(self._positions),
            parts=self._block.rows,
            tokens=self._block.tokens,
            memory=self._block.kept,
            own=self._own,
            start=start,
            cells=self._cells,
            positions=self._positions,
        )
        filled = places.masked_fill(places == NOWHERE, 0)
        logits = self._host.run(ids, filled[self._cells // self._block.rows], running)
        self._used = stop
        return logits

    def _reserve(self, columns: int) -> None:
        if columns > self._own[0].length:
            length = max(columns, 2 * self._own[0].length)
            larger = [own.allocate(rows=own.rows, length=length) for own in self._own]
            for old, new in zip(self._own, larger, strict=True):
                new.span(0, self._used).write(old.span(0, self._used))
            self._own = larger


def generate(
    host: Host,
    block: Block,
    prompts: Sequence[Tensor],
    replies: Replies,
    *,
    chunk: int,
    stop: Collection[int] = (),
) -> list[Generated]:
    """Ask prompts of every row of a block, greedily; the block stays as it is.

    Args:
        host: the model.
        block: the memory.
        prompts: R tensors [B, T] int64 on the host's device, T of 1 or more.
        replies: how the R * B replies are decoded.
        chunk: tokens of all rows that are run at once.
        stop: token ids that end a row.

    Returns:
        R * B replies, prompt by prompt, within a prompt row by row.
    """
    longest = max(prompt.shape[1] for prompt in prompts)
    asking = Asking(host, block, lanes=len(prompts), columns=longest + replies.longest - 1)
    try:
        logits = asking.feed(prompts, replies, chunk=chunk)
    except Ended:
        return replies.unsaid()
    return decode(
        logits,
        replies,
        feed_one=asking.feed_one,
        keep=asking.keep,
        stop=stop,
    )
