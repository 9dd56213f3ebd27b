"""Attention over a memory in place: what was read before and what is new are attended to apart and merged.

In: queries, keys and values of one layer, rotated; positions. Out: what the queries attend to. Nothing is
joined to the memory, so a memory of any length is neither copied nor changed. Knows no model.

Shape letters: B rows of the memory, R lanes (askers of one memory), H kv heads, G query heads of each,
N tokens of the run, X query rows, K keys, D head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from memorag_core.memory.attention import Attended, Sight, attend, has_kernel, kernel
from memorag_core.memory.kv_cache import KeyValues
from memorag_core.memory.longcontext.layout import Layout

NOWHERE = 1 << 40
"""The position of a key that nobody sees."""


@dataclass(frozen=True, slots=True)
class ReadPass:
    """A run over a chunk while reading: its keys and values are written behind those read before.

    Attributes:
        layout: which layers keep what.
        stores: for each group [L, B, H, capacity, D].
        before: for each group the entries that lie in its store.
        tokens: tokens read before the chunk.
    """

    layout: Layout
    stores: Sequence[KeyValues]
    before: Sequence[int]
    tokens: int

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, softcap: float | None
    ) -> Tensor:
        """See ``memorag_core.memory.longcontext.host.Pass.attend``."""
        number, place = self.layout.places[layer]
        window = self.layout.groups[number].window
        store, before, count = self.stores[number], self.before[number], query.shape[2]
        keys, values = store.keys[place], store.values[place]
        keys[:, :, before : before + count] = key
        values[:, :, before : before + count] = value
        grouped = _grouped(query, key.shape[1])  # [B, H, G N, D]
        new = self._attend_new(query, key, value, grouped, window, scaling, softcap)
        if before:
            sight = None
            if window is not None:
                at = torch.arange(self.tokens - before, self.tokens + count, device=query.device)
                sight = Sight(at[before:].repeat(grouped.shape[2] // count), at[:before], window)
            old = attend(
                grouped,
                keys[:, :, :before],
                values[:, :, :before],
                scaling=scaling,
                softcap=softcap,
                sight=sight,
            )
            new = new.merged(old)
        return _ungrouped(new.found, query)

    def _attend_new(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        grouped: Tensor,
        window: int | None,
        scaling: float,
        softcap: float | None,
    ) -> Attended:
        """The chunk among itself."""
        count, groups = query.shape[2], query.shape[1] // key.shape[1]
        plain = softcap is None and (window is None or window >= count)
        if plain and has_kernel(query.device.type, query.dtype, query.shape[-1]):
            keys, values = (part.repeat_interleave(groups, dim=1) for part in (key, value))
            found = kernel(query, keys, values, scaling, causal=True)
            weight = found.weight.unflatten(1, (-1, groups)).flatten(2, 3)
            return Attended(_grouped(found.found, key.shape[1]), weight)
        at = torch.arange(count, device=query.device)
        sight = Sight(at.repeat(groups), at, window)
        return attend(grouped, key, value, scaling=scaling, softcap=softcap, sight=sight)


@dataclass(frozen=True, slots=True)
class AskPass:
    """A run of askers over a memory that all of them share and none of them copies or changes.

    A row of the run is one asker of one row of the memory: rows count lane by lane, within a lane part by
    part. The memory is attended to by all lanes in one product.

    Attributes:
        layout: which layers keep what.
        lanes: R.
        parts: B.
        tokens: tokens of each row of the memory.
        memory: for each group [L, B, H, M, D].
        own: for each group [L, rows, H, capacity, D], the columns of each row itself.
        start: the own column that the first token of this run is written to.
        cells: [rows] int64, lane * B + part of each row.
        positions: [R, stop] int64, of every own column up to this run's end; ``NOWHERE`` for filler.
    """

    layout: Layout
    lanes: int
    parts: int
    tokens: int
    memory: Sequence[KeyValues]
    own: Sequence[KeyValues]
    start: int
    cells: Tensor
    positions: Tensor

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, softcap: float | None
    ) -> Tensor:
        """See ``memorag_core.memory.longcontext.host.Pass.attend``."""
        number, place = self.layout.places[layer]
        window = self.layout.groups[number].window
        own, memory, count = self.own[number], self.memory[number], query.shape[2]
        stop = self.start + count
        keys, values = own.keys[place, :, :, :stop], own.values[place, :, :, :stop]
        keys[:, :, self.start :] = key
        values[:, :, self.start :] = value
        grouped = _grouped(query, key.shape[1])  # [rows, H, G N, D]
        groups = grouped.shape[2] // count
        lanes = self.cells // self.parts
        asked = self.positions[:, None, self.start :].repeat(1, 1, groups)  # [R, 1, G N]
        sight = Sight(asked[lanes], self.positions[lanes, None], window)
        found = attend(grouped, keys, values, scaling=scaling, softcap=softcap, sight=sight)
        if memory.length:
            seen: Sight | None = None
            if window is not None:
                at = torch.arange(self.tokens - memory.length, self.tokens, device=query.device)
                seen = Sight(asked.flatten(), at, window)
            shared = attend(
                self._spread(grouped),
                memory.keys[place],
                memory.values[place],
                scaling=scaling,
                softcap=softcap,
                sight=seen,
            )
            of_rows = Attended(
                self._gather(shared.found, grouped.shape[2]),
                self._gather(shared.weight[..., None], grouped.shape[2])[..., 0],
            )
            found = found.merged(of_rows)
        return _ungrouped(found.found, query)

    def _spread(self, rows: Tensor) -> Tensor:
        """[rows, H, X, D] -> [B, H, R X, D], zeros where a lane lacks a part."""
        if len(rows) < self.lanes * self.parts:
            rows = rows.new_zeros(self.lanes * self.parts, *rows.shape[1:]).index_copy_(0, self.cells, rows)
        by_part = rows.unflatten(0, (self.lanes, self.parts)).permute(1, 2, 0, 3, 4)
        return cast(Tensor, by_part.flatten(2, 3))

    def _gather(self, spread: Tensor, each: int) -> Tensor:
        """[B, H, R X, D] -> [rows, H, X, D], the inverse of ``_spread``."""
        rows = spread.unflatten(2, (self.lanes, each)).permute(2, 0, 1, 3, 4).flatten(0, 1)
        return cast(Tensor, rows if len(rows) == len(self.cells) else rows.index_select(0, self.cells))


def _grouped(query: Tensor, heads: int) -> Tensor:
    """[B, H G, N, D] -> [B, H, G N, D]: the queries that share a kv head, side by side."""
    return cast(Tensor, query.unflatten(1, (heads, -1)).flatten(2, 3))


def _ungrouped(found: Tensor, query: Tensor) -> Tensor:
    """[B, H, G N, D] float32 -> [B, N, H G, D] of the query's type."""
    by_head = found.unflatten(2, (-1, query.shape[2])).flatten(1, 2)
    return cast(Tensor, by_head.transpose(1, 2).to(query.dtype))
