"""What a memory model takes: its weights, and what its memories cost by the number of tokens.

In: the shape of a model. Out: values in bytes, and the arithmetic that all kinds share. Each kind of model
that runs here says its own (``LocalModel.footprint``); ``planning`` weighs it against what a device has.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch

from memorag_core.memory.partitions import Cut
from memorag_core.types import Document

REQUEST = 128
"""Tokens of a request with its question, as planned: a question of two or three sentences."""

ID_BYTES = 8 + 8 + 4
"""Of a token id while reading: as it came, as it stands in its part, and as the memory keeps it."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes of a decoder.

    Attributes:
        layers: L.
        hidden: size of a hidden state.
        heads: query heads.
        kv_heads: H.
        size: D.
        intermediate: size of the MLP.
        vocabulary: token ids.
        itemsize: bytes of a number.
    """

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    size: int
    intermediate: int
    vocabulary: int
    itemsize: int

    @classmethod
    def of(cls, config: Any, dtype: torch.dtype) -> ModelShape:
        """The shape that a config of transformers says.

        Raises:
            AttributeError, TypeError: it does not.
        """
        hidden, heads = int(config.hidden_size), int(config.num_attention_heads)
        return cls(
            layers=int(config.num_hidden_layers),
            hidden=hidden,
            heads=heads,
            kv_heads=int(getattr(config, "num_key_value_heads", None) or heads),
            size=int(getattr(config, "head_dim", None) or hidden // heads),
            intermediate=int(getattr(config, "intermediate_size", None) or 4 * hidden),
            vocabulary=int(config.vocab_size),
            itemsize=dtype.itemsize,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs(ABC):
    """What reading and asking cost, by number of tokens and ratio; all sizes in bytes.

    Tokens are those of the stream, as the memory's ``tokens`` counts them: what stands before the text and
    what fills windows is among them.

    Attributes:
        shape: of the model.
        head: tokens that every part begins with.
        ratios: those that the model was made for, its own first; 1 where every token is kept.
    """

    shape: ModelShape
    head: int = 0
    ratios: tuple[int, ...] = (1,)

    @property
    def longest_ratio(self) -> int:
        """The largest ratio that can be computed."""
        return 1

    @property
    @abstractmethod
    def entry(self) -> int:
        """Of a slot: keys and values of all layers."""

    @abstractmethod
    def cut_at(self, ratio: int) -> Cut | None:
        """How a text is cut that is read at a ratio; None for one memory of any length."""

    @abstractmethod
    def slots(self, tokens: int, ratio: int) -> int:
        """Slots that so many tokens leave, over all parts."""

    @abstractmethod
    def memory(self, tokens: int, ratio: int) -> int:
        """Of the memory that they leave, as its ``nbytes`` says it."""

    @abstractmethod
    def reading(self, tokens: int, ratio: int) -> int:
        """The most that reading them holds beside the weights, the memory included."""

    @abstractmethod
    def appending(self, tokens: int, ratio: int, *, before: int) -> int:
        """The most that reading them behind a memory of ``before`` holds, that one included.

        What has no room left moves once to a larger room, and parts that are not a whole block yet to a
        larger block, while whoever holds the old memory keeps them.
        """

    @abstractmethod
    def asking(self, tokens: int, ratio: int, *, questions: int) -> int:
        """The most that asking holds beside the weights, the memory included, if replies are long.

        Every question of every part has entries of its own for a request and a reply, and scores over the
        slots; both are bounded by asking fewer at once.
        """

    def parts(self, tokens: int, ratio: int) -> int:
        """Parts that so many tokens are read into."""
        cut = self.cut_at(ratio)
        return 1 if cut is None else cut.parts(max(1, tokens - self.head))

    def lengths(self, tokens: int, ratio: int) -> tuple[int, int, int]:
        """How many parts are full, tokens of each of them, and tokens of the last one (0 if it is full)."""
        cut = self.cut_at(ratio)
        if cut is None:
            return 0, 0, tokens
        text = max(0, tokens - self.head)
        count = cut.parts(max(1, text)) - 1
        last = text - count * cut.stride
        full = self.head + cut.capacity
        return (count + 1, full, 0) if last == cut.capacity else (count, full, min(tokens, self.head + last))


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
