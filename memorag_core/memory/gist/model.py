"""The gist memory model: has blocks of the text condensed, and another memory model read the gists.

In: a condenser, a memory model, texts, questions. Out: memories, and what is recalled from them. The front of
this package; it knows nothing of clues, chunks or retrieval, and no kind of memory model.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from memorag_core.documents.language import detect_language
from memorag_core.errors import InputError, NothingMemorizedError
from memorag_core.memory.gist.blocks import Block, checked_documents, cut_blocks
from memorag_core.memory.gist.condensing import Task, WithoutGist, as_condenser, condense
from memorag_core.memory.gist.journal import Journal
from memorag_core.memory.gist.memory import Gist, GistMemory
from memorag_core.memory.gist.serialize import pack, unpack
from memorag_core.memory.llm import CONCURRENCY, CountTokens, Usage
from memorag_core.memory.requests import is_whole
from memorag_core.prompts import PromptSet, load_prompts
from memorag_core.protocols import MemoryModel, ShowProgress, Watch, asked_together
from memorag_core.system.progress import progress_bar
from memorag_core.types import Ask, Document, Recollection

BLOCK_TOKENS = 4096
"""Tokens of a block: a chapter's section, which small models still read well."""

GIST_TOKENS = 512
"""Tokens that a gist is asked to have: an eighth of its block, so that a million tokens become 125,000."""

LEAST_TOKENS = 64
"""Of a block: no fewer than a long sentence."""

BETWEEN = "\n\n"
"""What stands between the gists of a document."""


