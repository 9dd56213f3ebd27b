"""Attention over a memory in place: what was read before and what is new are attended to apart and merged.

In: queries, keys and values of one layer, rotated; positions. Out: what the queries attend to. Nothing is
joined to the memory, so a memory of any length is neither copied nor changed. Knows no model.

A softmax over two lots of keys is the mean of the softmaxes over each, weighted by the exponentials of their
log-sum-exps; so lots can be attended to one after the other, and long ones tile by tile (arXiv 2205.14135).

Shape letters: B rows of the memory, R lanes (askers of one memory), H kv heads, G query heads of each,
N tokens of the run, X query rows, K keys, D head size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import cast

import torch
from torch import Tensor

from memorag_core.keyvalues import KeyValues
from memorag_core.longcontext.layout import Layout

SCORE_LIMIT = 1 << 22
"""Scores that are held at once, where no kernel does without."""

KEY_TILE = 512
"""Keys of a tile at least, if there are that many: shorter products are slow."""

NOWHERE = 1 << 40
"""The position of a key that nobody sees."""


@dataclass(frozen=True, slots=True)
class Sight:
    """Who sees whom: a query sees the keys up to its own position, the last ``window`` of them.

    Attributes:
        queries: positions, broadcast to [B, H, X].
        keys: positions, broadcast to [B, H, K].
        window: None for all.
    """

    queries: Tensor
    keys: Tensor
    window: int | None

    def hidden(self, rows: slice, columns: slice) -> Tensor:
        """Whom a tile's queries do not see, broadcast to [B, H, X', K']."""
        queries, keys = self.queries[..., rows, None], self.keys[..., None, columns]
        hidden = keys > queries
        return hidden if self.window is None else hidden | (keys <= queries - self.window)


@dataclass(frozen=True, slots=True)
class Attended:
    """What queries attend to among some keys.

    Attributes:
        found: [B, H, X, D] float32, the mean of the values.
        weight: [B, H, X] float32, the log-sum-exp of the scores; minus infinity where nothing is seen.
    """

    found: Tensor
    weight: Tensor

    def merged(self, other: Attended) -> Attended:
        """What the same queries attend to among the keys of both."""
        weight = torch.logaddexp(self.weight, other.weight)
        finite = weight.masked_fill(weight == -torch.inf, 0)
        one, two = ((part.weight - finite).exp()[..., None] for part in (self, other))
        return Attended(self.found * one + other.found * two, weight)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    scaling: float,
    softcap: float | None = None,
    sight: Sight | None = None,
) -> Attended:
    """Attend to keys.

    Args:
        query: [B, H, X, D].
        key: [B, H, K, D], K of 1 or more.
        value: [B, H, K, D].
        scaling: factor of the scores.
        softcap: scores are bent to stay within this; None leaves them.
        sight: who sees whom; None for all.
    """
    if sight is None and softcap is None and _has_kernel(query.device.type, query.dtype, query.shape[-1]):
        return _kernel(query, key, value, scaling, causal=False)
    batch = query.shape[0] * query.shape[1]
    rows = max(1, min(query.shape[2], SCORE_LIMIT // (batch * min(key.shape[2], KEY_TILE))))
    columns = max(1, SCORE_LIMIT // (batch * rows))
    done = []
    for start in range(0, query.shape[2], rows):
        some = slice(start, start + rows)
        tiles = (
            _tile(query[:, :, some], key, value, slice(at, at + columns), some, scaling, softcap, sight)
            for at in range(0, key.shape[2], columns)
        )
        whole = next(tiles)
        for tile in tiles:
            whole = whole.merged(tile)
        done.append(whole)
    if len(done) == 1:
        return done[0]
    return Attended(*(torch.cat([getattr(part, n) for part in done], dim=2) for n in ("found", "weight")))


def _tile(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    columns: slice,
    rows: slice,
    scaling: float,
    softcap: float | None,
    sight: Sight | None,
) -> Attended:
    scores = torch.matmul(query, key[:, :, columns].transpose(2, 3)).float().mul_(scaling)
    if softcap is not None:
        scores.div_(softcap).tanh_().mul_(softcap)
    if sight is not None:
        scores.masked_fill_(sight.hidden(rows, columns), -torch.inf)
    weight = scores.logsumexp(dim=-1)
    shares = scores.sub_(weight.masked_fill(weight == -torch.inf, 0)[..., None]).exp_()
    return Attended(torch.matmul(shares.to(value.dtype), value[:, :, columns]).float(), weight)


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
        """See ``memorag_core.longcontext.host.Pass.attend``."""
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
        if plain and _has_kernel(query.device.type, query.dtype, query.shape[-1]):
            keys, values = (part.repeat_interleave(groups, dim=1) for part in (key, value))
            found = _kernel(query, keys, values, scaling, causal=True)
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
        """See ``memorag_core.longcontext.host.Pass.attend``."""
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


# Kernels that give the log-sum-exp beside the mean and hold no scores. They stand behind torch's public
# attention, which keeps the log-sum-exp to itself; where they are not as known, tiles do the same.


def _kernel(query: Tensor, key: Tensor, value: Tensor, scaling: float, *, causal: bool) -> Attended:
    if query.device.type == "cpu":
        found, weight = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, causal, scale=scaling
        )
    else:
        found, weight = torch.ops.aten._scaled_dot_product_flash_attention(
            query, key, value, 0.0, causal, False, scale=scaling
        )[:2]
    return Attended(found.float(), weight.float())


@cache
def _has_kernel(device: str, dtype: torch.dtype, size: int) -> bool:
    """Whether this device has such a kernel for this type and head size, and it computes what tiles do."""
    half = dtype in (torch.float16, torch.bfloat16)
    if device not in ("cpu", "cuda") or (device == "cuda" and not half) or not (half or dtype == torch.float):
        return False
    with torch.device(device):
        query = torch.linspace(-1, 1, 6 * size).view(1, 2, 3, size).to(dtype)
        key = torch.linspace(-1, 2, 10 * size).view(1, 2, 5, size).to(dtype)
    try:
        found = _kernel(query, key, key, size**-0.5, causal=False)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    everyone = slice(None)
    expected = _tile(query, key, key, everyone, everyone, size**-0.5, None, None)
    bound = 0.05 if half else 1e-4
    return found.weight.shape == expected.weight.shape and all(
        torch.allclose(one, other, atol=bound, rtol=bound) for one, other in _pairs(found, expected)
    )


def _pairs(one: Attended, other: Attended) -> Iterator[tuple[Tensor, Tensor]]:
    yield one.found, other.found
    yield one.weight, other.weight
