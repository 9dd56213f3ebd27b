"""Attention to some keys, with what it takes to merge it with attention to others.

In: queries, keys and values. Out: the mean of the values and the log-sum-exp of the scores. Knows no model,
no memory and no rotary positions.

A softmax over two lots of keys is the mean of the softmaxes over each, weighted by the exponentials of their
log-sum-exps; so lots can be attended to one after the other, and long ones tile by tile (arXiv 2205.14135).

Shape letters: B rows, H kv heads, X query rows, K keys, D head size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

SCORE_LIMIT = 1 << 22
"""Scores that are held at once, where no kernel does without."""

LEAST_LOT = 2048
"""Keys of a lot at least, where keys are cut for the sake of threads."""

KEY_TILE = 512
"""Keys of a tile at least, if there are that many: shorter products are slow."""


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
    if sight is None and softcap is None and has_kernel(query.device.type, query.dtype, query.shape[-1]):
        lots = _lots(query, key)
        return (
            kernel(query, key, value, scaling, causal=False)
            if lots == 1
            else _side_by_side(query, key, value, scaling, lots)
        )
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


def _lots(query: Tensor, key: Tensor) -> int:
    """Into how many lots keys are cut: as many as keep all threads busy with one row of few heads.

    Kernels on a CPU share out rows, heads and queries; a single asker of a long memory has few of them.
    """
    rows, heads, keys, _ = key.shape
    if query.device.type != "cpu" or rows > 1:
        return 1
    return max(1, min(-(-torch.get_num_threads() // heads), keys // LEAST_LOT))


def _side_by_side(query: Tensor, key: Tensor, value: Tensor, scaling: float, lots: int) -> Attended:
    """One row of keys, cut into lots that are attended to as if they were heads: nothing is copied."""
    size = key.shape[2] // lots
    cut = lots * size
    asked = query[0][:, None].expand(-1, lots, -1, -1)  # [H, lots, X, D]
    one, other = (part[0, :, :cut].unflatten(1, (lots, size)) for part in (key, value))
    found = kernel(asked, one, other, scaling, causal=False)
    weight = found.weight.logsumexp(dim=1)
    shares = (found.weight - weight[:, None]).exp()[..., None]
    whole = Attended((found.found * shares).sum(dim=1)[None], weight[None])
    if cut == key.shape[2]:
        return whole
    return whole.merged(kernel(query, key[:, :, cut:], value[:, :, cut:], scaling, causal=False))


# Kernels that give the log-sum-exp beside the mean and hold no scores. They stand behind torch's public
# attention, which keeps the log-sum-exp to itself; where they are not as known, tiles do the same.


def kernel(query: Tensor, key: Tensor, value: Tensor, scaling: float, *, causal: bool) -> Attended:
    """``attend`` by a kernel, where there is one; all [B, H, X or K, D], as many heads of keys as of queries.

    Args:
        query: [B, H, X, D].
        key: [B, H, K, D].
        value: [B, H, K, D].
        scaling: factor of the scores.
        causal: whether query n sees the keys up to n only.
    """
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
def has_kernel(device: str, dtype: torch.dtype, size: int) -> bool:
    """Whether this device has such a kernel for this type and head size, and it computes what tiles do."""
    half = dtype in (torch.float16, torch.bfloat16)
    if device not in ("cpu", "cuda") or (device == "cuda" and not half) or not (half or dtype == torch.float):
        return False
    with torch.device(device):
        query = torch.linspace(-1, 1, 6 * size).view(1, 2, 3, size).to(dtype)
        key = torch.linspace(-1, 2, 10 * size).view(1, 2, 5, size).to(dtype)
    try:
        found = kernel(query, key, key, size**-0.5, causal=False)
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
