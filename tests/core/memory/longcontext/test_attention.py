"""Attention in lots, in tiles and by kernels is attention over all keys at once."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memorag_core.memory import attention as attending
from memorag_core.memory.attention import Sight, attend
from memorag_core.memory.longcontext.attention import NOWHERE


def plainly(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float,
    softcap: float | None,
    sight: Sight | None,
) -> torch.Tensor:
    scores = query @ key.transpose(2, 3) * scaling
    if softcap is not None:
        scores = (scores / softcap).tanh() * softcap
    if sight is not None:
        scores = scores.masked_fill(sight.hidden(slice(None), slice(None)), -torch.inf)
    return scores.softmax(dim=-1).nan_to_num() @ value


@given(
    rows=st.integers(1, 12),
    keys=st.integers(1, 40),
    cut=st.integers(1, 39),
    window=st.one_of(st.none(), st.integers(1, 20)),
    softcap=st.sampled_from([None, 1.5]),
    limit=st.sampled_from([1, 50, 1 << 22]),
    masked=st.booleans(),
    seed=st.integers(0, 99),
)
def test_two_lots_in_tiles_merge_to_the_whole(
    rows: int,
    keys: int,
    cut: int,
    window: int | None,
    softcap: float | None,
    limit: int,
    masked: bool,
    seed: int,
) -> None:
    draw = torch.Generator().manual_seed(seed)
    query = torch.randn(2, 3, rows, 8, generator=draw)
    key, value = (torch.randn(2, 3, keys, 8, generator=draw) for _ in range(2))
    places = torch.arange(keys)
    places[0] = NOWHERE
    sight = Sight(torch.arange(rows) + keys - rows, places, window) if masked else None
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(attending, "SCORE_LIMIT", limit)
        patched.setattr(attending, "KEY_TILE", 4)
        lots = []
        for some in (slice(0, cut), slice(cut, keys)):
            if len(places[some]):
                seen = Sight(sight.queries, places[some], window) if sight else None
                lots.append(
                    attend(
                        query, key[:, :, some], value[:, :, some], scaling=0.3, softcap=softcap, sight=seen
                    )
                )
    found = lots[0] if len(lots) == 1 else lots[0].merged(lots[1])
    expected = plainly(query, key, value, 0.3, softcap, sight)
    assert torch.allclose(found.found, expected, atol=1e-5)
    assert found.found.isfinite().all()


def test_the_kernel_is_there_on_a_cpu_and_does_what_tiles_do() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        assert attending.has_kernel("cpu", dtype, 64)
    assert not attending.has_kernel("cpu", torch.float64, 64)
    assert not attending.has_kernel("mps", torch.float32, 64)
    query, key, value = (torch.randn(1, 2, 9, 16) for _ in range(3))
    by_kernel = attend(query, key, value, scaling=0.2)
    everyone = Sight(torch.full((9,), 9), torch.arange(9), None)
    by_tiles = attend(query, key, value, scaling=0.2, sight=everyone)
    assert torch.allclose(by_kernel.found, by_tiles.found, atol=1e-5)
    assert torch.allclose(by_kernel.weight, by_tiles.weight, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 3, 4])
@pytest.mark.parametrize("keys", [4095, 4096, 8195])
def test_keys_that_are_shared_out_to_threads_are_attended_to_as_one(threads: int, keys: int) -> None:
    draw = torch.Generator().manual_seed(keys)
    query = torch.randn(1, 2, 3, 16, generator=draw)
    room = torch.randn(2, 1, 2, keys + 50, 16, generator=draw)  # a memory is a view of what it may grow into
    key, value = (part[:, :, :keys] for part in room)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert attending._lots(query, key) == min(-(-threads // 2), keys // 2048)
        found = attend(query, key, value, scaling=0.25)
    finally:
        torch.set_num_threads(before)
    everyone = slice(None)
    expected = attending._tile(query, key, value, everyone, everyone, 0.25, None, None)
    assert torch.allclose(found.found, expected.found, atol=1e-5)
    assert torch.allclose(found.weight, expected.weight, atol=1e-5)
