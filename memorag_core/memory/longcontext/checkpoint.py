"""Causal language models from a folder or a hub name, loaded by transformers.

In: a folder or a name. Out: the model on its device in evaluation mode, and its tokenizer. Knows no memory.
Weights are read from safetensors only, and no code of a checkpoint is run.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
)

from memorag_core.errors import CheckpointError, UnsupportedModelError
from memorag_core.memory.checkpoint_files import CONFIG, MAX_LAYERS, can_be_layers, locate, some
from memorag_core.memory.device import chosen_device, chosen_dtype
from memorag_core.memory.tokenizer import Tokens

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """What a folder holds: a model for inference on its device, and its tokenizer if it has one."""

    model: PreTrainedModel
    tokens: Tokens | None


def load_checkpoint(
    name_or_path: str | os.PathLike[str], *, device: str | torch.device, dtype: str | torch.dtype
) -> Checkpoint:
    """Load a causal language model.

    Args:
        name_or_path: a folder, or a name on the model hub.
        device: "auto" is cuda, else mps, else cpu.
        dtype: "auto" is the checkpoint's own on a GPU and float32 on a CPU, which computes fastest in it.

    Raises:
        CheckpointError: files that are missing, cannot be read or do not fit together.
        UnsupportedModelError: no causal language model that transformers knows by itself.
        InputError: a device or dtype that there is not.
    """
    place = chosen_device(device)
    # On a GPU, "auto" is left to transformers, which knows where a config of its own says it.
    own = dtype == "auto" and place.type != "cpu"
    kind = "auto" if own else chosen_dtype(dtype, {}, place)
    folder = locate(name_or_path)
    config = _config(folder)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(folder),
            config=config,
            dtype=kind,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # a damaged file fails anywhere in transformers, in any way
        raise CheckpointError(
            f"The model in '{folder}' cannot be loaded: {error} Expected a model with weights "
            "in safetensors. Get it anew; weights in other formats can be converted with transformers, where "
            "you trust them: AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new)."
        ) from error
    model, report = loaded
    missing, surplus = (report[name] for name in ("missing_keys", "unexpected_keys"))
    if missing:
        raise CheckpointError(
            f"'{folder}' lacks {len(missing)} tensors that its {CONFIG} asks for: {some(missing)}. Get the "
            "checkpoint anew, or correct the config."
        )
    if any("beacon_" in name for name in surplus):
        raise UnsupportedModelError(
            f"'{folder}' holds a beacon memory model ({some(surplus)}). Load it with BeaconModel."
        )
    if surplus:
        logger.warning("'%s' has %d tensors that are not used: %s", folder, len(surplus), some(surplus))
    model.to(place)
    model.requires_grad_(False)
    return Checkpoint(cast(PreTrainedModel, model.eval()), Tokens.load(folder))


def _config(folder: Path) -> Any:
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"'{folder}' has no {CONFIG}. Expected a model as transformers saves it.")
    try:
        config = AutoConfig.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    except Exception as error:  # as above
        if isinstance(error, ValueError) and isinstance(error.__context__, KeyError):  # not in its table
            raise UnsupportedModelError(
                f"'{folder}' holds a model that transformers does not know without running code of the "
                f"checkpoint, which is never done: {error}"
            ) from error
        raise CheckpointError(f"'{folder / CONFIG}' cannot be read: {error} Get the file anew.") from error
    layers = getattr(config.get_text_config(decoder=True), "num_hidden_layers", 1)
    if not can_be_layers(layers):
        raise CheckpointError(
            f"'{folder / CONFIG}' says num_hidden_layers {layers!r:.80}; expected a whole number from 1 to "
            f"{MAX_LAYERS}. Get the file anew."
        )
    if config.is_encoder_decoder or type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise UnsupportedModelError(
            f"'{folder}' holds a model of type {config.model_type!r}, which is no decoder-only language "
            "model. Supported are Llama, Mistral, Qwen2, Qwen3, Gemma 2 and 3 and their kin."
        )
    return config
