"""Weights in 8 and 4 bits: which modules are coded, what that costs, and what stays exactly as it was."""

from __future__ import annotations

import builtins
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from memorag_core import MemoRAG
from memorag_core.errors import InputError, MissingExtraError, StoreError, UnsupportedModelError
from memorag_core.memory.beacon import BeaconModel, load_checkpoint, save_checkpoint
from memorag_core.memory.beacon.layers import BeaconLinear, attach, detach
from memorag_core.memory.beacon.quantized import CodedLinear, Quantization, quantization_of, quantized_linear
from memorag_core.memory.beacon.weights import build_model, weight_bytes
from memorag_core.memory.bundled import bundled_path
from tests.core.memory.beacon.conftest import (
    ASK_PROMPTS,
    FAMILIES,
    assert_same_memory,
    random_ids,
    rewrite_weights,
    small_tokenizer,
    write_checkpoint,
)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "model", family="qwen2", hidden=64, heads=4, head_dim=16)
    return tmp_path / "model"


def load(folder: Path, **options: Any) -> BeaconModel:
    return BeaconModel.from_pretrained(folder, device="cpu", **options)


# --- without the library ------------------------------------------------------------------------------------


def test_without_the_extra_the_error_names_it_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "bitsandbytes":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"'bitsandbytes'.*memorag-adapters\[quantized\]"):
        BeaconModel.from_pretrained(tmp_path / "nothing is here", quantize="int4")


@pytest.mark.parametrize("quantize", ["int3", "4bit", 8, True, ""])
def test_what_is_no_quantization_is_refused(checkpoint: Path, quantize: Any) -> None:
    with pytest.raises(InputError, match="expected None, 'int8' or 'int4'"):
        load(checkpoint, quantize=quantize)


def test_weights_as_they_are_have_no_quantization(checkpoint: Path) -> None:
    model = load(checkpoint)
    assert quantization_of(model.model) is None
    assert "quantization" not in model.fingerprint


def test_the_bytes_of_weights_are_known_before_they_are_loaded(checkpoint: Path) -> None:
    loaded = load_checkpoint(checkpoint, device="cpu")
    config = json.loads((checkpoint / "config.json").read_text())
    shape = build_model(config, loaded.settings, torch.float32)
    taken = sum(parameter.nbytes for parameter in loaded.model.parameters())
    assert weight_bytes(shape, dtype=torch.float32) == taken
    assert weight_bytes(shape, dtype=torch.bfloat16) == taken // 2
    sizes = [weight_bytes(shape, dtype=torch.bfloat16, quantize=kind) for kind in (None, "int8", "int4")]
    assert sizes == sorted(sizes, reverse=True)


# --- with it ------------------------------------------------------------------------------------------------


