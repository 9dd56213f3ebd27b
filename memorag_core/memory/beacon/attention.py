"""Attention over a memory: one window while reading, and many askers over one shared memory.

In: queries, keys and values of one layer, rotated. Out: what they attend to. Each pass writes its keys and
values where it was told to and sees the slots, and of its window what stands before it. Knows neither tokens
nor when windows close.

Shape letters: B rows of the memory, R lanes (askers of one memory), H kv heads, G query heads of each,
N entries of the pass, M slots, D head size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from memorag_core.memory.attention import Attended, attend
from memorag_core.memory.beacon.cache import KeyValues

QUERY_ROWS = 512
"""Query rows of one attention call: bounds the mask, which some kernels expand to floats."""

MASK_LIMIT = 1 << 27
SCORE_LIMIT = 1 << 24
"""Elements of a mask, and of the scores of what is not slots, that are held at once."""


@dataclass(frozen=True, slots=True)
class WindowPass:
    """A run over one window while reading: slots and window lie side by side in one store.

    Attributes:
        raw: raw tokens at the head of the flat sequence.
        store: the keys and values; columns 0 to ``slots`` - 1 are the memory, the window lies behind.
        slots: M, all of them visible.
        columns: [N] int64, the columns of ``store`` that the entries are written to.
        visible: [N, W] bool, which of the W columns behind the slots an entry sees.
    """

    raw: int
    store: KeyValues
    slots: int
    columns: Tensor
    visible: Tensor

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """See ``memorag_core.memory.beacon.layers.BeaconPass.attend``."""
        keys, values = self.store.keys[layer], self.store.values[layer]
        keys.index_copy_(2, self.columns, key)
        values.index_copy_(2, self.columns, value)
        end = self.slots + self.visible.shape[1]
        keys, values = keys[:, :, :end], values[:, :, :end]
        pieces = [
            F.scaled_dot_product_attention(
                query[:, :, start:stop],
                keys,
                values,
                attn_mask=mask,
                scale=scaling,
                enable_gqa=query.shape[1] != key.shape[1],
            )
            for start, stop, mask in self._masks(end)
        ]
        attended = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=2)
        return attended.transpose(1, 2)  # [B, N, H * G, D]

    def _masks(self, end: int) -> Iterator[tuple[int, int, Tensor]]:
        count = self.visible.shape[0]
        rows = max(1, min(count, QUERY_ROWS, MASK_LIMIT // end))
        mask = self.visible.new_ones(rows, end)
        for start in range(0, count, rows):
            stop = min(start + rows, count)
            part = mask[: stop - start]
            part[:, self.slots :] = self.visible[start:stop]
            yield start, stop, part


@dataclass(frozen=True, slots=True)
class SharedPass:
    """A run of askers over a memory that all of them share and none of them copies or changes.

    A row of the run is one asker of one row of the memory: rows count lane by lane, within a lane part by
    part. All lanes attend to the slots in one product, to the own columns row by row; the two are merged by
    their log-sum-exps.

    Attributes:
        raw: raw tokens at the head of the flat sequence.
        lanes: R.
        slots: the memory's slots, [L, B, H, M, D], seen by all.
        window: entries of the memory's unfinished window, shared too, masked by ``visible``.
        own: [L, rows, H, capacity, D], the columns of each row itself.
        start: the own column that the first entry of this run is written to.
        cells: [rows] int64, lane * B + part of each row; None when every lane has every part.
        visible: [R or 1, N, window + start + N] bool, or None when all of it is seen.
    """

    raw: int
    lanes: int
    slots: KeyValues
    window: KeyValues
    own: KeyValues
    start: int
    cells: Tensor | None
    visible: Tensor | None

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """See ``memorag_core.memory.beacon.layers.BeaconPass.attend``."""
        stop = self.start + query.shape[2]
        own_keys = self.own.keys[layer, :, :, :stop]
        own_values = self.own.values[layer, :, :, :stop]
        own_keys[:, :, self.start :] = key
        own_values[:, :, self.start :] = value
        near = self.slots.rows * self.lanes * query.shape[1] * (self.window.length + stop)
        entries = max(1, min(query.shape[2], SCORE_LIMIT // near))
        pieces = [
            self._attend_some(layer, query[:, :, at : at + entries], own_keys, own_values, scaling, at)
            for at in range(0, query.shape[2], entries)
        ]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)

    def _attend_some(
        self, layer: int, query: Tensor, own_keys: Tensor, own_values: Tensor, scaling: float, first: int
    ) -> Tensor:
        count = query.shape[2]
        grouped = query.unflatten(1, (own_keys.shape[1], -1)).flatten(2, 3)  # [rows, H, G N, D]
        near = self._near(layer, grouped, own_keys, own_values, scaling, slice(first, first + count))
        found = near.found
        if self.slots.length:
            spread = self._spread(grouped)  # [B, H, R, G N, D]
            keys, values = self.slots.keys[layer], self.slots.values[layer]
            far = attend(spread.flatten(2, 3), keys, values, scaling=scaling)
            weight = self._gather(far.weight.view(*spread.shape[:4], 1))[..., 0]
            share = torch.sigmoid(near.weight - weight)  # of the near ones: both sums are finite
            found = torch.lerp(self._gather(far.found.view(spread.shape)), found, share[..., None])
        by_entry = found.unflatten(2, (-1, count)).permute(0, 3, 1, 2, 4)  # [rows, N, H, G, D]
        return cast(Tensor, by_entry.flatten(2, 3).to(query.dtype))

    def _near(
        self,
        layer: int,
        grouped: Tensor,
        own_keys: Tensor,
        own_values: Tensor,
        scaling: float,
        entries: slice,
    ) -> Attended:
        """The own columns, and the window that all lanes share: [rows, H, G N, D]."""
        scores = torch.matmul(grouped, own_keys.transpose(2, 3))
        window = self.window.length
        if window:
            spread = self._spread(grouped)
            shared = torch.matmul(
                spread.flatten(2, 3), self.window.keys[layer].transpose(2, 3)
            )  # [B, H, R G N, window]
            scores = torch.cat((self._gather(shared.view(*spread.shape[:4], window)), scores), dim=-1)
        scores = scores.float().mul_(scaling)
        if self.visible is not None:
            hidden = ~self.visible[:, entries]  # [R or 1, N, window + own]
            if len(hidden) > 1:
                hidden = hidden[self._lanes(hidden.device)]
            scores.unflatten(2, (-1, hidden.shape[1])).masked_fill_(hidden[:, None, None], -torch.inf)
        weight = scores.logsumexp(dim=-1)  # every entry sees itself, so it is finite
        shares = scores.softmax(dim=-1).to(own_values.dtype)
        found = torch.matmul(shares[..., window:], own_values).float()
        if window:
            spread = self._spread(shares[..., :window]).flatten(2, 3)  # [B, H, R G N, window]
            seen = torch.matmul(spread, self.window.values[layer]).float()
            found += self._gather(seen.view(*seen.shape[:2], self.lanes, -1, seen.shape[-1]))
        return Attended(found, weight)

    def _lanes(self, device: torch.device) -> Tensor:
        """The lane of each row."""
        parts = self.slots.rows
        cells = torch.arange(self.lanes * parts, device=device) if self.cells is None else self.cells
        return cells // parts

    def _spread(self, rows: Tensor) -> Tensor:
        """[rows, H, X, Y] -> [B, H, R, X, Y], zeros where a lane lacks a part."""
        parts = self.slots.rows
        if self.cells is not None:
            rows = rows.new_zeros(self.lanes * parts, *rows.shape[1:]).index_copy_(0, self.cells, rows)
        return cast(Tensor, rows.unflatten(0, (self.lanes, parts)).permute(1, 2, 0, 3, 4))

    def _gather(self, spread: Tensor) -> Tensor:
        """The inverse of ``_spread``."""
        rows = spread.permute(2, 0, 1, 3, 4).flatten(0, 1)
        return rows if self.cells is None else rows.index_select(0, self.cells)


def is_fused(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether attention with a mask and grouped heads has a kernel there that holds no scores."""
    if device.type == "cpu":
        return True
    try:
        query, key = (torch.zeros(1, heads, 16, 64, device=device, dtype=dtype) for heads in (2, 1))
        mask = torch.ones(16, 16, dtype=torch.bool, device=device)
        return bool(torch._fused_sdp_choice(query, key, key, mask, 0.0, False, scale=1.0, enable_gqa=True))
    except (RuntimeError, AssertionError, NotImplementedError):  # not here: plan for the one that holds them
        return False
