"""Moving rotary positions: a key rotated for one place is rotated on to another.

In: a host model (for its frequencies), keys, distances. Out: keys. Knows nothing of beacons.
RoPE (arXiv 2104.09864): rotations by a and by b compose to a rotation by a + b, so a key that stands at
stream position p becomes the key of slot s by a rotation of s - p.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from memorag_core.errors import UnsupportedModelError

SUPPORTED_ROPE_TYPES = ("default", "linear", "llama3", "yarn")


@dataclass(frozen=True, slots=True)
class Rotary:
    """The rotary frequencies of a model, [D / 2], float32, radians per position."""

    frequencies: Tensor

    @classmethod
    def of(cls, model: nn.Module) -> Rotary:
        """Take the frequencies from a transformers causal language model.

        Raises:
            UnsupportedModelError: the model's frequencies change with the length of the text.
        """
        module = cast(Any, model).model.rotary_emb
        kind = getattr(module, "rope_type", "default")
        if kind not in SUPPORTED_ROPE_TYPES:
            raise UnsupportedModelError(
                f"rope_type is {kind!r}; supported are {list(SUPPORTED_ROPE_TYPES)}, whose frequencies do "
                "not change with the length of the text."
            )
        return cls(module.inv_freq.detach().float())

    def shift(self, keys: Tensor, by: Tensor | int) -> Tensor:
        """Rotate keys on by a number of positions.

        Args:
            keys: [..., T, D], any float dtype; rotated in float32.
            by: positions, an int or a tensor that broadcasts to [..., T].
        """
        distance = torch.as_tensor(by, device=keys.device, dtype=torch.float32)
        angles = distance[..., None] * self.frequencies.to(keys.device)  # [..., T, D/2]
        cos, sin = angles.cos(), angles.sin()
        first, second = keys.float().chunk(2, dim=-1)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(keys.dtype)
