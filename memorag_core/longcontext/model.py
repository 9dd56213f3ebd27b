"""The long-context memory model: memorizes text and recalls from it.

In: texts, questions, token ids. Out: memories, replies, logits. The front of this package: reading, asking,
parts and tokens are put together here; it knows nothing of clues, chunks or retrieval.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from memorag_core.cut import Cut, alike, check_documents, checked_parts
from memorag_core.errors import InputError, NothingMemorizedError
from memorag_core.longcontext.asking import Generated, generate
from memorag_core.longcontext.checkpoint import load_checkpoint
from memorag_core.longcontext.memory import Block, LongContextMemory
from memorag_core.longcontext.pack import identity, pack, unpack
from memorag_core.longcontext.parts import cut_back, read_parts, text_of, to_reread
from memorag_core.longcontext.reading import empty_block, read
from memorag_core.longcontext.trial import try_host
from memorag_core.prompts import PromptSet, load_prompts
from memorag_core.records import CLUE_KINDS, ClueKind, Document, Recollection
from memorag_core.tokens import Tokens

Ids: TypeAlias = Tensor | Sequence[int] | Sequence[Sequence[int]]
"""Token ids [B, T], or [T] for one row."""

CHUNK = 2048
"""Tokens that are run at once: enough to keep a GPU busy, few enough for small peaks."""

RESERVED = 2048
"""Positions that "auto" leaves to a request and its reply, or a quarter of them if that is less."""

LONGEST_REPLY: Mapping[ClueKind, int] = {"span": 384, "query": 192, "answer": 192, "key_point": 512}
"""Tokens: a handful of passages. A reply ends by itself, so a generous limit costs little."""

ASKED_ROWS = 256
ASKED_BYTES = 1 << 30
"""Rows, and bytes of their own keys and values, that are asked in one run."""


@dataclass(frozen=True, slots=True, eq=False)
class Feed:
    """What came of feeding tokens.

    Attributes:
        memory: the memory after them.
        logits: [B, 1, vocabulary] float32, of the last token.
    """

    memory: LongContextMemory
    logits: Tensor


class LongContextModel:
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

    Raises:
        UnsupportedModelError: the model's attention cannot be kept apart as a memory.
        InputError: a chunk, capacity or overlap that cannot be used.
        CheckpointError: a tokenizer without a tokenizer.json.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Any = None,
        *,
        chunk: int = CHUNK,
        capacity: int | Literal["auto"] = "auto",
        overlap: int | Literal["auto"] = "auto",
        prompts: PromptSet | None = None,
    ) -> None:
        if not isinstance(model, PreTrainedModel):
            raise InputError(
                f"The model is a {type(model).__name__}; expected a causal language model of transformers, "
                "or LongContextModel.from_pretrained(name)."
            )
        if not _whole(chunk) or chunk < 1:
            raise InputError(f"The chunk is {chunk!r}; expected 1 token or more.")
        self.tokens = tokenizer if isinstance(tokenizer, Tokens) or tokenizer is None else Tokens(tokenizer)
        self.prompts = prompts
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

        Raises:
            CheckpointError: the files are missing, damaged, or do not fit together.
            UnsupportedModelError: an architecture that cannot be a memory.
            InputError: a device, dtype, chunk, capacity or overlap that cannot be used.
        """
        loaded = load_checkpoint(name_or_path, device=device, dtype=dtype)
        return cls(
            loaded.model, loaded.tokens, chunk=chunk, capacity=capacity, overlap=overlap, prompts=prompts
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

    # Tokens

    @torch.inference_mode()
    def feed(self, input_ids: Ids, memory: LongContextMemory | None = None) -> Feed:
        """Continue the stream with tokens; one call or many give the same memory.

        Args:
            input_ids: [B, T] ids, T of 1 or more; a row for each row of the memory.
            memory: what was read before; it stays as it is. None for the beginning of a stream.

        Raises:
            InputError: no tokens, ids outside the vocabulary, rows that do not fit the memory, or more
                tokens than the model was made for.
        """
        ids = self._ids(input_ids)
        self._check_positions(memory, ids.shape[1])
        done, logits, row = [], [], 0
        for block in self._blocks(ids, memory):
            some = ids[row : row + block.rows]
            reading = read(self._host, block, some, chunk=self.chunk)
            done.append(reading.block)
            logits.append(reading.logits[:, None])
            row += block.rows
        tokens = (memory.tokens if memory is not None else 0) + ids.shape[1]
        return Feed(LongContextMemory(tuple(done), tokens), torch.cat(logits))

    @torch.inference_mode()
    def greedy(
        self, input_ids: Ids, memory: LongContextMemory | None = None, *, max_new_tokens: int
    ) -> Tensor:
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
        _check_new_tokens(max_new_tokens)
        self._check_positions(memory, ids.shape[1] + max_new_tokens - 1)
        said: list[tuple[int, ...]] = []
        row = 0
        for block in self._blocks(ids, memory):
            prompt = ids[row : row + block.rows]
            replies = generate(self._host, block, [prompt], max_new_tokens=max_new_tokens, chunk=self.chunk)
            said += [reply.ids for reply in replies]
            row += block.rows
        return torch.tensor(said, dtype=torch.long, device=ids.device)

    # Text

    @torch.inference_mode()
    def memorize(
        self,
        text_or_documents: str | Document | Sequence[str | Document],
        memory: LongContextMemory | None = None,
        *,
        progress: bool | None = None,
    ) -> LongContextMemory:
        """Read text into a memory.

        Reading documents at once or one after the other, each time continuing the memory, gives the same
        memory.

        Args:
            text_or_documents: a text, a document, or several.
            memory: what was read before, to be continued; it stays as it is.
            progress: whether to show a bar; None shows it on terminals.

        Raises:
            InputError: no text, an empty text, a model without tokenizer, or a memory that ``feed`` made.
        """
        tokens = self._tokenizer()
        texts = _texts(text_or_documents)
        head = self._opening
        ids, documents = tokens.encode_documents(
            texts,
            before=memory.tokens if memory is not None else len(head),
            opening=len(head),
            fill=None,
        )
        before = memory.tokens - len(head) if memory is not None else 0
        total = self._cut.to_read(before, before + len(ids))
        # disable=None is tqdm's way to show a bar on terminals only
        hidden = None if progress is None else not progress
        with tqdm(total=total, desc="memorizing", unit=" tokens", unit_scale=True, disable=hidden) as bar:
            return read_parts(
                self._host,
                memory,
                torch.from_numpy(ids).to(self._host.device),
                documents,
                cut=self._cut,
                head=head,
                chunk=self.chunk,
                progress=bar.update,
            )

    @torch.inference_mode()
    def recollect(
        self,
        questions: Sequence[str],
        memory: LongContextMemory | None,
        *,
        kind: ClueKind,
        language: str | None = None,
        max_new_tokens: int | None = None,
        parts: Sequence[Collection[int] | None] | None = None,
    ) -> tuple[tuple[Recollection, ...], ...]:
        """Ask questions for one kind of clue, all together over one memory.

        Args:
            questions: one or more.
            memory: what was read; it stays as it is.
            kind: what to ask for.
            language: of the request, such as "en" or "zh"; a model with prompts of its own uses those.
            max_new_tokens: the longest reply of a part; None for the usual one, or what room there is.
            parts: for each question the parts of the memory that it is put to; None for all.

        Returns:
            For each question what every part that was asked said, best score first.

        Raises:
            NothingMemorizedError: there is no memory.
            InputError: an empty question, a kind of request that the prompts do not have, or one that is
                longer, with its reply, than the room that the model has behind the memory.
        """
        if memory is None or not memory.tokens:
            raise NothingMemorizedError("Nothing has been memorized yet. Call memorize(text) first.")
        if kind not in CLUE_KINDS:
            raise InputError(f"The kind of clue is {kind!r}; expected one of {', '.join(CLUE_KINDS)}.")
        if isinstance(questions, str):
            raise InputError("The questions are one text; expected a list of questions, such as [question].")
        if max_new_tokens is not None:
            _check_new_tokens(max_new_tokens)
        tokens = self._tokenizer()
        prompts = self.prompts if self.prompts is not None else load_prompts(language)
        requests = [self._request(tokens, prompts, kind, question) for question in questions]
        longest = max((len(request) for request in requests), default=1)
        room = self.positions - memory.row_tokens - longest + 1  # the last token of a reply is not read
        limit = max_new_tokens if max_new_tokens is not None else min(LONGEST_REPLY[kind], max(1, room))
        self._check_positions(memory, longest + limit - 1)
        wanted = checked_parts(parts, questions=len(requests), parts=memory.parts)
        return tuple(
            tuple(
                sorted(
                    (
                        Recollection(tokens.decode(said.ids), said.score, part, len(said.ids), said.finished)
                        for part, said in replied
                    ),
                    key=lambda recollection: -recollection.score,
                )
            )
            for replied in self._ask(requests, memory, limit, wanted)
        )

    # Documents

    def token_spans(self, memory: LongContextMemory) -> tuple[tuple[int, int], ...]:
        """For each document that was read its first token in the text and the one after its last.

        Raises:
            InputError: the memory was made or continued by ``feed``.
        """
        return tuple((document.start, document.end) for document in text_of(memory).documents)

    def parts_of(self, memory: LongContextMemory, document: int, start: int, end: int) -> range:
        """The parts that hold any of a document's characters from ``start`` to ``end``.

        Args:
            memory: of a text.
            document: its number, in the order of reading.
            start: the first character.
            end: the one after the last.

        Raises:
            InputError: the memory was made or continued by ``feed``.
        """
        text = text_of(memory)
        first, last = text.documents[document].tokens(start, end)
        return self._cut.holding(first, max(last, first + 1), len(text))

    def count_tokens(
        self,
        documents: str | Document | Sequence[str | Document],
        memory: LongContextMemory,
        *,
        documents_kept: int,
    ) -> int:
        """Tokens that reading documents behind the first ones of a memory will run; those parts share, twice.

        Args:
            documents: one or more.
            memory: of a text.
            documents_kept: how many of its documents stay before them.

        Raises:
            InputError: no text in them, or as ``rewind``.
        """
        check_documents(documents_kept, len(text_of(memory).documents))
        before = len(text_of(memory).first(documents_kept))
        head = len(self._opening)
        ids, _ = self._tokenizer().encode_documents(
            _texts(documents), before=head + before, opening=head, fill=None
        )
        return self._cut.to_read(before, before + len(ids))

    def to_reread(self, memory: LongContextMemory, documents: int) -> int:
        """Tokens that ``rewind`` will read again: none, unless a layer has a window.

        Raises:
            InputError: as ``rewind``.
        """
        check_documents(documents, len(text_of(memory).documents))
        if not documents:
            return 0
        return to_reread(self._host, memory, documents, cut=self._cut, head=len(self._opening))

    @torch.inference_mode()
    def rewind(self, memory: LongContextMemory, documents: int) -> LongContextMemory | None:
        """The memory of the first documents, as if the others had never been read.

        Layers that keep all are cut off there. One with a window has dropped what lay behind it: the part in
        which the last of these documents ends is then read again.

        Args:
            memory: of a text; it stays as it is.
            documents: how many stay; of none, there is no memory.

        Raises:
            InputError: more documents than were read, or a memory that was made or continued by ``feed``.
        """
        check_documents(documents, len(text_of(memory).documents))
        if not documents:
            return None
        return cut_back(self._host, memory, documents, cut=self._cut, head=self._opening, chunk=self.chunk)

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

    # Behind the front

    def _chosen_cut(self, capacity: int | Literal["auto"], overlap: int | Literal["auto"]) -> Cut:
        most, head = self.positions, len(self._opening)
        whole = most - min(RESERVED, most // 4) if capacity == "auto" else capacity
        if not _whole(whole) or not head < whole < most:
            raise InputError(
                f"The capacity is {whole!r}; expected {head + 1} to {most - 1} tokens: it was made for "
                f"{most}, what stands before the text has {head}, and a request must follow it."
            )
        shared = min(whole // 8, whole - head - 1) if overlap == "auto" else overlap
        if not _whole(shared) or not 0 <= shared < whole - head:
            raise InputError(f"The overlap is {shared!r}; expected 0 to {whole - head - 1} tokens.")
        return Cut(whole - head, shared)

    @cached_property
    def _opening(self) -> tuple[int, ...]:
        """The ids that every part of a text begins with."""
        if self.tokens is None:
            return ()
        prompts = self.prompts if self.prompts is not None else load_prompts(None)
        return tuple(self.tokens.encode_opening(prompts))

    def _tokenizer(self) -> Tokens:
        if self.tokens is None:
            raise InputError(
                "This model has no tokenizer, so it takes token ids only: feed() and greedy(). Give it one, "
                "or put tokenizer.json and tokenizer_config.json into its folder, to work with text."
            )
        return self.tokens

    def _ids(self, input_ids: Ids) -> Tensor:
        try:
            ids = torch.as_tensor(input_ids)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"The input_ids are no table of numbers: {error}. Expected [B, T] ids."
            ) from error
        ids = ids[None] if ids.ndim == 1 else ids
        if ids.ndim != 2 or not ids.numel() or ids.dtype not in (torch.int64, torch.int32):
            raise InputError(
                f"The input_ids are {ids.dtype} of shape {tuple(ids.shape)}; expected whole numbers [B, T], "
                "one token or more."
            )
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= self._host.vocabulary:
            raise InputError(
                f"The input_ids reach from {low} to {high}; expected 0 to {self._host.vocabulary - 1}. Use "
                "the model's own tokenizer."
            )
        return ids.to(device=self._host.device, dtype=torch.long)

    def _blocks(self, ids: Tensor, memory: LongContextMemory | None) -> tuple[Block, ...]:
        if memory is None:
            return (empty_block(self._host, rows=len(ids)),)
        if len(ids) != memory.parts:
            raise InputError(
                f"The input_ids have {len(ids)} rows, the memory {memory.parts}; expected the same. Feed a "
                "row for each row of the memory, or take one with memory.row(i)."
            )
        return memory.blocks

    def _check_positions(self, memory: LongContextMemory | None, more: int) -> None:
        before = memory.row_tokens if memory is not None else 0
        if before + more > self.positions:
            raise InputError(
                f"{more} tokens should follow {before}, and the model is made for {self.positions}. Ask for "
                "less (a shorter question, fewer max_new_tokens), or read with a smaller capacity."
            )

    def _request(self, tokens: Tokens, prompts: PromptSet, kind: ClueKind, question: str) -> Tensor:
        if not isinstance(question, str) or (not question.strip() and kind != "key_point"):
            raise InputError(f"The question is {question!r}; expected a text with words.")
        ids = tokens.encode_request(prompts, kind, question)
        if not ids:
            raise InputError(f"The request for {kind!r} has no tokens; expected a template with words in it.")
        return torch.tensor(ids, dtype=torch.long, device=self._host.device)

    def _ask(
        self,
        requests: Sequence[Tensor],
        memory: LongContextMemory,
        limit: int,
        wanted: Sequence[Collection[int] | None],
    ) -> list[list[tuple[int, Generated]]]:
        """Every request of the parts it is put to; -> [question][(part, reply)]."""
        replies: list[list[tuple[int, Generated]]] = [[] for _ in requests]
        longest = max((len(request) for request in requests), default=1)
        row_bytes = sum(group.token_bytes for group in self._host.layout.groups) * (longest + limit)
        part = 0
        for block in memory.blocks:
            for start, stop, asked in alike(range(part, part + block.rows), wanted):
                rows = block.of_rows(start, stop)
                lanes = max(1, min(ASKED_ROWS, ASKED_BYTES // row_bytes) // rows.rows)
                for first in range(0, len(asked), lanes):
                    some = asked[first : first + lanes]
                    said = generate(
                        self._host,
                        rows,
                        [requests[question].expand(rows.rows, -1) for question in some],
                        max_new_tokens=limit,
                        chunk=self.chunk,
                        stop=self._stop,
                    )
                    for lane, question in enumerate(some):
                        mine = said[lane * rows.rows : (lane + 1) * rows.rows]
                        replies[question] += enumerate(mine, start=part + start)
            part += block.rows
        return replies


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


def _texts(given: str | Document | Sequence[str | Document]) -> list[str]:
    items = [given] if isinstance(given, str | Document) else given
    if not isinstance(items, Sequence):
        raise InputError(f"Found {type(items).__name__}; expected a text, a document, or a list of them.")
    if not items:
        raise InputError("There are no documents; expected one or more. Give a text or a list of documents.")
    texts = [item.text if isinstance(item, Document) else item for item in items]
    for place, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise InputError(
                f"Document {place} has the text {text!r}; expected words. Leave empty documents out."
            )
    return texts


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_new_tokens(count: object) -> None:
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise InputError(f"max_new_tokens is {count!r}; expected 1 or more.")
