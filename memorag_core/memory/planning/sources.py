"""What a plan is made from: a model that is loaded, or the files of one that is not.

In: a model, a folder or a hub name. Out: a ``Source``: its costs, and what its weights take. Of a checkpoint
only the configuration and the tokenizer are read, and a model without numbers is built; of one on the hub no
weights are fetched.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from memorag_core.errors import CheckpointError, InputError, UnsupportedModelError
from memorag_core.memory.beacon import BeaconModel, BeaconSettings
from memorag_core.memory.beacon.costs import BeaconCosts
from memorag_core.memory.beacon.quantized import CodedLinear, Quantization, quantization_of
from memorag_core.memory.beacon.usage import Usage
from memorag_core.memory.beacon.weights import build_model, weight_bytes
from memorag_core.memory.bundled import bundled_path
from memorag_core.memory.checkpoint_files import CONFIG, USAGE, locate, read_config, read_json
from memorag_core.memory.device import chosen_dtype
from memorag_core.memory.longcontext import LongContextModel
from memorag_core.memory.longcontext.costs import LongContextCosts
from memorag_core.memory.planning.budget import planned_device
from memorag_core.memory.tokenizer import Tokens
from memorag_core.prompts import load_prompts

_FETCHED = ("*.json", "*.model", "*.txt", "*.jinja")  # all but the weights


class Costs(Protocol):
    """What a plan asks of the costs of a model; all sizes in bytes."""

    @property
    def ratios(self) -> tuple[int, ...]:
        """Those it was made for, its own first."""
        ...

    @property
    def longest_ratio(self) -> int:
        """The largest ratio that it can compute."""
        ...

    @property
    def entry(self) -> int:
        """Of a slot."""
        ...

    def parts(self, tokens: int, ratio: int) -> int:
        """Parts that so many tokens are read into."""
        ...

    def slots(self, tokens: int, ratio: int) -> int:
        """Slots that they leave."""
        ...

    def memory(self, tokens: int, ratio: int) -> int:
        """Of the memory that they leave."""
        ...

    def reading(self, tokens: int, ratio: int) -> int:
        """At most while reading them, weights left out."""
        ...

    def appending(self, tokens: int, ratio: int, *, before: int) -> int:
        """At most while reading them behind so many others."""
        ...

    def asking(self, tokens: int, ratio: int, *, questions: int) -> int:
        """At most while asking, weights left out."""
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """A model as a plan sees it.

    Attributes:
        name: of the model, to be told.
        kind: what it is a memory by.
        costs: what reading and asking cost.
        weights: bytes of its weights.
        loaded: whether they are on the device already.
        device: where it computes.
        dtype: in what.
        quantize: how its projections are held; None for in ``dtype``.
    """

    name: str
    kind: Literal["beacon", "long-context"]
    costs: Costs
    weights: int
    loaded: bool
    device: torch.device
    dtype: torch.dtype
    quantize: Quantization | None = None


def source_of(
    model: str | os.PathLike[str] | BeaconModel | LongContextModel | None,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    quantize: Quantization | None = None,
) -> Source:
    """A model, or what its files say of it; None is the bundled one.

    Raises:
        CheckpointError: files that are missing or cannot be read.
        UnsupportedModelError: an architecture that cannot be planned.
        InputError: a device or dtype that there is not, or one for a model that has its own.
    """
    if isinstance(model, BeaconModel | LongContextModel):
        if (device, dtype, quantize) != ("auto", "auto", None):
            raise InputError(
                "device, dtype and quantize say how a model will be loaded, but a loaded one was given. "
                "Leave them out."
            )
        return _loaded(model)
    if model is not None and not isinstance(model, str | os.PathLike):
        raise InputError(
            f"The model is a {type(model).__name__}; expected a BeaconModel, a LongContextModel, or the name "
            "or folder of a checkpoint. Other models keep their memories elsewhere."
        )
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
    usage = _usage(folder)
    empty = BeaconModel(built, settings, tokens=_tokens(folder, usage), usage=usage)
    costs = BeaconCosts.of(
        empty, on_cpu=place.type == "cpu", fused=_is_fused(place, kind), coded=quantize is not None
    )
    weights = weight_bytes(built, dtype=kind, quantize=quantize)
    return Source(name, "beacon", costs, weights, False, place, kind, quantize)


def count_tokens(model: str | os.PathLike[str] | None, text: str) -> int:
    """Tokens that a checkpoint makes of a text, with what stands before it and what fills windows.

    Raises:
        InputError: the checkpoint has no tokenizer, or the text no tokens.
        CheckpointError: files that are missing or cannot be read.
    """
    folder = _located(bundled_path() if model is None else model)
    usage = _usage(folder)
    tokens = _tokens(folder, usage)
    if tokens is None:
        raise InputError(f"'{folder}' has no tokenizer. Give the number of tokens instead of the text.")
    head = len(tokens.encode_opening(usage.prompts or load_prompts(None)))
    fill = BeaconSettings.from_config(read_config(folder)).window if usage.pad_windows else None
    ids, _ = tokens.encode_documents([text], before=head, opening=head, fill=fill)
    return head + len(ids)


def _loaded(model: BeaconModel | LongContextModel) -> Source:
    host = model.model
    held = {id(tensor): tensor for tensor in (*host.parameters(), *_codes(host))}
    weights = sum(tensor.nbytes for tensor in held.values())
    name = host.name_or_path or type(host).__name__
    if isinstance(model, LongContextModel):
        long = LongContextCosts.of(model)
        return Source(name, "long-context", long, weights, True, host.device, host.dtype)
    coding = quantization_of(host)
    costs = BeaconCosts.of(
        model,
        on_cpu=host.device.type == "cpu",
        fused=_is_fused(host.device, host.dtype),
        coded=coding is not None,
    )
    return Source(name, "beacon", costs, weights, True, host.device, host.dtype, coding)


def _codes(host: torch.nn.Module) -> Iterator[torch.Tensor]:
    """What quantized projections hold, which are no parameters."""
    for module in host.modules():
        if isinstance(module, CodedLinear):
            yield from module.buffers()


def _long_context(name: str, folder: Path, device: torch.device, dtype: torch.dtype) -> Source:
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
    return Source(name, "long-context", costs, weights, False, device, dtype)


def _located(model: str | os.PathLike[str]) -> Path:
    """The folder of a checkpoint; of one on the hub, all but its weights."""
    if Path(model).is_dir() or "/" not in os.fspath(model).strip("./"):
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


def _usage(folder: Path) -> Usage:
    return Usage.from_mapping(read_json(folder / USAGE)) if (folder / USAGE).is_file() else Usage()


def _tokens(folder: Path, usage: Usage) -> Tokens | None:
    return Tokens.load(folder, line_token=usage.line_token, none_token=usage.none_token)


def _is_fused(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether attention with a mask and grouped heads has a kernel there that holds no scores."""
    if device.type == "cpu":
        return True
    try:
        query, key = (torch.zeros(1, heads, 16, 64, device=device, dtype=dtype) for heads in (2, 1))
        mask = torch.ones(16, 16, dtype=torch.bool, device=device)
        return bool(torch._fused_sdp_choice(query, key, key, mask, 0.0, False, scale=1.0, enable_gqa=True))
    except (RuntimeError, AssertionError, NotImplementedError):  # not here: plan for the one that holds them
        return False
