"""What a memory model takes: its weights, and what its memories cost by the number of tokens.

In: nothing. Out: values and a protocol, in bytes. Each kind of model that runs here says its own
(``LocalModel.footprint``); ``planning`` weighs it against what a device has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch

from memorag_core.types import Document


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
class Footprint:
    """What a model takes, as a plan sees it.

    Attributes:
        name: of the model, to be told.
        kind: what it is a memory by.
        costs: what reading and asking take.
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
    quantize: Literal["int8", "int4"] | None = None


class Sized(Protocol):
    """A model that says what it takes, and how many tokens documents are."""

    def footprint(self) -> Footprint:
        """What its weights and memories take."""
        ...

    def tokens_of(self, documents: Sequence[Document], memory: Any) -> int:
        """Tokens that documents are, read behind a memory; None is none."""
        ...
