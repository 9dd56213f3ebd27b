"""What the stages ask of their collaborators: a memory model, encoders, a re-ranker, a generator, callbacks.

In: nothing. Out: structural types. Knows no implementation; anything of the right shape fits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context
from typing import Any, Protocol, TypeAlias, TypeGuard, runtime_checkable

import numpy as np
import numpy.typing as npt

from memorag_core.types import (
    Ask,
    Clue,
    Document,
    Findings,
    FoundPassage,
    Recall,
    Recollection,
    SearchFailure,
)

Generate: TypeAlias = Callable[[str], str]
"""The user's own LLM: a prompt in, its text out."""

FloatMatrix: TypeAlias = npt.NDArray[np.float32]
"""Vectors, one a row."""

CountTokens: TypeAlias = Callable[[str], int]
"""How much a text takes of a budget, in whatever unit."""

ShowProgress: TypeAlias = bool | Callable[[int, int, str], object] | None
"""Whether to show a bar, None for on terminals; or who is told what is done, of how much, and what it is."""

Splitter: TypeAlias = Callable[[str], Sequence[tuple[int, int]] | Sequence[str]]
"""The user's own chunks of a text: of each its first character and the one after its last, or its text."""

TokenWeights: TypeAlias = Mapping[int, float]
"""The weight of each token id that a text has, above 0."""


@runtime_checkable
class Memory(Protocol):
    """What is left after reading: an immutable value that can be shared, saved and continued."""

    @property
    def tokens(self) -> int:
        """Raw tokens read so far."""
        ...

    @property
    def parts(self) -> int:
        """Memories that are asked together (1 unless the text outgrew the model's capacity)."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes the memory holds."""
        ...


@runtime_checkable
class MemoryModel(Protocol):
    """A model that reads a corpus into a memory and recalls from it.

    Beacon models are one kind; long-context, gist and hosted models fit the same shape.
    """

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """JSON-able identity (weights, tokenizer, settings) that a saved memory is checked against."""
        ...

    def memorize(
        self,
        text_or_documents: str | Sequence[Document],
        memory: Any = None,
        *,
        progress: ShowProgress = None,
    ) -> Any:
        """Read text into a memory; with ``memory``, continue it. ``progress=None``: a bar on terminals."""
        ...

    def recollect(
        self,
        asks: Sequence[Ask],
        memory: Any,
        *,
        language: str | None = None,
        max_new_tokens: int | None = None,
        passages: Any = None,
        watch: Watch | None = None,
    ) -> tuple[tuple[Recollection, ...], ...]:
        """Put requests to a memory, all together.

        Args:
            asks: questions, each for one kind of clue. Only a ``DocumentMemoryModel`` is asked for parts.
            memory: what was read.
            language: of the requests, such as "en" or "zh"; None leaves it to the model.
            max_new_tokens: the longest reply of a part; None for the usual one.
            passages: ``memory.grounding.Passages`` of the corpus. A model that decodes token by token
                holds replies of kind "span" to them; others leave them alone.
            watch: who hears replies as they come, and may end them; a model that cannot tell leaves it alone.

        Returns:
            For each request what every part said that it was put to, best first.
        """
        ...

    def pack(self, memory: Any) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """The memory as (tensors by name, JSON-able header), for a store.

        Two entries of the header speak to the store, and may be left out: ``grows`` says along which axis a
        tensor grows at its end, so that only what is new is written, and ``kv`` names the tensors that may
        be quantized.
        """
        ...

    def unpack(self, tensors: Mapping[str, Any], header: Mapping[str, Any]) -> Any:
        """The inverse of ``pack``; raises ``StoreError`` when they do not fit this model."""
        ...


class Watch(Protocol):
    """Who hears replies while a memory is asked."""

    def said(self, ask: int, reply: Recollection) -> None:
        """One more line of a reply is complete, or the reply; ``reply`` is all of it so far.

        It is ``finished`` unless a limit cut it off. Called on the thread that asks; what it raises ends the
        asking and is raised there.
        """
        ...

    def goes_on(self) -> bool:
        """Asked again and again; False ends all replies where they are."""
        ...


def asked_together(model: MemoryModel) -> bool:
    """Whether questions of several threads should be put to a model in one pass instead of several at once.

    That is so where a model computes on this machine, and says so by an attribute ``asked_together`` that is
    True. A model behind an API answers many at once.
    """
    return getattr(model, "asked_together", False) is True


class DocumentMemoryModel(MemoryModel, Protocol):
    """A memory model that knows where documents lie in its memory, and can take the last ones back.

    With one, changing a document reads again what stands behind it and no more, and requests can be put to
    the parts of a memory that matter (``Ask.parts``).
    """

    def token_spans(self, memory: Any) -> Sequence[tuple[int, int]]:
        """For each document that was read its first token in the stream and the one after its last."""
        ...

    def parts_of(self, memory: Any, document: int, start: int, end: int) -> range:
        """The parts that hold any of the characters from ``start`` to ``end`` of a document, by number."""
        ...

    def slot_span(self, memory: Any, document: int) -> tuple[int, int] | None:
        """The slots of a document in the first part that holds it; None for a memory without slots."""
        ...

    def count_tokens(self, documents: Sequence[Document], memory: Any, *, documents_kept: int) -> int:
        """Tokens that reading these documents behind the first ones of a memory will run."""
        ...

    def to_reread(self, memory: Any, documents: int) -> int:
        """Tokens that ``rewind`` will read again."""
        ...

    def rewind(self, memory: Any, documents: int) -> Any:
        """The memory of the first documents, as if the others had never been read; None for none."""
        ...


