"""Finding a checkpoint: its folder, its JSON files, and which tensor lies in which file.

In: a folder or a hub name. Out: paths, parsed JSON, an inventory of the tensors. Reads no weights and knows
no model. A checkpoint's own code and its pickled weights are never looked at.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from memorag_core.errors import CheckpointError, UnsupportedModelError
from memorag_core.system.disk import taken, taken_in_unicode

MAX_LAYERS = 1024
"""Many more than any model has."""

CONFIG, WEIGHTS, INDEX, USAGE = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "memorag-usage.json",
)
OLD_USAGE = "memorag.json"
"""What earlier releases called it, and what a saved memory's manifest is called."""

_FETCHED = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")  # the last three are tokenizers'
_TORCH_NAMES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16", "F64": "float64"}
_NAMED = 8  # names that an error lists; a whole layer is as telling as the whole model


@dataclass(frozen=True, slots=True)
class Inventory:
    """The tensors of a checkpoint, none of them read.

    Attributes:
        folder: where the files lie.
        files: the files, each with the names of its tensors.
        shapes: the shape of each tensor.
        dtype: what most of their numbers are, as torch names it, such as "bfloat16".
    """

    folder: Path
    files: Mapping[Path, tuple[str, ...]]
    shapes: Mapping[str, tuple[int, ...]]
    dtype: str


def can_be_layers(value: object) -> bool:
    """Whether a config's value can be a number of layers, which are made one by one."""
    return type(value) is int and 1 <= value <= MAX_LAYERS


def here_or_named(name_or_path: str | os.PathLike[str]) -> Path | None:
    """The folder of a checkpoint; None for what can be a name on the model hub.

    Raises:
        InputError: a blank name.
        CheckpointError: it is neither.
    """
    path = taken(name_or_path, "The model")
    if path.is_dir():
        return taken_in_unicode(path, "The model")
    name = os.fspath(name_or_path)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or name.startswith("."):
        raise CheckpointError(
            f"There is no folder '{name}', and it is no name on the model hub either (owner/model). Give the "
            f"folder that holds {CONFIG} and {WEIGHTS}."
        )
    return None