@pytest.fixture
def library() -> Any:
    return pytest.importorskip("bitsandbytes", reason="the extra 'quantized' is not installed")


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("quantize", ["int8", "int4"])
@pytest.mark.parametrize("family", FAMILIES)
def test_base_projections_are_coded_and_nothing_else(
    tmp_path: Path, family: str, quantize: Quantization, dtype: str
) -> None:
    write_checkpoint(tmp_path, family=family, tied=family == "llama")
    plain, coded = (load(tmp_path, dtype=dtype, quantize=kind).model for kind in (None, quantize))
    assert quantization_of(coded) == quantize
    for layer in coded.model.layers:
        modules = dict(layer.named_modules())
        linear = {name for name, module in modules.items() if isinstance(module, nn.Linear)}
        assert linear == {f"self_attn.{name}_proj.twin" for name in "qkv"}
        assert len([module for module in modules.values() if isinstance(module, CodedLinear)]) == 7
    same = dict(coded.named_parameters())
    for name, parameter in plain.named_parameters():
        if name in same:
            assert torch.equal(parameter, same[name])
    left_out = {name for name, _ in plain.named_parameters()} - same.keys()
    assert all(name.endswith(("_proj.weight", "_proj.base.weight")) for name in left_out)
    assert {parameter.dtype for parameter in coded.parameters()} == {getattr(torch, dtype)}


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("shape", [(48, 64), (24, 40), (33, 24)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("quantize", ["int8", "int4"])
def test_a_coded_projection_is_near_the_projection_and_never_changes(
    quantize: Quantization, dtype: torch.dtype, shape: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    plain = nn.Linear(shape[1], shape[0]).to(dtype)
    coded = quantized_linear(plain.weight.detach(), quantize)
    coded.bias = plain.bias
    hidden = torch.randn(2, 5, shape[1]).to(dtype)
    before = {name: buffer.clone() for name, buffer in coded.named_buffers()}
    with torch.inference_mode():
        found, wanted = coded(hidden), plain(hidden)
        alone = torch.cat([coded(hidden[:, at : at + 1]) for at in range(5)], dim=1)
    assert found.dtype == dtype
    assert (found - wanted).float().norm() < {"int8": 0.02, "int4": 0.15}[quantize] * wanted.float().norm()
    assert torch.allclose(alone, found, atol=1e-5 if dtype == torch.float32 else 2e-2)
    assert all(torch.equal(buffer, before[name]) for name, buffer in coded.named_buffers())


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("quantize", ["int8", "int4"])
def test_a_trained_model_is_nearly_what_it_was_and_smaller(quantize: Quantization) -> None:
    plain, coded = load(bundled_path()), load(bundled_path(), quantize=quantize)
    assert plain.tokens is not None
    text = "The keeper of the tower mends clocks, and Mara Venn lives in Orrin, by the river. " * 20
    ids = plain.tokens.encode_text(text)[None, :255]
    wanted, found = (model.feed(torch.from_numpy(ids)).logits for model in (plain, coded))
    error = ((found - wanted).norm() / wanted.norm()).item()
    assert 0 < error < {"int8": 0.05, "int4": 0.4}[quantize]
    sizes = [
        sum(tensor.nbytes for tensor in (*model.model.parameters(), *model.model.buffers()))
        for model in (plain, coded)
    ]
    assert sizes[1] < 0.6 * sizes[0]


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("quantize", ["int8", "int4"])
def test_the_laws_of_reading_hold_for_coded_weights(checkpoint: Path, quantize: Quantization) -> None:
    model = load(checkpoint, quantize=quantize)
    ids = random_ids(2, 50)
    once = model.feed(ids)
    memory = None
    for start, end in ((0, 1), (1, 7), (7, 30), (30, 50)):
        memory = model.feed(ids[:, start:end], memory).memory
    assert memory is not None
    assert_same_memory(memory, once.memory)
    single = model.feed(ids[1:]).memory
    assert_same_memory(once.memory.row(1), single)  # a row does not depend on those beside it


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("quantize", ["int8", "int4"])
def test_a_coded_model_is_shared_by_threads_from_its_first_use(
    checkpoint: Path, quantize: Quantization
) -> None:
    texts = [random_ids(1, 40, seed=seed) for seed in range(24)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(load(checkpoint, quantize=quantize).feed, texts))
    model = load(checkpoint, quantize=quantize)
    for one, ids in zip(found, texts, strict=True):
        assert torch.equal(one.logits, model.feed(ids).logits)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("quantize", ["int8", "int4"])
def test_fresh_twins_are_copies_of_the_weights_and_not_of_their_codes(
    checkpoint: Path, quantize: Quantization
) -> None:
    def strip(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if "beacon" in name]:
            del tensors[name]

    rewrite_weights(checkpoint, strip)
    plain, coded = load(checkpoint).model, load(checkpoint, quantize=quantize).model
    for one, other in zip(plain.model.layers, coded.model.layers, strict=True):
        for name in ("q_proj", "k_proj", "v_proj"):
            for kind in ("weight", "bias"):
                twin = getattr(getattr(other.self_attn, name).twin, kind)
                assert torch.equal(twin, getattr(getattr(one.self_attn, name).base, kind))


@pytest.mark.usefixtures("library")
def test_beacons_are_taken_off_a_coded_model(checkpoint: Path) -> None:
    loaded = load_checkpoint(checkpoint, device="cpu", quantize="int8")
    ids = random_ids(1, 20)
    before = loaded.model(ids).logits
    detach(loaded.model)
    assert not [module for module in loaded.model.modules() if isinstance(module, BeaconLinear)]
    assert torch.equal(loaded.model(ids).logits, before)


@pytest.mark.usefixtures("library")
def test_a_coded_model_is_not_saved_as_a_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    loaded = load_checkpoint(checkpoint, device="cpu", quantize="int4")
    with pytest.raises(UnsupportedModelError, match=r"in int4.*without quantize"):
        save_checkpoint(loaded.model, tmp_path / "out", settings=loaded.settings)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("library")
def test_a_memory_belongs_to_the_quantization_it_was_made_with(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_checkpoint(folder, tokenizer=small_tokenizer(), usage={"prompts": ASK_PROMPTS})
    kinds: tuple[Quantization | None, ...] = (None, "int8", "int4")
    models = {kind: load(folder, quantize=kind) for kind in kinds}
    prints = [model.fingerprint for model in models.values()]
    assert [found.get("quantization") for found in prints] == list(kinds)
    assert len({found["weights"] for found in prints}) == 2  # coded or not; the weights are the same ones
    assert load(folder, quantize="int4").fingerprint == prints[2]
    MemoRAG(models["int4"], progress=False).memorize("The keeper mends clocks.").save(tmp_path / "store")
    again = MemoRAG.load(tmp_path / "store", load(folder, quantize="int4"), progress=False)
    assert again.memory.tokens == 24
    for kind in (None, "int8"):
        with pytest.raises(StoreError, match="quantization"):
            MemoRAG.load(tmp_path / "store", models[kind], progress=False)


@pytest.mark.usefixtures("library")
def test_the_identity_follows_the_weights_and_not_their_codes(checkpoint: Path) -> None:
    before = load(checkpoint, quantize="int4").fingerprint["weights"]

    def nudge(tensors: dict[str, torch.Tensor]) -> None:
        tensors["model.layers.1.mlp.down_proj.weight"][3, 3] += 1e-6  # far below a step of the codes

    rewrite_weights(checkpoint, nudge)
    assert load(checkpoint, quantize="int4").fingerprint["weights"] != before


@pytest.mark.usefixtures("library")
def test_beacons_are_attached_before_weights_are_coded(checkpoint: Path) -> None:
    loaded = load_checkpoint(checkpoint, device="cpu", quantize="int8")
    with pytest.raises(InputError, match="has beacons already"):
        attach(loaded.model, loaded.settings)
