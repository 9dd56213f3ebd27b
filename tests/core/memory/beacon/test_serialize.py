"""Packing: the same bits come back, for the same model only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from memorag_core.errors import StoreError
from memorag_core.memory.beacon import BeaconModel
from tests.core.memory.beacon.conftest import (
    beacon_model,
    random_ids,
    rewrite_weights,
    small_tokenizer,
    write_checkpoint,
)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"format": None},
        {"window": 16},
        {"ratio": 3},
        {"blocks": [{"rows": 2, "tokens": 21}]},
        {"blocks": []},
        {"blocks": "x"},
        {"blocks": [{"rows": 1, "tokens": 50}]},
        {"blocks": [{"rows": 1, "tokens": -1}]},
        {"blocks": [{"rows": 1, "tokens": 21}] * 2},
        {"ratio": 1},
        {"capacity": 16, "overlap": 0},
    ],
)
def test_a_header_that_does_not_fit_is_refused(change: dict[str, Any]) -> None:
    model = beacon_model(window=8, ratio=4)
    tensors, header = model.pack(model.feed(random_ids(1, 21)).memory)
    with pytest.raises(StoreError):
        model.unpack(tensors, {**header, **change})


def test_tensors_of_another_shape_and_missing_ones_are_refused_by_name() -> None:
    model = beacon_model(window=8, ratio=4)
    tensors, header = model.pack(model.feed(random_ids(1, 21)).memory)
    with pytest.raises(StoreError, match=r"slots.keys.*None"):
        model.unpack({name: value for name, value in tensors.items() if name != "0.slots.keys"}, header)
    with pytest.raises(StoreError, match=r"0.tail.values"):
        model.unpack({**tensors, "0.tail.values": tensors["0.tail.values"][:1]}, header)
    with pytest.raises(StoreError, match=r"0.slots.keys"):
        beacon_model(window=8, ratio=4, layers=1).unpack(tensors, header)


def test_the_fingerprint_tells_models_apart_and_knows_the_same_one_again(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, tokenizer=small_tokenizer(), window=8)
    first, again = (BeaconModel.from_pretrained(tmp_path) for _ in range(2))
    assert first.fingerprint == again.fingerprint == json.loads(json.dumps(first.fingerprint))
    assert BeaconModel.from_pretrained(tmp_path, ratio=2).fingerprint == {**first.fingerprint, "ratio": 2}

    def nudge(tensors: dict[str, torch.Tensor]) -> None:
        tensors["model.layers.1.self_attn.beacon_k_proj.weight"][3, 3] += 0.1

    rewrite_weights(tmp_path, nudge)
    assert BeaconModel.from_pretrained(tmp_path).fingerprint["weights"] != first.fingerprint["weights"]
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer_config.json").unlink()
    assert BeaconModel.from_pretrained(tmp_path).fingerprint["tokenizer"] is None
