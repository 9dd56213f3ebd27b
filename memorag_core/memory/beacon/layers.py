"""The wrap: gives a transformers model beacon projections and hands its attention to a pass.

In: a host model and its beacon settings. Out: the same model, able to run a ``BeaconPass``. Knows nothing of
windows or memories: a pass brings its own attention.

Within a pass the sequence is laid out raw tokens first, beacons after them, whatever their order in the
stream (positions tell that). So the base projection reads one slice and its twin the other. Outside a pass an
attached model computes what it computed before; ``detach`` puts back the very modules that were there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from memorag_core.errors import InputError, UnsupportedModelError
from memorag_core.memory.attention_hook import Attended, register_attention, set_for_call
from memorag_core.memory.beacon.settings import SUPPORTED_MODEL_TYPES, BeaconSettings

_PREFIX = "memorag_beacon_"


class BeaconPass(Protocol):
    """One run of the model over raw tokens and beacons: how many are raw, and how they attend."""

    @property
    def raw(self) -> int:
        """Raw tokens at the head of the sequence; what follows are beacons."""
        ...

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """The attention of one layer.

        Args:
            layer: index of the layer, from 0.
            query: [B, heads, N, D], rotated at the positions the pass was run with.
            key: [B, H, N, D], rotated likewise.
            value: [B, H, N, D].
            scaling: factor of the scores.

        Returns:
            [B, N, heads, D]
        """
        ...


# A pass belongs to one call: the context keeps the passes of threads and tasks apart.
_PASS: ContextVar[BeaconPass | None] = ContextVar("beacon_pass", default=None)


class BeaconLinear(nn.Module):
    """A projection with a twin for beacons: ``base`` for raw positions, ``twin`` for beacon positions.

    A new twin holds no numbers yet; see ``copy_base``.
    """

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        # Initialising it at random takes seconds in a large model, for nothing.
        self.twin = nn.utils.skip_init(
            nn.Linear,
            base.in_features,
            base.out_features,
            bias=base.bias is not None,
            device=base.weight.device,
            dtype=base.weight.dtype,
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """[B, N, in] -> [B, N, out], the last N - raw positions through the twin when a pass runs."""
        running = _PASS.get()
        if running is None or running.raw == hidden.shape[1]:
            return cast(Tensor, self.base(hidden))
        if running.raw == 0:
            return cast(Tensor, self.twin(hidden))
        return torch.cat((self.base(hidden[:, : running.raw]), self.twin(hidden[:, running.raw :])), dim=1)


def is_attached(model: nn.Module) -> bool:
    """Whether beacons have been attached to the model."""
    return hasattr(model.model, "beacon_embed_tokens")


def attach(model: PreTrainedModel, settings: BeaconSettings) -> None:
    """Give the model beacon parameters, initialised from its own (embedding of eos or bos, projections).

    Raises:
        UnsupportedModelError: the architecture is not one of those supported, or it has no token to
            initialise the embedding from.
        InputError: beacons are attached already.
    """
    add_beacons(model, settings)
    try:
        copy_base(model, settings)
    except UnsupportedModelError:
        detach(model)
        raise


def add_beacons(model: PreTrainedModel, settings: BeaconSettings) -> None:
    """Give the model beacon parameters that hold no numbers yet, on its device, which may be meta.

    Raises:
        UnsupportedModelError: the architecture is not one of those supported.
        InputError: beacons are attached already.
    """
    kind = model.config.model_type
    if kind not in SUPPORTED_MODEL_TYPES:
        raise UnsupportedModelError(
            f"the model type is {kind!r}; supported are {', '.join(SUPPORTED_MODEL_TYPES)}."
        )
    if is_attached(model):
        raise InputError("the model has beacons already; detach() them first.")
    embeddings = cast(Tensor, model.get_input_embeddings().weight)
    # The original gives the row the base's padding index, so where that is 0 the row is never trained.
    padding = 0 if model.config.pad_token_id == 0 else None
    model.model.beacon_embed_tokens = nn.Embedding(
        1, embeddings.shape[1], padding_idx=padding, device=embeddings.device, dtype=embeddings.dtype
    )
    for layer in model.model.layers:
        for name in settings.params:
            projection = f"{name}_proj"
            setattr(layer.self_attn, projection, BeaconLinear(getattr(layer.self_attn, projection)))
    original = model.config._attn_implementation
    model.config._attn_implementation = register_attention(_PREFIX, original, _attend)


@torch.no_grad()
def copy_base(model: PreTrainedModel, settings: BeaconSettings) -> None:
    """Let each twin start as a copy of its base, and the beacon embedding as that of eos or bos.

    Raises:
        UnsupportedModelError: the config names no such token, or one outside the vocabulary.
    """
    copy_embedding(model, settings)
    for layer in model.model.layers:
        for module in layer.self_attn.children():
            if isinstance(module, BeaconLinear):
                module.twin.load_state_dict(module.base.state_dict())


@torch.no_grad()
def copy_embedding(model: PreTrainedModel, settings: BeaconSettings) -> None:
    """Let the beacon embedding start as that of eos or bos.

    Raises:
        UnsupportedModelError: the config names no such token, or one outside the vocabulary.
    """
    embeddings = cast(Tensor, model.get_input_embeddings().weight)
    token = _special_token(model, settings.embed_init, len(embeddings))
    model.model.beacon_embed_tokens.weight.copy_(embeddings[token : token + 1])


def detach(model: PreTrainedModel) -> None:
    """Take the beacons away; the model is what it was before ``attach``."""
    if not is_attached(model):
        raise InputError("the model has no beacons; attach() them first.")
    del model.model.beacon_embed_tokens
    for layer in model.model.layers:
        for name, module in list(layer.self_attn.named_children()):
            if isinstance(module, BeaconLinear):
                setattr(layer.self_attn, name, module.base)
    model.config._attn_implementation = model.config._attn_implementation.removeprefix(_PREFIX)


def beacon_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters that beacons add, by their names in a checkpoint."""
    host = cast(Any, model).model
    yield "model.beacon_embed_tokens.weight", host.beacon_embed_tokens.weight
    for index, layer in enumerate(host.layers):
        for name, module in layer.self_attn.named_children():
            if isinstance(module, BeaconLinear):
                for kind, parameter in module.twin.named_parameters():
                    yield f"model.layers.{index}.self_attn.beacon_{name}.{kind}", parameter


