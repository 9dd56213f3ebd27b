"""Filling a model: a config becomes a model without numbers, and the files' tensors become its parameters.

In: a parsed config, an inventory of tensors. Out: an attached model for inference on its device. Knows
neither hubs nor tokenizers.

Each tensor is read once and put in its place at once, coded where it is to be quantized. So loading takes
what the model takes, and beside it the pages of the file that is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from memorag_core.errors import CheckpointError, UnsupportedModelError
from memorag_core.memory.beacon.layers import add_beacons, checkpoint_name, copy_embedding
from memorag_core.memory.beacon.quantized import Quantization, quantized_linear
from memorag_core.memory.beacon.rotary import SUPPORTED_ROPE_TYPES
from memorag_core.memory.beacon.settings import SUPPORTED_MODEL_TYPES, BeaconSettings
from memorag_core.memory.checkpoint_files import (
    CONFIG,
    MAX_LAYERS,
    Inventory,
    can_be_layers,
    open_weights,
    some,
)

# Of a config.json, what describes the file and not the model.
_NOT_THE_MODEL = ("architectures", "auto_map", "model_type", "transformers_version", "torch_dtype", "dtype")

_HEAD = "lm_head.weight"
_CODED_BYTES: Mapping[Quantization, float] = {"int8": 1.0, "int4": 0.53}  # for each number, scales included


def build_model(config: Mapping[str, Any], settings: BeaconSettings, dtype: torch.dtype) -> PreTrainedModel:
    """An attached model without numbers, on the meta device.

    Raises:
        UnsupportedModelError: an architecture that this package does not compute.
        CheckpointError: a config that describes no model.
    """
    kind = config.get("model_type")
    if kind not in SUPPORTED_MODEL_TYPES:
        raise UnsupportedModelError(
            f"model_type is {kind!r}; supported are {', '.join(SUPPORTED_MODEL_TYPES)}."
        )
    if config.get("quantization_config"):
        raise UnsupportedModelError(
            "config.json has a quantization_config; supported are weights in float32, bfloat16 or float16. "
            "Get the model without quantization, and load it with quantize='int8' or quantize='int4'."
        )
    _check_rope(config)
    _check_layers(config)
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
    add_beacons(model, settings)
    return cast(PreTrainedModel, model)


def weight_bytes(model: PreTrainedModel, *, dtype: torch.dtype, quantize: Quantization | None = None) -> int:
    """Bytes that the weights of a model take, wherever it lies now."""
    shared = model.config.tie_word_embeddings
    total = 0.0
    for name, (module, leaf) in _places(model).items():
        if shared and name == _HEAD:
            continue
        coded = quantize is not None and leaf == "weight" and _is_coded(model, module)
        each = _CODED_BYTES[quantize] if coded and quantize is not None else dtype.itemsize
        total += model.get_submodule(module).get_parameter(leaf).numel() * each
    return round(total)


def fill_model(
    model: PreTrainedModel,
    inventory: Inventory,
    settings: BeaconSettings,
    *,
    device: torch.device,
    dtype: torch.dtype,
    quantize: Quantization | None = None,
) -> bool:
    """Give a model from ``build_model`` its numbers, and make it ready for inference.

    Beacon parameters that the files do not have start as copies of the base model's.

    Args:
        model: on the meta device; on ``device`` afterwards.
        inventory: where the tensors lie.
        settings: the settings the model was built with.
        device: where it is to compute.
        dtype: what it is to compute in.
        quantize: how base projections are coded; None for not at all.

    Returns:
        Whether the files had beacon parameters.

    Raises:
        CheckpointError: tensors are missing, surplus or of a wrong shape, or contradict the config.
        UnsupportedModelError: there are no beacon parameters, and no token to initialise them from.
    """
    with_beacons = _check_shapes(model, inventory)
    places = _places(model)
    head: Tensor | None = None
    for name, tensor in _tensors(inventory, device, dtype):
        if name not in places:
            continue  # rotary frequencies, which follow from the config
        if name == _HEAD and model.config.tie_word_embeddings:
            head = tensor
            continue
        twin = name.replace(".self_attn.", ".self_attn.beacon_")
        if not with_beacons and twin in places:
            _put(model, *places[twin], tensor.clone())
        _put(model, *places[name], tensor, quantize=quantize)
    if model.config.tie_word_embeddings:
        _tie(model, head, inventory)
    with torch.device("cpu"):  # its buffers are in no file
        model.model.rotary_emb = type(model.model.rotary_emb)(config=model.config).to(device)
    if not with_beacons:
        row = model.model.beacon_embed_tokens
        row.weight = nn.Parameter(torch.empty_like(row.weight, device=device))
        copy_embedding(model, settings)
    model.requires_grad_(False)
    model.eval()
    return with_beacons


def _check_rope(config: Mapping[str, Any]) -> None:
    for key in ("rope_parameters", "rope_scaling"):
        rope = config.get(key) or {}
        if not isinstance(rope, Mapping):
            raise CheckpointError(f"{key} is {rope!r:.80}; expected an object. Correct {CONFIG}.")
        found = rope.get("rope_type", rope.get("type", "default"))
        if found not in SUPPORTED_ROPE_TYPES:
            raise UnsupportedModelError(
                f"{key} says {found!r}; supported are {', '.join(SUPPORTED_ROPE_TYPES)}, whose frequencies "
                "do not change with the length of the text."
            )


def _check_layers(config: Mapping[str, Any]) -> None:
    """Refuse a number of layers that would be made one by one before anything is compared with the files."""
    layers = config.get("num_hidden_layers", 1)
    if not can_be_layers(layers):
        raise CheckpointError(
            f"num_hidden_layers is {layers!r:.80}; expected a whole number from 1 to {MAX_LAYERS}. Correct "
            f"{CONFIG}, or get the checkpoint anew."
        )


def _places(model: PreTrainedModel) -> dict[str, tuple[str, str]]:
    """For each name in a checkpoint the module and the parameter that it is."""
    return {
        checkpoint_name(f"{path}.{leaf}"): (path, leaf)
        for path, module in model.named_modules()
        for leaf, _ in module.named_parameters(recurse=False)
    }


def _check_shapes(model: PreTrainedModel, inventory: Inventory) -> bool:
    """Compare a checkpoint's tensors with the model's; returns whether it has beacon tensors."""
    expected = {
        name: tuple(model.get_submodule(path).get_parameter(leaf).shape)
        for name, (path, leaf) in _places(model).items()
    }
    found = inventory.shapes
    beacons = [name for name in expected if _is_beacon(name)]
    with_beacons = any(name in found for name in beacons)
    if not with_beacons:
        expected = {name: shape for name, shape in expected.items() if not _is_beacon(name)}
    if model.config.tie_word_embeddings and _HEAD not in found:
        expected.pop(_HEAD, None)
    # Old checkpoints carry the rotary frequencies.
    surplus = [name for name in found if name not in expected and not name.endswith("rotary_emb.inv_freq")]
    missing = [name for name in expected if name not in found]
    wrong = [
        f"{name} has shape {found[name]}, expected {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    problems = [
        f"{len(names)} {what}: {some(names)}"
        for what, names in (("missing", missing), ("surplus", surplus), ("of a wrong shape", wrong))
        if names
    ]
    if problems:
        raise CheckpointError(
            f"The tensors in '{inventory.folder}' do not fit its {CONFIG}. {'; '.join(problems)}. Get the "
            "checkpoint anew, or correct the config."
        )
    return with_beacons


def _is_beacon(name: str) -> bool:
    return ".beacon_" in name


def _tensors(inventory: Inventory, device: torch.device, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    for path, names in inventory.files.items():
        with open_weights(path) as file:
            for name in names:
                # Copied in any case: a mapped file that is overwritten would change the model.
                yield name, file.get_tensor(name).to(device=device, dtype=dtype, copy=True)


def _put(
    model: PreTrainedModel, path: str, leaf: str, tensor: Tensor, *, quantize: Quantization | None = None
) -> None:
    module = model.get_submodule(path)
    if quantize is None or leaf != "weight" or not _is_coded(model, path):
        setattr(module, leaf, nn.Parameter(tensor, requires_grad=False))
        return
    coded = quantized_linear(tensor, quantize)
    if module.bias is not None:
        coded.bias = cast(nn.Parameter, module.bias)  # of the meta device still, or read before the weight
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, coded)


def _is_coded(model: PreTrainedModel, path: str) -> bool:
    """Whether a module is one that quantization is for: a projection of a layer, and no twin."""
    inside = path.startswith("model.layers.") and not path.endswith(".twin")
    return inside and isinstance(model.get_submodule(path), nn.Linear)


def _tie(model: PreTrainedModel, head: Tensor | None, inventory: Inventory) -> None:
    embeddings = cast(nn.Parameter, model.model.embed_tokens.weight)
    if head is not None and not torch.equal(head, embeddings):
        raise CheckpointError(
            f"config.json in '{inventory.folder}' ties the output head to the embeddings, but {_HEAD} "
            "differs from model.embed_tokens.weight. Set tie_word_embeddings to false, or leave the head out."
        )
    model.lm_head.weight = embeddings
    model.tie_weights()
