"""Checkpoints: what fits is loaded as it is, what does not fit is refused with names and shapes."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from memorag_core import MemoRAG
from memorag_core.errors import CheckpointError, InputError, MemoRAGError, UnsupportedModelError
from memorag_core.memory.beacon import BeaconModel, load_checkpoint, save_checkpoint
from tests.core.doubles import SentenceModel
from tests.core.memory.beacon.conftest import (
    ASK_PROMPTS,
    FAMILIES,
    GOLDEN,
    beacon_model,
    random_ids,
    rewrite_config,
    rewrite_weights,
    small_tokenizer,
    write_checkpoint,
)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_model_computes_the_same_when_loaded(tmp_path: Path, family: str, tied: bool) -> None:
    made = write_checkpoint(tmp_path, family=family, tied=tied, rope_theta=500.0)
    loaded = BeaconModel.from_pretrained(tmp_path)
    ids = random_ids(2, 30)
    assert torch.equal(loaded.feed(ids).logits, made.feed(ids).logits)
    assert loaded.settings == made.settings
    names = load_file(tmp_path / "model.safetensors")
    assert "model.layers.1.self_attn.beacon_q_proj.weight" in names
    assert "model.layers.1.self_attn.q_proj.weight" in names
    assert ("lm_head.weight" in names) != tied
    assert not list(tmp_path.glob(".*"))


def test_saving_the_golden_models_gives_their_tensors_back(golden: Path, tmp_path: Path) -> None:
    loaded = load_checkpoint(golden)
    save_checkpoint(loaded.model, tmp_path, settings=loaded.settings)
    before, after = load_file(golden / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    config = json.loads((tmp_path / "config.json").read_text())
    original = json.loads((golden / "config.json").read_text())
    lost = {name for name in original if config.get(name) != original[name]}
    assert lost == set()


def test_weights_can_be_kept_in_bfloat16_and_computed_in_float32(tmp_path: Path) -> None:
    made = write_checkpoint(tmp_path)
    save_checkpoint(made.model, tmp_path / "half", settings=made.settings, dtype=torch.bfloat16)
    assert {tensor.dtype for tensor in load_file(tmp_path / "half" / "model.safetensors").values()} == {
        torch.bfloat16
    }
    half = BeaconModel.from_pretrained(tmp_path / "half", device="cpu")
    assert half.model.dtype == torch.float32
    assert (
        BeaconModel.from_pretrained(tmp_path / "half", device="cpu", dtype="bfloat16").model.dtype
        == torch.bfloat16
    )
    ids = random_ids(1, 20)
    assert (half.feed(ids).logits - made.feed(ids).logits).abs().mean() < 0.1


def test_a_checkpoint_in_shards_is_the_same_model(tmp_path: Path) -> None:
    made = write_checkpoint(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, some in shards.items():
        save_file({name: tensors[name] for name in some}, tmp_path / file)
    index = {"weight_map": {name: file for file, some in shards.items() for name in some}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    ids = random_ids(1, 20)
    assert torch.equal(BeaconModel.from_pretrained(tmp_path).feed(ids).logits, made.feed(ids).logits)
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"not there: b\.safetensors"):
        BeaconModel.from_pretrained(tmp_path)


def test_names_of_old_and_new_releases_of_transformers_mean_the_same(tmp_path: Path) -> None:
    made = write_checkpoint(tmp_path, rope_theta=123.0)
    ids = random_ids(1, 40)
    expected = made.feed(ids).logits
    rewrite_config(tmp_path, rope_parameters=None, rope_theta=123.0, torch_dtype="float32", dtype=None)
    assert torch.equal(BeaconModel.from_pretrained(tmp_path).feed(ids).logits, expected)
    rewrite_config(
        tmp_path,
        rope_parameters={"rope_type": "default", "rope_theta": 123.0},
        rope_theta=None,
        torch_dtype=None,
    )
    assert torch.equal(BeaconModel.from_pretrained(tmp_path).feed(ids).logits, expected)
    rewrite_config(tmp_path, rope_parameters=None, rope_theta=124.0)
    assert not torch.allclose(BeaconModel.from_pretrained(tmp_path).feed(ids).logits, expected)


def test_linear_rope_scaling_is_honoured_in_its_old_spelling(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    plain = BeaconModel.from_pretrained(tmp_path).rotary.frequencies
    rewrite_config(
        tmp_path, rope_parameters=None, rope_theta=10_000.0, rope_scaling={"type": "linear", "factor": 2.0}
    )
    assert torch.allclose(BeaconModel.from_pretrained(tmp_path).rotary.frequencies * 2, plain)


def test_a_mistral_config_without_sliding_window_has_none(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, family="mistral")
    rewrite_config(tmp_path, sliding_window=None)
    assert "sliding_window" not in json.loads((tmp_path / "config.json").read_text())
    assert BeaconModel.from_pretrained(tmp_path).model.config.sliding_window is None


def test_code_in_a_checkpoint_is_not_looked_at(tmp_path: Path) -> None:
    made = write_checkpoint(tmp_path)
    rewrite_config(
        tmp_path, auto_map={"AutoModelForCausalLM": "modeling.Evil", "AutoConfig": "modeling.Evil"}
    )
    (tmp_path / "modeling.py").write_text("raise SystemExit('this code ran')")
    ids = random_ids(1, 20)
    assert torch.equal(BeaconModel.from_pretrained(tmp_path).feed(ids).logits, made.feed(ids).logits)


def test_a_base_model_without_beacon_tensors_starts_with_copies(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_checkpoint(tmp_path, family="qwen2")

    def strip(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if "beacon" in name]:
            del tensors[name]

    rewrite_weights(tmp_path, strip)
    loaded = load_checkpoint(tmp_path)
    assert "no beacon tensors" in caplog.text
    weights = load_file(tmp_path / "model.safetensors")
    attention = loaded.model.model.layers[0].self_attn
    assert torch.equal(attention.k_proj.twin.weight, weights["model.layers.0.self_attn.k_proj.weight"])
    assert torch.equal(
        loaded.model.model.beacon_embed_tokens.weight[0], weights["model.embed_tokens.weight"][2]
    )


Q = "model.layers.0.self_attn.beacon_q_proj.weight"
DOWN = "model.layers.1.mlp.down_proj.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop(DOWN), rf"1 missing: {DOWN}"),
        (lambda tensors: tensors.pop(Q), rf"1 missing: {Q}"),
        (lambda tensors: tensors.pop("lm_head.weight"), r"1 missing: lm_head\.weight"),
        (lambda tensors: tensors.update(extra=torch.zeros(3)), r"1 surplus: extra"),
        (
            lambda tensors: tensors.update({Q: torch.zeros(3, 5)}),
            rf"wrong shape: {Q} has shape \(3, 5\), expected \(32",
        ),
        (lambda tensors: tensors.update({DOWN: torch.zeros(1)}), r"has shape \(1,\), expected \(24, 32\)"),
        (
            lambda tensors: tensors.update({"model.beacon_embed_tokens.weight": torch.zeros(2, 24)}),
            r"expected \(1, 24\)",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named_with_their_shapes(
    tmp_path: Path, change: Any, message: str
) -> None:
    write_checkpoint(tmp_path)
    rewrite_weights(tmp_path, change)
    with pytest.raises(CheckpointError, match=message):
        BeaconModel.from_pretrained(tmp_path)


def test_rotary_frequencies_that_old_checkpoints_carry_are_passed_over(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    rewrite_weights(tmp_path, lambda tensors: tensors.update({"model.rotary_emb.inv_freq": torch.zeros(4)}))
    BeaconModel.from_pretrained(tmp_path)


def test_a_tied_head_may_be_in_the_file_only_if_it_is_the_embedding(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, tied=True)
    rewrite_weights(
        tmp_path,
        lambda tensors: tensors.update({"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}),
    )
    loaded = BeaconModel.from_pretrained(tmp_path).model
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    rewrite_weights(tmp_path, lambda tensors: tensors["lm_head.weight"].add_(1))
    with pytest.raises(CheckpointError, match="ties the output head"):
        BeaconModel.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "phi3"}, r"'phi3'.*supported are qwen2, qwen3, mistral, llama"),
        ({"model_type": None}, r"model_type is None"),
        ({"beacon_window": None}, r"no 'beacon_window'"),
        ({"beacon_pos": "append"}, r"beacon_pos is 'append'; supported is 'interleave'"),
        ({"beacon_attn": "segmentation"}, r"beacon_attn.*full-coverage"),
        ({"beacon_sink_size": 4}, r"beacon_sink_size is 4; supported is 0"),
        ({"beacon_parallel_window": 2}, r"beacon_parallel_window"),
        ({"beacon_attend_prev": False}, r"beacon_attend_prev"),
        ({"beacon_stride": 4}, r"beacon_stride is 4"),
        ({"beacon_param": ["q", "gate"]}, r"beacon_param"),
        ({"beacon_ratio": [1]}, r"ratio is 1"),
        ({"quantization_config": {"bits": 4}}, r"quantization_config"),
        (
            {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
            r"'dynamic'; supported are default, linear",
        ),
        ({"rope_scaling": {"type": "longrope"}}, r"'longrope'"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    write_checkpoint(tmp_path)
    rewrite_config(tmp_path, **changes)
    with pytest.raises(UnsupportedModelError, match=message):
        BeaconModel.from_pretrained(tmp_path)


def test_pickled_weights_are_refused_with_the_remedy(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pickled.*save_pretrained"):
        BeaconModel.from_pretrained(tmp_path)


def test_damaged_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no folder"):
        BeaconModel.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        BeaconModel.from_pretrained(tmp_path)
    write_checkpoint(tmp_path)
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        BeaconModel.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no weights"):
        BeaconModel.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not JSON"):
        BeaconModel.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="expected an object"):
        BeaconModel.from_pretrained(tmp_path)


def test_a_tokenizer_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="tokenizer"):
        BeaconModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("dtype", ["int64", "float33", "", torch.int32])
def test_a_dtype_that_is_none_is_refused(dtype: Any) -> None:
    with pytest.raises(InputError, match="expected 'auto'"):
        BeaconModel.from_pretrained(GOLDEN / "qwen2_r4", dtype=dtype)


@pytest.mark.parametrize(
    "usage",
    [
        {"format": 2},
        {"surprise": 1},
        {"capacity": 0},
        {"capacity": 64, "overlap": 64},
        {"pad_windows": 1},
        {"ratio": 1},
        {"max_new_tokens": {"poem": 3}},
        {"max_new_tokens": {"span": 0}},
        {"max_new_tokens": 7},
        {"prompts": {"context": "{context}"}},
        {"prompts": 3},
        {"line_token": 3},
        {"line_token": "<|nowhere|>"},
    ],
)
@pytest.mark.parametrize("name", ["memorag-usage.json", "memorag.json"])
def test_a_usage_that_cannot_be_used_is_refused_by_the_files_name(
    tmp_path: Path, usage: dict[str, Any], name: str
) -> None:
    write_checkpoint(
        tmp_path, tokenizer=small_tokenizer(), usage={"prompts": ASK_PROMPTS, **usage}, usage_file=name
    )
    with pytest.raises(CheckpointError, match=re.escape(name)):
        BeaconModel.from_pretrained(tmp_path)


def test_a_usage_is_read_under_todays_name_and_that_of_earlier_releases(tmp_path: Path) -> None:
    usage = {"capacity": 64, "prompts": ASK_PROMPTS}
    for name in ("memorag-usage.json", "memorag.json"):
        write_checkpoint(tmp_path / name, tokenizer=small_tokenizer(), usage=usage, usage_file=name)
        assert BeaconModel.from_pretrained(tmp_path / name).usage.capacity == 64
    both = tmp_path / "memorag.json"
    (both / "memorag-usage.json").write_text(json.dumps({"format": 1, **usage, "capacity": 32}))
    assert BeaconModel.from_pretrained(both).usage.capacity == 32


def test_a_saved_memory_in_the_folder_of_a_checkpoint_says_nothing_of_its_usage(tmp_path: Path) -> None:
    MemoRAG(SentenceModel()).memorize("The keeper mends clocks.").save(tmp_path)
    write_checkpoint(tmp_path, tokenizer=small_tokenizer(), usage={"capacity": 64, "prompts": ASK_PROMPTS})
    assert BeaconModel.from_pretrained(tmp_path).usage.capacity == 64
    (tmp_path / "memorag-usage.json").unlink()
    assert BeaconModel.from_pretrained(tmp_path).usage.capacity is None
    assert MemoRAG.load(tmp_path, SentenceModel()).documents  # neither is in the way of the other


def test_a_name_on_the_hub_is_found_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--someone--memory"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    shutil.copytree(GOLDEN / "qwen2_r4", repository / "snapshots" / "abc")
    ids = random_ids(1, 20)
    found = BeaconModel.from_pretrained("someone/memory").feed(ids).logits
    assert torch.equal(found, BeaconModel.from_pretrained(GOLDEN / "qwen2_r4").feed(ids).logits)
    with pytest.raises(CheckpointError, match="someone/other"):
        BeaconModel.from_pretrained("someone/other")


def test_a_failed_save_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = write_checkpoint(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    other = beacon_model(seed=1)

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("memorag_core.memory.beacon.checkpoint.save_file", full)
    with pytest.raises(CheckpointError, match="no space left"):
        save_checkpoint(other.model, tmp_path, settings=made.settings)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_every_error_is_one_of_ours(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    rewrite_config(tmp_path, num_hidden_layers="many")
    with pytest.raises(MemoRAGError):
        BeaconModel.from_pretrained(tmp_path)
