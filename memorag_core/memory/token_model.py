"""Token ids in and out of the memory models that run here: feeding a stream, and decoding greedily after it.

In: token ids. Out: memories, logits, generated ids. Knows no text; how tokens become keys and values is for
each kind of model to say.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeAlias

import torch
from torch import Tensor

from memorag_core.errors import InputError
from memorag_core.memory.block_memory import M, check_rows
from memorag_core.memory.decoding import Generated, Replies
from memorag_core.memory.requests import check_new_tokens

Ids: TypeAlias = Tensor | Sequence[int] | Sequence[Sequence[int]]
"""Token ids [B, T], or [T] for one row."""


@dataclass(frozen=True, slots=True, eq=False)
class Feed(Generic[M]):
    """What came of feeding tokens.

    Attributes:
        memory: the memory after them.
        logits: [B, N, vocabulary] float32, after the last N tokens: those of the last window that the call
            ran, where the model has windows, else the last one alone.
    """

    memory: M
    logits: Tensor


class TokenModel(ABC, Generic[M]):
    """Token ids in and out of a model that computes here; subclasses compute.

    Attributes:
        fed_in_step: that rows can only be fed together where they stand at the same place.
    """

    fed_in_step: ClassVar[bool] = False
    _memory_type: type[M]

    # What a kind of model says of itself

    @property
    @abstractmethod
    def _device(self) -> torch.device: ...

    @property
    @abstractmethod
    def _vocabulary(self) -> int: ...

    @abstractmethod
    def _empty_block(self, rows: int) -> Any:
        """Rows that have read nothing."""

    @abstractmethod
    def _feed(self, block: Any, ids: Tensor) -> tuple[Any, Tensor]:
        """A block after tokens [B, T], and logits [B, N, vocabulary] after the last N of them."""

    @abstractmethod
    def _decode(self, block: Any, prompt: Tensor, replies: Replies) -> list[Generated]:
        """What every row says after its prompt [B, T], past end tokens."""

    def _check_positions(self, memory: M | None, more: int) -> None:
        """Refuse tokens behind a memory that there are no positions for."""
        return

    # What follows from it

    @torch.inference_mode()
    def feed(self, input_ids: Ids, memory: M | None = None) -> Feed[M]:
        """Continue the stream with tokens; one call or many give the same memory.

        Args:
            input_ids: [B, T] ids, T of 1 or more; a row for each row of the memory.
            memory: what was read before; it stays as it is. None for the beginning of a stream.

        Raises:
            InputError: no tokens, ids outside the vocabulary, rows that do not fit the memory, or more
                tokens than the model has positions for.
        """
        ids = self._ids(input_ids)
        self._check_positions(memory, ids.shape[1])
        blocks = self._blocks(ids, memory)
        if self.fed_in_step and len({block.place for block in blocks}) > 1:
            raise InputError(
                "The last part of the memory is shorter than the others, so its rows cannot be fed in "
                "step. Take them one by one with memory.row(i), or continue the text with memorize()."
            )
        fed = [self._feed(block, rows) for block, rows in _by_block(blocks, ids)]
        tokens = (memory.tokens if memory is not None else 0) + ids.shape[1]
        longer = self._memory_type(tuple(block for block, _ in fed), tokens)
        return Feed(longer, torch.cat([logits for _, logits in fed]))

    @torch.inference_mode()
    def greedy(self, input_ids: Ids, memory: M | None = None, *, max_new_tokens: int) -> Tensor:
        """Decode greedily after a memory and a prompt; the memory stays as it is.

        Args:
            input_ids: [B, P] the prompt, P of 1 or more; a row for each row of the memory.
            memory: what was read before; None to begin with the prompt.
            max_new_tokens: how many to decode, 1 or more.

        Returns:
            [B, max_new_tokens] int64. Decoding does not end at an end token; ``recollect`` does.

        Raises:
            InputError: as ``feed``; also for ``max_new_tokens`` below 1.
        """
        ids = self._ids(input_ids)
        check_new_tokens(max_new_tokens)
        self._check_positions(memory, ids.shape[1] + max_new_tokens - 1)
        said = [
            reply.ids
            for block, rows in _by_block(self._blocks(ids, memory), ids)
            for reply in self._decode(block, rows, Replies.alike(len(rows), max_new_tokens))
        ]
        return torch.tensor(said, dtype=torch.long, device=ids.device)

    def _blocks(self, ids: Tensor, memory: M | None) -> Sequence[Any]:
        """What ids [B, T] follow, on the model's device."""
        if memory is None:
            return (self._empty_block(len(ids)),)
        check_rows(ids, memory)
        return memory.on(self._device).blocks

    def _ids(self, input_ids: Ids) -> Tensor:
        """What was given as ids [B, T] int64 on the model's device."""
        try:
            ids = torch.as_tensor(input_ids)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"The input_ids are no table of numbers: {error}. Expected [B, T] ids."
            ) from error
        ids = ids[None] if ids.ndim == 1 else ids
        if ids.ndim != 2 or not ids.numel():
            raise InputError(
                f"The input_ids have shape {tuple(ids.shape)}; expected [B, T] with one token or more."
            )
        if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
            raise InputError(f"The input_ids are {ids.dtype}; expected whole numbers.")
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= self._vocabulary:
            raise InputError(
                f"The input_ids reach from {low} to {high}; expected 0 to {self._vocabulary - 1}. Use the "
                "model's own tokenizer."
            )
        return ids.to(device=self._device, dtype=torch.long)


def _by_block(blocks: Sequence[Any], ids: Tensor) -> list[tuple[Any, Tensor]]:
    """Each block with its rows of ids."""
    return list(zip(blocks, ids.split([block.rows for block in blocks]), strict=True))
