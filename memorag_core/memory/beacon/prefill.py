"""Reading: tokens in, window by window, and a longer memory out.

In: a host model, a block of a memory, token ids. Out: the block after them, and the hidden states of the last
window's raw tokens. Knows no text, no questions and no parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from memorag_core.memory.beacon.attention import WindowPass
from memorag_core.memory.beacon.cache import Block, KeyValues
from memorag_core.memory.beacon.generate import Asking
from memorag_core.memory.beacon.host import Host
from memorag_core.memory.beacon.schedule import Step, Stream, steps
from memorag_core.memory.block_memory import Progress
from memorag_core.memory.kv_cache import claimed_room


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What came of reading.

    Attributes:
        block: the memory after the tokens.
        hidden: [B, raw, hidden], raw tokens of the last window that was run, of this call only.
    """

    block: Block
    hidden: Tensor


def empty_block(host: Host, stream: Stream, *, rows: int) -> Block:
    """A block that has read nothing."""
    nothing = host.allocate(rows=rows, length=0)
    return Block(stream, nothing, nothing)


def read(host: Host, block: Block, ids: Tensor, *, progress: Progress | None = None) -> Reading:
    """Continue a block with tokens.

    While no window closes, nothing of the slots is touched, let alone copied. Where one does, the block's own
    room is written on if it is free, else the slots move once to a larger one.

    Args:
        host: the model.
        block: what was read before; it stays as it is.
        ids: [B, T] int64, T of 1 or more, on the host's device.
        progress: told of every window.
    """
    stream, tokens = block.stream, ids.shape[1]
    if stream.tokens and stream.filled + tokens < stream.window:
        return _read_inside_window(host, block, ids, progress)
    after = stream.after(tokens)
    # Behind the slots lies the window in work. When one closes, its own beacons count among the slots
    # already.
    closes = stream.filled + tokens >= stream.window
    needed = after.slots + max(stream.window if closes else 0, after.entries)
    room = claimed_room(block.room, block.slots, needed)
    end = stream.slots
    try:
        room.store.span(end, end + stream.entries).write(block.tail)
        hidden, tail = read_windows(host, room.store, stream, ids, progress=progress)
        end = after.slots
    finally:
        room.release(end)
    return Reading(Block(after, room.store.span(0, end), tail, room), hidden)


def read_windows(
    host: Host, store: KeyValues, stream: Stream, ids: Tensor, *, progress: Progress | None = None
) -> tuple[Tensor, KeyValues]:
    """Read tokens into a store that holds a stream's slots and, behind them, its unfinished window.

    Args:
        host: the model.
        store: [L, B, H, capacity, D]; every closing window turns its head into slots and frees the rest.
        stream: where the store's rows stand.
        ids: [B, T] int64.
        progress: told of every window.

    Returns:
        Hidden states of the last window's raw tokens of this call, and a copy of the entries of the
        unfinished window.
    """
    hidden = ids.new_zeros(0)
    taken = 0
    for step in steps(stream, ids.shape[1]):
        hidden = _read_window(host, store, step, ids[:, taken : taken + step.raw])
        if step.closes:
            _close_window(host, store, step)
        taken += step.raw
        if progress is not None:
            progress(step.raw * ids.shape[0])
    after = stream.after(taken)
    tail = store.span(after.slots, after.slots + after.entries)
    return hidden, KeyValues(tail.keys.clone(), tail.values.clone())


def _read_window(host: Host, store: KeyValues, step: Step, ids: Tensor) -> Tensor:
    entries = host.tensor(step.entries)  # [N]
    positions = step.before.slots + entries
    width = step.before.entries + len(entries)
    visible = torch.arange(width, device=entries.device)[None] <= entries[:, None]
    running = WindowPass(step.raw, store, step.before.slots, positions, visible)
    return host.run(ids, step.beacons, positions[None], running)[:, : step.raw]


def _close_window(host: Host, store: KeyValues, step: Step) -> None:
    slots = step.before.slots
    beacons = store.at(slots + host.tensor(step.window_beacons))
    kept = beacons.moved(host.rotary, host.tensor(step.slot_shift))
    store.span(slots, slots + kept.length).write(kept)


def _read_inside_window(host: Host, block: Block, ids: Tensor, progress: Progress | None) -> Reading:
    asking = Asking(host, block, lanes=1, columns=ids.shape[1] + 1)
    hidden = asking.feed_all(ids)
    if progress is not None:
        progress(ids.numel())
    return Reading(Block(asking.stream, block.slots, asking.window_entries(), block.room), hidden)
