"""Packing: the same bits come back, for the same model only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from memorag_core.errors import StoreError
from memorag_core.memory.beacon import BeaconMemory, BeaconModel
from tests.core.memory.beacon.conftest import (
    ASK_PROMPTS,
    assert_same_memory,
    beacon_model,
    random_ids,
    rewrite_weights,
    small_tokenizer,
    write_checkpoint,
)


def through_disk(model: BeaconModel, memory: BeaconMemory, folder: Path) -> BeaconMemory:
    tensors, header = model.pack(memory)
    save_file(dict(tensors), folder / "memory.safetensors")
    return model.unpack(load_file(folder / "memory.safetensors"), json.loads(json.dumps(header)))


@pytest.mark.parametrize(("rows", "tokens"), [(1, 3), (1, 16), (2, 45), (3, 4)])
def test_saved_and_loaded_is_the_same_bits_and_can_be_continued(
    tmp_path: Path, rows: int, tokens: int
) -> None:
    model = beacon_model(window=8, ratio=4)
    memory = model.feed(random_ids(rows, tokens)).memory
    loaded = through_disk(model, memory, tmp_path)
    assert_same_memory(loaded, memory, exactly=True)
    ids = random_ids(rows, 21, seed=1)
    assert_same_memory(model.feed(ids, loaded).memory, model.feed(ids, memory).memory)
    assert torch.equal(
        model.greedy(ids, loaded, max_new_tokens=9), model.greedy(ids, memory, max_new_tokens=9)
    )


def test_parts_are_loaded_as_parts_and_appended_to(tmp_path: Path) -> None:
    tokenizer = small_tokenizer()
    write_checkpoint(
        tmp_path, tokenizer=tokenizer, usage={"capacity": 16, "overlap": 4, "prompts": ASK_PROMPTS}
    )
    model = BeaconModel.from_pretrained(tmp_path)
    memory = model.memorize("one text that is longer than a part can hold")
    loaded = through_disk(model, memory, tmp_path)
    assert memory.parts > 2
    assert_same_memory(loaded, memory, exactly=True)
    more = "and more of it, for another part or two"
    assert_same_memory(model.memorize(more, loaded), model.memorize(more, memory))


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


@pytest.mark.parametrize("name", ["format", "window", "ratio", "tokens", "blocks", "capacity"])
def test_a_header_that_lacks_a_value_is_refused(name: str) -> None:
    model = beacon_model(window=8, ratio=4)
    tensors, header = model.pack(model.feed(random_ids(1, 21)).memory)
    with pytest.raises(StoreError):
        model.unpack(tensors, {key: value for key, value in header.items() if key != name})


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