def keeps_documents(model: MemoryModel) -> TypeGuard[DocumentMemoryModel]:
    """Whether a memory model has what ``DocumentMemoryModel`` adds; its fingerprint is not asked for."""
    names = ("token_spans", "slot_span", "parts_of", "count_tokens", "to_reread", "rewind")
    return all(callable(getattr(model, name, None)) for name in names)


@runtime_checkable
class Embedder(Protocol):
    """Dense vectors of texts (LangChain's ``Embeddings`` has this shape)."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector for each passage."""
        ...

    def embed_query(self, text: str) -> list[float]:
        """The vector of a query."""
        ...


@runtime_checkable
class TextEncoder(Protocol):
    """What knows how much of a passage it reads, so that chunks are cut to fit; an embedder may be one.

    One that has ``too_long(texts)`` too, which gives the tokens of the texts that it would not read whole by
    their places, is asked about many at once.
    """

    @property
    def max_tokens(self) -> int | None:
        """The most tokens of a text that are read, special ones included; None for no limit."""
        ...

    def count_tokens(self, text: str) -> int:
        """The tokens of a text, counted alike: it is read whole if they are no more than ``max_tokens``."""
        ...


@runtime_checkable
class LearnedSparseEncoder(Protocol):
    """What gives weights to the tokens of texts; ``FlagEmbedder`` does.

    An embedder that has ``encode(texts)`` too, with ``vectors`` [N, E] and ``weights`` of N mappings in what
    it gives, is asked for both in one pass.
    """

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """JSON-able: which encoder it is. A stored index is asked with the same one only."""
        ...

    def lexical_documents(self, texts: Sequence[str]) -> list[TokenWeights]:
        """The weights of each passage."""
        ...

    def lexical_query(self, text: str) -> TokenWeights:
        """The weights of a query."""
        ...


class Reranker(Protocol):
    """Scores passages for a question, the higher the better."""

    def __call__(self, query: str, passages: Sequence[str], /) -> Sequence[float]:
        """One finite number for each passage, in their order."""
        ...


@runtime_checkable
class Searcher(Protocol):
    """A retriever of the user's own, over whatever it searches."""

    def search(self, query: str, k: int, /) -> Sequence[FoundPassage]:
        """At most about ``k`` passages for a query, best first; called on several threads at once."""
        ...


@runtime_checkable
class AsyncSearcher(Searcher, Protocol):
    """A retriever of the user's own that can be awaited."""

    async def asearch(self, query: str, k: int, /) -> Sequence[FoundPassage]:
        """``search`` without a thread."""
        ...


class QueryCallbacks:
    """Is told of the steps of a call to the pipeline, where that was called; does nothing by itself.

    Override what you want to hear. ``place`` is the place of a question among those of the call, from 0.
    Every step that was started for a question is ended for it, by ``..._end`` or by ``..._error``. What a
    callback raises ends the call. In calls that are awaited they are called on the event loop, but for
    ``on_clue``: clues are told of on the thread that asks.
    """

    @property
    def hears_clues(self) -> bool:
        """Whether ``on_clue`` is to be called; False spares reading replies while they grow."""
        return True

    def context(self) -> AbstractContextManager[Context | None]:
        """Where the memory is asked, so that a chat model behind it finds its caller; None for here."""
        return nullcontext()

    def on_recall_start(self, place: int, question: str) -> None:
        """The memory is going to be asked; those of all questions come before it is."""

    def on_clue(self, place: int, clue: Clue) -> None:
        """The line of a clue is complete; it is not known yet whether it is among the best."""

    def on_recall_end(self, place: int, recall: Recall) -> None:
        """The clues of a question are chosen."""

    def on_recall_error(self, place: int, error: BaseException) -> None:
        """The question could not be asked, or the call was broken off."""

    def on_search_start(self, place: int, recall: Recall, queries: Sequence[str]) -> None:
        """The question and its clues are going to be searched for.

        Args:
            place: The question's.
            recall: The question and its clues.
            queries: The texts that a retriever is given, the question's own first. One that several questions
                of the call have is searched for once.
        """

    def on_search_failed(self, place: int, failure: SearchFailure) -> None:
        """A search of a retriever of the user's own failed; the others went on."""

    def on_search_end(self, place: int, findings: Findings) -> None:
        """What was found for a question."""

    def on_search_error(self, place: int, error: BaseException) -> None:
        """The question could not be searched for, or the call was broken off."""


class AsyncQueryCallbacks:
    """``QueryCallbacks`` for calls that are awaited: each is awaited before the next one is called."""

    @property
    def hears_clues(self) -> bool:
        """See ``QueryCallbacks``."""
        return True

    def context(self) -> AbstractContextManager[Context | None]:
        """See ``QueryCallbacks``."""
        return nullcontext()

    async def on_recall_start(self, place: int, question: str) -> None:
        """See ``QueryCallbacks``; so below."""

    async def on_clue(self, place: int, clue: Clue) -> None:
        """The line of a clue is complete; all of them come before the first ``on_recall_end``."""

    async def on_recall_end(self, place: int, recall: Recall) -> None:
        """The clues of a question are chosen."""

    async def on_recall_error(self, place: int, error: BaseException) -> None:
        """The question could not be asked, or the call was broken off, as by cancelling it."""

    async def on_search_start(self, place: int, recall: Recall, queries: Sequence[str]) -> None:
        """The question and its clues are going to be searched for."""

    async def on_search_failed(self, place: int, failure: SearchFailure) -> None:
        """A search of a retriever of the user's own failed; the others went on."""

    async def on_search_end(self, place: int, findings: Findings) -> None:
        """What was found for a question."""

    async def on_search_error(self, place: int, error: BaseException) -> None:
        """The question could not be searched for, or the call was broken off."""
