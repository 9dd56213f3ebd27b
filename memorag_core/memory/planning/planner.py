"""The plan of a model, which need not be loaded: its files say what it would take.

In: a model, a folder or a hub name, and a number of tokens. Out: a ``MemoryPlan``. Of a checkpoint only the
configuration and the tokenizer are read, and a model without numbers is built; of one on the hub no weights
are fetched.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from memorag_core.errors import CheckpointError, InputError, UnsupportedModelError
from memorag_core.memory.beacon import BeaconModel, BeaconSettings
from memorag_core.memory.beacon.quantized import Quantization
from memorag_core.memory.beacon.usage import Usage, usage_of
from memorag_core.memory.beacon.weights import build_model, weight_bytes
from memorag_core.memory.bundled import bundled_path
from memorag_core.memory.checkpoint_files import CONFIG, locate, read_config
from memorag_core.memory.device import chosen_dtype
from memorag_core.memory.footprint import Footprint
from memorag_core.memory.local_model import LocalModel
from memorag_core.memory.longcontext.costs import LongContextCosts
from memorag_core.memory.planning.budget import planned_device
from memorag_core.memory.planning.plan import MemoryPlan, plan_of
from memorag_core.memory.tokenizer import Tokens
from memorag_core.prompts import load_prompts
from memorag_core.system.disk import taken

_FETCHED = ("*.json", "*.model", "*.txt", "*.jinja")  # all but the weights


def plan_memory(
    model: str | os.PathLike[str] | LocalModel[Any] | None,
    tokens: int,
    *,
    device: str | torch.device = "auto",
    ratios: Sequence[int] | None = None,
    dtype: str | torch.dtype = "auto",
    quantize: Literal["int8", "int4"] | None = None,
    budget: int | str | None = None,
    questions: int = 1,
) -> MemoryPlan:
    """What a text will take in memory; nothing is loaded or read.

    A slot takes 2 L H D numbers: keys and values of L layers with H kv heads of D numbers (Activation Beacon,
    arXiv 2401.03462, section 3; MemoRAG, arXiv 2409.05591). Reading takes, beside slots, the room of one
    window and what one layer needs for it; docs/plan.md has the formulas. A checkpoint with ``beacon_*``
    entries in its ``config.json`` is planned as a beacon model, any other as a long-context model.

    Args:
        model: a checkpoint's name or folder, of which only the configuration, tokenizer and headers are read;
            a loaded model; None for the bundled one.
        tokens: of the text, what stands before it included; see ``count_tokens``.
        device: where a checkpoint would be loaded; "auto" as it would be.
        ratios: raw tokens for one slot; None for 2, 4, 8, 16 and 32, where they can be computed. Long-context
            models keep every token and have the ratio 1.
        dtype: what a checkpoint would be loaded in; "auto" as it would be.
        quantize: how the projections of a beacon checkpoint would be held; None for in ``dtype``.
        budget: bytes for weights and memory together, or a size such as "16GB"; None for what is free.
        questions: that are asked together.

    Raises:
        InputError: no tokens, or a ratio, device, dtype, budget or number of questions that cannot be.
        CheckpointError: files that are missing or cannot be read.
        UnsupportedModelError: an architecture that cannot be planned.
    """
    if model is None or isinstance(model, str | os.PathLike):
        source = footprint_of(model, device=device, dtype=dtype, quantize=quantize)
    elif not isinstance(model, LocalModel):
        raise InputError(
            f"The model is a {type(model).__name__}; expected a BeaconModel, a LongContextModel, or the name "
            "or folder of a checkpoint. Other models keep their memories elsewhere."
        )
    elif (device, dtype, quantize) != ("auto", "auto", None):
        raise InputError(
            "device, dtype and quantize say how a model will be loaded, but a loaded one was given. "
            "Leave them out."
        )
    else:
        source = model.footprint()
    return plan_of(source, tokens, ratios=ratios, budget=budget, questions=questions)


def footprint_of(
    model: str | os.PathLike[str] | None,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    quantize: Quantization | None = None,
) -> Footprint:
    """What the files of a model say that it would take; None is the bundled one.

    Raises:
        CheckpointError: files that are missing or cannot be read.
        UnsupportedModelError: an architecture that cannot be planned.
        InputError: a device or dtype that there is not.
    """
    if quantize not in (None, "int8", "int4"):
        raise InputError(f"quantize is {quantize!r}; expected None, 'int8' or 'int4'.")
    path = bundled_path() if model is None else model
    folder = _located(path)
    entries = read_config(folder)
    place = planned_device(device)
    kind = chosen_dtype(dtype, entries, place)
    name = "the bundled model" if model is None else os.fspath(path)
    if not any(entry.startswith("beacon_") for entry in entries):
        if quantize is not None:
            raise InputError(f"quantize is {quantize!r}, and {name} is no beacon model. Leave it out.")
        return _long_context(name, folder, place, kind)
    settings = BeaconSettings.from_config(entries)
    built = build_model(entries, settings, kind)
    usage = usage_of(folder)
    empty = BeaconModel(built, settings, tokens=_tokens(folder, usage), usage=usage)
    weights = weight_bytes(built, dtype=kind, quantize=quantize)
    return empty.footprint(name, device=place, quantize=quantize, weights=weights)


def count_tokens(model: str | os.PathLike[str] | None, text: str) -> int:
    """Tokens that a checkpoint makes of a text, with what stands before it and what fills windows.

    Raises:
        InputError: the checkpoint has no tokenizer, or the text no tokens.
        CheckpointError: files that are missing or cannot be read.
    """
    folder = _located(bundled_path() if model is None else model)
    usage = usage_of(folder)
    tokens = _tokens(folder, usage)
    if tokens is None:
        raise InputError(f"'{folder}' has no tokenizer. Give the number of tokens instead of the text.")
    head = len(tokens.encode_opening(usage.prompts or load_prompts(None)))
    fill = BeaconSettings.from_config(read_config(folder)).window if usage.pad_windows else None
    ids, _ = tokens.encode_documents([text], before=head, opening=head, fill=fill)
    return head + len(ids)


def _long_context(name: str, folder: Path, device: torch.device, dtype: torch.dtype) -> Footprint:
    """A long-context model by its config: what its layers keep and see, and a model without numbers."""
    try:
        whole = AutoConfig.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
        config = whole.get_text_config(decoder=True)
        with torch.device("meta"):
            built: Any = AutoModelForCausalLM.from_config(whole, dtype=dtype)
    except Exception as error:  # a wrong entry of a config fails anywhere in transformers, in any way
        raise UnsupportedModelError(
            f"'{folder / CONFIG}' does not describe a decoder-only language model that transformers knows: "
            f"{error}"
        ) from error
    if getattr(whole, "quantization_config", None):
        raise UnsupportedModelError(
            f"'{folder / CONFIG}' has a quantization_config, so that only the loaded model says what its "
            "weights take. Load it with LongContextModel and plan with that."
        )
    tokens = _tokens(folder, Usage())
    head = len(tokens.encode_opening(load_prompts(None))) if tokens is not None else 0
    costs = LongContextCosts.of_config(config, dtype=dtype, head=head, device=device.type)
    weights = sum(parameter.nbytes for parameter in built.parameters())
    return Footprint(name, "long-context", costs, weights, False, device, dtype)


def _located(model: str | os.PathLike[str]) -> Path:
    """The folder of a checkpoint; of one on the hub, all but its weights."""
    if taken(model, "The model").is_dir() or "/" not in os.fspath(model).strip("./"):
        return locate(model)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(os.fspath(model), allow_patterns=list(_FETCHED)))
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise CheckpointError(
            f"'{os.fspath(model)}' is no folder here, and the model hub did not give its configuration: "
            f"{error} Check the name and the network, or download the model elsewhere and give its folder."
        ) from error


def _tokens(folder: Path, usage: Usage) -> Tokens | None:
    return Tokens.load(folder, line_token=usage.line_token, none_token=usage.none_token)
