"""Checkpoints: folders of ``config.json`` and safetensors, as the released memory models have them.

In: a folder or a hub name. Out: an attached model on its device, its beacon settings, its usage, its
tokenizer; and back to a folder. Knows no text. No code of a checkpoint is ever run: ``auto_map`` and pickled
weights are not looked at. Read in this direction: finding -> placing -> loading -> here.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from memorag_core.errors import CheckpointError, InputError, UnsupportedModelError
from memorag_core.memory.beacon.layers import checkpoint_name
from memorag_core.memory.beacon.quantized import Quantization, check_quantization, quantization_of
from memorag_core.memory.beacon.settings import BeaconSettings
from memorag_core.memory.beacon.usage import Usage, usage_of
from memorag_core.memory.beacon.weights import build_model, fill_model, weight_bytes
from memorag_core.memory.checkpoint_files import (
    CONFIG,
    WEIGHTS,
    locate,
    read_config,
    read_json,
    take_inventory,
)
from memorag_core.memory.device import DeviceMap, chosen_device, chosen_dtype, mapped_device
from memorag_core.memory.tokenizer import Tokens
from memorag_core.system.disk import taken_in_unicode

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """What a folder holds.

    Attributes:
        model: with beacons attached, for inference, on its device.
        settings: the beacon settings.
        usage: what ``memorag-usage.json`` says, or the defaults.
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
    device_map: DeviceMap | None = None,
    quantize: Quantization | None = None,
) -> Checkpoint:
    """Load a memory model.

    Args:
        name_or_path: a folder, or a name on the model hub, such as "TommyChien/memorag-qwen2-7b-inst".
        device: "auto" is cuda, else mps, else cpu.
        dtype: "auto" is the checkpoint's own on a GPU and float32 on a CPU, which computes fastest in it.
        device_map: instead of ``device``, in the form of transformers: module names with their device, all
            the same one, or "auto" for the GPU with the most room.
        quantize: hold the base projections in 8 ("int8") or 4 bits ("int4"); their beacon twins, embeddings,
            norms and the head stay as they are. Needs the extra ``quantized``.

    Raises:
        CheckpointError: files that are missing, cannot be read or do not fit together; tensors that are
            missing, surplus or of a wrong shape.
        UnsupportedModelError: an architecture or a setting that this package does not compute, or a device
            map over several devices.
        InputError: a device, dtype or quantization that there is not.
        MissingExtraError: quantization, and bitsandbytes is not installed.
    """
    coding = check_quantization(quantize)
    if device_map is not None and device != "auto":
        raise InputError(
            f"Found device={str(device)!r} and a device_map; expected one of them. Leave one out."
        )
    folder = locate(name_or_path)
    config = read_config(folder)
    settings = BeaconSettings.from_config(config)
    if device_map is None:
        place = chosen_device(device)
    else:
        there = chosen_dtype(dtype, config, torch.device("cuda"))  # "auto" looks for a GPU
        shape = build_model(config, settings, there)
        nbytes = weight_bytes(shape, dtype=there, quantize=coding)
        place = mapped_device(device_map, shape.state_dict(), nbytes=nbytes)
    kind = chosen_dtype(dtype, config, place)
    model = build_model(config, settings, kind)
    inventory = take_inventory(folder)
    if not fill_model(model, inventory, settings, device=place, dtype=kind, quantize=coding):
        logger.warning(
            "'%s' has no beacon tensors: they start as copies of the base model's and have learned nothing.",
            folder,
        )
    usage = usage_of(folder)
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
        InputError: a blank path.
        CheckpointError: the disk refused.
        UnsupportedModelError: the model holds codes instead of its weights.
    """
    if quantization_of(model) is not None:
        raise UnsupportedModelError(
            f"The model's projections are in {quantization_of(model)}; the checkpoint format has weights in "
            "float32, bfloat16 or float16. Load it without quantize to save it."
        )
    target = taken_in_unicode(folder, "folder")
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
    except (OSError, SafetensorError) as error:
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
    tensors = {checkpoint_name(name): tensor for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    return tensors


def _stop_ids(folder: Path, config: Mapping[str, Any], tokens: Tokens | None) -> frozenset[int]:
    generation = folder / "generation_config.json"
    sources = [config.get("eos_token_id"), tokens.end_id if tokens is not None else None]
    if generation.is_file():
        sources.append(read_json(generation).get("eos_token_id"))
    ids: set[int] = set()
    for source in sources:
        found = source if isinstance(source, list) else [] if source is None else [source]
        if any(type(one) is not int or one < 0 for one in found):
            raise CheckpointError(
                f"eos_token_id in '{folder}' is {source!r:.80}; expected a token id or a list of them. "
                f"Correct {CONFIG} or {generation.name}."
            )
        ids.update(found)
    return frozenset(ids)
