"""The hosted memory model: keeps the text, and has an LLM behind an API read it with every question.

In: an LLM, texts, questions. Out: memories, and what the LLM recalled. The front of this package; it knows
nothing of clues, chunks or retrieval.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import accumulate
from typing import Any, Literal

from memorag_core.errors import InputError, NothingMemorizedError
from memorag_core.memory.hosted.memory import HostedMemory
from memorag_core.memory.hosted.serialize import pack, unpack
from memorag_core.memory.input_texts import texts_of
from memorag_core.memory.llm import CONCURRENCY, LLM, CountTokens, Request, Said, Turn, Usage
from memorag_core.memory.partitions import check_documents
from memorag_core.memory.prompt_chunks import Piece, cut_pieces
from memorag_core.memory.requests import check_new_tokens, checked_asks, is_whole
from memorag_core.prompts import PromptSet, load_prompts
from memorag_core.protocols import ShowProgress, Watch
from memorag_core.types import Ask, Document, Recollection

CAPACITY = 100_000
"""Tokens of text in one prompt: most hosted models read 128K; the rest is for requests and bad estimates."""

LEAST_CAPACITY = 64
"""Tokens: no fewer than a long sentence."""

CACHED_FROM = 1024
"""Tokens of a prompt below which providers cache nothing, so that nobody need wait for a first request."""

SEPARATOR = "\n\n"
"""What stands between two documents."""

_AFTER_FAILURE = (
    "The memory is as it was and can be asked again; replies that had come are not kept. If the prompt was "
    "too long, read with a smaller capacity."
)


class HostedModel:
    """An LLM behind an API as a memory model: no GPU, no download, nothing computed while reading.

    The memory is the text, in parts of at most ``capacity`` tokens. A question takes a request for each part,
    with the part in the prompt. All prompts for a part are the same up to the request at their end, so a
    provider that caches prompts reads the part once; with several questions, the first one of a part is
    answered before the others are sent, so that they find it in the cache.

    Replies carry no probabilities, so each ``Recollection`` has the score 0.0: what the model believes of it
    is unknown.

    Args:
        llm: a chat model of LangChain, an LLM of LlamaIndex, or a function from a prompt to a text; see
            ``memorag_core.memory.llm.LLM``. Retries, rate limits and timeouts are set on it.
        name: what saved memories are checked against; None for the model's name as the client says it.
        capacity: tokens of text that stand in one prompt, 64 or more. What the prompt set, the question and
            the reply take comes on top.
        overlap: tokens that neighbouring parts may share, at most half of the capacity. "auto" is a 32nd of
            it: some pages, for parts end with sentences, and what is shared is paid for twice.
        concurrency: the most requests in flight at once, over all threads that ask.
        prompts: how the model is asked; None takes the shipped prompt set of the language.
        count_tokens: counts the tokens of a text, to cut parts and where the client reports no usage. None
            estimates: a token for every 4 bytes of UTF-8.

    Raises:
        InputError: an LLM of unknown shape, or a capacity, overlap or concurrency that cannot be used.
    """

    def __init__(
        self,
        llm: Any,
        *,
        name: str | None = None,
        capacity: int = CAPACITY,
        overlap: int | Literal["auto"] = "auto",
        concurrency: int = CONCURRENCY,
        prompts: PromptSet | None = None,
        count_tokens: CountTokens | None = None,
    ) -> None:
        self._llm = LLM(llm, name=name, concurrency=concurrency, count_tokens=count_tokens)
        if not is_whole(capacity) or capacity < LEAST_CAPACITY:
            raise InputError(
                f"The capacity is {capacity!r}; expected the tokens of text in one prompt, {LEAST_CAPACITY} "
                "or more. Give what the model reads at once, less some thousands."
            )
        shared = capacity // 32 if overlap == "auto" else overlap
        if not is_whole(shared) or not 0 <= shared <= capacity // 2:
            raise InputError(
                f"The overlap is {overlap!r}; expected 0 to {capacity // 2} tokens, half of the capacity."
            )
        self.capacity = capacity
        self.overlap = shared
        self.prompts = prompts

    @property
    def name(self) -> str:
        """The model's name."""
        return self._llm.name

    @property
    def usage(self) -> Usage:
        """What was used so far, over all memories and threads."""
        return self._llm.usage

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """JSON-able identity of model, prompts and parts, for a saved memory to be checked against.

        The shipped prompts count as one set: their wording may improve, and a memory is still the same text.
        """
        return {
            "kind": "hosted",
            "model": self.name,
            "prompts": _digest(self.prompts) if self.prompts is not None else None,
            "capacity": self.capacity,
            "overlap": self.overlap,
        }

    def memorize(
        self,
        text_or_documents: str | Document | Sequence[str | Document],
        memory: HostedMemory | None = None,
        *,
        progress: ShowProgress = None,
    ) -> HostedMemory:
        """Cut text into parts; no request is sent.

        Reading documents at once or one after the other, each time continuing the memory, gives the same
        memory.

        Args:
            text_or_documents: a text, a document, or several.
            memory: what was read before, to be continued; it stays as it is.
            progress: has no effect, for a million tokens take less than a second.

        Raises:
            InputError: no text, an empty text, one that is no Unicode, or a memory of another model.
        """
        if memory is not None:
            self._check(memory)
        pieces = list(memory.pieces) if memory is not None else []
        ends = list(memory.ends) if memory is not None else []
        for text in texts_of(text_or_documents):
            pieces += self._pieces((SEPARATOR if pieces else "") + text)
            ends.append(len(pieces))
        return HostedMemory(tuple(pieces), self.capacity, self.overlap, tuple(ends))

    def recollect(
        self,
        asks: Sequence[Ask],
        memory: HostedMemory | None,
        *,
        language: str | None = None,
        max_new_tokens: int | None = None,
        passages: Any = None,
        watch: Watch | None = None,
    ) -> tuple[tuple[Recollection, ...], ...]:
        """Put requests to a memory: a prompt for each of them and each part.

        Args:
            asks: questions, each for one kind of clue and to some parts or all.
            memory: what was read; it stays as it is.
            language: of the prompts, such as "en" or "zh"; a model with prompts of its own uses those.
            max_new_tokens: the longest reply. It reaches chat models of LangChain that have a ``max_tokens``;
                for others, and with None, what is set on the LLM holds.
            passages: left alone: nothing holds the reply of an LLM to a text.
            watch: who hears replies as they come. When it ends them, requests that were sent are not waited
                for; a provider may bill them all the same.

        Returns:
            For each request what every part that it was put to said, in the order of the parts; ``tokens``
            are those of the reply.

        Raises:
            NothingMemorizedError: there is no memory.
            InputError: an empty question, or a kind of request that the prompts do not have.
            MemoRAGError: the client gave up on a request; its error is the cause. The memory is as it was.
        """
        if memory is None:
            raise NothingMemorizedError("Nothing has been memorized yet. Call memorize(text) first.")
        self._check(memory)
        checked = checked_asks(asks, parts=memory.parts)
        if max_new_tokens is not None:
            check_new_tokens(max_new_tokens)
        prompts = self.prompts if self.prompts is not None else load_prompts(language)
        put = {
            part: [number for number, ask in enumerate(checked) if ask.parts is None or part in ask.parts]
            for part in range(memory.parts)
        }
        groups = [(part, numbers) for part, numbers in put.items() if numbers]

        def replied(group: int, item: int, reply: Said) -> None:
            part, numbers = groups[group]
            if watch is not None:
                watch.said(numbers[item], _recollection(part, reply))

        said = self._llm.ask(
            [
                _requests(prompts, memory, part, [checked[number] for number in numbers])
                for part, numbers in groups
            ],
            after_failure=_AFTER_FAILURE,
            first_alone=memory.tokens >= CACHED_FROM,
            max_new_tokens=max_new_tokens,
            replied=replied,
            goes_on=watch.goes_on if watch is not None else None,
        )
        recalled: list[list[Recollection]] = [[] for _ in checked]
        for (part, numbers), replies in zip(groups, said, strict=True):
            for number, reply in zip(numbers, replies, strict=True):
                recalled[number].append(_recollection(part, reply))
        return tuple(map(tuple, recalled))

    def token_spans(self, memory: HostedMemory) -> tuple[tuple[int, int], ...]:
        """For each document that was read its first token in the text and the one after its last."""
        before = [0, *accumulate(piece.tokens for piece in memory.pieces)]
        spans = (memory.pieces_of(document) for document in range(len(memory.ends)))
        return tuple((before[start], before[end]) for start, end in spans)

    def slot_span(self, memory: HostedMemory, document: int) -> None:
        """None: a text has no slots."""
        return

    def parts_of(self, memory: HostedMemory, document: int, start: int, end: int) -> range:
        """The parts that hold any of a document's characters from ``start`` to ``end``; none, if it has none.

        Args:
            memory: what was read.
            document: its number, in the order of reading.
            start: the first character.
            end: the one after the last.
        """
        first, last = memory.pieces_of(document)
        at = -len(SEPARATOR) if document else 0
        held = []
        for number in range(first, last):
            length = len(memory.pieces[number].text)
            if at < end and start < at + length:
                held.append(number)
            at += length
        if not held:
            return range(0)
        meet = [part for part, (one, other) in enumerate(memory.spans) if one <= held[-1] and held[0] < other]
        return range(meet[0], meet[-1] + 1)

    def count_tokens(
        self,
        documents: str | Document | Sequence[str | Document],
        memory: HostedMemory,
        *,
        documents_kept: int,
    ) -> int:
        """Tokens of documents behind the first ones of a memory; nothing is billed for memorizing them."""
        check_documents(documents_kept, len(memory.ends))
        between = SEPARATOR if documents_kept else ""
        tokens = 0
        for text in texts_of(documents):
            tokens += sum(piece.tokens for piece in self._pieces(between + text))
            between = SEPARATOR
        return tokens

    def to_reread(self, memory: HostedMemory, documents: int) -> int:
        """Tokens that ``rewind`` reads again: none."""
        check_documents(documents, len(memory.ends))
        return 0

    def rewind(self, memory: HostedMemory, documents: int) -> HostedMemory | None:
        """The memory of the first documents, as if the others had never been read; None for none.

        Raises:
            InputError: more documents than were read.
        """
        check_documents(documents, len(memory.ends))
        return memory.first(documents) if documents else None

    def pack(self, memory: HostedMemory) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """The memory as (arrays by name, JSON-able header), for a store."""
        self._check(memory)
        return pack(memory)

    def unpack(self, tensors: Mapping[str, Any], header: Mapping[str, Any]) -> HostedMemory:
        """The inverse of ``pack``.

        Raises:
            StoreError: they do not fit this model's capacity and overlap, or each other.
        """
        return unpack(tensors, header, capacity=self.capacity, overlap=self.overlap)

    def _pieces(self, text: str) -> tuple[Piece, ...]:
        # A 32nd of a part, so that little of it stays empty before a long line that does not fit.
        longest = max(self.capacity // 32, LEAST_CAPACITY)
        return cut_pieces(text, self._llm.count_tokens, longest=longest)

    def _check(self, memory: object) -> None:
        if not isinstance(memory, HostedMemory):
            raise InputError(
                f"The memory is a {type(memory).__name__}; expected what memorize() of a HostedModel gave."
            )
        if (memory.capacity, memory.overlap) != (self.capacity, self.overlap):
            raise InputError(
                f"The memory has parts of {memory.capacity} tokens with an overlap of {memory.overlap}; the "
                f"model is set to {self.capacity} and {self.overlap}. Use a model of the same settings, or "
                "memorize the text again."
            )


def _requests(
    prompts: PromptSet, memory: HostedMemory, part: int, asks: Sequence[Ask]
) -> tuple[Request, ...]:
    """The prompts for a part: the same up to the request at the end."""
    context = prompts.context_parts(memory.text(part)).text
    place = f" in part {part + 1} of {memory.parts}" if memory.parts > 1 else ""
    return tuple(
        Request(
            _turns(prompts, context, prompts.render(ask.kind, ask.question)),
            f"the request for {ask.kind!r}{place}, question {ask.question[:60]!r}",
        )
        for ask in asks
    )


def _recollection(part: int, reply: Said) -> Recollection:
    return Recollection(reply.text, 0.0, part, reply.output_tokens, reply.finished)


def _turns(prompts: PromptSet, context: str, request: str) -> tuple[Turn, ...]:
    if not prompts.chat:  # the templates hold all there is between them
        return (Turn("user", context + prompts.reply + request),)
    if not prompts.reply:  # many providers refuse two turns of one role in a row
        return (Turn("user", f"{context}\n\n{request}"),)
    return Turn("user", context), Turn("assistant", prompts.reply), Turn("user", request)


def _digest(prompts: PromptSet) -> str:
    return hashlib.sha256(json.dumps(asdict(prompts), sort_keys=True).encode()).hexdigest()
