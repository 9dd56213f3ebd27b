"""Checkpoints: folders of ``config.json`` and safetensors, as the released memory models have them.

In: a folder or a hub name. Out: an attached model on its device, its beacon settings, its usage, its
tokenizer; and back to a folder. Knows no text. No code of a checkpoint is ever run: ``auto_map`` and pickled
weights are not looked at.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from memorag_core.beacon.layers import attach, beacon_parameters
from memorag_core.beacon.rotary import SUPPORTED_ROPE_TYPES
from memorag_core.beacon.settings import SUPPORTED_MODEL_TYPES, BeaconSettings
from memorag_core.beacon.usage import Usage
from memorag_core.errors import CheckpointError, InputError, UnsupportedModelError
from memorag_core.tokens import Tokens

logger = logging.getLogger(__name__)

CONFIG, WEIGHTS, INDEX, USAGE = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "memorag.json",
)

_FETCHED = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")  # the last three are tokenizers'
_NAMED = 8  # names that an error lists; a whole layer is as telling as the whole model

# Of a config.json, what describes the file and not the model.
_NOT_THE_MODEL = ("architectures", "auto_map", "model_type", "transformers_version", "torch_dtype", "dtype")


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """What a folder holds.

    Attributes:
        model: with beacons attached, for inference, on its device.
        settings: the beacon settings.
        usage: what ``memorag.json`` says, or the defaults.
        tokens: the tokenizer, or None where there is none.
        stop: ids that end a reply.
    """

    model: PreTrainedModel
    settings: BeaconSettings
    usage: Usage
    tokens: Tokens | None
    stop: frozenset[int]


def load_checkpoint(
    name_or_path: str | os.PathLike[str],
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
) -> Checkpoint:
    """Load a memory model.

    Args:
        name_or_path: a folder, or a name on the model hub, such as "TommyChien/memorag-qwen2-7b-inst".
        device: "auto" is cuda, else mps, else cpu.
        dtype: "auto" is the checkpoint's own on a GPU and float32 on a CPU, which computes fastest in it.

    Raises:
        CheckpointError: files that are missing, cannot be read or do not fit together; tensors that are
            missing, surplus or of a wrong shape.
        UnsupportedModelError: an architecture or a setting that this package does not compute.
    """
    folder = _locate(name_or_path)
    config = _read_json(folder / CONFIG)
    settings = BeaconSettings.from_config(config)
    place = _device(device)
    kind = _dtype(dtype, config, place)
    model = _build(config, kind)
    _load_weights(model, settings, folder, place, kind)
    usage = Usage.from_mapping(_read_json(folder / USAGE)) if (folder / USAGE).is_file() else Usage()
    tokens = Tokens.load(folder, line_token=usage.line_token, none_token=usage.none_token)
    return Checkpoint(model, settings, usage, tokens, _stop_ids(folder, config, tokens))


def save_checkpoint(
    model: PreTrainedModel,
    folder: str | os.PathLike[str],
    *,
    settings: BeaconSettings,
    dtype: torch.dtype | None = None,
) -> None:
    """Write an attached model in the checkpoint format; each file is replaced as a whole.

    Args:
        model: an attached model.
        folder: made when missing; other files in it stay.
        settings: the settings the model was attached with.
        dtype: what the weights are written in; None for the model's own.

    Raises:
        CheckpointError: the disk refused.
    """
    target = Path(folder)
    kind = dtype or model.dtype
    config = {
        **{name: value for name, value in model.config.to_dict().items() if not name.startswith("_")},
        "architectures": [type(model).__name__],
        "torch_dtype": str(kind).removeprefix("torch."),  # the name that all releases of transformers know
        **settings.to_config(),
    }
    config.pop("dtype", None)
    rope = config.get("rope_parameters")
    if isinstance(rope, Mapping) and rope.get("rope_type", "default") == "default":
        config["rope_theta"] = rope["rope_theta"]  # likewise
    tensors = {
        name: tensor.detach().to("cpu", kind).contiguous() for name, tensor in _named_tensors(model).items()
    }
    try:
        target.mkdir(parents=True, exist_ok=True)
        with _Replaced(target / WEIGHTS) as unfinished:
            save_file(tensors, unfinished, metadata={"format": "pt"})
        with _Replaced(target / CONFIG) as unfinished:
            unfinished.write_text(json.dumps(config, indent=2, default=str) + "\n", encoding="utf-8")
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint cannot be written to '{target}': {error}. Free space or grant access, or choose "
            "another folder."
        ) from error


class _Replaced:
    """A file that is written beside its place and moved there when it is complete."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.unfinished")

    def __enter__(self) -> Path:
        return self._unfinished

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            os.replace(self._unfinished, self._path)
        else:
            self._unfinished.unlink(missing_ok=True)