class GistModel:
    """A memory of gists: an LLM condenses blocks of the text, and a memory model reads what it wrote.

    Millions of tokens fit where the text itself would not, and no block is forgotten for another; what a gist
    leaves out is not in the memory. Evidence is still found in the whole text.

    But for the journal on disk it holds nothing of what it reads: a memory is a value that the caller keeps.
    Model and memories can be used by any number of threads at once; several processes may share a journal.

    Args:
        condenser: writes the gists: a chat model of LangChain, an LLM of LlamaIndex, or a function from a
            prompt to a text (see ``memory.llm.LLM``; retries, rate limits and timeouts are set on it),
            or ``local_condenser(model)``.
        memory_model: reads the gists and is asked: a beacon, long-context or hosted model, or any other
            ``MemoryModel``.
        name: what memories and journals are checked against; None for the condenser's own.
        block_tokens: the most tokens of a block, 64 or more. Blocks end with a sentence, or with a paragraph
            where one ends in the last eighth, and never reach over two documents.
        gist_tokens: how long a gist is asked to be, 16 tokens to half of a block. A block that is not longer
            is read as it stands, and so is one whose gist turns out no shorter.
        language: of the requests, such as "en" or "zh"; None finds it from each document.
        prompts: how gists are asked for (``PromptSet.gist``); None takes the shipped prompt set.
        journal: a file that keeps each gist as it comes, so that the same text is never condensed twice,
            whatever interrupts it. None keeps them with the memory alone.
        concurrency: the most requests in flight at once; local condensers have a batch instead.
        count_tokens: counts the tokens of a text; None estimates, a token for every 4 bytes of UTF-8.
        without_gist: what becomes of a block whose condenser says nothing or refuses: "fail" ends the call
            with an error when all others are done, "text" reads the block as it stands.

    Raises:
        InputError: a condenser or memory model of unknown shape, or settings that cannot be used.
    """

    def __init__(
        self,
        condenser: Any,
        memory_model: MemoryModel,
        *,
        name: str | None = None,
        block_tokens: int = BLOCK_TOKENS,
        gist_tokens: int = GIST_TOKENS,
        language: str | None = None,
        prompts: PromptSet | None = None,
        journal: str | os.PathLike[str] | None = None,
        concurrency: int = CONCURRENCY,
        count_tokens: CountTokens | None = None,
        without_gist: WithoutGist = "fail",
    ) -> None:
        self._condenser = as_condenser(
            condenser, name=name, concurrency=concurrency, count_tokens=count_tokens
        )
        missing = [
            method
            for method in ("memorize", "recollect", "pack", "unpack")
            if not callable(getattr(memory_model, method, None))
        ]
        if missing or isinstance(memory_model, type):
            raise InputError(
                f"The memory model is {memory_model!r:.60}; expected one that reads the gists and is asked, "
                "such as BeaconModel.from_pretrained(...) or HostedModel(chat)."
            )
        if not is_whole(block_tokens) or block_tokens < LEAST_TOKENS:
            raise InputError(
                f"block_tokens is {block_tokens!r}; expected the tokens of a block, {LEAST_TOKENS} or more."
            )
        if not is_whole(gist_tokens) or not 16 <= gist_tokens <= block_tokens // 2:
            raise InputError(
                f"gist_tokens is {gist_tokens!r}; expected 16 to {block_tokens // 2}, half of a block."
            )
        if without_gist not in get_args(WithoutGist):
            raise InputError(
                f"without_gist is {without_gist!r}; expected one of {', '.join(get_args(WithoutGist))}."
            )
        (prompts if prompts is not None else load_prompts(language)).gist_parts("", words=1)
        self.memory_model = memory_model
        self.block_tokens = block_tokens
        self.gist_tokens = gist_tokens
        self.language = language
        self.prompts = prompts
        self.without_gist: WithoutGist = without_gist
        self._journal = Journal(journal) if journal is not None else None

    @property
    def name(self) -> str:
        """The condenser's name."""
        return self._condenser.name

    @property
    def usage(self) -> Usage:
        """What the condenser used so far, over all memories and threads."""
        return self._condenser.usage

    @property
    def asked_together(self) -> bool:
        """As the memory model says."""
        return asked_together(self.memory_model)

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """JSON-able identity of condenser, request, blocks and memory model, to check saved memories against.

        The shipped requests count as one: their wording may improve, and a gist stays a gist.
        """
        own = self.prompts.gist if self.prompts is not None else None
        return {
            "kind": "gist",
            "condenser": self.name,
            "prompts": hashlib.sha256(own.encode()).hexdigest() if own is not None else None,
            "block_tokens": self.block_tokens,
            "gist_tokens": self.gist_tokens,
            "memory": dict(self.memory_model.fingerprint),
        }

    def memorize(
        self,
        text_or_documents: str | Document | Sequence[str | Document],
        memory: GistMemory | None = None,
        *,
        progress: ShowProgress = None,
    ) -> GistMemory:
        """Have blocks of text condensed, and read the gists into a memory.

        Only new blocks are condensed: those of other documents than the memory's, less those in the journal.
        Reading documents at once or one after the other, each time continuing the memory, gives the same
        gists, and the same memory where the memory model says so of itself.

        Args:
            text_or_documents: a text, a document, or several; plain texts get the lowest free number as id.
            memory: what was read before, to be continued; it stays as it is.
            progress: whether to show bars, in tokens, or who is told; None shows them on terminals.

        Raises:
            InputError: no text, an empty text, a document id that is in use, or a memory of other settings.
            MemoRAGError: the condenser gave up, or gave no gists; see ``without_gist``.
            StoreError: the journal is damaged or cannot be written.
        """
        if memory is not None:
            self._check(memory)
        documents = checked_documents(
            text_or_documents, taken=memory.document_ids if memory is not None else ()
        )
        count = self._condenser.count_tokens
        blocks = [cut_blocks(document, count, tokens=self.block_tokens) for document in documents]
        gists = self._condensed(documents, blocks, progress)
        texts = [
            Document(BETWEEN.join(gist.text for gist in own), document.id, document.metadata)
            for document, own in zip(documents, gists, strict=True)
        ]
        inner = self.memory_model.memorize(
            texts, memory.inner if memory is not None else None, progress=progress
        )
        before = memory.gists if memory is not None else ()
        new = (gist for own in gists for gist in own)
        return GistMemory((*before, *new), inner, self.block_tokens, self.gist_tokens)

    def recollect(
        self,
        asks: Sequence[Ask],
        memory: GistMemory | None,
        *,
        language: str | None = None,
        max_new_tokens: int | None = None,
        passages: Any = None,
        watch: Watch | None = None,
    ) -> tuple[tuple[Recollection, ...], ...]:
        """Put requests to the memory model over the gists; see its own ``recollect``.

        Spans are held to the documents that were condensed, not to the gists.

        Raises:
            NothingMemorizedError: there is no memory.
            InputError: a memory of another model, or what the memory model refuses.
        """
        if memory is None:
            raise NothingMemorizedError("Nothing has been memorized yet. Call memorize(text) first.")
        self._check(memory)
        return self.memory_model.recollect(
            asks,
            memory.inner,
            language=language,
            max_new_tokens=max_new_tokens,
            passages=replace(passages, whole=False) if passages is not None else None,
            watch=watch,
        )

    def pack(self, memory: GistMemory) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """The memory as (arrays by name, JSON-able header), for a store."""
        self._check(memory)
        return pack(memory, self.memory_model.pack(memory.inner))

    def unpack(self, tensors: Mapping[str, Any], header: Mapping[str, Any]) -> GistMemory:
        """The inverse of ``pack``.

        Raises:
            StoreError: they do not fit this model, its memory model, or each other.
        """
        return unpack(
            tensors,
            header,
            block_tokens=self.block_tokens,
            gist_tokens=self.gist_tokens,
            unpack_inner=self.memory_model.unpack,
        )

    def _condensed(
        self,
        documents: Sequence[Document],
        blocks: Sequence[Sequence[Block]],
        progress: ShowProgress,
    ) -> list[list[Gist]]:
        """The gists of each document."""
        tasks = [self._tasks(document, own) for document, own in zip(documents, blocks, strict=True)]
        asked = sum(task.block.tokens for own in tasks for task in own)
        texts: dict[str, str] = {}
        if asked:
            with progress_bar(asked, "condensing", unit=" tokens", shown=progress, scaled=True) as told:
                texts = condense(
                    tasks,
                    self._condenser,
                    gist_tokens=self.gist_tokens,
                    without_gist=self.without_gist,
                    journal=self._journal,
                    progress=told,
                )
        found = {task.block: texts[task.key] for own in tasks for task in own}
        return [[self._gist(block, found.get(block)) for block in own] for own in blocks]

    def _tasks(self, document: Document, blocks: Sequence[Block]) -> list[Task]:
        """Requests for all blocks that are longer than a gist."""
        prompts = self.prompts
        if prompts is None:
            prompts = load_prompts(self.language or detect_language(document.text))
        words = self.gist_tokens * 3 // 4  # of English; of Chinese characters it is about as many tokens
        return [
            Task.of(block, prompts.gist_parts(block.text.strip(), words=words), condenser=self.name)
            for block in blocks
            if block.tokens > self.gist_tokens
        ]

    def _gist(self, block: Block, text: str | None) -> Gist:
        text = text if text is not None else block.text.strip()
        size = self._condenser.count_tokens(text)
        return Gist(text, block.document_id, block.start, block.end, block.tokens, size)

    def _check(self, memory: object) -> None:
        if not isinstance(memory, GistMemory):
            raise InputError(
                f"The memory is a {type(memory).__name__}; expected what memorize() of a GistModel gave."
            )
        found = memory.block_tokens, memory.gist_tokens_asked
        if found != (self.block_tokens, self.gist_tokens):
            raise InputError(
                f"The memory has gists of {found[1]} tokens for blocks of {found[0]}; the model is set to "
                f"{self.gist_tokens} and {self.block_tokens}. Use a model of the same settings, or memorize "
                "the text again."
            )
