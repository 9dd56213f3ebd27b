"""The golden models: numbers of the original, to be met however the tokens are fed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from memorag_core.memory.beacon import BeaconMemory, BeaconModel
from tests.core.memory.beacon.conftest import unrotated

TOLERANCE = 1e-4


def fed(model: BeaconModel, ids: Tensor, pieces: str) -> BeaconMemory:
    drawn = random.Random(7)
    memory = None
    at = 0
    while at < ids.shape[1]:
        count = {"once": ids.shape[1], "tokens": 1, "pieces": drawn.randint(1, 70)}[pieces]
        memory = model.feed(ids[:, at : at + count], memory).memory
        at += count
    assert memory is not None
    return memory


def assert_near(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize("pieces", ["once", "pieces", "tokens"])
def test_the_state_after_the_context_is_the_original(golden: Path, pieces: str) -> None:
    model, expected = BeaconModel.from_pretrained(golden), load_file(golden / "expected.safetensors")
    memory = fed(model, expected["context_ids"], pieces)
    assert [0, memory.slots, memory.stream.entries] == expected["sizes"].tolist()
    (block,) = memory.blocks
    plain = unrotated(block, model.rotary)
    for layer in range(model.model.config.num_hidden_layers):
        for name, part in (("beacon", plain.slots), ("raw", plain.tail)):
            if part.length:
                assert_near(part.keys[layer], expected[f"memory.{layer}.{name}_key"])
                assert_near(part.values[layer], expected[f"memory.{layer}.{name}_value"])


@pytest.mark.parametrize("pieces", ["once", "pieces", "tokens"])
def test_logits_and_decoded_ids_are_the_original(golden: Path, pieces: str) -> None:
    model, expected = BeaconModel.from_pretrained(golden), load_file(golden / "expected.safetensors")
    memory = fed(model, expected["context_ids"], pieces)
    ids = expected["decode_ids"]
    decoded = model.greedy(expected["prompt_ids"], memory, max_new_tokens=ids.shape[1])
    assert torch.equal(decoded, ids)

    prompted = model.feed(expected["prompt_ids"], memory)
    assert_near(prompted.logits, expected["prompt_logits"])
    after = prompted.memory
    for at in range(ids.shape[1]):
        one = model.feed(ids[:, at : at + 1], after)
        assert_near(one.logits, expected["decode_logits"][:, at : at + 1])
        after = one.memory
    assert [0, after.slots, after.stream.entries] == expected["sizes_after"].tolist()


def test_the_logits_of_the_last_window_are_the_original(golden: Path) -> None:
    model, expected = BeaconModel.from_pretrained(golden), load_file(golden / "expected.safetensors")
    assert_near(model.feed(expected["context_ids"]).logits, expected["context_last_window_logits"])
