"""A transformers model with beacons attached, as reading and asking see it.

In: an attached model. Out: hidden states, logits and fresh storage. Knows neither memories nor streams.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from memorag_core.memory.beacon.cache import KeyValues
from memorag_core.memory.beacon.layers import BeaconPass, run
from memorag_core.memory.beacon.rotary import Rotary
from memorag_core.memory.beacon.schedule import Ints


@dataclass(frozen=True, slots=True, eq=False)
class Host:
    """An attached model and what of its shape a memory needs."""

    model: PreTrainedModel
    rotary: Rotary

    @classmethod
    def of(cls, model: PreTrainedModel) -> Host:
        """Take an attached model as a host."""
        return cls(model, Rotary.of(model))

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        return self.model.dtype

    @property
    def vocabulary(self) -> int:
        """Token ids that the model embeds."""
        return int(self.model.config.vocab_size)

    def allocate(self, *, rows: int, length: int) -> KeyValues:
        """Uninitialised keys and values of all layers, [L, rows, H, length, D]."""
        config = self.model.config
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        shape = (config.num_hidden_layers, rows, config.num_key_value_heads, length, size)
        return KeyValues(*(torch.empty(shape, device=self.device, dtype=self.dtype) for _ in range(2)))

    def tensor(self, values: Ints) -> Tensor:
        """Integers on the model's device."""
        return torch.from_numpy(values).to(self.device)

    def run(self, token_ids: Tensor, beacons: int, positions: Tensor, running: BeaconPass) -> Tensor:
        """See ``memorag_core.memory.beacon.layers.run``."""
        return run(self.model, token_ids, beacons, positions, running)

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., hidden] -> [..., vocabulary], float32."""
        return cast(Tensor, self.model.lm_head(hidden)).float()