def locate(name_or_path: str | os.PathLike[str]) -> Path:
    """The folder of a checkpoint, fetched from the model hub where it is a name there.

    Raises:
        InputError: a blank name.
        CheckpointError: there is no such folder, and the hub did not give it.
    """
    path = here_or_named(name_or_path)
    if path is not None:
        return path
    name = os.fspath(name_or_path)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(name, allow_patterns=list(_FETCHED), ignore_patterns="consolidated*"))
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise CheckpointError(
            f"'{name}' is no folder here, and the model hub did not give it: {error} Check the name and the "
            "network, or download the model elsewhere and give its folder."
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a checkpoint.

    Raises:
        CheckpointError: there is no such file, or it holds something else.
    """
    if not path.is_file():
        raise CheckpointError(
            f"'{path.parent}' has no {path.name}. Expected a checkpoint with {CONFIG} and {WEIGHTS} (or "
            f"{INDEX} and the files it names)."
        )
    try:
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number, parse_float=_finite)
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"'{path}' is not JSON: {error}. Get the file anew.") from error
    if not isinstance(found, dict):
        raise CheckpointError(
            f"'{path}' holds a {type(found).__name__}, expected an object. Get the file anew."
        )
    return found


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no finite number")


def read_config(folder: Path) -> dict[str, Any]:
    """The ``config.json`` of a checkpoint.

    Raises:
        CheckpointError: there is none, or it is no JSON object.
        UnsupportedModelError: the folder holds an adapter, which is only a part of a model.
    """
    if not (folder / CONFIG).is_file() and (folder / "adapter_config.json").is_file():
        raise UnsupportedModelError(
            f"'{folder}' holds an adapter (adapter_config.json), such as LoRA makes; supported are whole "
            "models only. Merge it into its base model first: peft's merge_and_unload(), then "
            "save_pretrained(folder)."
        )
    return read_json(folder / CONFIG)


def take_inventory(folder: Path) -> Inventory:
    """Look up the tensors of a checkpoint: those of one file, or of the shards that an index names.

    Raises:
        CheckpointError: files are missing, cannot be read, or hold other tensors than the index says.
    """
    placed = _weight_map(folder)
    names = [WEIGHTS] if placed is None else sorted(set(placed.values()))
    files: dict[Path, tuple[str, ...]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    home: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for file in names:
        path = folder / file
        with open_weights(path) as opened:
            files[path] = tuple(opened.keys())
            for name in files[path]:
                part = opened.get_slice(name)
                if name in home:
                    raise CheckpointError(
                        f"The tensor {name} is in {home[name]} and again in {file}, in '{folder}'; expected "
                        "it in one file. Get the files anew."
                    )
                home[name], shapes[name] = file, tuple(part.get_shape())
                kind = str(part.get_dtype())
                sizes[kind] = sizes.get(kind, 0) + math.prod(shapes[name])
    _check_index(placed or {}, home, folder)
    most = max(sizes, key=lambda kind: sizes[kind], default="F32")
    return Inventory(folder, files, shapes, _TORCH_NAMES.get(most, "float32"))


def open_weights(path: Path) -> Any:
    """A safetensors file, mapped into memory; to be used in a ``with``.

    Raises:
        CheckpointError: it is damaged or something else.
    """
    try:
        return safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"'{path}' is not a safetensors file: {error}. Get the file anew.") from error


def some(names: Iterable[str]) -> str:
    """The first of some names in order, and how many more there are."""
    listed = sorted(names)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more


def _weight_map(folder: Path) -> dict[str, str] | None:
    """Which file the index puts each tensor into; None where one file holds all."""
    if (folder / WEIGHTS).is_file():
        return None
    if (folder / INDEX).is_file():
        return _read_index(folder)
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")) or any(folder.glob("*.pth")):
        raise CheckpointError(
            f"'{folder}' has pickled weights only, which can run code when they are loaded. Convert them "
            "with transformers, where you trust them: "
            "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new)."
        )
    raise CheckpointError(
        f"'{folder}' has no weights. Expected {WEIGHTS}, or {INDEX} and the files it names."
    )


def _read_index(folder: Path) -> dict[str, str]:
    placed = read_json(folder / INDEX).get("weight_map")
    if (
        not isinstance(placed, dict)
        or not placed
        or not all(isinstance(file, str) for file in placed.values())
    ):
        raise CheckpointError(
            f"'{folder / INDEX}' has no weight_map; expected one that names a file for each tensor. Get the "
            "file anew."
        )
    files = set(placed.values())
    # Also in the form of another system: a checkpoint means the same everywhere.
    outside = [file for file in files if re.search(r"[/\\:]", file) or file in ("", ".", "..")]
    if outside:
        raise CheckpointError(
            f"'{folder / INDEX}' names files outside of its folder: {some(outside)}. Expected names of files "
            "beside it. Do not use this checkpoint unless you know why."
        )
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise CheckpointError(
            f"'{folder / INDEX}' names files that are not there: {some(missing)}. Get them too."
        )
    return placed


def _check_index(placed: Mapping[str, str], home: Mapping[str, str], folder: Path) -> None:
    """Compare where the index puts tensors with where they are."""
    lost = [f"{name} (said to be in {file})" for name, file in placed.items() if name not in home]
    moved = [
        f"{name} (in {home[name]}, said to be in {file})"
        for name, file in placed.items()
        if home.get(name, file) != file
    ]
    problems = [
        f"{len(found)} {what}: {some(found)}"
        for what, found in (("in none of its files", lost), ("in another file", moved))
        if found
    ]
    if problems:
        raise CheckpointError(
            f"'{folder / INDEX}' and the files beside it do not fit each other. Of the tensors that it names "
            f"are {'; '.join(problems)}. Get index and files anew, all of one release."
        )