def _named_tensors(model: PreTrainedModel) -> dict[str, Tensor]:
    """An attached model's tensors by their names in a checkpoint."""
    beacons = {name: parameter.data for name, parameter in beacon_parameters(model)}
    base = {
        re.sub(r"\.(\w_proj)\.base\.", r".\1.", name): tensor
        for name, tensor in model.state_dict().items()
        if ".twin." not in name and "beacon_embed_tokens" not in name
    }
    if model.config.tie_word_embeddings:
        base.pop("lm_head.weight", None)
    return {**base, **beacons}


# Finding


def _locate(name_or_path: str | os.PathLike[str]) -> Path:
    path = Path(name_or_path)
    if path.is_dir():
        return path
    name = os.fspath(name_or_path)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or name.startswith("."):
        raise CheckpointError(
            f"There is no folder '{name}', and it is no name on the model hub either (owner/model). Give the "
            f"folder that holds {CONFIG} and {WEIGHTS}."
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(name, allow_patterns=list(_FETCHED), ignore_patterns="consolidated*"))
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise CheckpointError(
            f"'{name}' is no folder here, and the model hub did not give it: {error} Check the name and the "
            "network, or download the model elsewhere and give its folder."
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(
            f"'{path.parent}' has no {path.name}. Expected a checkpoint with {CONFIG} and {WEIGHTS} (or "
            f"{INDEX} and the files it names)."
        )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"'{path}' is not JSON: {error}. Get the file anew.") from error
    if not isinstance(found, dict):
        raise CheckpointError(
            f"'{path}' holds a {type(found).__name__}, expected an object. Get the file anew."
        )
    return found


