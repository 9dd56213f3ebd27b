"""What the layers of a model keep and see: all of the text, or a window of its last tokens.

In: what was seen of each layer in a trial run. Out: the layers in groups that keep the same. Knows no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from memorag_core.system.locking import cached_property


@dataclass(frozen=True, slots=True)
class LayerShape:
    """What a layer keeps of a token, and how long.

    Attributes:
        window: the last tokens that a token sees, itself included; None for all.
        heads: H, kv heads.
        size: D, head size.
        dtype: of keys and values.
    """

    window: int | None
    heads: int
    size: int
    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class Group:
    """Layers of one shape; their keys and values lie in one tensor, [L, B, H, T, D].

    Attributes:
        layers: indexes of the layers in the model, ascending.
        shape: what each of them keeps.
    """

    layers: tuple[int, ...]
    shape: LayerShape

    @property
    def window(self) -> int | None:
        """The last tokens that a token sees, itself included; None for all."""
        return self.shape.window

    def kept(self, tokens: int) -> int:
        """Entries that are kept of so many tokens: what the next token will see."""
        return tokens if self.window is None else min(tokens, self.window - 1)

    @property
    def token_bytes(self) -> int:
        """Bytes of one entry of one row."""
        return 2 * len(self.layers) * self.shape.heads * self.shape.size * self.shape.dtype.itemsize


@dataclass(frozen=True)
class Layout:
    """The groups of a model, in the order of their first layers."""

    groups: tuple[Group, ...]

    @classmethod
    def of(cls, shapes: Mapping[int, LayerShape]) -> Layout:
        """Group the layers of a model by their shape."""
        layers: dict[LayerShape, list[int]] = {}
        for layer in sorted(shapes):
            layers.setdefault(shapes[layer], []).append(layer)
        return cls(tuple(Group(tuple(some), shape) for shape, some in layers.items()))

    @cached_property
    def places(self) -> Mapping[int, tuple[int, int]]:
        """Layer -> its group, and its place in the group's tensors."""
        return {
            layer: (number, place)
            for number, group in enumerate(self.groups)
            for place, layer in enumerate(group.layers)
        }

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The window of each layer, in the order of the layers."""
        return tuple(self.groups[self.places[layer][0]].window for layer in sorted(self.places))

    def nbytes(self, tokens: int) -> int:
        """Bytes of one row of so many tokens."""
        return sum(group.token_bytes * group.kept(tokens) for group in self.groups)
