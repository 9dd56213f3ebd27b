"""Checkpoints: what is loaded is what lies there, and everything else is an error that says what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from memorag_core.errors import CheckpointError, InputError, UnsupportedModelError
from memorag_core.memory.longcontext import LongContextModel
from tests.core.memory.beacon.conftest import small_tokenizer, write_checkpoint
from tests.core.memory.longcontext.conftest import plainly, random_ids, save_model


def rewrite(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("family", ["qwen3", "gemma3_text"])
def test_what_is_loaded_is_what_was_saved(tmp_path: Path, family: str) -> None:
    plain = save_model(tmp_path, family)
    model = LongContextModel.from_pretrained(tmp_path, device="cpu", chunk=10)
    ids = random_ids(1, 40)
    expected = plainly(plain, ids, 10)
    assert torch.equal(model.greedy(ids[:, 30:], model.feed(ids[:, :30]).memory, max_new_tokens=10), expected)
    assert model.tokens is not None
    assert model.model.dtype == torch.float32
    assert LongContextModel.from_pretrained(tmp_path, dtype="bfloat16").model.dtype == torch.bfloat16
    assert LongContextModel.from_pretrained(str(tmp_path), dtype=torch.float16).model.dtype == torch.float16


def test_several_shards_and_no_tokenizer_will_do_and_code_is_never_run(tmp_path: Path) -> None:
    plain = save_model(tmp_path)
    plain.save_pretrained(tmp_path, max_shard_size="20KB")
    (tmp_path / "model.safetensors").unlink(missing_ok=True)
    (tmp_path / "modeling_trap.py").write_text("raise SystemExit('run')")
    rewrite(tmp_path, auto_map={"AutoModelForCausalLM": "modeling_trap.Trap"})
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).unlink()
    model = LongContextModel.from_pretrained(tmp_path)
    assert model.tokens is None
    assert model.feed([1, 2, 3]).memory.tokens == 3


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no folder"):
        LongContextModel.from_pretrained(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        LongContextModel.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="hub"):
        LongContextModel.from_pretrained("nobody/nothing-at-all")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        LongContextModel.from_pretrained(tmp_path)


def test_missing_weights_pickled_weights_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    save_model(tmp_path)
    weights = tmp_path / "model.safetensors"
    tensors = load_file(weights)
    name = "model.layers.1.mlp.up_proj.weight"
    save_file({key: value for key, value in tensors.items() if key != name}, weights, {"format": "pt"})
    with pytest.raises(CheckpointError, match=f"lacks 1 tensors.*{name}"):
        LongContextModel.from_pretrained(tmp_path)
    save_file({**tensors, name: tensors[name][:3].clone()}, weights, {"format": "pt"})
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        LongContextModel.from_pretrained(tmp_path)
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        LongContextModel.from_pretrained(tmp_path)
    weights.rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="safetensors"):
        LongContextModel.from_pretrained(tmp_path)


def test_unknown_and_other_kinds_of_model_are_refused_by_name(tmp_path: Path) -> None:
    save_model(tmp_path)
    rewrite(tmp_path, model_type="t5", is_encoder_decoder=True)
    with pytest.raises(UnsupportedModelError, match="'t5'"):
        LongContextModel.from_pretrained(tmp_path)
    rewrite(tmp_path, model_type="nobody_knows", is_encoder_decoder=False)
    with pytest.raises(UnsupportedModelError, match="nobody_knows"):
        LongContextModel.from_pretrained(tmp_path)


def test_a_beacon_model_is_sent_to_its_own_class(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, tokenizer=small_tokenizer())
    with pytest.raises(UnsupportedModelError, match="BeaconModel"):
        LongContextModel.from_pretrained(tmp_path)


def test_surplus_tensors_are_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_model(tmp_path)
    weights = tmp_path / "model.safetensors"
    save_file({**load_file(weights), "extra.weight": torch.ones(2)}, weights, {"format": "pt"})
    LongContextModel.from_pretrained(tmp_path)
    assert "extra.weight" in caplog.text


def test_a_device_or_dtype_that_there_is_not_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path)
    for device in ("abacus", "cuda:99", "meta"):
        with pytest.raises(InputError, match="device"):
            LongContextModel.from_pretrained(tmp_path, device=device)
    for dtype in ("int8", "float33", torch.int64):
        with pytest.raises(InputError, match="dtype"):
            LongContextModel.from_pretrained(tmp_path, dtype=dtype)
