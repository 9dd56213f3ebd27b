"""The computation once more, as slowly and plainly as it can be written; shares no code with the package.

Entry by entry, raw token or beacon: keys are kept before RoPE, and at every entry all of them are rotated
anew, slots by their index, the window behind them. Written from the description of the method alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class Reference:
    """A beacon model computed from its checkpoint tensors; one row, state in plain lists."""

    weights: dict[str, Tensor]
    config: dict[str, Any]
    window: int
    ratio: int
    slots: list[tuple[list[Tensor], list[Tensor]]] = field(default_factory=list)
    inside: list[tuple[list[Tensor], list[Tensor]]] = field(default_factory=list)
    beacon_at: list[int] = field(default_factory=list)
    filled: int = 0
    since: int = 0

    def __post_init__(self) -> None:
        layers = self.config["num_hidden_layers"]
        self.slots = [([], []) for _ in range(layers)]
        self.inside = [([], []) for _ in range(layers)]

    def feed(self, ids: list[int]) -> Tensor:
        """[T, vocabulary] logits after each token."""
        logits = []
        for token in ids:
            embedded = self.weights["model.embed_tokens.weight"][token]
            hidden = self._entry(embedded, beacon=False)
            head = self.weights.get("lm_head.weight", self.weights["model.embed_tokens.weight"])
            logits.append(head @ hidden)
            self.filled += 1
            self.since += 1
            if self.since == self.ratio:
                self.beacon_at.append(len(self.inside[0][0]))
                self._entry(self.weights["model.beacon_embed_tokens.weight"][0], beacon=True)
                self.since = 0
            if self.filled == self.window:
                for (keys, values), (new_keys, new_values) in zip(self.slots, self.inside, strict=True):
                    keys.extend(new_keys[at] for at in self.beacon_at)
                    values.extend(new_values[at] for at in self.beacon_at)
                    new_keys.clear()
                    new_values.clear()
                self.beacon_at.clear()
                self.filled = 0
        return torch.stack(logits)

    def _entry(self, x: Tensor, *, beacon: bool) -> Tensor:
        for layer in range(self.config["num_hidden_layers"]):
            x = x + self._attention(
                layer, self._norm(x, f"model.layers.{layer}.input_layernorm.weight"), beacon
            )
            y = self._norm(x, f"model.layers.{layer}.post_attention_layernorm.weight")
            gate = self._weight(layer, "mlp.gate_proj.weight") @ y
            up = self._weight(layer, "mlp.up_proj.weight") @ y
            x = x + self._weight(layer, "mlp.down_proj.weight") @ (gate * torch.sigmoid(gate) * up)
        return self._norm(x, "model.norm.weight")

    def _attention(self, layer: int, x: Tensor, beacon: bool) -> Tensor:
        size = self.config["head_dim"]
        query, key, value = (self._project(layer, name, x, beacon).view(-1, size) for name in "qkv")
        if self.config["model_type"] == "qwen3":
            query = self._norm(query, f"model.layers.{layer}.self_attn.q_norm.weight")
            key = self._norm(key, f"model.layers.{layer}.self_attn.k_norm.weight")
        slot_keys, slot_values = self.slots[layer]
        keys, values = self.inside[layer]
        keys.append(key)
        values.append(value)
        all_keys = torch.stack([self._rotate(k, at) for at, k in enumerate([*slot_keys, *keys])])
        all_values = torch.stack([*slot_values, *values])  # [entries, kv heads, size]
        rotated = self._rotate(query, len(all_keys) - 1)
        groups = len(query) // all_keys.shape[1]
        heads = []
        for head, one in enumerate(rotated):
            scores = all_keys[:, head // groups] @ one / size**0.5
            heads.append(scores.softmax(0) @ all_values[:, head // groups])
        return self._project(layer, "o", torch.cat(heads), beacon)

    def _project(self, layer: int, name: str, x: Tensor, beacon: bool) -> Tensor:
        prefix = "beacon_" if beacon and name in self.config["beacon_param"] else ""
        bias = self.weights.get(f"model.layers.{layer}.self_attn.{prefix}{name}_proj.bias")
        projected = self._weight(layer, f"self_attn.{prefix}{name}_proj.weight") @ x
        return projected if bias is None else projected + bias

    def _weight(self, layer: int, name: str) -> Tensor:
        return self.weights[f"model.layers.{layer}.{name}"]

    def _norm(self, x: Tensor, name: str) -> Tensor:
        scale = (x.pow(2).mean(-1, keepdim=True) + self.config["rms_norm_eps"]).rsqrt()
        normed: Tensor = x * scale * self.weights[name]
        return normed

    def _rotate(self, x: Tensor, position: int) -> Tensor:
        size = x.shape[-1]
        base = self.config["rope_theta"]
        angles = position / base ** (torch.arange(0, size, 2, dtype=torch.float64) / size)
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        first, second = x[..., : size // 2], x[..., size // 2 :]
        return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)
