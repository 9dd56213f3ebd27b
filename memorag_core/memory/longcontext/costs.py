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
from memorag_core.memory.kv_cache import SPARE
from memorag_core.memory.local_model import ASKED_BYTES, ASKED_ROWS
from memorag_core.memory.longcontext.layout import LayerShape, Layout
from memorag_core.memory.longcontext.partitions import BLOCK_BYTES, BLOCK_ROWS, RESERVED
from memorag_core.memory.longcontext.prefill import CHUNK
from memorag_core.memory.partitions import Cut
from memorag_core.memory.requests import LONGEST_REPLY

REQUEST = 128
"""Tokens of a request with its question, as planned: a question of two or three sentences."""

ID_BYTES = 8 + 8 + 4
"""Of a token id while reading: as it came, as it stands in its part, and as the memory keeps it."""

HIDDEN_MLP, HIDDEN_ATTENTION, FOUND = 4, 3, 5
"""Hidden states that are alive in the MLP and in the attention of a layer, and, in attention, what was found
among old and new tokens, in float32, while the two are merged."""


@dataclass(frozen=True, slots=True)
class LongContextCosts:
    """What a long-context model costs, by number of tokens; all sizes in bytes.

    Tokens are those of the stream, as ``LongContextMemory.tokens`` counts them, its opening included.

    Attributes:
        layout: what the layers keep and see.
        hidden: size of a hidden state.
        heads: query heads.
        intermediate: size of the MLP.
        vocabulary: token ids.
        itemsize: bytes of a number.
        chunk: tokens that are run at once.
        cut: how long texts are cut into parts.
        head: tokens that every part begins with.
        kernel: whether attention over all tokens holds no scores.
    """

    layout: Layout
    hidden: int
    heads: int
    intermediate: int
    vocabulary: int
    itemsize: int
    cut: Cut
    head: int = 0
    chunk: int = CHUNK
    kernel: bool = True

    @classmethod
    def of(
        cls,
        config: Any,
        layout: Layout,
        *,
        dtype: torch.dtype,
        cut: Cut,
        head: int,
        device: str,
        chunk: int = CHUNK,
    ) -> LongContextCosts:
        """The costs of a model with such a config of transformers, whose layers keep and see ``layout``."""
        hidden = int(config.hidden_size)
        return cls(
            layout=layout,
            hidden=hidden,
            heads=int(config.num_attention_heads),
            intermediate=int(getattr(config, "intermediate_size", None) or 4 * hidden),
            vocabulary=int(config.vocab_size),
            itemsize=dtype.itemsize,
            cut=cut,
            head=head,
            chunk=chunk,
            kernel=_has_kernel(device, dtype),
        )

    @classmethod
    def of_config(cls, config: Any, *, dtype: torch.dtype, head: int, device: str) -> LongContextCosts:
        """The costs of a model that is not loaded, by its config alone.

        Raises:
            UnsupportedModelError: the config does not say what a memory needs.
        """
        try:
            heads = int(config.num_attention_heads)
            kv_heads = int(getattr(config, "num_key_value_heads", None) or heads)
            size = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
            shapes = {
                layer: LayerShape(window, kv_heads, size, dtype)
                for layer, window in enumerate(_windows(config))
            }
            positions = _positions(config)
            whole = positions - min(RESERVED, positions // 4)
            cut = Cut(whole - head, min(whole // 8, whole - head - 1))
            return cls.of(config, Layout.of(shapes), dtype=dtype, cut=cut, head=head, device=device)
        except (AttributeError, TypeError) as error:
            raise UnsupportedModelError(
                f"The config of a {getattr(config, 'model_type', None)!r} model lacks what a plan needs: "
                f"{error}. Expected a decoder-only model with attention in every layer."
            ) from error

    @property
    def ratios(self) -> tuple[int, ...]:
        """Every token is kept."""
        return (1,)

    @property
    def longest_ratio(self) -> int:
        """Every token is kept."""
        return 1

    @property
    def entry(self) -> int:
        """Of one token, in all layers."""
        return sum(group.token_bytes for group in self.layout.groups)

    def parts(self, tokens: int, ratio: int) -> int:
        """Parts that so many tokens are read into."""
        return self.cut.parts(max(1, tokens - self.head))

    def slots(self, tokens: int, ratio: int) -> int:
        """Tokens that are kept, over all parts."""
        count, full, last = self._lengths(tokens)
        return count * full + last

    def memory(self, tokens: int, ratio: int) -> int:
        """Of the memory, as ``LongContextMemory.nbytes`` says it."""
        count, full, last = self._lengths(tokens)
        return count * self.layout.nbytes(full) + self.layout.nbytes(last)

    def reading(self, tokens: int, ratio: int) -> int:
        """The most that reading so many tokens holds beside the weights, the memory included."""
        count, full, last = self._lengths(tokens)
        part = self.layout.nbytes(full)
        peaks = [self._read(1, last) + count * part] if last else []
        if count:
            together = max(1, min(count, self.chunk // full))
            block = max(1, min(BLOCK_ROWS, BLOCK_BYTES // part))
            if block == 1 or together >= count:  # read where they stay
                peaks.append(self._read(together, full) + (count - together) * part)
            else:
                peaks.append(self._read(together, full) + (count - together) * part)
                peaks.append(self._store(together, full) + count * part)
        return ID_BYTES * tokens + max(peaks)

    def appending(self, tokens: int, ratio: int, *, before: int) -> int:
        """The most that reading ``tokens`` more behind a memory of ``before`` holds, that one included.

        A last part that has no room left moves once to a larger room, and parts that are not a whole block
        yet to a larger block, while whoever holds the old memory keeps them.
        """
        if not before:
            return self.reading(tokens, ratio)
        count, full, last = self._lengths(before)
        part = self.layout.nbytes(full)
        moved = count % max(1, min(BLOCK_ROWS, BLOCK_BYTES // part)) * part
        room = self.layout.nbytes(last + last // SPARE)
        return self.reading(before + tokens, ratio) + moved + room

    def asking(self, tokens: int, ratio: int, *, questions: int) -> int:
        """The most that asking holds beside the weights, the memory included, if replies are long."""
        count, full, last = self._lengths(tokens)
        reply = max(LONGEST_REPLY.values())
        asked = max(1, min(ASKED_ROWS, ASKED_BYTES // (self.entry * (REQUEST + reply))))
        block = max(1, min(BLOCK_ROWS, BLOCK_BYTES // max(1, self.layout.nbytes(full))))
        rows = max(min(count, block), 1 if last else 0)
        rows *= min(questions, max(1, asked // max(1, rows)))
        own = self.entry * rows * (REQUEST + reply)
        run = max(1, min(REQUEST, self.chunk // rows))
        logits = rows * self.vocabulary * (self.itemsize + 4)
        layer = self._layer(rows, run, seen=max(full, last) + REQUEST + reply)
        dropping = 3 * own // 4  # rows that go on are copied when others have ended
        return self.memory(tokens, ratio) + own + max(layer, logits, dropping)

    # The terms

    def _lengths(self, tokens: int) -> tuple[int, int, int]:
        """How many parts are full, tokens of each of them, and tokens of the last one (0 if it is full)."""
        text = max(0, tokens - self.head)
        count = self.cut.parts(max(1, text)) - 1
        last = text - count * self.cut.stride
        full = self.head + self.cut.capacity
        if last == self.cut.capacity:
            return count + 1, full, 0
        return count, full, min(tokens, self.head + last)

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
        number = rows * run
        shapes = [group.shape for group in self.layout.groups]
        size, keys = max(s.size for s in shapes), max(s.heads * s.size for s in shapes)
        hidden, query = number * self.hidden * self.itemsize, number * self.heads * size
        angles = 2 * run * size * self.itemsize
        mlp = HIDDEN_MLP * hidden + 3 * number * self.intermediate * self.itemsize
        attending = HIDDEN_ATTENTION * hidden + (2 * query + 2 * number * keys) * self.itemsize
        merging = FOUND * query * 4
        if seen:  # scores, and the copy of them that their log-sum-exp takes
            scores = min(SCORE_LIMIT, number * self.heads * seen)
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


def _has_kernel(device: str, dtype: torch.dtype) -> bool:
    """Whether such a device has a kernel that gives the log-sum-exp; see ``attention``."""
    half = dtype in (torch.float16, torch.bfloat16)
    return device == "cpu" or (device == "cuda" and half)