def _device(device: str | torch.device) -> torch.device:
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _dtype(dtype: str | torch.dtype, config: Mapping[str, Any], device: torch.device) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        name = str(dtype)
    elif dtype != "auto":
        name = dtype
    elif device.type == "cpu":
        name = "float32"
    else:
        name = config.get("torch_dtype") or config.get("dtype") or "float32"
    found = getattr(torch, str(name).removeprefix("torch."), None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise InputError(f"The dtype is {name!r}; expected 'auto', 'float32', 'bfloat16' or 'float16'.")
    return found


def _stop_ids(folder: Path, config: Mapping[str, Any], tokens: Tokens | None) -> frozenset[int]:
    generation = folder / "generation_config.json"
    sources = [config.get("eos_token_id"), tokens.end_id if tokens is not None else None]
    if generation.is_file():
        sources.append(_read_json(generation).get("eos_token_id"))
    ids: set[int] = set()
    for source in sources:
        ids.update(source if isinstance(source, list) else [] if source is None else [source])
    return frozenset(ids)


# Building


def _build(config: Mapping[str, Any], dtype: torch.dtype) -> PreTrainedModel:
    """The base model without weights, on the meta device."""
    kind = config.get("model_type")
    if kind not in SUPPORTED_MODEL_TYPES:
        raise UnsupportedModelError(
            f"model_type is {kind!r}; supported are {', '.join(SUPPORTED_MODEL_TYPES)}."
        )
    if config.get("quantization_config"):
        raise UnsupportedModelError(
            "config.json has a quantization_config; supported are weights in float32, bfloat16 or float16. "
            "Get the model without quantization."
        )
    _check_rope(config)
    own = {
        name: value
        for name, value in config.items()
        if name not in _NOT_THE_MODEL and not name.startswith("beacon_")
    }
    if kind == "mistral":
        own.setdefault("sliding_window", None)  # the class would make it 4,096; a memory is seen as a whole
    try:
        built = AutoConfig.for_model(kind, **own)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(built, dtype=dtype, attn_implementation="sdpa")
    except Exception as error:  # a wrong entry of a config fails anywhere in transformers, in any way
        raise CheckpointError(f"config.json does not describe a {kind} model: {error}") from error
    return cast(PreTrainedModel, model)


def _check_rope(config: Mapping[str, Any]) -> None:
    for key in ("rope_parameters", "rope_scaling"):
        rope = config.get(key) or {}
        found = rope.get("rope_type", rope.get("type", "default"))
        if found not in SUPPORTED_ROPE_TYPES:
            raise UnsupportedModelError(
                f"{key} says {found!r}; supported are {', '.join(SUPPORTED_ROPE_TYPES)}, whose frequencies "
                "do not change with the length of the text."
            )


# Weights


def _load_weights(
    model: PreTrainedModel, settings: BeaconSettings, folder: Path, device: torch.device, dtype: torch.dtype
) -> None:
    """Fill a model on the meta device and attach its beacons."""
    files = _weight_files(folder)
    found = {name: shape for path in files for name, shape in _shapes(path).items()}
    tied = bool(model.config.tie_word_embeddings)
    base = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if tied and "lm_head.weight" not in found:
        base.pop("lm_head.weight", None)
    beacons = _beacon_shapes(model, settings)
    with_beacons = any(name in found for name in beacons)
    _check_shapes(found, {**base, **(beacons if with_beacons else {})}, folder)

    tensors: dict[str, Tensor] = {}
    for path in files:
        tensors |= _tensors(path, device, dtype)
    if tied:
        head = tensors.setdefault("lm_head.weight", tensors["model.embed_tokens.weight"])
        if not torch.equal(head, tensors["model.embed_tokens.weight"]):
            raise CheckpointError(
                f"config.json in '{folder}' ties the output head to the embeddings, but lm_head.weight "
                "differs from model.embed_tokens.weight. Set tie_word_embeddings to false, or leave the "
                "head out."
            )
    model.load_state_dict({name: tensors[name] for name in model.state_dict()}, strict=True, assign=True)
    with torch.device("cpu"):  # its buffers are in no file
        model.model.rotary_emb = type(model.model.rotary_emb)(config=model.config).to(device)
    model.tie_weights()
    model.requires_grad_(False)
    model.eval()
    attach(model, settings)
    if with_beacons:
        for name, parameter in beacon_parameters(model):
            parameter.data.copy_(tensors[name])
    else:
        logger.warning(
            "'%s' has no beacon tensors: they start as copies of the base model's and have learned nothing.",
            folder,
        )
    for _, parameter in beacon_parameters(model):
        parameter.requires_grad_(False)


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        names = _read_json(folder / INDEX).get("weight_map")
        if not isinstance(names, dict) or not names:
            raise CheckpointError(f"'{folder / INDEX}' has no weight_map. Get the file anew.")
        files = sorted({str(name) for name in names.values()})
        missing = [name for name in files if Path(name).name != name or not (folder / name).is_file()]
        if missing:
            raise CheckpointError(
                f"'{folder / INDEX}' names files that are not there: {', '.join(missing[:_NAMED])}. Get "
                "them too."
            )
        return [folder / name for name in files]
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")) or any(folder.glob("*.pth")):
        raise CheckpointError(
            f"'{folder}' has pickled weights only, which can run code when they are loaded. Convert them "
            "with transformers, where you trust them: "
            "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new)."
        )
    raise CheckpointError(
        f"'{folder}' has no weights. Expected {WEIGHTS}, or {INDEX} and the files it names."
    )


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    with _opened(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def _tensors(path: Path, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    # Copied in any case: a mapped file that is overwritten would change the model.
    with _opened(path) as file:
        return {
            name: file.get_tensor(name).to(device=device, dtype=dtype, copy=True)
            for name in file.keys()  # noqa: SIM118
        }


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"'{path}' is not a safetensors file: {error}. Get the file anew.") from error


def _beacon_shapes(model: PreTrainedModel, settings: BeaconSettings) -> dict[str, tuple[int, ...]]:
    """The beacon tensors of a checkpoint, by the shapes of the base projections that they are twins of."""
    shapes: dict[str, tuple[int, ...]] = {
        "model.beacon_embed_tokens.weight": (1, int(model.config.hidden_size))
    }
    for index, layer in enumerate(model.model.layers):
        for name in settings.params:
            projection = getattr(layer.self_attn, f"{name}_proj")
            for kind, parameter in projection.named_parameters():
                shapes[f"model.layers.{index}.self_attn.beacon_{name}_proj.{kind}"] = tuple(parameter.shape)
    return shapes


def _check_shapes(
    found: dict[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], folder: Path
) -> None:
    # Old checkpoints carry the rotary frequencies, which follow from the config.
    surplus = [name for name in found if name not in expected and not name.endswith("rotary_emb.inv_freq")]
    missing = [name for name in expected if name not in found]
    wrong = [
        f"{name} has shape {found[name]}, expected {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    problems = [
        f"{len(names)} {what}: {_some(names)}"
        for what, names in (("missing", missing), ("surplus", surplus), ("of a wrong shape", wrong))
        if names
    ]
    if problems:
        raise CheckpointError(
            f"The tensors in '{folder}' do not fit its {CONFIG}. {'; '.join(problems)}. Get the checkpoint "
            "anew, or correct the config."
        )


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more
