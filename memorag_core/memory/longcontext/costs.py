"""What reading and asking cost in bytes, before anything is loaded: pure arithmetic.

In: the shape of a model, a number of tokens. Out: bytes. Knows no tensors and no device's free memory.

A memory keeps the keys and values of every token in layers that see all, and of the tokens that the next
one will see in layers with a window. Reading holds, beside the memory, what one layer needs for a chunk; the
terms below follow ``prefill``, ``partitions``, ``attention`` and ``generate`` line by line. Every token is
its own slot, so the ratio is 1.

Shape letters: L layers, B rows, H kv heads, N tokens of a run, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from memorag_core.errors import UnsupportedModelError
from memorag_core.memory.attention import SCORE_LIMIT
from memorag_core.memory.footprint import ID_BYTES, REQUEST, Costs, ModelShape
from memorag_core.memory.kv_cache import SPARE
from memorag_core.memory.local_model import ASKED_BYTES, ASKED_ROWS
from memorag_core.memory.longcontext.layout import LayerShape, Layout
from memorag_core.memory.longcontext.partitions import BLOCK_BYTES, BLOCK_ROWS, RESERVED
from memorag_core.memory.longcontext.prefill import CHUNK
from memorag_core.memory.partitions import Cut
from memorag_core.memory.requests import LONGEST_REPLY

HIDDEN_MLP, HIDDEN_ATTENTION, FOUND = 4, 3, 5
"""Hidden states that are alive in the MLP and in the attention of a layer, and, in attention, what was found
among old and new tokens, in float32, while the two are merged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LongContextCosts(Costs):
    """What a long-context model costs.

    Attributes:
        layout: what the layers keep and see.
        cut: how long texts are cut into parts.
        chunk: tokens that are run at once.
        kernel: whether attention over all tokens holds no scores.
    """

    layout: Layout
    cut: Cut
    chunk: int = CHUNK
    kernel: bool = True

    @classmethod
    def of_config(cls, config: Any, *, dtype: torch.dtype, head: int, device: str) -> LongContextCosts:
        """The costs of a model that is not loaded, by its config of transformers alone.

        Raises:
            UnsupportedModelError: the config does not say what a memory needs.
        """
        try:
            shape = ModelShape.of(config, dtype)
            shapes = {
                layer: LayerShape(window, shape.kv_heads, shape.size, dtype)
                for layer, window in enumerate(_windows(config))
            }
            positions = _positions(config)
        except (AttributeError, TypeError) as error:
            raise UnsupportedModelError(
                f"The config of a {getattr(config, 'model_type', None)!r} model lacks what a plan needs: "
                f"{error}. Expected a decoder-only model with attention in every layer."
            ) from error
        whole = positions - min(RESERVED, positions // 4)
        return cls(
            shape=shape,
            layout=Layout.of(shapes),
            cut=Cut(whole - head, min(whole // 8, whole - head - 1)),
            head=head,
            kernel=has_kernel(device, dtype),
        )

    @property
    def entry(self) -> int:
        """Of one token, in all layers."""
        return sum(group.token_bytes for group in self.layout.groups)

    def cut_at(self, ratio: int) -> Cut:
        """The same at every ratio."""
        return self.cut

    def slots(self, tokens: int, ratio: int) -> int:
        """Tokens that are kept, over all parts."""
        count, full, last = self.lengths(tokens, ratio)
        return count * full + last

    def memory(self, tokens: int, ratio: int) -> int:
        """Of the tokens that are kept."""
        count, full, last = self.lengths(tokens, ratio)
        return count * self.layout.nbytes(full) + self.layout.nbytes(last)

    def reading(self, tokens: int, ratio: int) -> int:
        """Ids, and the most of what each part and each block of parts needs beside those that are done."""
        count, full, last = self.lengths(tokens, ratio)
        part = self.layout.nbytes(full)
        peaks = [self._read(1, last) + count * part] if last else []
        if count:
            together = max(1, min(count, self.chunk // full))
            block = max(1, min(BLOCK_ROWS, BLOCK_BYTES // part))
            peaks.append(self._read(together, full) + (count - together) * part)
            if block > 1 and together < count:  # else they are read where they stay
                peaks.append(self._store(together, full) + count * part)
        return ID_BYTES * tokens + max(peaks)

    def appending(self, tokens: int, ratio: int, *, before: int) -> int:
        """Beside what reading takes, what moves to a larger room or block."""
        if not before:
            return self.reading(tokens, ratio)
        count, full, last = self.lengths(before, ratio)
        part = self.layout.nbytes(full)
        moved = count % max(1, min(BLOCK_ROWS, BLOCK_BYTES // part)) * part
        room = self.layout.nbytes(last + last // SPARE)
        return self.reading(before + tokens, ratio) + moved + room

    def asking(self, tokens: int, ratio: int, *, questions: int) -> int:
        """The memory, and what a block of parts takes when it is asked."""
        count, full, last = self.lengths(tokens, ratio)
        reply = max(LONGEST_REPLY.values())
        asked = max(1, min(ASKED_ROWS, ASKED_BYTES // (self.entry * (REQUEST + reply))))
        block = max(1, min(BLOCK_ROWS, BLOCK_BYTES // max(1, self.layout.nbytes(full))))
        rows = max(min(count, block), 1 if last else 0)
        rows *= min(questions, max(1, asked // max(1, rows)))
        own = self.entry * rows * (REQUEST + reply)
        run = max(1, min(REQUEST, self.chunk // rows))
        logits = rows * self.shape.vocabulary * (self.shape.itemsize + 4)
        layer = self._layer(rows, run, seen=max(full, last) + REQUEST + reply)
        dropping = 3 * own // 4  # rows that go on are copied when others have ended
        return self.memory(tokens, ratio) + own + max(layer, logits, dropping)

    # The terms

    def _store(self, rows: int, tokens: int) -> int:
        """Rooms of layers that see all, and the work stores of those with a window."""
        run = min(max(1, self.chunk // rows), tokens)
        return rows * sum(
            group.token_bytes * (tokens if group.window is None else min(tokens, group.window - 1 + run))
            for group in self.layout.groups
        )

    def _read(self, rows: int, tokens: int) -> int:
        run = min(max(1, self.chunk // rows), tokens)
        windowed = [group for group in self.layout.groups if group.window is not None]
        kept = rows * sum(group.token_bytes * group.kept(tokens) for group in windowed)  # copied at the end
        # A window needs scores once it hides something: in a chunk that is longer, or between two chunks.
        tiled = not self.kernel or any(tokens > min(run, group.window or run) for group in windowed)
        return self._store(rows, tokens) + max(self._layer(rows, run, seen=tokens if tiled else 0), kept)

    def _layer(self, rows: int, run: int, *, seen: int) -> int:
        """What a layer needs for a chunk: of its MLP or its attention, whichever is more.

        Where attention holds scores, they are of so many keys that are ``seen``; 0 where it holds none.
        """
        number, itemsize = rows * run, self.shape.itemsize
        shapes = [group.shape for group in self.layout.groups]
        size, keys = max(s.size for s in shapes), max(s.heads * s.size for s in shapes)
        hidden, query = number * self.shape.hidden * itemsize, number * self.shape.heads * size
        angles = 2 * run * size * itemsize
        mlp = HIDDEN_MLP * hidden + 3 * number * self.shape.intermediate * itemsize
        attending = HIDDEN_ATTENTION * hidden + (2 * query + 2 * number * keys) * itemsize
        merging = FOUND * query * 4
        if seen:  # scores, and the copy of them that their log-sum-exp takes
            scores = min(SCORE_LIMIT, number * self.shape.heads * seen)
            merging = max(merging, 3 * query * 4 + 2 * 4 * scores)
        return angles + max(mlp, attending + merging)


def _windows(config: Any) -> list[int | None]:
    """The window of each layer, as transformers makes its masks by the config."""
    layers = int(config.num_hidden_layers)
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if kinds:
        return [window if kind == "sliding_attention" else None for kind in kinds]
    return [window if getattr(config, "use_sliding_window", True) else None] * layers


def _positions(config: Any) -> int:
    """How many tokens the model was made for; see ``trial``."""
    most = int(config.max_position_embeddings)
    rope = getattr(config, "rope_parameters", None) or {}
    for entry in [value for value in rope.values() if isinstance(value, dict)] or [rope]:
        if entry.get("rope_type") == "yarn" and entry.get("original_max_position_embeddings"):
            most = max(most, int(entry["factor"] * entry["original_max_position_embeddings"]))
    return most


def has_kernel(device: str, dtype: torch.dtype) -> bool:
    """Whether such a device has a kernel that gives the log-sum-exp; see ``attention``."""
    half = dtype in (torch.float16, torch.bfloat16)
    return device == "cpu" or (device == "cuda" and half)
