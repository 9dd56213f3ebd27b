"""The long-context memory model: memorizes text and recalls from it.

In: texts, questions, token ids. Out: memories, replies, logits. The front of this package: reading, asking,
parts and tokens are put together here; it knows nothing of clues, chunks or retrieval.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from memorag_core.errors import InputError
from memorag_core.memory.decoding import Generated, Replies
from memorag_core.memory.footprint import Footprint, ModelShape
from memorag_core.memory.local_model import LocalModel
from memorag_core.memory.longcontext.checkpoint import load_checkpoint
from memorag_core.memory.longcontext.costs import LongContextCosts, has_kernel
from memorag_core.memory.longcontext.generate import generate
from memorag_core.memory.longcontext.memory import Block, LongContextMemory
from memorag_core.memory.longcontext.partitions import RESERVED, LongContextParts
from memorag_core.memory.longcontext.prefill import CHUNK, empty_block, read
from memorag_core.memory.longcontext.serialize import identity, pack, unpack
from memorag_core.memory.longcontext.trial import try_host
from memorag_core.memory.partitions import Cut
from memorag_core.memory.requests import LONGEST_QUESTION, LONGEST_REPLY, is_whole
from memorag_core.memory.tokenizer import Tokens
from memorag_core.prompts import PromptSet, load_prompts
from memorag_core.system.locking import cached_property
from memorag_core.types import ClueKind


class LongContextModel(LocalModel[LongContextMemory]):
    """A causal language model whose KV cache is the memory: it reads a text once and is asked many times.

    Its replies are those of plain prompting with the whole text, decoded greedily: the context turn of the
    prompt set, the text, and the request, in the model's own chat format (or plain, where it has none).
    Settings of a generation config other than its end tokens are not applied.

    It holds nothing of what it reads: a memory is a value that the caller keeps. Model and memories can be
    used by any number of threads at once. Supported are decoder-only models of transformers whose layers
    attend to all that came before, or to a sliding window of it; a trial run on construction compares what
    is read in chunks with the model's own computation and refuses what differs.

    Args:
        model: a causal language model of transformers, on its device; set to evaluation mode. Used by
            itself, it computes what it computed before.
        tokenizer: its tokenizer, as transformers or ``Tokens`` has it; without one, only ``feed`` and
            ``greedy`` can be used.
        chunk: tokens that are run at once, 1 or more; what reading takes beside the memory grows with it.
        capacity: tokens that one part of a memory holds; longer texts are read into parts that are asked
            together. "auto" is what the model was made for, less room for a request and its reply.
        overlap: tokens that neighbouring parts share; "auto" is an eighth of the capacity.
        prompts: how the model is asked; None takes the shipped prompt set of the language.
        offload: keep memories in RAM; they come to the model's device a block at a time, as they are asked.

    Raises:
        UnsupportedModelError: the model's attention cannot be kept apart as a memory.
        InputError: a chunk, capacity or overlap that cannot be used.
        CheckpointError: a tokenizer without a tokenizer.json.
    """

    _memory_type = LongContextMemory

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Any = None,
        *,
        chunk: int = CHUNK,
        capacity: int | Literal["auto"] = "auto",
        overlap: int | Literal["auto"] = "auto",
        prompts: PromptSet | None = None,
        offload: bool = False,
    ) -> None:
        if not isinstance(model, PreTrainedModel):
            raise InputError(
                f"The model is a {type(model).__name__}; expected a causal language model of transformers, "
                "or LongContextModel.from_pretrained(name)."
            )
        if not is_whole(chunk) or chunk < 1:
            raise InputError(f"The chunk is {chunk!r}; expected 1 token or more.")
        self.tokens = tokenizer if isinstance(tokenizer, Tokens) or tokenizer is None else Tokens(tokenizer)
        self.prompts = prompts
        self.offload = offload
        self.chunk = chunk
        self._host = try_host(model.eval())
        self._stop = _stop_ids(model, self.tokens)
        self._cut = self._chosen_cut(capacity, overlap)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str],
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        chunk: int = CHUNK,
        capacity: int | Literal["auto"] = "auto",
        overlap: int | Literal["auto"] = "auto",
        prompts: PromptSet | None = None,
        offload: bool = False,
    ) -> LongContextModel:
        """Load a model from a folder or by its name on the model hub; runs no code of the checkpoint.

        Args:
            name_or_path: such as "Qwen/Qwen2.5-7B-Instruct-1M", or a folder with weights in safetensors.
            device: "auto" takes a GPU if there is one.
            dtype: "auto" is the checkpoint's own on a GPU, float32 on a CPU.
            chunk: see the class.
            capacity: see the class.
            overlap: see the class.
            prompts: see the class.
            offload: see the class.

        Raises:
            CheckpointError: the files are missing, damaged, or do not fit together.
            UnsupportedModelError: an architecture that cannot be a memory.
            InputError: a device, dtype, chunk, capacity or overlap that cannot be used.
        """
        loaded = load_checkpoint(name_or_path, device=device, dtype=dtype)
        return cls(
            loaded.model,
            loaded.tokens,
            chunk=chunk,
            capacity=capacity,
            overlap=overlap,
            prompts=prompts,
            offload=offload,
        )

    @property
    def model(self) -> PreTrainedModel:
        """The transformers model."""
        return self._host.model

    @property
    def positions(self) -> int:
        """Tokens that the model was made for: a part of a memory, a request and a reply together."""
        return self._host.positions

    @property
    def capacity(self) -> int:
        """Tokens that one part of a memory holds, what stands before the text included."""
        return self._cut.capacity + len(self._opening)

    @property
    def overlap(self) -> int:
        """Tokens that neighbouring parts share."""
        return self._cut.overlap

    @property
    def windows(self) -> tuple[int | None, ...]:
        """For each layer the last tokens that a token sees, itself included; None for all."""
        return self._host.layout.windows

    def nbytes(self, tokens: int) -> int:
        """Bytes that a memory of so many tokens has in one part."""
        return self._host.layout.nbytes(tokens)

    @cached_property
    def fingerprint(self) -> Mapping[str, Any]:
        """JSON-able identity of weights, tokenizer and settings, for a saved memory to be checked against."""
        return identity(self._host, tokens=self.tokens, opening=self._opening)

    # Disk

    def pack(self, memory: LongContextMemory) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """The memory as (tensors by name, JSON-able header), for a store."""
        return pack(memory, self._cut)

    def unpack(self, tensors: Mapping[str, Any], header: Mapping[str, Any]) -> LongContextMemory:
        """The inverse of ``pack``, on this model's device; takes the tensors without a copy where it can.

        Raises:
            StoreError: they do not fit this model, or each other.
        """
        return unpack(self._host, self._cut, head=len(self._opening), tensors=tensors, header=header)

    def footprint(self, name: str | None = None) -> Footprint:
        """What the model takes where it is; ``name`` is what it is told by, None for its own."""
        host = self.model
        return Footprint(
            name=name or host.name_or_path or type(host).__name__,
            kind="long-context",
            costs=self.costs(),
            weights=sum(parameter.nbytes for parameter in host.parameters()),
            loaded=True,
            device=host.device,
            dtype=host.dtype,
        )

    def costs(self) -> LongContextCosts:
        """What reading and asking cost."""
        head = len(self._opening)
        return LongContextCosts(
            shape=ModelShape.of(self.model.config.get_text_config(decoder=True), self.model.dtype),
            layout=self._host.layout,
            cut=Cut(self.capacity - head, self.overlap),
            head=head,
            chunk=self.chunk,
            kernel=has_kernel(self.model.device.type, self.model.dtype),
        )

    # Behind the front

    def _chosen_cut(self, capacity: int | Literal["auto"], overlap: int | Literal["auto"]) -> Cut:
        most, head = self.positions, len(self._opening)
        whole = most - min(RESERVED, most // 4) if capacity == "auto" else capacity
        if not is_whole(whole) or not head < whole < most:
            raise InputError(
                f"The capacity is {whole!r}; expected {head + 1} to {most - 1} tokens: it was made for "
                f"{most}, what stands before the text has {head}, and a request must follow it."
            )
        shared = min(whole // 8, whole - head - 1) if overlap == "auto" else overlap
        if not is_whole(shared) or not 0 <= shared < whole - head:
            raise InputError(f"The overlap is {shared!r}; expected 0 to {whole - head - 1} tokens.")
        return Cut(whole - head, shared)

    def _check_positions(self, memory: LongContextMemory | None, more: int) -> None:
        before = memory.row_tokens if memory is not None else 0
        if before + more > self.positions:
            raise InputError(
                f"{more} tokens should follow {before}, and the model is made for {self.positions}. Ask for "
                "less (a shorter question, fewer max_new_tokens), or read with a smaller capacity."
            )

    # What the front is told of this kind of model

    @property
    def _device(self) -> torch.device:
        return self._host.device

    @property
    def _vocabulary(self) -> int:
        return self._host.vocabulary

    def _empty_block(self, rows: int) -> Block:
        return empty_block(self._host, rows=rows)

    def _feed(self, block: Block, ids: Tensor) -> tuple[Block, Tensor]:
        reading = read(self._host, block, ids, chunk=self.chunk)
        return reading.block, reading.logits[:, None]

    def _decode(self, block: Block, prompt: Tensor, replies: Replies) -> list[Generated]:
        return generate(self._host, block, [prompt], replies, chunk=self.chunk)

    def _prompts(self, language: str | None) -> PromptSet:
        return self.prompts if self.prompts is not None else load_prompts(language)

    def _cut_for(self, memory: LongContextMemory) -> Cut:
        return self._cut

    def _parts(self, memory: LongContextMemory | None, more: int = 0) -> LongContextParts:
        return LongContextParts(self._host, chunk=self.chunk, cut=self._cut, head=self._opening)

    def _longest_question(
        self, kind: ClueKind, memory: LongContextMemory, *, request: int, given: int | None
    ) -> int:
        reply = given if given is not None else LONGEST_REPLY[kind]
        return max(LONGEST_QUESTION, min(RESERVED, self.positions // 4) - reply - request)

    def _longest_reply(
        self, kind: ClueKind, memory: LongContextMemory, *, request: int, given: int | None
    ) -> int:
        room = self.positions - memory.row_tokens - request + 1  # the last token of a reply is not read
        limit = given if given is not None else min(LONGEST_REPLY[kind], max(1, room))
        self._check_positions(memory, request + limit - 1)
        return limit

    def _reply(self, block: Block, requests: Sequence[Tensor], replies: Replies) -> list[Generated]:
        return generate(self._host, block, requests, replies, chunk=self.chunk, stop=self._stop)

    def _entry_bytes(self) -> int:
        return sum(group.token_bytes for group in self._host.layout.groups)


def _stop_ids(model: PreTrainedModel, tokens: Tokens | None) -> frozenset[int]:
    """The ids that end a reply, by generation config, config and tokenizer."""
    generation = getattr(model, "generation_config", None)
    sources = [
        getattr(generation, "eos_token_id", None),
        getattr(model.config, "eos_token_id", None),
        tokens.end_id if tokens is not None else None,
    ]
    ids: set[int] = set()
    for source in sources:
        ids.update(source if isinstance(source, list | tuple) else [] if source is None else [source])
    return frozenset(ids)
