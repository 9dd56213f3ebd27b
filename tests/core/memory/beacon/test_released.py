"""Checkpoints as they are released: shards and their index, code that must not run, kin settings, devices."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from memorag_core.errors import CheckpointError, InputError, UnsupportedModelError
from memorag_core.memory.beacon import BeaconModel, load_checkpoint
from memorag_core.memory.checkpoint_files import take_inventory
from memorag_core.memory.device import chosen_device, mapped_device
from tests.core.memory.beacon.conftest import (
    FAMILIES,
    GOLDEN,
    random_ids,
    rewrite_config,
    write_checkpoint,
)
from tests.core.memory.beacon.test_golden import assert_near

ROOT = Path(__file__).parents[4]
INDEX = "model.safetensors.index.json"

# Writes a file when it is looked at, and then ends the program.
REMOTE_CODE = """
from pathlib import Path
Path(__file__).with_name("THIS_CODE_RAN").touch()
raise SystemExit("code of a checkpoint ran")
"""


def release(
    source: Path, folder: Path, *, shards: int = 3, dtype: torch.dtype | None = None, **config: Any
) -> Path:
    """A checkpoint in the layout of the released ones: shards, index, ``auto_map``, modelling files."""
    folder.mkdir(exist_ok=True)
    tensors = load_file(source / "model.safetensors")
    names = sorted(tensors)
    placed: dict[str, str] = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        some = {name: tensors[name].to(dtype or tensors[name].dtype) for name in names[shard::shards]}
        save_file(some, folder / file, metadata={"format": "pt"})
        placed |= dict.fromkeys(some, file)
    write_index(folder, placed)
    described = json.loads((source / "config.json").read_text())
    kind = described["model_type"].capitalize()
    described |= {
        "_name_or_path": "/home/someone/checkpoint-1000",
        "architectures": [f"Beacon{kind}ForCausalLM"],
        "auto_map": {
            "AutoConfig": f"configuration_{kind}.Beacon{kind}Config",
            "AutoModelForCausalLM": f"modeling_{kind}.Beacon{kind}ForCausalLM",
        },
        "transformers_version": "4.39.3",
        **config,
    }
    (folder / "config.json").write_text(json.dumps(described))
    for name in (f"configuration_{kind}.py", f"modeling_{kind}.py", "__init__.py"):
        (folder / name).write_text(REMOTE_CODE)
    return folder


def write_index(folder: Path, placed: dict[str, str]) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": placed}))


def read_index(folder: Path) -> dict[str, str]:
    return dict(json.loads((folder / INDEX).read_text())["weight_map"])


def assert_nothing_ran(folder: Path) -> None:
    assert not list(folder.glob("**/THIS_CODE_RAN"))
    origins = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
    assert not [origin for origin in origins if origin.startswith(str(folder))]
    assert not [name for name in sys.modules if "modeling_Qwen2" in name or "modeling_Mistral" in name]


# --- layout -------------------------------------------------------------------------------------------------


def test_a_released_checkpoint_gives_the_numbers_of_the_original_and_runs_none_of_its_code(
    golden: Path, tmp_path: Path
) -> None:
    folder = release(golden, tmp_path / "released")
    model, expected = BeaconModel.from_pretrained(folder), load_file(golden / "expected.safetensors")
    read = model.feed(expected["context_ids"])
    assert_near(read.logits, expected["context_last_window_logits"])
    assert_near(model.feed(expected["prompt_ids"], read.memory).logits, expected["prompt_logits"])
    ids = expected["decode_ids"]
    assert torch.equal(model.greedy(expected["prompt_ids"], read.memory, max_new_tokens=ids.shape[1]), ids)
    assert_nothing_ran(folder)


def test_weights_in_bfloat16_are_computed_in_float32_as_they_are(golden: Path, tmp_path: Path) -> None:
    folder = release(golden, tmp_path / "released", dtype=torch.bfloat16, torch_dtype="bfloat16")
    rounded = tmp_path / "rounded"
    rounded.mkdir()
    tensors = load_file(golden / "model.safetensors")
    save_file(
        {name: tensor.bfloat16().float() for name, tensor in tensors.items()}, rounded / "model.safetensors"
    )
    (rounded / "config.json").write_bytes((golden / "config.json").read_bytes())
    expected = load_file(golden / "expected.safetensors")
    model = BeaconModel.from_pretrained(folder, device="cpu")
    found = model.feed(expected["context_ids"]).logits
    assert model.model.dtype == torch.float32
    assert torch.equal(found, BeaconModel.from_pretrained(rounded).feed(expected["context_ids"]).logits)
    wanted = expected["context_last_window_logits"]
    assert (found - wanted).norm() < 0.05 * wanted.norm()  # what rounding the weights costs
    half = BeaconModel.from_pretrained(folder, device="cpu", dtype="bfloat16")
    assert {parameter.dtype for parameter in half.model.parameters()} == {torch.bfloat16}
    assert torch.equal(
        half.model.model.layers[0].self_attn.q_proj.twin.weight,
        tensors["model.layers.0.self_attn.beacon_q_proj.weight"].bfloat16(),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_shards_are_the_model_that_one_file_is(
    tmp_path: Path, family: str, tied: bool, dtype: torch.dtype
) -> None:
    whole = tmp_path / "whole"
    write_checkpoint(whole, family=family, tied=tied)
    if dtype != torch.float32:
        tensors = {name: tensor.to(dtype) for name, tensor in load_file(whole / "model.safetensors").items()}
        save_file(tensors, whole / "model.safetensors")
    folder = release(whole, tmp_path / "released", shards=4)
    one, many = BeaconModel.from_pretrained(whole), BeaconModel.from_pretrained(folder)
    ids = random_ids(2, 45)
    assert torch.equal(many.feed(ids).logits, one.feed(ids).logits)
    assert many.fingerprint == one.fingerprint
    assert (many.model.lm_head.weight is many.model.model.embed_tokens.weight) == tied
    assert_nothing_ran(folder)


def test_a_tied_head_in_another_shard_than_the_embeddings_is_compared_with_them(tmp_path: Path) -> None:
    made = write_checkpoint(tmp_path / "whole", tied=True)
    tensors = load_file(tmp_path / "whole" / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, tmp_path / "whole" / "model.safetensors")
    folder = release(tmp_path / "whole", tmp_path / "released", shards=9)
    assert len({read_index(folder)[name] for name in ("lm_head.weight", "model.embed_tokens.weight")}) == 2
    ids = random_ids(1, 20)
    assert torch.equal(BeaconModel.from_pretrained(folder).feed(ids).logits, made.feed(ids).logits)
    file = folder / read_index(folder)["lm_head.weight"]
    shard = load_file(file)
    save_file({**shard, "lm_head.weight": shard["lm_head.weight"] + 1}, file)
    with pytest.raises(CheckpointError, match="ties the output head"):
        BeaconModel.from_pretrained(folder)


def test_base_weights_in_shards_get_fresh_beacons(tmp_path: Path) -> None:
    made = write_checkpoint(tmp_path / "whole", family="qwen2")
    tensors = load_file(tmp_path / "whole" / "model.safetensors")
    base = {name: tensor for name, tensor in tensors.items() if "beacon" not in name}
    save_file(base, tmp_path / "whole" / "model.safetensors")
    loaded = load_checkpoint(release(tmp_path / "whole", tmp_path / "released")).model
    attention = loaded.model.layers[1].self_attn
    for name in ("q_proj", "k_proj", "v_proj"):
        projection = getattr(attention, name)
        for kind in ("weight", "bias"):
            original = base[f"model.layers.1.self_attn.{name}.{kind}"]
            assert torch.equal(getattr(projection.base, kind), original)
            assert torch.equal(getattr(projection.twin, kind), original)
        assert projection.base.weight.data_ptr() != projection.twin.weight.data_ptr()
    assert torch.equal(loaded.model.beacon_embed_tokens.weight[0], base["model.embed_tokens.weight"][2])
    ids = random_ids(1, 20)
    assert torch.equal(loaded(ids).logits, made.model(ids).logits)


def test_a_beacon_row_in_the_file_asks_for_no_token_to_start_from(tmp_path: Path) -> None:
    made = write_checkpoint(tmp_path, family="qwen2")
    rewrite_config(tmp_path, eos_token_id=None)
    ids = random_ids(1, 20)
    assert torch.equal(BeaconModel.from_pretrained(tmp_path).feed(ids).logits, made.feed(ids).logits)


@pytest.mark.parametrize(("token", "message"), [(None, "no eos_token_id"), (61, "vocabulary of 61")])
def test_fresh_beacons_need_the_token_that_they_start_from(
    tmp_path: Path, token: int | None, message: str
) -> None:
    write_checkpoint(tmp_path, family="qwen2")
    tensors = load_file(tmp_path / "model.safetensors")
    save_file(
        {name: t for name, t in tensors.items() if "beacon" not in name}, tmp_path / "model.safetensors"
    )
    rewrite_config(tmp_path, eos_token_id=token)
    with pytest.raises(UnsupportedModelError, match=message):
        BeaconModel.from_pretrained(tmp_path)


# --- damaged layouts ----------------------------------------------------------------------------------------


@pytest.fixture
def released(tmp_path: Path) -> Path:
    return release(GOLDEN / "qwen2_r4", tmp_path / "released")


SHARDS = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
NORM = "model.norm.weight"


def test_a_shard_that_is_missing_is_named(released: Path) -> None:
    (released / SHARDS[1]).unlink()
    with pytest.raises(CheckpointError, match=rf"not there: {SHARDS[1]}\. Get them too"):
        BeaconModel.from_pretrained(released)


def test_a_shard_that_is_cut_off_is_named(released: Path) -> None:
    data = (released / SHARDS[2]).read_bytes()
    (released / SHARDS[2]).write_bytes(data[:-10])
    with pytest.raises(CheckpointError, match=rf"{SHARDS[2]}' is not a safetensors file"):
        BeaconModel.from_pretrained(released)


def test_a_tensor_that_is_not_where_the_index_puts_it_is_named_with_both_files(released: Path) -> None:
    placed = read_index(released)
    home = placed[NORM]
    other = next(file for file in SHARDS if file != home)
    write_index(released, {**placed, NORM: other})
    with pytest.raises(
        CheckpointError, match=rf"in another file: {NORM} \(in {home}, said to be in {other}\)"
    ):
        BeaconModel.from_pretrained(released)


def test_a_tensor_of_the_index_that_no_file_has_is_named(released: Path) -> None:
    write_index(released, {**read_index(released), "model.extra": SHARDS[0]})
    with pytest.raises(
        CheckpointError, match=rf"in none of its files: model\.extra \(said to be in {SHARDS[0]}"
    ):
        BeaconModel.from_pretrained(released)


def test_a_tensor_in_two_shards_is_named_with_both(released: Path) -> None:
    home = read_index(released)[NORM]
    other = next(file for file in SHARDS if file != home)
    double: dict[str, Tensor] = {NORM: load_file(released / home)[NORM]}
    save_file({**load_file(released / other), **double}, released / other)
    with pytest.raises(CheckpointError, match=rf"{NORM} is in model-.* and again in model-"):
        BeaconModel.from_pretrained(released)


def test_a_tensor_that_the_index_leaves_out_is_surplus(released: Path) -> None:
    shard = load_file(released / SHARDS[0])
    save_file({**shard, "model.extra": torch.zeros(2)}, released / SHARDS[0])
    with pytest.raises(CheckpointError, match=r"1 surplus: model\.extra"):
        BeaconModel.from_pretrained(released)


@pytest.mark.parametrize(
    "file", ["../other.safetensors", "/tmp/other.safetensors", "sub/other.safetensors", "..\\o", "C:o", ".."]
)
def test_an_index_that_leads_out_of_its_folder_is_refused(released: Path, file: str) -> None:
    save_file({NORM: torch.zeros(1)}, released.parent / "other.safetensors")
    write_index(released, {**read_index(released), NORM: file})
    with pytest.raises(CheckpointError, match="outside of its folder"):
        BeaconModel.from_pretrained(released)


@pytest.mark.parametrize("placed", [None, {}, [], {NORM: 3}])
def test_an_index_without_a_map_of_files_is_refused(released: Path, placed: Any) -> None:
    (released / INDEX).write_text(json.dumps({"weight_map": placed}))
    with pytest.raises(CheckpointError, match="no weight_map"):
        BeaconModel.from_pretrained(released)


def test_the_inventory_reads_names_and_shapes_only(released: Path) -> None:
    inventory = take_inventory(released)
    assert inventory.shapes[NORM] == (64,)
    assert inventory.dtype == "float32"
    assert {path.name for path in inventory.files} == set(SHARDS)
    assert take_inventory(GOLDEN / "qwen2_r4").shapes == inventory.shapes


# --- kin checkpoints ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beacon_stride": 16}, "beacon_stride is 16 and beacon_window 32"),
        ({"beacon_attn": "segmentation"}, "beacon_attn is 'segmentation'; supported is 'full-coverage'"),
        ({"beacon_attn": "step-expansion"}, "beacon_attn is 'step-expansion'"),
        ({"beacon_pos": "append"}, "beacon_pos is 'append'; supported is 'interleave'"),
        ({"beacon_sink_size": 1}, "beacon_sink_size is 1; supported is 0"),
        ({"beacon_attend_prev": False}, "beacon_attend_prev is False"),
        ({"beacon_parallel_window": 4}, "beacon_parallel_window is 4; supported is 1"),
        ({"beacon_embed_init": "avg"}, "beacon_embed_init is 'avg'; supported are 'eos' and 'bos'"),
        ({"beacon_param": ["q", "mlp"]}, "beacon_param"),
        ({"beacon_ratio": [4, 1024]}, "ratio is 1024"),
        ({"beacon_ratio_mix": "adapt-all"}, "beacon_ratio_mix is 'adapt-all'.*'adapt-1024'"),
        ({"beacon_ratio_mix": 3}, "beacon_ratio_mix is 3"),
        ({"beacon_tokens": 2}, r"\{'beacon_tokens': 2\}.*supported are beacon_window, beacon_stride"),
        ({"beacon_attend_previous": True}, "beacon_attend_previous"),
        ({"beacon_lora_alpha": 16}, "beacon_lora_alpha"),
        ({"lora_config": {"r": 32}}, r"low-rank settings \{'lora_config'"),
        ({"low_rank_dim": 8}, "low_rank_dim"),
    ],
)
def test_settings_of_kin_checkpoints_are_refused_by_name(
    released: Path, changes: dict[str, Any], message: str
) -> None:
    rewrite_config(released, **changes)
    with pytest.raises(UnsupportedModelError, match=message):
        BeaconModel.from_pretrained(released)


def test_settings_that_say_nothing_and_mixes_of_training_are_harmless(released: Path) -> None:
    config = json.loads((released / "config.json").read_text())
    config |= {"beacon_new": None, "lora_config": None, "beacon_ratio_mix": "instance-random"}
    (released / "config.json").write_text(json.dumps(config))
    assert BeaconModel.from_pretrained(released).settings.ratio_mix == "instance-random"


def test_a_checkpoint_with_twins_of_all_four_projections_is_computed(tmp_path: Path) -> None:
    made = write_checkpoint(tmp_path / "whole", params=("q", "k", "v", "o"))
    folder = release(tmp_path / "whole", tmp_path / "released")
    ids = random_ids(1, 30)
    assert torch.equal(BeaconModel.from_pretrained(folder).feed(ids).logits, made.feed(ids).logits)


def test_an_adapter_is_no_model(released: Path) -> None:
    (released / "config.json").rename(released / "adapter_config.json")
    with pytest.raises(UnsupportedModelError, match=r"adapter.*Merge it"):
        BeaconModel.from_pretrained(released)


# --- devices ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "device_map", [{"": "cpu"}, {"model": "cpu", "lm_head": torch.device("cpu")}, "cpu", "auto"]
)
def test_a_device_map_to_one_device_is_that_device(released: Path, device_map: Any) -> None:
    if device_map == "auto" and chosen_device("auto").type != "cpu":
        pytest.skip("there is a GPU, where the numbers differ in the last digits")
    model = BeaconModel.from_pretrained(released, device_map=device_map)
    ids = random_ids(1, 50, vocabulary=199)
    assert model.model.device == torch.device("cpu")
    assert torch.equal(
        model.feed(ids).logits, BeaconModel.from_pretrained(released, device="cpu").feed(ids).logits
    )


@pytest.mark.parametrize(
    ("device_map", "message"),
    [
        ({"model": "cpu", "lm_head": "mps"}, "over cpu, mps; supported is one device"),
        ({"": "disk"}, "'disk'"),
        ("balanced", "'balanced' spreads"),
        ("sequential", "quantize='int4'"),
    ],
)
def test_a_device_map_over_several_devices_is_refused_by_name(
    released: Path, device_map: Any, message: str
) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        BeaconModel.from_pretrained(released, device_map=device_map)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device_map": {"": "cpu"}, "device": "cpu"}, "one of them"),
        ({"device_map": {"model": "cpu"}}, "says nothing of lm_head.weight"),
        ({"device_map": {"": "cpu", "visual": "cpu"}}, "'visual', which the model does not have"),
        ({"device_map": {}}, "expected 'auto' or module names"),
        ({"device_map": 3}, "expected 'auto' or module names"),
        ({"device_map": {"": "abacus"}}, "'abacus'"),
        ({"device_map": {"": True}}, "True"),
        ({"device": "abacus"}, "'abacus'; expected 'auto', 'cpu'"),
        ({"device": "meta"}, "holds no numbers"),
        ({"device": "cuda:77"}, "torch sees [0-9]+ GPUs"),
        ({"device_map": {"": 77}}, "'cuda:77', but torch sees"),
    ],
)
def test_devices_that_there_are_not_are_refused(
    released: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        BeaconModel.from_pretrained(released, **options)


def test_the_roomiest_gpu_is_taken_and_weights_that_fit_on_none_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free = [3_000_000_000, 9_000_000_000]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(free))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (free[index], free[index]))
    assert mapped_device("auto", ["lm_head.weight"], nbytes=8_000_000_000) == torch.device("cuda", 1)
    with pytest.raises(UnsupportedModelError, match=r"weights of 8\.5 GB .* is 9\.0 GB.*quantize='int4'"):
        mapped_device("auto", ["lm_head.weight"], nbytes=8_500_000_000)


# --- memory -------------------------------------------------------------------------------------------------

PEAK = """
import sys, torch
from pathlib import Path
from memorag_core.memory.beacon import load_checkpoint
torch.set_num_threads(1)
load_checkpoint(sys.argv[1], device="cpu")  # what libraries load at first use
def kilobytes(name):
    return int(Path("/proc/self/status").read_text().split(name + ":")[1].split()[0])
Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
before = kilobytes("VmRSS")
model = load_checkpoint(sys.argv[2], device="cpu", dtype="bfloat16").model
print(kilobytes("VmHWM") - before, sum(p.nbytes for p in model.parameters()) // 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is measured through /proc")
def test_loading_takes_the_weights_once_and_a_shard_beside_them(released: Path, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "whole", layers=8, hidden=512, heads=8, head_dim=64, vocabulary=8192)
    folder = release(tmp_path / "whole", tmp_path / "large", shards=4, dtype=torch.bfloat16)
    (tmp_path / "whole" / "model.safetensors").unlink()
    run = subprocess.run(
        [sys.executable, "-c", PEAK, str(released), str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    peak, weights = map(int, run.stdout.split())
    shard = max(path.stat().st_size for path in folder.glob("*.safetensors")) // 1024
    assert weights > 25_000
    assert peak < weights + shard + 4_000
