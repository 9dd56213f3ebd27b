"""The trial: whether a model's memory can be kept and asked apart from the model, found out by doing so.

In: a model. Out: a ``Host``, or an ``UnsupportedModelError`` that says what is in the way. Knows no texts.

A short run with the model's own attention shows what every layer keeps and, by the masks that transformers
makes for it, what it sees. Then the same tokens are read in chunks and asked over the memory; the logits must
be the same. So a model with a state beside its keys and values, with scores that are bent in a way unknown
here, or with keys that depend on how long the text is, does not come through.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from memorag_core.errors import UnsupportedModelError
from memorag_core.memory.longcontext.generate import Asking
from memorag_core.memory.longcontext.host import Host, take_over, text_config, unknown, watched
from memorag_core.memory.longcontext.layout import LayerShape, Layout
from memorag_core.memory.longcontext.prefill import empty_block, read

TRIAL_TOKENS, TRIAL_READ = 16, 9
"""Tokens of the trial, and how many of them are read into a memory, in chunks of ``TRIAL_CHUNK``."""

TRIAL_CHUNK = 5

ROPE_TYPES = ("default", "linear", "llama3", "yarn")
"""Rotary frequencies that do not change with the length of the text; of others keys cannot be kept."""

_SUPPORTED = (
    "Supported are decoder-only models of transformers whose layers all attend to what came before, with or "
    "without a sliding window: Llama, Mistral, Qwen2, Qwen3, Gemma 2 and 3 and their kin."
)

_LONGEST = 1 << 22  # positions that a mask is looked at for


def try_host(model: PreTrainedModel) -> Host:
    """Take over a model's attention, and make sure that its memory is right.

    Args:
        model: a causal language model on its device, in evaluation mode.

    Raises:
        UnsupportedModelError: it is none that can be kept apart from its memory.
    """
    name = f"{type(model).__name__} (model_type {model.config.model_type!r})"
    try:
        if model.config.is_encoder_decoder:
            raise UnsupportedModelError("it has an encoder")
        _check_rope(model)
        positions = _positions(model)
        take_over(model)
        vocabulary = int(text_config(model).vocab_size)
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(0, vocabulary, (1, TRIAL_TOKENS), generator=generator).to(model.device)
        witness = _Watch(min(positions, _LONGEST))
        with torch.inference_mode():
            expected = watched(model, ids, witness)
            host = Host(model, witness.layout(int(text_config(model).num_hidden_layers)), positions)
            found, computed = _logits_over_memory(host, ids)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"{name} cannot be a memory: {error}. {_SUPPORTED}") from error
    except torch.OutOfMemoryError:  # says nothing about the model
        raise
    except Exception as error:  # a model that works otherwise fails anywhere in transformers, in any way
        raise UnsupportedModelError(
            f"{name} cannot be a memory: its trial run failed with {error!r}. {_SUPPORTED}"
        ) from error
    expected = expected[0, computed]
    apart = (found - expected).norm(dim=-1) / (1e-6 + expected.norm(dim=-1))
    # In half precision a single token may take another way (a mixture of experts), not most of them.
    exact = model.dtype == torch.float32
    off, bound = float(apart.max() if exact else apart.median()), 5e-3 if exact else 0.1
    if not off < bound:
        raise UnsupportedModelError(
            f"{name} cannot be a memory: read and asked in pieces, its logits differ from its own by "
            f"{off:.2g} of their size, more than {bound}. {_SUPPORTED}"
        )
    return host


class _Watch:
    """What a run with the model's own attention shows of its layers."""

    def __init__(self, positions: int) -> None:
        self._positions = positions
        self._masks: list[tuple[Any, Any]] = []  # kept alive: a mask is known by its identity
        self._shapes: dict[int, LayerShape] = {}

    def saw_mask(self, mask: Any, law: Any) -> None:
        """See ``memorag_core.memory.longcontext.host.Witness``."""
        self._masks.append((mask, self._window(law)))

    def saw_layer(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, rest: Mapping[str, Any]
    ) -> None:
        """See ``memorag_core.memory.longcontext.host.Witness``."""
        layer = getattr(module, "layer_idx", None)
        if not isinstance(layer, int) or layer in self._shapes:
            raise UnsupportedModelError(
                f"an attention module has the layer index {layer!r}, twice or not at all"
            )
        mask = rest["attention_mask"]
        windows = [window for made, window in self._masks if made is mask and mask is not None]
        if not windows:
            raise UnsupportedModelError(f"layer {layer} attends with a mask that transformers did not make")
        strange = unknown({name: entry for name, entry in rest.items() if name != "attention_mask"})
        if strange:
            raise UnsupportedModelError(f"layer {layer} attends with {', '.join(strange)}")
        if key.shape != value.shape or query.shape[2:] != key.shape[2:] or key.dtype != query.dtype:
            shapes = ", ".join(str(tuple(part.shape)) for part in (query, key, value))
            raise UnsupportedModelError(
                f"queries, keys and values of layer {layer} have the shapes {shapes}, expected one head size"
            )
        self._shapes[layer] = LayerShape(windows[0], key.shape[1], key.shape[3], key.dtype)

    def layout(self, layers: int) -> Layout:
        """What was seen of a model of so many layers."""
        missing = [layer for layer in range(layers) if layer not in self._shapes]
        if missing or len(self._shapes) != layers:
            raise UnsupportedModelError(
                f"of its {layers} layers those that keep keys and values are {sorted(self._shapes)}"
            )
        return Layout.of(self._shapes)

    def _window(self, law: Any) -> int | None:
        """How many tokens the mask lets a token see, itself included; None for all."""
        if law is None:
            raise UnsupportedModelError("its masks follow no function")
        last = self._positions - 1
        seen = int(self._seen(law, last).sum())
        window = None if seen == self._positions else seen
        edges = {0, 1, TRIAL_TOKENS, last // 3, last // 2, last - 1}
        if window is not None:
            edges |= {window - 1, window, window + 1, 2 * window, last - window}
        keys = torch.arange(self._positions)
        for query in sorted(edge for edge in (*edges, last) if 0 <= edge <= last):
            expected = keys <= query
            if window is not None:
                expected &= keys > query - window
            if not torch.equal(self._seen(law, query), expected):
                raise UnsupportedModelError(
                    f"the token at {query} sees other tokens than those before it or a window of them"
                )
        return window

    def _seen(self, law: Any, query: int) -> Tensor:
        places = torch.tensor([[query]]), torch.arange(self._positions)[None]
        return torch.as_tensor(law(torch.tensor(0), torch.tensor(0), *places)).expand(1, self._positions)[0]


def _logits_over_memory(host: Host, ids: Tensor) -> tuple[Tensor, list[int]]:
    """Logits of some tokens, computed over a memory, [some, vocabulary], and which tokens they are."""
    reading = read(host, empty_block(host, rows=1), ids[:, :TRIAL_READ], chunk=TRIAL_CHUNK)
    asked = ids[:, TRIAL_READ:]
    asking = Asking(host, reading.block, lanes=3, columns=1)  # of different lengths, and they grow
    first = asking.feed([asked, asked[:, :1], asked[:, :3]], chunk=TRIAL_CHUNK)
    next_one = asking.feed_one(asked[0, 3].expand(3))[2:]
    places = [TRIAL_READ - 1, ids.shape[1] - 1, TRIAL_READ, TRIAL_READ + 2, TRIAL_READ + 3]
    return torch.cat((reading.logits, first, next_one)), places


def _positions(model: PreTrainedModel) -> int:
    """How many tokens the model was made for."""
    config = text_config(model)
    most = getattr(config, "max_position_embeddings", None)
    if not isinstance(most, int) or most < TRIAL_TOKENS:
        raise UnsupportedModelError(
            f"its max_position_embeddings is {most!r}, expected how long a text it was made for"
        )
    for rope in _ropes(getattr(config, "rope_parameters", None)):
        if rope.get("rope_type") == "yarn" and rope.get("original_max_position_embeddings"):
            # Written into configs both before and after the longest text was changed.
            most = max(most, int(rope["factor"] * rope["original_max_position_embeddings"]))
    return most


def _check_rope(model: PreTrainedModel) -> None:
    for rope in _ropes(getattr(text_config(model), "rope_parameters", None)):
        found = rope.get("rope_type", "default")
        if found not in ROPE_TYPES:
            raise UnsupportedModelError(
                f"its rope_type is {found!r}, expected one of {', '.join(ROPE_TYPES)}, whose frequencies do "
                "not change with the length of the text"
            )


def _ropes(parameters: Any) -> Iterator[Mapping[str, Any]]:
    """The rotary settings of a config: one for all layers, or one for each kind of layer."""
    if isinstance(parameters, Mapping):
        nested = [entry for entry in parameters.values() if isinstance(entry, Mapping)]
        yield from nested or [parameters]
