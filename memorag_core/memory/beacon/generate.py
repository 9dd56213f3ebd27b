"""Asking: questions and generated tokens continue the stream after a memory that stays as it is.

In: a host model, a block of a memory, prompts. Out: hidden states, generated ids with their probabilities.
Knows no text and no kinds of clue.

All that askers bring lies in columns of their own. A window may close while asking: its beacons then become
slots among those columns. Shape letters: R lanes (prompts), B rows of the block; rows of the run count lane
by lane, within a lane part by part.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from memorag_core.memory.beacon.attention import SharedPass
from memorag_core.memory.beacon.cache import Block, KeyValues
from memorag_core.memory.beacon.host import Host
from memorag_core.memory.beacon.schedule import Ints, Step, Stream, next_step
from memorag_core.memory.decoding import Ended, Generated, Replies, decode

Bools = npt.NDArray[np.bool_]

CHUNK = 2048
"""Tokens of all rows of a prompt that are run at once where somebody listens, who may end it in between."""

SPEAKERS = 4
SILENT_ABOVE = 0.97
"""Of a model that can say that it remembers nothing, so many parts of a block reply to a prompt, those that
say it least, and none that says it with more than this probability: most parts of a long text know nothing of
a question, and what they would say costs time and misleads."""


@dataclass(slots=True)
class _Lane:
    """One prompt's place: its stream, what of the memory's window it sees, and where its window lies.

    Attributes:
        stream: where it stands.
        window: [V] bool, which of the shared window's entries it sees.
        alive: [columns] bool, which of the own columns it sees.
        columns: [entries of the unfinished window] own column of each, -1 for one of the shared window.
    """

    stream: Stream
    window: Bools
    alive: Bools
    columns: Ints


class Asking:
    """One call's run of R prompts over the B rows of a block; used by one thread and thrown away."""

    def __init__(self, host: Host, block: Block, *, lanes: int, columns: int) -> None:
        self._host = host
        self._block = block
        self._window = block.tail  # shared: the memory's unfinished window, later also its beacons as slots
        self._own = host.allocate(rows=lanes * block.rows, length=columns)
        self._used = 0  # own columns written
        entries = block.tail.length
        self._lanes = [
            _Lane(block.stream, np.ones(entries, bool), np.zeros(0, bool), np.full(entries, -1, np.int64))
            for _ in range(lanes)
        ]
        self._cells = np.arange(lanes * block.rows)  # lane * B + part of each row

    @property
    def stream(self) -> Stream:
        """Where the first lane stands."""
        return self._lanes[0].stream

    def feed(self, prompts: Sequence[Tensor], replies: Replies | None = None) -> Tensor:
        """Feed every lane its tokens.

        Args:
            prompts: R tensors [B, T], T of 1 or more, not the same for all.
            replies: to them; None or such that nobody listens to are read a window at a time.

        Returns:
            [R * B, hidden] the hidden state of each row's last token.

        Raises:
            Ended: Who listens to the replies has ended them.
        """
        most = max(map(_length, prompts))
        if replies is not None and replies.listener is not None:
            most = max(1, CHUNK // len(self._cells))
        lengths = [_length(prompt) for prompt in prompts]
        fed = [0] * len(prompts)
        last: list[Tensor | None] = [None] * len(prompts)
        while any(at < length for at, length in zip(fed, lengths, strict=True)):
            if replies is not None:
                replies.check_go_on()
            taken = [
                next_step(lane.stream, min(most, length - at)) if at < length else None
                for lane, at, length in zip(self._lanes, fed, lengths, strict=True)
            ]
            raw = max(step.raw for step in taken if step is not None)
            ids = prompts[0].new_zeros(len(prompts), self._block.rows, raw)
            for lane, step in enumerate(taken):
                if step is not None:
                    ids[lane, :, : step.raw] = prompts[lane][:, fed[lane] : fed[lane] + step.raw]
            hidden = self._run(ids.flatten(0, 1), taken).unflatten(0, (len(prompts), self._block.rows))
            for lane, step in enumerate(taken):
                if step is not None:
                    fed[lane] += step.raw
                    if fed[lane] == lengths[lane]:
                        last[lane] = hidden[lane, :, step.raw - 1]
        return torch.cat([states for states in last if states is not None])

    def feed_all(self, ids: Tensor) -> Tensor:
        """Feed the only lane tokens that do not fill its window: [B, T] -> hidden states [B, T, hidden]."""
        return self._run(ids, [next_step(self.stream, ids.shape[1])])

    def feed_one(self, ids: Tensor) -> Tensor:
        """Feed every row that goes on one token: ids [rows] -> hidden states [rows, hidden]."""
        taken: list[Step | None] = [next_step(lane.stream, 1) for lane in self._lanes]
        return self._run(ids[:, None], taken)[:, 0]

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these; a lane without rows goes too."""
        index = self._host.tensor(np.asarray(rows, dtype=np.int64))
        self._own = KeyValues(self._own.keys.index_select(1, index), self._own.values.index_select(1, index))
        lanes, parts = np.divmod(self._cells[list(rows)], self._block.rows)
        kept, lanes = np.unique(lanes, return_inverse=True)
        self._lanes = [self._lanes[lane] for lane in kept]
        self._cells = lanes * self._block.rows + parts

    def window_entries(self) -> KeyValues:
        """The entries of the first lane's unfinished window, in stream order; no window may have closed."""
        columns = self._lanes[0].columns
        own = self._own.at(self._host.tensor(columns[columns >= 0]))
        before = self._block.tail
        return KeyValues(
            torch.cat((before.keys, own.keys), dim=3), torch.cat((before.values, own.values), dim=3)
        )

    def _run(self, ids: Tensor, taken: Sequence[Step | None]) -> Tensor:
        """Run [rows, raw] tokens, of which a lane means what its step takes -> [rows, raw, hidden]."""
        raw = ids.shape[1]
        beacons = max(step.beacons for step in taken if step is not None)
        start, stop = self._used, self._used + raw + beacons
        self._reserve(stop)
        alike = len({(lane.stream, step) for lane, step in zip(self._lanes, taken, strict=True)}) == 1
        views = [
            self._place(lane, step, raw, start, stop) for lane, step in zip(self._lanes, taken, strict=True)
        ]
        positions = np.stack([view.positions for view in views])  # [R, N]
        visible = np.stack([view.visible for view in views])  # [R, N, window + stop]
        if alike:
            positions, visible = positions[:1], visible[:1]
        else:
            positions = positions[self._cells // self._block.rows]  # [rows, N]
        full = len(self._cells) == len(self._lanes) * self._block.rows
        running = SharedPass(
            raw=raw,
            lanes=len(self._lanes),
            slots=self._block.slots,
            window=self._window,
            own=self._own,
            start=start,
            cells=None if full else self._host.tensor(self._cells),
            visible=None if visible.all() else torch.from_numpy(visible).to(self._host.device),
        )
        hidden = self._host.run(ids, beacons, self._host.tensor(positions), running)
        self._used = stop
        for index, step in enumerate(taken):
            if step is not None:
                if step.closes:
                    self._close_window(index, step)
                self._lanes[index].stream = step.after
        return hidden[:, :raw]

    def _place(self, lane: _Lane, step: Step | None, raw: int, start: int, stop: int) -> _View:
        """Give a lane's entries their columns; what it does not mean is filler that nobody sees."""
        entries = np.full(stop - start, -1, dtype=np.int64)
        slots = lane.stream.slots
        if step is not None:
            entries[: step.raw] = step.entries[: step.raw]
            entries[raw : raw + step.beacons] = step.entries[step.raw :]
        meant = entries >= 0
        shared = len(lane.window)
        visible = np.empty((stop - start, shared + stop), dtype=bool)
        visible[:, :shared] = lane.window
        visible[:, shared : shared + start] = lane.alive
        visible[:, shared + start :] = meant[None] & (entries[None] <= entries[:, None])
        np.fill_diagonal(visible[:, shared + start :], True)  # filler, too, must see something: itself
        lane.alive = np.concatenate((lane.alive, meant))
        columns = np.empty(lane.columns.size + np.count_nonzero(meant), dtype=np.int64)
        columns[: lane.columns.size] = lane.columns
        columns[entries[meant]] = start + np.flatnonzero(meant)
        lane.columns = columns
        return _View(np.where(meant, slots + entries, 0), visible)

    def _close_window(self, index: int, step: Step) -> None:
        """Turn a lane's beacons into slots, among its own columns, and hide its raw entries."""
        lane = self._lanes[index]
        columns = lane.columns[step.window_beacons]
        own = columns >= 0
        lane.alive[lane.columns[lane.columns >= 0]] = False
        if own.any():
            first, last = np.searchsorted(self._cells // self._block.rows, (index, index + 1))
            rows = self._own.of_rows(int(first), int(last))
            at = self._host.tensor(columns[own])
            moved = self._host.rotary.shift(
                rows.keys.index_select(3, at), self._host.tensor(step.slot_shift[own])
            )
            rows.keys.index_copy_(3, at, moved)
            lane.alive[columns[own]] = True
        if lane.columns.size and lane.columns[0] < 0:  # the window began before the question
            self._share_closed_window(step, ~own)
            entries = self._block.tail.length
            lane.window[:entries], lane.window[entries:] = False, True
        lane.columns = np.zeros(0, dtype=np.int64)

    def _share_closed_window(self, step: Step, beacons: Bools) -> None:
        """Put the beacons of the memory's unfinished window, as slots, behind it: once for all lanes."""
        if self._window is not self._block.tail or not beacons.any():
            return
        tail = self._block.tail
        kept = tail.at(self._host.tensor(step.window_beacons[beacons]))
        kept = kept.moved(self._host.rotary, self._host.tensor(step.slot_shift[beacons]))
        self._window = KeyValues(
            torch.cat((tail.keys, kept.keys), dim=3), torch.cat((tail.values, kept.values), dim=3)
        )
        for lane in self._lanes:
            lane.window = np.concatenate((lane.window, np.zeros(kept.length, dtype=bool)))

    def _reserve(self, columns: int) -> None:
        if columns > self._own.length:
            larger = self._own.allocate(rows=self._own.rows, length=max(columns, 2 * self._own.length))
            larger.span(0, self._used).write(self._own.span(0, self._used))
            self._own = larger


@dataclass(frozen=True, slots=True)
class _View:
    """What one lane sees in a run: positions [N], visible [N, window + columns]."""

    positions: Ints
    visible: Bools


def generate(
    host: Host,
    block: Block,
    prompts: Sequence[Tensor],
    replies: Replies,
    *,
    stop: Collection[int] = (),
    nothing: int | None = None,
) -> list[Generated]:
    """Ask prompts of every row of a block, greedily; the block stays as it is.

    Args:
        host: the model.
        block: the memory.
        prompts: R tensors [B, T] int64 on the host's device, T of 1 or more.
        replies: how the R * B replies are decoded.
        stop: token ids that end a row.
        nothing: the token that says, as the first of a reply, that nothing is remembered. The rows that say
            it most have empty replies.

    Returns:
        R * B replies, prompt by prompt, within a prompt row by row.
    """
    longest = max(map(_length, prompts))
    asking = Asking(host, block, lanes=len(prompts), columns=2 * longest + replies.longest)
    try:
        logits = host.logits(asking.feed(prompts, replies))  # [rows, vocabulary]
    except Ended:
        return replies.unsaid()
    silent, something = None, [0.0] * len(logits)
    if nothing is not None:
        share = (logits[:, nothing] - logits.logsumexp(dim=-1)).exp().clamp(max=1 - 1e-6)
        something = torch.log1p(-share).tolist()
        silent = _silent(share.view(len(prompts), -1))
        logits[:, nothing] = -torch.inf
    said = decode(
        logits,
        replies,
        feed_one=lambda tokens: host.logits(asking.feed_one(tokens)),
        keep=asking.keep,
        stop=stop,
        silent=silent,
    )
    return [replace(one, something=other) for one, other in zip(said, something, strict=True)]


def _length(prompt: Tensor) -> int:
    return prompt.shape[1]


def _silent(nothing: Tensor) -> list[bool]:
    """Which rows do not reply: [R, B] probabilities of the token for nothing -> R * B, prompt by prompt."""
    order = nothing.argsort(dim=1, stable=True)
    silent = nothing > SILENT_ABOVE
    silent.scatter_(1, order[:, SPEAKERS:], True)
    return list(silent.flatten().tolist())