def checkpoint_name(name: str) -> str:
    """The name in a checkpoint of a parameter of an attached model."""
    return re.sub(r"\.(\w_proj)\.twin\.", r".beacon_\1.", re.sub(r"\.(\w_proj)\.base\.", r".\1.", name))


def run(
    model: PreTrainedModel, token_ids: Tensor, beacons: int, positions: Tensor, running: BeaconPass
) -> Tensor:
    """Run the decoder over raw tokens and, behind them, beacons.

    Args:
        model: an attached model.
        token_ids: [B, raw] int64.
        beacons: how many beacons follow the raw tokens.
        positions: [1 or B, raw + beacons] int64, the place of each in its stream.
        running: the pass that attends.

    Returns:
        Hidden states after the last norm, [B, raw + beacons, hidden].
    """
    embedded = model.model.embed_tokens(token_ids)  # [B, raw, hidden]
    if beacons:
        row = model.model.beacon_embed_tokens(token_ids.new_zeros(1, 1))  # [1, 1, hidden]
        embedded = torch.cat((embedded, row.expand(embedded.shape[0], beacons, -1)), dim=1)
    # A 4-D mask is handed through unread; without one the host would build a dense one for its own use.
    unread = embedded.new_zeros(1, 1, 1, 1)
    with set_for_call(_PASS, running):
        output = model.model(
            inputs_embeds=embedded, position_ids=positions, attention_mask=unread, use_cache=False
        )
    return cast(Tensor, output.last_hidden_state)


def _special_token(model: PreTrainedModel, name: str, vocabulary: int) -> int:
    token = getattr(model.config, f"{name}_token_id")
    if isinstance(token, (list, tuple)):
        token = token[0]
    if token is None:
        raise UnsupportedModelError(
            f"beacon_embed_init is {name!r} but the config has no {name}_token_id; set one of eos and bos."
        )
    if not 0 <= int(token) < vocabulary:
        raise UnsupportedModelError(
            f"beacon_embed_init is {name!r} but the config's {name}_token_id is {token}; expected one below "
            f"the model's vocabulary of {vocabulary}."
        )
    return int(token)


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, rest: dict[str, Any]
) -> Attended | None:
    """The attention of the pass that runs; None where none does."""
    running = _PASS.get()
    if running is None:
        return None
    return running.attend(cast(int, module.layer_idx), query, key, value, float(rest["scaling"])), None
