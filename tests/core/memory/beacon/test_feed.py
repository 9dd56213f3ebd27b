"""Feeding: any model, window, ratio and batch, in any pieces, gives what the plain computation gives."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memorag_core.errors import InputError
from memorag_core.memory.beacon import BeaconMemory, BeaconModel
from tests.core.memory.beacon.conftest import (
    FAMILIES,
    assert_same_memory,
    beacon_model,
    random_ids,
    state,
    unrotated,
    weights_of,
)
from tests.core.memory.beacon.reference import Reference


def _fits(shape: dict[str, Any]) -> bool:
    return bool(shape["ratio"] <= shape["window"])


shapes: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "family": st.sampled_from(FAMILIES),
        "window": st.integers(4, 64),
        "ratio": st.integers(2, 32),
        "kv_heads": st.sampled_from([1, 2, 4]),
        "head_dim": st.sampled_from([4, 8, 12]),
        "rope_theta": st.sampled_from([100.0, 10_000.0, 1_000_000.0]),
        "tied": st.booleans(),
        "params": st.sampled_from([("q", "k", "v"), ("k", "v"), ("q", "k", "v", "o")]),
    }
).filter(_fits)


def reference(model: BeaconModel, folder: Path, ratio: int) -> Reference:
    config = model.model.config
    return Reference(
        weights_of(model, folder),
        {
            "num_hidden_layers": config.num_hidden_layers,
            "head_dim": config.head_dim,
            "model_type": config.model_type,
            "rms_norm_eps": config.rms_norm_eps,
            "rope_theta": config.rope_parameters["rope_theta"],
            "beacon_param": model.settings.params,
        },
        model.window,
        ratio,
    )


def fed(model: BeaconModel, ids: torch.Tensor, drawn: random.Random) -> tuple[BeaconMemory, torch.Tensor]:
    """Feed random pieces; returns the memory and the logits of the last one."""
    memory, at = None, 0
    logits = torch.zeros(0)
    while at < ids.shape[1]:
        count = drawn.choice([1, 1, 2, drawn.randint(1, 40)])
        found = model.feed(ids[:, at : at + count], memory)
        memory, logits = found.memory, found.logits
        at += count
    assert memory is not None
    return memory, logits


@settings(max_examples=30)
@given(shape=shapes, rows=st.integers(1, 3), tokens=st.integers(1, 90), seed=st.integers(0, 99))
def test_any_model_gives_the_plain_computation_in_any_pieces(
    tmp_path_factory: pytest.TempPathFactory, shape: dict[str, Any], rows: int, tokens: int, seed: int
) -> None:
    model = beacon_model(**shape, seed=seed)
    ids = random_ids(rows, tokens, seed=seed)
    folder = tmp_path_factory.mktemp("checkpoint")
    once = model.feed(ids)
    pieces, last_logits = fed(model, ids, random.Random(seed))
    assert_same_memory(pieces, once.memory)
    for row in range(rows):
        plain = reference(model, folder, shape["ratio"])
        logits = plain.feed(ids[row].tolist())
        assert torch.allclose(once.logits[row], logits[-once.logits.shape[1] :], atol=3e-3, rtol=1e-3)
        assert torch.allclose(last_logits[row, -1], logits[-1], atol=3e-3, rtol=1e-3)
        raw = unrotated(pieces.row(row).blocks[0], model.rotary)
        for layer in range(model.model.config.num_hidden_layers):
            for entries, (keys, values) in (
                (raw.slots, plain.slots[layer]),
                (raw.tail, plain.inside[layer]),
            ):
                assert entries.length == len(keys)
                if keys:
                    expected = torch.stack(keys, dim=1)  # [kv heads, entries, size]
                    assert torch.allclose(entries.keys[layer, 0], expected, atol=2e-3, rtol=1e-3)
                    expected = torch.stack(values, dim=1)
                    assert torch.allclose(entries.values[layer, 0], expected, atol=2e-3, rtol=1e-3)


@given(shape=shapes, seed=st.integers(0, 99))
@settings(max_examples=12)
def test_greedy_decoding_is_the_plain_computation(
    tmp_path_factory: pytest.TempPathFactory, shape: dict[str, Any], seed: int
) -> None:
    model = beacon_model(**shape, seed=seed)
    drawn = random.Random(seed)
    context, prompt = (
        random_ids(1, drawn.randint(1, 80), seed=seed),
        random_ids(1, drawn.randint(1, 30), seed=-seed),
    )
    decoded = model.greedy(prompt, model.feed(context).memory, max_new_tokens=20)[0].tolist()
    plain = reference(model, tmp_path_factory.mktemp("checkpoint"), shape["ratio"])
    plain.feed(context[0].tolist())
    logits = plain.feed(prompt[0].tolist())[-1]
    for token in decoded:
        best = logits.max()
        assert logits[token] > best - 1e-3  # the best, or as good as the best
        logits = plain.feed([token])[-1]


def test_no_token_sees_the_future() -> None:
    model = beacon_model(window=16)
    ids = random_ids(1, 15)
    changed = ids.clone()
    changed[:, 9] = (ids[:, 9] + 1) % 61
    before, after = model.feed(ids).logits, model.feed(changed).logits
    assert torch.equal(before[:, :9], after[:, :9])
    assert not torch.allclose(before[:, 9:], after[:, 9:])


def test_logits_are_those_of_the_last_window_that_the_call_ran() -> None:
    model = beacon_model(window=8)
    assert model.feed(random_ids(1, 16)).logits.shape[1] == 8
    assert model.feed(random_ids(1, 19)).logits.shape[1] == 3
    memory = model.feed(random_ids(1, 6)).memory
    assert model.feed(random_ids(1, 2), memory).logits.shape[1] == 2
    assert model.feed(random_ids(1, 5), memory).logits.shape[1] == 3


def test_a_memory_keeps_its_ratio_when_it_is_continued() -> None:
    model = beacon_model(window=8, ratio=4)
    ids = random_ids(1, 40)
    memory = model.feed(ids[:, :20]).memory
    other = BeaconModel(model.model, model.settings, ratio=2)
    assert_same_memory(other.feed(ids[:, 20:], memory).memory, model.feed(ids).memory)


def test_a_ratio_that_the_window_cannot_hold_is_refused_and_an_untrained_one_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = beacon_model(window=8, ratio=4)
    with pytest.raises(InputError, match="at most the window"):
        BeaconModel(model.model, model.settings, ratio=16)
    with pytest.raises(ValueError, match="ratio"):
        BeaconModel(model.model, model.settings, ratio=1)
    assert not caplog.records
    assert BeaconModel(model.model, model.settings, ratio=2).ratio == 2
    assert "the model was trained with 4" in caplog.text


def test_bfloat16_memories_stay_near_the_float32_ones(golden: Path) -> None:
    ids = random_ids(1, 100, vocabulary=199)
    exact = BeaconModel.from_pretrained(golden).feed(ids)
    rough = BeaconModel.from_pretrained(golden, dtype="bfloat16").feed(ids)
    assert state(rough.memory)[0].dtype == torch.bfloat16
    assert rough.logits.dtype == torch.float32
    assert (rough.logits - exact.logits).abs().mean() < 0.1 * exact.logits.abs().mean()
