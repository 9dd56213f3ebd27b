"""What the memory models that run here have in common: text is read, asked about, and taken back.

In: texts and questions. Out: memories and what they recall. Knows documents, prompts and parts; how tokens
become keys and values, and how they are attended to, is for each kind of model to say.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from memorag_core.errors import InputError, NothingMemorizedError, UnsupportedModelError
from memorag_core.memory.block_memory import M, Progress, text_of
from memorag_core.memory.decoding import Generated, Replies
from memorag_core.memory.footprint import Footprint
from memorag_core.memory.grounding import Passages, SpanConstraint, Vocabulary
from memorag_core.memory.input_texts import texts_of
from memorag_core.memory.part_reader import PartReader
from memorag_core.memory.partitions import Cut, alike, check_documents
from memorag_core.memory.requests import check_new_tokens, checked_asks
from memorag_core.memory.responses import Asked, Run
from memorag_core.memory.token_model import TokenModel
from memorag_core.memory.tokenized_text import DocumentSpan
from memorag_core.memory.tokenizer import Tokens
from memorag_core.prompts import PromptSet
from memorag_core.protocols import ShowProgress, Watch
from memorag_core.system.locking import cached_property
from memorag_core.system.progress import progress_bar
from memorag_core.types import Ask, ClueKind, Document, Recollection

logger = logging.getLogger(__name__)

ASKED_ROWS = 512
ASKED_BYTES = 1 << 30
"""Rows, and bytes of their own keys and values, that are asked in one run."""

_ANY_QUESTION = "?"  # in a request whose other tokens are counted


class LocalModel(TokenModel[M]):
    """Text in and out of a memory model that computes here; subclasses compute.

    Attributes:
        tokens: the tokenizer; None for a model that takes token ids only.
        offload: whether memories that are made lie in RAM, wherever the model computes.
        asked_together: that one pass for many questions is quicker than many passes at once.
    """

    tokens: Tokens | None
    offload: bool
    asked_together: ClassVar[bool] = True
    _stop: Collection[int]  # the ids that end a reply

    # What a kind of model says of itself

    @property
    def _fill(self) -> int | None:
        """Documents are filled up to a multiple of so many tokens; None for white space between them."""
        return None

    @abstractmethod
    def _prompts(self, language: str | None) -> PromptSet: ...

    @abstractmethod
    def _cut_for(self, memory: M) -> Cut | None:
        """How the text of a memory is cut into parts; None for one part."""

    def _ratio_of(self, memory: M) -> int:
        """Raw tokens to a slot."""
        return 1

    @property
    def _least_score(self) -> float | None:
        """What a reply scores that is more than babble; None for a model that does not babble."""
        return None

    @abstractmethod
    def _longest_question(self, kind: ClueKind, memory: M, *, request: int, given: int | None) -> int:
        """Tokens of a question that a memory is asked with, in a request of so many tokens beside it."""

    @abstractmethod
    def _longest_reply(self, kind: ClueKind, memory: M, *, request: int, given: int | None) -> int:
        """Tokens of a reply to a request of so many tokens; refuses what there is no room for."""

    @abstractmethod
    def _reply(self, block: Any, requests: Sequence[Tensor], replies: Replies) -> list[Generated]:
        """What every row of a block says to each request [B, T], request by request."""

    @abstractmethod
    def _entry_bytes(self) -> int:
        """Bytes that a token of a row takes while it is asked."""

    @abstractmethod
    def _parts(self, memory: M | None, more: int = 0) -> PartReader[Any, M]:
        """What reads a text as that of a memory was read; refuses more tokens that there is no room for."""

    # What it takes

    @abstractmethod
    def footprint(self) -> Footprint:
        """What its weights and memories take."""

    def check_room(self, documents: Sequence[Document], memory: M | None = None) -> None:
        """Refuse documents that will not fit into the device's memory, before anything of them is read.

        Raises:
            MemoryBudgetError: they will not; says what can be done.
        """
        from memorag_core.memory.planning.plan import check_documents

        check_documents(self, documents, memory)

    # Reading

    @torch.inference_mode()
    def memorize(
        self,
        text_or_documents: str | Document | Sequence[str | Document],
        memory: M | None = None,
        *,
        progress: ShowProgress = None,
    ) -> M:
        """Read text into a memory.

        Reading documents at once or one after the other, each time continuing the memory, gives the same
        memory.

        Args:
            text_or_documents: a text, a document, or several.
            memory: what was read before, to be continued; it stays as it is.
            progress: whether to show a bar, or who is told; None shows it on terminals.

        Raises:
            InputError: no text, an empty text, a model without tokenizer, or a memory that ``feed`` made.
        """
        head = len(self._opening)
        before = len(text_of(memory)) if memory is not None else 0
        ids, documents = self._encoded(text_or_documents, before=head + before)
        total, read = self._reading(memory, torch.from_numpy(ids).to(self._device), documents)
        with progress_bar(total, "memorizing", unit=" tokens", shown=progress, scaled=True) as told:
            done = read(told)
        return done.on("cpu") if self.offload else done

    # Asking

    @torch.inference_mode()
    def recollect(
        self,
        asks: Sequence[Ask],
        memory: M | None,
        *,
        language: str | None = None,
        max_new_tokens: int | None = None,
        passages: Passages | None = None,
        watch: Watch | None = None,
    ) -> tuple[tuple[Recollection, ...], ...]:
        """Put requests to a memory: all questions and kinds are decoded together, in one pass over it.

        Args:
            asks: questions, each for one kind of clue and to some parts or all.
            memory: what was read; it stays as it is.
            language: of the requests, such as "en" or "zh"; a model with prompts of its own uses those.
            max_new_tokens: the longest reply of a part; None for the usual one of each kind.
            passages: of the corpus that was read. Replies of kind "span" then say what stands in it and
                nothing else, each part what stands in that part. A tokenizer whose tokens cannot be read as
                bytes leaves them free.
            watch: who hears lines as they are complete, and may end all replies.

        Returns:
            For each request what every part said that it was put to, best score first.

        Raises:
            NothingMemorizedError: there is no memory.
            InputError: an empty question, a kind of request that the prompts do not have, a request that
                there is no room for behind the memory, or parts that there are not.
        """
        if memory is None or not memory.tokens:
            raise NothingMemorizedError("Nothing has been memorized yet. Call memorize(text) first.")
        if max_new_tokens is not None:
            check_new_tokens(max_new_tokens)
        tokens = self._tokenizer()
        prompts = self._prompts(language)
        requests = []
        for ask in self._asks(checked_asks(asks, parts=memory.parts), memory, prompts, max_new_tokens):
            ids = self._request(tokens, prompts, ask)
            limit = self._longest_reply(ask.kind, memory, request=len(ids), given=max_new_tokens)
            requests.append(_Request(ids, limit, ask.parts, ask.kind == "span"))
        holding = self._holding(memory, passages)
        replies: list[list[Recollection]] = [[] for _ in asks]
        here = placed = None  # the last rows that were asked, and where they were asked
        for rows, some, first in self._runs(requests, memory):
            going = watch is None or watch.goes_on()
            asked = [
                Asked(
                    number,
                    part,
                    requests[number].limit,
                    holding(part) if going and requests[number].held else None,
                )
                for number in some
                for part in range(first, first + rows.rows)
            ]
            run = Run(asked, tokens, least_score=self._least_score, watch=watch)
            prompted = [requests[number].ids.expand(rows.rows, -1) for number in some]
            if going and rows is not here:
                here, placed = rows, rows.on(self._device)
            said = self._reply(placed, prompted, run.replies) if going else run.replies.unsaid()
            for number, reply in run.recollections(said):
                replies[number].append(reply)
        return tuple(tuple(sorted(said, key=lambda reply: -reply.score)) for said in replies)

    def _asks(
        self, asks: Sequence[Ask], memory: M, prompts: PromptSet, max_new_tokens: int | None
    ) -> list[Ask]:
        """The requests, with what the model has room for of their questions: all, or beginning and end."""
        tokens = self._tokenizer()
        most: dict[ClueKind, int] = {}
        ends: dict[tuple[str, int], str] = {}
        for ask in asks:
            if ask.kind not in most:
                bare = len(tokens.encode_request(prompts, ask.kind, _ANY_QUESTION))
                most[ask.kind] = self._longest_question(ask.kind, memory, request=bare, given=max_new_tokens)
            key = ask.question, most[ask.kind]
            if key not in ends:
                ends[key] = tokens.ends_of(*key)
        for question in {question for (question, _), kept in ends.items() if kept != question}:
            logger.warning(
                "A question of %d characters, %r, is longer than what this model is asked with: the memory "
                "is asked with its beginning and its end. It is searched whole.",
                len(question),
                f"{question[:40]}...",
            )
        return [replace(ask, question=ends[ask.question, most[ask.kind]]) for ask in asks]

    def _runs(self, requests: Sequence[_Request], memory: M) -> Iterator[tuple[Any, tuple[int, ...], int]]:
        """What is asked in one run each: rows of a block, the requests put to them, and the first's part.

        The rows lie where the memory lies.
        """
        longest = max((len(request.ids) + request.limit for request in requests), default=1)
        most = max(1, min(ASKED_ROWS, ASKED_BYTES // (self._entry_bytes() * longest)))
        wanted = [request.parts for request in requests]
        part = 0
        for block in memory.blocks:
            for start, stop, asked in alike(range(part, part + block.rows), wanted):
                rows = block.of_rows(start, stop)
                lanes = max(1, most // rows.rows)
                for first in range(0, len(asked), lanes):
                    yield rows, asked[first : first + lanes], part + start
            part += block.rows

    def _holding(self, memory: M, passages: Passages | None) -> Callable[[int], SpanConstraint | None]:
        """What holds a reply of a part to what stands in that part."""
        vocabulary = self._vocabulary_bytes if passages is not None else None
        if passages is None or vocabulary is None or not (self._stop or vocabulary.line_ends):
            return lambda part: None
        text = memory.text
        cut = self._cut_for(memory)
        if cut is None or text is None or not passages.whole or memory.parts == 1:
            return lambda part: SpanConstraint(passages, vocabulary, self._stop)
        spans = cut.spans(len(text))
        lengths = [len(document.text) for document in passages.documents]

        @cache
        def within(part: int) -> Passages:
            held = text.characters(*spans[part])
            return passages.within(
                [(number, start, lengths[number] if end is None else end) for number, start, end in held]
            )

        return lambda part: SpanConstraint(within(part), vocabulary, self._stop)

    # Documents

    def token_spans(self, memory: M) -> tuple[tuple[int, int], ...]:
        """For each document that was read its first token in the text and the one after its last.

        Raises:
            InputError: the memory was made or continued by ``feed``.
        """
        return tuple((document.start, document.end) for document in text_of(memory).documents)

    def parts_of(self, memory: M, document: int, start: int, end: int) -> range:
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
        cut = self._cut_for(memory)
        return cut.holding(first, max(last, first + 1), len(text)) if cut is not None else range(1)

    def slot_span(self, memory: M, document: int) -> tuple[int, int]:
        """The slots of a document, in the first part that holds it: its first, and the one after its last.

        Args:
            memory: of a text.
            document: its number, in the order of reading.

        Raises:
            InputError: the memory was made or continued by ``feed``.
        """
        text = text_of(memory)
        span, head, cut = text.documents[document], len(self._opening), self._cut_for(memory)
        start, end = span.start, span.end
        if cut is not None:
            first, last = cut.spans(len(text))[cut.holding(start, start + 1, len(text))[0]]
            start, end = start - first, min(end, last) - first
        ratio = self._ratio_of(memory)
        return (head + start) // ratio, -(-(head + end) // ratio)

    def count_tokens(
        self,
        documents: str | Document | Sequence[str | Document],
        memory: M,
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
        ids, _ = self._encoded(documents, before=len(self._opening) + before)
        cut = self._cut_for(memory)
        return cut.to_read(before, before + len(ids)) if cut is not None else len(ids)

    def tokens_of(self, documents: str | Document | Sequence[str | Document], memory: M | None = None) -> int:
        """Tokens that documents have behind a memory, with what fills windows and stands before the text.

        Raises:
            InputError: no text in them, or a memory that was made or continued by ``feed``.
        """
        head = len(self._opening)
        before = len(text_of(memory)) if memory is not None else 0
        ids, _ = self._encoded(documents, before=head + before)
        return len(ids) + (head if memory is None else 0)

    def to_reread(self, memory: M, documents: int) -> int:
        """Tokens that ``rewind`` will read again.

        Raises:
            InputError: as ``rewind``.
        """
        check_documents(documents, len(text_of(memory).documents))
        return self._parts(memory).to_reread(memory, documents) if documents else 0

    @torch.inference_mode()
    def rewind(self, memory: M, documents: int) -> M | None:
        """The memory of the first documents, as if the others had never been read.

        Args:
            memory: of a text; it stays as it is.
            documents: how many stay; of none, there is no memory.

        Raises:
            InputError: more documents than were read, or a memory that was made or continued by ``feed``.
        """
        check_documents(documents, len(text_of(memory).documents))
        if not documents:
            return None
        kept = self._parts(memory).cut_back(memory, documents)
        return kept.on("cpu") if self.offload else kept

    # Behind the front

    @cached_property
    def _opening(self) -> tuple[int, ...]:
        """The ids that every part of a text begins with."""
        return tuple(self.tokens.encode_opening(self._prompts(None))) if self.tokens is not None else ()

    def _reading(
        self, memory: M | None, ids: Tensor, documents: Sequence[DocumentSpan]
    ) -> tuple[int, Callable[[Progress], M]]:
        """How many tokens reading will run, and what does it; refuses what cannot be read."""
        parts = self._parts(memory, len(ids))

        def read(progress: Progress) -> M:
            parts.progress = progress
            return parts.read(memory, ids, documents)

        return parts.to_read(memory, len(ids)), read

    def _tokenizer(self) -> Tokens:
        if self.tokens is None:
            raise InputError(
                "This model was loaded without a tokenizer, so it takes token ids only: feed() and "
                "greedy(). Put tokenizer.json and tokenizer_config.json into its folder to work with text."
            )
        return self.tokens

    def _encoded(
        self, given: str | Document | Sequence[str | Document], *, before: int
    ) -> tuple[np.ndarray[Any, np.dtype[np.int64]], tuple[DocumentSpan, ...]]:
        head = len(self._opening)
        tokens = self._tokenizer()
        return tokens.encode_documents(texts_of(given), before=before, opening=head, fill=self._fill)

    def _request(self, tokens: Tokens, prompts: PromptSet, ask: Ask) -> Tensor:
        ids = tokens.encode_request(prompts, ask.kind, ask.question)
        if not ids:
            raise InputError(
                f"The request for {ask.kind!r} has no tokens; expected a template with words in it."
            )
        return torch.tensor(ids, dtype=torch.long, device=self._device)

    @cached_property
    def _vocabulary_bytes(self) -> Vocabulary | None:
        """The tokens as bytes of text; None where they cannot be told."""
        try:
            return Vocabulary.of(self._tokenizer())
        except UnsupportedModelError as error:
            logger.warning("Spans are not held to the text: %s", error)
            return None


@dataclass(frozen=True, slots=True)
class _Request:
    """A request as it is run: its ids [T], the longest reply, its parts, and whether the reply is held."""

    ids: Tensor
    limit: int
    parts: tuple[int, ...] | None
    held: bool
