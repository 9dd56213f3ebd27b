"""Keys and values of all layers, and the room they grow in: what memories of models that attend are made of.

In: tensors that a reading wrote. Out: views of them, and allocations of the same kind. Knows no model and no
tokens.

Entries are a view of an allocation with room behind them. Whoever continues a memory claims that room, writes
behind the last entry, and gets a longer view of the same allocation; only one can have it, a second
continuation of the same memory copies the entries first.

Shape letters: L layers, B rows (parts), H kv heads, T entries, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from memorag_core.system.locking import Lock

SPARE = 4
"""A memory that outgrows its room moves to one that is larger by a ``SPARE``-th: few moves, little waste."""


class Rotation(Protocol):
    """Moves keys that are rotated for one position to another."""

    def shift(self, keys: Tensor, by: Tensor | int) -> Tensor:
        """Rotate keys [..., T, D] on by a number of positions ([T] or one for all)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class KeyValues:
    """Keys and values of all layers, each [L, B, H, T, D]."""

    keys: Tensor
    values: Tensor

    @property
    def length(self) -> int:
        """Entries, T."""
        return self.keys.shape[3]

    @property
    def rows(self) -> int:
        """Rows, B."""
        return self.keys.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of the entries."""
        return 2 * self.keys.numel() * self.keys.element_size()

    @property
    def entry_bytes(self) -> int:
        """Bytes of one entry of one row."""
        layers, _, heads, _, size = self.keys.shape
        return 2 * layers * heads * size * self.keys.element_size()

    def span(self, start: int, stop: int) -> KeyValues:
        """A view of the entries from ``start`` to ``stop``."""
        return KeyValues(self.keys[:, :, :, start:stop], self.values[:, :, :, start:stop])

    def of_rows(self, start: int, stop: int) -> KeyValues:
        """A view of the rows from ``start`` to ``stop``."""
        return KeyValues(self.keys[:, start:stop], self.values[:, start:stop])

    def at(self, entries: Tensor) -> KeyValues:
        """A copy of the entries with these places, [T'] int64."""
        return KeyValues(self.keys.index_select(3, entries), self.values.index_select(3, entries))

    def moved(self, rotary: Rotation, by: Tensor | int) -> KeyValues:
        """The same entries, their keys rotated on by a number of positions ([T] or one for all)."""
        return KeyValues(rotary.shift(self.keys, by), self.values)

    def write(self, source: KeyValues) -> None:
        """Copy ``source`` over these entries."""
        self.keys.copy_(source.keys)
        self.values.copy_(source.values)

    def on(self, device: str | torch.device) -> KeyValues:
        """The same entries on a device; themselves where they lie there."""
        return KeyValues(_on(self.keys, torch.device(device)), _on(self.values, torch.device(device)))

    def exact(self) -> KeyValues:
        """The same entries, contiguous; a copy only where they are a view of something larger."""
        return KeyValues(self.keys.contiguous(), self.values.contiguous())

    def allocate(self, *, rows: int, length: int) -> KeyValues:
        """Uninitialised entries of the same kind."""
        layers, _, heads, _, size = self.keys.shape
        shape = (layers, rows, heads, length, size)
        return KeyValues(self.keys.new_empty(shape), self.values.new_empty(shape))


def _on(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type != "cpu" or tensor.device.type != "cuda":
        return tensor.to(device)
    # Pinned memory is copied back at the full speed of the bus.
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, device=device, pin_memory=True)
    return pinned.copy_(tensor)


class Room:
    """An allocation that entries grow in: written behind its end by one claimant at a time, never before."""

    def __init__(self, store: KeyValues, end: int) -> None:
        self.store = store
        self._end: int | None = end  # None while somebody writes
        self._lock = Lock()

    def claim(self, end: int, capacity: int) -> bool:
        """Take the right to write behind ``end``; False when another took it or the capacity is too small."""
        with self._lock:
            if self._end != end or self.store.length < capacity:
                return False
            self._end = None
            return True

    def release(self, end: int) -> None:
        """Give the right back, with what was written before ``end`` kept for ever."""
        with self._lock:
            self._end = end


def claimed_room(room: Room | None, entries: KeyValues, capacity: int) -> Room:
    """A room with these entries at its head that nobody else writes to: their own, else a larger one.

    Args:
        room: where the entries lie and may grow; None where they lie alone.
        entries: what is kept, up to the end of what the room holds.
        capacity: entries that the room must have space for.
    """
    end = entries.length
    if room is not None and room.claim(end, capacity):
        return room
    spare = end + end // SPARE  # what is read at once gets just what it needs
    room = Room(entries.allocate(rows=entries.rows, length=max(capacity, spare)), end)
    room.store.span(0, end).write(entries)
    room.claim(end, capacity)
    return room
