"""The beacon settings of a checkpoint, read from its ``config.json`` and checked.

In: the parsed config. Out: a frozen ``BeaconSettings``. Knows no tensors; what this package does not
compute is refused here, by name, with what it does compute.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

from memorag_core.errors import CheckpointError, UnsupportedModelError

Projection: TypeAlias = Literal["q", "k", "v", "o"]

SUPPORTED_MODEL_TYPES = ("qwen2", "qwen3", "mistral", "llama")
PROJECTIONS: tuple[Projection, ...] = ("q", "k", "v", "o")
MAX_RATIO = 128
MAX_WINDOW = 1 << 24

# The one value of each setting that this package computes; kin checkpoints carry others.
_REQUIRED: Mapping[str, Any] = {
    "beacon_attn": "full-coverage",
    "beacon_attend_prev": True,
    "beacon_pos": "interleave",
    "beacon_sink_size": 0,
    "beacon_parallel_window": 1,
}

# What is read, or, as the mix of ratios in training, harmless here.
_READ = (
    "beacon_window",
    "beacon_stride",
    "beacon_ratio",
    "beacon_ratio_mix",
    "beacon_param",
    "beacon_embed_init",
)

RESERVED = 1024
"""Tokens for a request and its reply, where a ratio that adapts to the text leaves room for them."""


_ADAPT = re.compile(r"adapt-(\d{1,9})")


@dataclass(frozen=True, slots=True)
class BeaconSettings:
    """How a model was beaconed (Activation Beacon, arXiv 2401.03462, section 3).

    Attributes:
        window: raw tokens a window holds before its raw keys and values are dropped.
        ratios: raw tokens for one beacon that the model was trained with, the default first.
        params: projections that have a beacon twin.
        embed_init: token whose embedding initialises the beacon embedding, "eos" or "bos".
        ratio_mix: how training mixed ratios; kept for the record, but "adapt-N" also says how the model wants
            to be used: at the smallest ratio at which the text and N more tokens fit its positions.
    """

    window: int = 2048
    ratios: tuple[int, ...] = (4,)
    params: tuple[Projection, ...] = ("q", "k", "v")
    embed_init: Literal["eos", "bos"] = "eos"
    ratio_mix: str = "step-random"

    def __post_init__(self) -> None:
        if type(self.window) is not int or not 1 <= self.window <= MAX_WINDOW:
            raise UnsupportedModelError(
                f"beacon_window is {self.window!r}; expected a whole number of tokens, 1 to {MAX_WINDOW}."
            )
        if not self.ratios:
            raise UnsupportedModelError("beacon_ratio is empty; expected at least one ratio, such as [4].")
        for ratio in self.ratios:
            self.check_ratio(ratio)
        unknown = [name for name in self.params if name not in PROJECTIONS]
        if unknown or not self.params:
            raise UnsupportedModelError(
                f"beacon_param is {list(self.params)!r}; supported are some of {list(PROJECTIONS)}."
            )
        if self.embed_init not in ("eos", "bos"):
            raise UnsupportedModelError(
                f"beacon_embed_init is {self.embed_init!r}; supported are 'eos' and 'bos'."
            )
        mix = self.ratio_mix
        if not isinstance(mix, str) or (mix.startswith("adapt") and not _ADAPT.fullmatch(mix)):
            raise UnsupportedModelError(
                f"beacon_ratio_mix is {mix!r}; supported are names of a mix, such as 'step-random', and "
                "'adapt-N' with a number of tokens, such as 'adapt-1024'."
            )

    @property
    def adapts(self) -> bool:
        """Whether the checkpoint asks for the ratio to be adapted to the text."""
        return _ADAPT.fullmatch(self.ratio_mix) is not None

    @property
    def reserved(self) -> int:
        """Tokens for a request and its reply, where the ratio is adapted to the text."""
        found = _ADAPT.fullmatch(self.ratio_mix)
        return int(found[1]) if found else RESERVED

    def check_ratio(self, ratio: int) -> int:
        """The ratio itself when it can be computed, else ``UnsupportedModelError``."""
        if isinstance(ratio, bool) or not isinstance(ratio, int) or not 2 <= ratio <= MAX_RATIO:
            raise UnsupportedModelError(
                f"the beacon ratio is {ratio!r}; supported are whole numbers from 2 to {MAX_RATIO}."
            )
        return ratio

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> BeaconSettings:
        """Read the ``beacon_*`` keys of a parsed ``config.json``.

        Raises:
            UnsupportedModelError: a setting has a value that this package does not compute.
            CheckpointError: the projections are no list.
        """
        if "beacon_window" not in config:
            raise UnsupportedModelError(
                "config.json has no 'beacon_window': this is no beacon memory model. Expected a checkpoint "
                "such as TommyChien/memorag-qwen2-7b-inst, or the bundled model. Other causal models "
                "are used as they are: MemoRAG(LongContextModel.from_pretrained(name))."
            )
        _refuse_unknown(config)
        for key, only in _REQUIRED.items():
            found = config.get(key, only)
            if found != only:
                raise UnsupportedModelError(f"{key} is {found!r}; supported is {only!r} only.")
        window = config["beacon_window"]
        stride = config.get("beacon_stride", window)
        if stride != window:
            raise UnsupportedModelError(
                f"beacon_stride is {stride!r} and beacon_window {window!r}; supported are equal values only."
            )
        params = config.get("beacon_param", ["q", "k", "v"])
        if not isinstance(params, (list, tuple)) or not all(isinstance(name, str) for name in params):
            raise CheckpointError(
                f"beacon_param is {params!r:.80}; expected a list of some of {list(PROJECTIONS)}. Correct "
                "config.json, or get the checkpoint anew."
            )
        ratio = config.get("beacon_ratio", [4])
        ratios = tuple(ratio) if isinstance(ratio, (list, tuple)) else (ratio,)
        return cls(
            window=window,
            ratios=ratios,
            params=cast(tuple[Projection, ...], tuple(params)),
            embed_init=config.get("beacon_embed_init", "eos"),
            ratio_mix=config.get("beacon_ratio_mix", "step-random"),
        )

    def to_config(self) -> dict[str, Any]:
        """The keys for a ``config.json`` that ``from_config`` reads back as this value."""
        return {
            "beacon_window": self.window,
            "beacon_stride": self.window,
            "beacon_ratio": list(self.ratios),
            "beacon_ratio_mix": self.ratio_mix,
            "beacon_param": list(self.params),
            "beacon_embed_init": self.embed_init,
            **_REQUIRED,
        }


def _refuse_unknown(config: Mapping[str, Any]) -> None:
    """Refuse settings of kin checkpoints that no one here has heard of; null is as good as left out."""
    known = (*_READ, *_REQUIRED)
    unknown = {
        key: value
        for key, value in config.items()
        if key.startswith("beacon_") and key not in known and value is not None
    }
    if unknown:
        raise UnsupportedModelError(
            f"config.json has the beacon settings {unknown}, which this package does not compute; supported "
            f"are {', '.join(known)}."
        )
    low_rank = {
        key: value for key, value in config.items() if value and re.search(r"lora|low_?rank", key.lower())
    }
    if low_rank:
        raise UnsupportedModelError(
            f"config.json has the low-rank settings {low_rank}; supported are projections of full rank "
            "without adapters. Merge adapters into the weights first."
        )
