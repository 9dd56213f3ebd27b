"""Attaching fresh beacons to a base model: what is saved is the base model, and a memory model that works."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from memorag_core.errors import CheckpointError, InputError, UnsupportedModelError
from memorag_core.memory.beacon import BeaconModel, BeaconSettings, load_checkpoint
from memorag_core.memory.beacon.initialize import Attached, attach_fresh
from tests.core.memory.beacon.conftest import (
    FAMILIES,
    assert_same_memory,
    beacon_model,
    host_model,
    random_ids,
    rewrite_config,
    small_tokenizer,
    write_checkpoint,
)

SETTINGS = BeaconSettings(window=16, ratios=(4, 8), params=("q", "k", "v"))


def write_base(folder: Path, family: str = "qwen2", *, tokenizer: Any = None, **options: Any) -> Path:
    """A plain model of transformers, in shards, as it is found on the hub."""
    if tokenizer is not None:
        options.setdefault("vocabulary", len(tokenizer))
        tokenizer.save_pretrained(folder)
    host_model(family, **options).save_pretrained(folder, max_shard_size="12KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    return folder


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_without_beacons_the_saved_model_is_the_base_model_bit_by_bit(
    tmp_path: Path, family: str, tied: bool
) -> None:
    base = write_base(tmp_path / "base", family, tied=tied)
    done = attach_fresh(base, tmp_path / "memory", settings=SETTINGS)
    ids = random_ids(2, 40)
    plain = AutoModelForCausalLM.from_pretrained(base)
    saved = load_checkpoint(done.folder, device="cpu")
    assert torch.equal(saved.model(ids).logits, plain(ids).logits)
    assert saved.settings == SETTINGS
    assert done.parameters == sum(parameter.numel() for parameter in plain.parameters())
    assert done.beacon_parameters == sum(
        parameter.numel()
        for name, parameter in saved.model.named_parameters()
        if "twin" in name or "beacon" in name
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_the_saved_model_reads_and_its_beacons_are_copies(tmp_path: Path, family: str) -> None:
    base = write_base(tmp_path / "base", family)
    attach_fresh(base, tmp_path / "memory", settings=SETTINGS)
    model = BeaconModel.from_pretrained(tmp_path / "memory", device="cpu")
    assert (model.window, model.ratio, model.settings.ratios) == (16, 4, (4, 8))
    ids = random_ids(1, 100)
    once = model.feed(ids)
    assert (once.memory.slots, once.memory.tokens) == (24, 100)
    assert torch.isfinite(once.logits).all()
    assert_same_memory(model.feed(ids[:, 37:], model.feed(ids[:, :37]).memory).memory, once.memory)
    tensors = load_file(tmp_path / "memory" / "model.safetensors")
    for name, tensor in tensors.items():
        if ".beacon_" in name and "embed" not in name:
            assert torch.equal(tensor, tensors[name.replace("beacon_", "")])
    assert torch.equal(
        tensors["model.beacon_embed_tokens.weight"][0], tensors["model.embed_tokens.weight"][2]
    )  # eos


def test_the_beacon_embedding_starts_from_the_token_that_the_settings_name(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    settings = BeaconSettings(window=16, ratios=(4,), params=("k", "o"), embed_init="bos")
    attach_fresh(base, tmp_path / "memory", settings=settings)
    tensors = load_file(tmp_path / "memory" / "model.safetensors")
    assert torch.equal(
        tensors["model.beacon_embed_tokens.weight"][0], tensors["model.embed_tokens.weight"][1]
    )
    twins = {name.split(".beacon_")[1].split(".")[0] for name in tensors if ".beacon_" in name} - {
        "embed_tokens"
    }
    assert twins == {"k_proj", "o_proj"}
    rewrite_config(base, bos_token_id=None)
    with pytest.raises(UnsupportedModelError, match="no bos_token_id"):
        attach_fresh(base, tmp_path / "other", settings=settings)
    assert not (tmp_path / "other").exists()


def test_the_tokenizer_goes_with_the_model_and_text_can_be_memorized(tmp_path: Path) -> None:
    tokenizer = small_tokenizer(chat_template="{{ messages }}")
    base = write_base(tmp_path / "base", tokenizer=tokenizer)
    (base / "README.md").write_text("about the base model")
    (base / "modeling.py").write_text("raise SystemExit")
    attach_fresh(base, tmp_path / "memory", settings=SETTINGS)
    assert (tmp_path / "memory" / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    assert (tmp_path / "memory" / "generation_config.json").is_file()
    names = {path.name for path in (tmp_path / "memory").iterdir()}
    assert not names & {"README.md", "modeling.py", "model.safetensors.index.json"}
    model = BeaconModel.from_pretrained(tmp_path / "memory", device="cpu")
    memory = model.memorize("The keeper of the tower mends clocks.", progress=False)
    assert memory.tokens > 37


def test_weights_keep_the_dtype_of_the_base_model_unless_another_is_asked_for(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    for file in base.glob("*.safetensors"):
        save_file({name: tensor.bfloat16() for name, tensor in load_file(file).items()}, file)
    for dtype, expected in ((None, torch.bfloat16), ("auto", torch.bfloat16), ("float16", torch.float16)):
        folder = tmp_path / str(dtype)
        done = attach_fresh(base, folder, settings=SETTINGS, dtype=dtype)
        assert done.dtype == expected
        assert {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()} == {expected}
        assert json.loads((folder / "config.json").read_text())["torch_dtype"] == str(expected)[6:]
    with pytest.raises(InputError, match="'int8'; expected 'auto', 'float32'"):
        attach_fresh(base, tmp_path / "other", settings=SETTINGS, dtype="int8")


def test_what_is_written_is_said_and_nothing_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = write_base(tmp_path / "base")
    with caplog.at_level(logging.WARNING, logger="memorag_core"):
        done = attach_fresh(base, tmp_path / "a" / "b" / "memory", settings=SETTINGS)
    assert isinstance(done, Attached)
    assert done.folder == tmp_path / "a" / "b" / "memory"
    assert done.dtype == torch.float32
    assert caplog.text == ""
    assert [path.name for path in done.folder.parent.iterdir()] == ["memory"]


def test_an_empty_folder_is_written_to_and_one_with_files_is_not(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    (tmp_path / "memory").mkdir()
    attach_fresh(base, tmp_path / "memory", settings=SETTINGS)
    before = (tmp_path / "memory" / "config.json").read_bytes()
    for settings in (SETTINGS, BeaconSettings(window=32)):
        with pytest.raises(InputError, match="not empty"):
            attach_fresh(base, tmp_path / "memory", settings=settings)
    assert (tmp_path / "memory" / "config.json").read_bytes() == before
    (tmp_path / "file").write_text("a file")
    with pytest.raises(InputError, match="is a file"):
        attach_fresh(base, tmp_path / "file", settings=SETTINGS)


@pytest.mark.parametrize("existing", [False, True])
def test_a_failed_write_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool
) -> None:
    base = write_base(tmp_path / "base", tokenizer=small_tokenizer())
    if existing:
        (tmp_path / "memory").mkdir()
    before = sorted(tmp_path.rglob("*"))

    def full(*_: object) -> None:  # behind the weights: the disk is full at the tokenizer
        raise OSError("no space left")

    monkeypatch.setattr("memorag_core.memory.beacon.initialize.shutil.copyfile", full)
    with pytest.raises(CheckpointError, match=r"cannot be written.*no space left"):
        attach_fresh(base, tmp_path / "memory", settings=SETTINGS)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    (tmp_path / "file").write_text("a file")
    with pytest.raises(CheckpointError, match="cannot be written"):
        attach_fresh(base, tmp_path / "file" / "memory", settings=SETTINGS)


def test_a_model_that_has_beacons_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "memory")
    with pytest.raises(UnsupportedModelError, match="has beacons already"):
        attach_fresh(tmp_path / "memory", tmp_path / "other", settings=SETTINGS)
    rewrite_config(tmp_path / "memory", beacon_window=None)
    with pytest.raises(UnsupportedModelError, match="has beacons already"):
        attach_fresh(tmp_path / "memory", tmp_path / "other", settings=SETTINGS)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"model_type": "gemma2"},
            UnsupportedModelError,
            "'gemma2'; supported are qwen2, qwen3, mistral, llama",
        ),
        ({"quantization_config": {"bits": 4}}, UnsupportedModelError, "quantization_config"),
        ({"rope_scaling": {"rope_type": "dynamic"}}, UnsupportedModelError, "'dynamic'"),
        ({"intermediate_size": 33}, CheckpointError, "wrong shape"),
        ({"max_position_embeddings": 20}, InputError, "20 places with its beacons.*made for 20"),
    ],
)
def test_base_models_that_cannot_be_a_memory_are_refused_before_anything_is_written(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    base = write_base(tmp_path / "base")
    rewrite_config(base, **changes)
    with pytest.raises(error, match=message):
        attach_fresh(base, tmp_path / "memory", settings=SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_a_ratio_above_the_window_and_a_base_that_is_not_there_are_refused(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    with pytest.raises(InputError, match="ratio is 32 and the window 16"):
        attach_fresh(base, tmp_path / "memory", settings=BeaconSettings(window=16, ratios=(4, 32)))
    with pytest.raises(CheckpointError, match="There is no folder"):
        attach_fresh(tmp_path / "nothing", tmp_path / "memory", settings=SETTINGS)


def test_the_parameters_are_those_of_any_memory_model_and_frozen(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    attach_fresh(base, tmp_path / "memory", settings=SETTINGS)
    made = load_checkpoint(tmp_path / "memory", device="cpu")
    again = beacon_model("qwen2", window=16, ratio=4)
    assert {name for name, _ in made.model.named_parameters()} == {
        name for name, _ in again.model.named_parameters()
    }
    assert not any(parameter.requires_grad for parameter in made.model.parameters())
