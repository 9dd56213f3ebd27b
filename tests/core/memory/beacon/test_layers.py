"""Patch laws: attaching changes nothing until beacons run, and detaching leaves nothing behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from memorag_core.errors import InputError, UnsupportedModelError
from memorag_core.memory.beacon import BeaconModel, BeaconSettings
from memorag_core.memory.beacon.layers import attach, detach, is_attached
from tests.core.memory.beacon.conftest import FAMILIES, beacon_model, host_model, random_ids

SETTINGS = BeaconSettings(window=8, ratios=(4,))


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_attached_model_without_beacons_is_bit_by_bit_the_unpatched_one(
    family: str, implementation: str
) -> None:
    model = host_model(family)
    model.set_attn_implementation(implementation)
    ids = random_ids(2, 21)
    before = model(ids).logits
    attach(model, SETTINGS)
    assert torch.equal(model(ids).logits, before)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_detached_model_is_identical_to_before(family: str) -> None:
    model = host_model(family)
    ids = random_ids(2, 21)
    before, names = model(ids).logits, list(model.state_dict())
    modules = {name: id(module) for name, module in model.named_modules()}
    implementation = model.config._attn_implementation
    attach(model, SETTINGS)
    BeaconModel(model, SETTINGS).feed(ids)
    detach(model)
    assert not is_attached(model)
    assert list(model.state_dict()) == names
    assert {name: id(module) for name, module in model.named_modules()} == modules
    assert model.config._attn_implementation == implementation
    assert torch.equal(model(ids).logits, before)


@pytest.mark.parametrize("family", FAMILIES)
def test_fewer_tokens_than_the_ratio_give_the_logits_of_the_unpatched_model(family: str) -> None:
    model = host_model(family)
    ids = random_ids(2, 15)
    before = model(ids).logits
    settings = BeaconSettings(window=32, ratios=(16,))
    attach(model, settings)
    assert torch.allclose(BeaconModel(model, settings).feed(ids).logits, before, atol=1e-4)


def test_fresh_beacons_start_as_copies_of_the_base_model() -> None:
    model = host_model("qwen2")
    attach(model, SETTINGS)
    attention: Any = model.get_submodule("model.layers.1.self_attn")
    assert torch.equal(attention.q_proj.twin.weight, attention.q_proj.base.weight)
    assert torch.equal(attention.k_proj.twin.bias, attention.k_proj.base.bias)
    embeddings = model.get_parameter("model.embed_tokens.weight")
    embedded = embeddings[model.config.eos_token_id]
    assert torch.equal(model.model.beacon_embed_tokens.weight[0], embedded)


def test_a_run_leaves_the_attached_model_as_it_was() -> None:
    model = beacon_model()
    ids = random_ids(1, 12)
    before = model.model(ids).logits
    with pytest.raises(InputError):
        model.feed(torch.full((1, 3), 10_000))
    model.feed(random_ids(1, 30))
    assert torch.equal(model.model(ids).logits, before)


def test_attaching_twice_and_detaching_nothing_are_refused() -> None:
    model = host_model()
    with pytest.raises(InputError, match="no beacons"):
        detach(model)
    attach(model, SETTINGS)
    with pytest.raises(InputError, match="already"):
        attach(model, SETTINGS)


def test_another_architecture_is_refused_by_name_with_what_is_supported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = host_model()
    monkeypatch.setattr(type(model.config), "model_type", "gpt2")
    with pytest.raises(UnsupportedModelError, match=r"gpt2.*qwen2, qwen3, mistral, llama"):
        attach(model, SETTINGS)
