"""A transformers model whose attention can be handed to a pass: how a memory is read and asked in place.

In: a causal language model. Out: its logits after a run, with keys and values going where the pass says.
Knows neither memories nor texts.

No architecture is listed here. The attention is taken over through transformers' own registry, what each
layer sees is read from the masks that transformers itself makes, and a trial run compares the outcome with
the model's own; a model that works otherwise is refused (see ``trial``).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from memorag_core.errors import UnsupportedModelError
from memorag_core.memory.attention_hook import Attended, eager_attention, register_attention, set_for_call
from memorag_core.memory.kv_cache import KeyValues
from memorag_core.memory.longcontext.layout import Layout

_PREFIX = "memorag_longcontext_"

# What attention functions are told beside queries, keys and values, and what has no bearing on the outcome
# of a pass: dropout is off, windows are read from the masks.
_KNOWN = frozenset(
    "dropout scaling sliding_window softcap is_causal position_ids position_embeddings use_cache "
    "output_attentions output_hidden_states output_router_logits return_dict cache_position".split()
)


class Pass(Protocol):
    """One run of the model: how its tokens attend."""

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, softcap: float | None
    ) -> Tensor:
        """The attention of one layer.

        Args:
            layer: index of the layer, from 0.
            query: [B, heads, N, D], rotated.
            key: [B, H, N, D], rotated.
            value: [B, H, N, D].
            scaling: factor of the scores.
            softcap: scores are bent to stay within this; None leaves them.

        Returns:
            [B, N, heads, D]
        """
        ...


class Witness(Protocol):
    """One run with the model's own attention that is watched."""

    def saw_mask(self, mask: Any, law: Any) -> None:
        """Transformers made a mask; ``law`` says for places of queries and keys who sees whom."""
        ...

    def saw_layer(self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, rest: Any) -> None:
        """A layer attends with these rotated queries, keys and values."""
        ...


# A run belongs to one call: the context keeps the runs of threads and tasks apart.
_PASS: ContextVar[Pass | None] = ContextVar("longcontext_pass", default=None)
_WITNESS: ContextVar[Witness | None] = ContextVar("longcontext_witness", default=None)


@dataclass(frozen=True, slots=True, eq=False)
class Host:
    """A model whose attention has been taken over, and what of it a memory needs.

    Attributes:
        model: the transformers model; outside a pass it computes what it computed before.
        layout: what its layers keep and see.
        positions: how many tokens it was made for.
    """

    model: PreTrainedModel
    layout: Layout
    positions: int

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.device

    @property
    def vocabulary(self) -> int:
        """Token ids that the model embeds."""
        return int(cast(Any, self.model.get_input_embeddings()).num_embeddings)

    def allocate(self, group: int, *, rows: int, length: int) -> KeyValues:
        """Uninitialised keys and values of a group's layers, [L, rows, H, length, D]."""
        layers, shape = self.layout.groups[group].layers, self.layout.groups[group].shape
        size = (len(layers), rows, shape.heads, length, shape.size)
        return KeyValues(*(torch.empty(size, device=self.device, dtype=shape.dtype) for _ in range(2)))

    def run(self, token_ids: Tensor, positions: Tensor, running: Pass) -> Tensor:
        """Run the model over tokens.

        Args:
            token_ids: [B, N] int64.
            positions: [1 or B, N] int64.
            running: the pass that attends.

        Returns:
            Logits of the last token of each row, [B, vocabulary] float32.
        """
        # A 4-D mask is handed through unread; without one transformers would build a dense one.
        unread = torch.zeros(1, 1, 1, 1, device=token_ids.device, dtype=self.model.dtype)
        with set_for_call(_PASS, running):
            output = self.model(
                input_ids=token_ids,
                position_ids=positions,
                attention_mask=unread,
                use_cache=False,
                logits_to_keep=1,
            )
        return cast(Tensor, output.logits[:, -1]).float()


def text_config(model: PreTrainedModel) -> Any:
    """The part of the config that describes the decoder of text."""
    return model.config.get_text_config(decoder=True)


def take_over(model: PreTrainedModel) -> None:
    """Hand the model's attention to passes, when one runs; otherwise it stays what it was.

    Raises:
        UnsupportedModelError: the model does not give logits of its last token alone.
    """
    if "logits_to_keep" not in inspect.signature(model.forward).parameters:
        raise UnsupportedModelError(
            f"{type(model).__name__} is no causal language model that gives the logits of its "
            "last token alone (logits_to_keep), as reading a long text needs."
        )
    config = text_config(model)
    original = config._attn_implementation
    if not str(original).startswith(_PREFIX):
        config._attn_implementation = register_attention(
            _PREFIX, str(original), _attend, make_mask=_make_mask(str(original))
        )


def watched(model: PreTrainedModel, token_ids: Tensor, witness: Witness) -> Tensor:
    """Run the model over a short text with its eager attention -> its logits, [B, N, vocabulary] float32."""
    positions = torch.arange(token_ids.shape[1], device=token_ids.device)[None]
    with set_for_call(_WITNESS, witness):
        output = model(input_ids=token_ids, position_ids=positions, use_cache=False)
    return cast(Tensor, output.logits).float()


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, rest: dict[str, Any]
) -> Attended | None:
    """The attention of the pass that runs, or the eager one where a run is watched; None where neither is."""
    running, witness = _PASS.get(), _WITNESS.get()
    if running is not None:
        layer = cast(int, module.layer_idx)
        scaling = rest.get("scaling")
        scaling = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
        return running.attend(layer, query, key, value, scaling, rest.get("softcap")), None
    if witness is None:
        return None
    witness.saw_layer(module, query, key, value, {**rest})
    mask = rest.pop("attention_mask")
    return cast(Attended, eager_attention(module)(module, query, key, value, mask, **rest))


def _make_mask(original: str) -> Callable[..., Any]:
    """Makes the masks of the original attention; of the eager one where a run is watched, which sees them."""

    def mask(*arguments: Any, **rest: Any) -> Any:
        witness = _WITNESS.get()
        if witness is None:
            return ALL_MASK_ATTENTION_FUNCTIONS[original](*arguments, **rest)
        made = ALL_MASK_ATTENTION_FUNCTIONS["eager"](*arguments, **rest)
        witness.saw_mask(made, rest.get("mask_function"))
        return made

    return mask


def unknown(rest: Mapping[str, Any]) -> list[str]:
    """What an attention function is told that a pass would not heed."""
    return sorted(name for name, value in rest.items() if name not in _KNOWN and value is not None)
