"""Fresh beacons for a base model: a plain checkpoint in, one in the memory models' format out.

In: a folder or hub name of a base model, beacon settings. Out: a new folder, complete or not there at all.
The beacons have learned nothing yet: each twin starts as a copy of its base projection, so until it is
trained the memory recalls badly. Knows no training.
"""

from __future__ import annotations

import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from memorag_core.errors import CheckpointError, InputError, UnsupportedModelError
from memorag_core.memory.beacon.checkpoint import save_checkpoint
from memorag_core.memory.beacon.layers import beacon_parameters
from memorag_core.memory.beacon.schedule import Stream
from memorag_core.memory.beacon.settings import BeaconSettings
from memorag_core.memory.beacon.weights import build_model, fill_model
from memorag_core.memory.checkpoint_files import locate, read_config, take_inventory
from memorag_core.memory.device import chosen_dtype
from memorag_core.system.disk import taken_in_unicode

COPIED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "LICENSE",
    "NOTICE",
)
"""Files of a base model that go with it: how it writes, how it ends a reply, and whose it is."""


@dataclass(frozen=True, slots=True)
class Attached:
    """What was written.

    Attributes:
        folder: where.
        dtype: what the weights are in.
        parameters: numbers of the base model.
        beacon_parameters: numbers that the beacons add, which training changes.
    """

    folder: Path
    dtype: torch.dtype
    parameters: int
    beacon_parameters: int


def attach_fresh(
    base: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    settings: BeaconSettings,
    dtype: str | torch.dtype | None = None,
) -> Attached:
    """Give a base model fresh beacons and save it in the checkpoint format, with its tokenizer.

    Used without beacons, the saved model computes what the base model computes.

    Args:
        base: a folder with a Qwen2, Qwen3, Mistral or Llama model in safetensors, or a name on the model hub.
        out: the folder to write; it must be empty or not there.
        settings: window, ratios and projections of the beacons.
        dtype: what the weights are written in, such as "bfloat16"; None for that of the base model's files.

    Raises:
        InputError: a folder that holds something, a window or ratio that the model cannot read with.
        CheckpointError: the base model's files are missing or damaged, or the disk refused.
        UnsupportedModelError: an architecture that this package does not compute, or a model that has
            beacons already.
    """
    target = taken_in_unicode(out, "out")
    _check_target(target)
    folder = locate(base)
    config = read_config(folder)
    inventory = take_inventory(folder)
    if any(".beacon_" in name for name in inventory.shapes) or "beacon_window" in config:
        raise UnsupportedModelError(
            f"'{folder}' holds a memory model: it has beacons already. Expected a base model without them; "
            "this one can be loaded as it is."
        )
    cpu = torch.device("cpu")
    kind = chosen_dtype(inventory.dtype if dtype in (None, "auto") else dtype, config, cpu)
    model = build_model(config, settings, kind)
    _check_window(settings, model.config.max_position_embeddings)
    fill_model(model, inventory, settings, device=cpu, dtype=kind)
    unfinished = target.parent / f".{target.name}.{secrets.token_hex(4)}.unfinished"
    try:
        unfinished.mkdir(parents=True)
        save_checkpoint(model, unfinished, settings=settings)
        for name in COPIED:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, unfinished / name)
        if target.is_dir():
            target.rmdir()  # empty: it was checked, and nothing but an empty folder can be removed so
        unfinished.rename(target)
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint cannot be written to '{target}': {error}. Free space or grant access, or choose "
            "another folder."
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    beacons = sum(parameter.numel() for _, parameter in beacon_parameters(model))
    total = sum(parameter.numel() for parameter in model.parameters())  # what is tied counts once
    return Attached(target, kind, total - beacons, beacons)


def _check_target(target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise InputError(f"'{target}' is a file; expected a folder to write to. Choose another name.")
    if target.is_dir() and any(target.iterdir()):
        raise InputError(
            f"The folder '{target}' is not empty; expected an empty one or none, for nothing is overwritten. "
            "Choose another name."
        )


def _check_window(settings: BeaconSettings, positions: int) -> None:
    for ratio in settings.ratios:
        Stream(settings.window, ratio)  # refuses a ratio above the window
    places = settings.window + settings.window // min(settings.ratios)
    if places >= positions:
        raise InputError(
            f"A window of {settings.window} tokens has {places} places with its beacons; the model was made "
            f"for {positions}. Choose a smaller window."
        )
