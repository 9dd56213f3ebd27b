"""The whole story: text is memorized, a question recalls clues, clues find evidence, evidence answers.

In: the user's text, then questions. Out: clues, evidence, answers. Knows the stages and their order, while no
stage knows another; how a memory is made, a clue parsed or a chunk found is theirs.

All that was memorized is one immutable value. A call takes it once and works on it to the end; memorizing
builds the next one and puts it in place with one assignment. So any number of threads may ask while one reads
on, and a reading that fails changes nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from threading import Lock
from typing import Any, Literal, Self, TypeVar, get_args

from memorag_core.answer import answer_from_evidence, draft_answer
from memorag_core.asks import checked_asks
from memorag_core.checking import check_clues
from memorag_core.clues import recall
from memorag_core.config import ChunkSettings, ClueSettings, RetrievalSettings
from memorag_core.corpus import Corpus, DocumentRow, Order, Reader, Reading
from memorag_core.errors import InputError, NothingMemorizedError, StoreError
from memorag_core.grounding import Passages
from memorag_core.language import detect_language
from memorag_core.models import bundled_path
from memorag_core.prompts import load_prompts
from memorag_core.protocols import CountTokens, Generate, MemoryModel, keeps_documents
from memorag_core.records import (
    Answer,
    Ask,
    Chunk,
    Clue,
    ClueKind,
    Document,
    Evidence,
    Recall,
)
from memorag_core.report import Explanation
from memorag_core.retrieval import (
    EntityFinder,
    IndexMaker,
    Tokenization,
    VectorSettings,
    as_embedder,
    as_reranker,
    find_entities,
)
from memorag_core.routing import route
from memorag_core.store import (
    WAIT_SECONDS,
    Encoding,
    StoredCorpus,
    StoredIndex,
    Writer,
    load_store,
    read_manifest,
    save_store,
)
from memorag_core.watching import ClueStream, Deadline

S = TypeVar("S", ChunkSettings, ClueSettings, RetrievalSettings, VectorSettings)

QUESTIONS_KEPT = 256
"""Questions whose clues are kept: asking again, or for more evidence, does not ask the memory again."""


PASSAGES = "passages"
"""The name of the index of passages in a store."""


class MemoRAG:
    """Reads a text into a memory, and answers questions with the evidence that the memory's clues find.

    Attributes:
        model: The memory model.
        embedder: What makes dense vectors, or None for lexical retrieval alone.
        reranker: What orders the first of what was found, or None to leave it as it is.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | MemoryModel | None = None,
        *,
        embedder: Any = None,
        reranker: Any = None,
        ratio: int | Literal["adapt"] | None = None,
        device: str = "auto",
        dtype: str = "auto",
        chunks: ChunkSettings | None = None,
        clues: ClueSettings | None = None,
        retrieval: RetrievalSettings | None = None,
        vectors: VectorSettings | None = None,
        tokenization: Tokenization = "grams",
        entities: EntityFinder | None = None,
        count_tokens: CountTokens = len,
        order: Order = "given",
        progress: bool | None = None,
    ) -> None:
        """Choose the collaborators and settings; nothing is read yet.

        Args:
            model: A memory model, the name or folder of a beacon checkpoint, or None for the bundled model.
            embedder: Makes vectors for dense retrieval beside BM25: LangChain's ``Embeddings``, an embedding
                model of LlamaIndex, an embedder of FlagEmbedding, a ``SentenceTransformer``, or a function
                from a list of texts to their vectors.
            reranker: Reads the question with each of the first passages found, and orders them: a re-ranker
                of FlagEmbedding, a ``CrossEncoder``, or a function from a query and passages to a score for
                each.
            ratio: Raw tokens to a memory slot, or "adapt" for the smallest at which a text fits; None takes
                the model's own.
            device: Where the model computes.
            dtype: In what precision it does. These three are for a model that is loaded here.
            chunks: How documents are cut.
            clues: What is asked of the memory.
            retrieval: How many results, how rankings are joined, and whether token weights of the embedder
                and a graph of chunks take part: these are made only if their weight is above 0.
            vectors: How vectors are searched.
            tokenization: What BM25 makes of scripts without spaces: their characters and pairs of them
                ("grams"), or words of Japanese ("japanese", for corpora in Japanese).
            entities: Finds the entities of a text for the graph, which is made then, whatever its weight;
                None finds names and rare words without a model.
            count_tokens: What a text takes of ``RetrievalSettings.budget``; characters unless told.
            order: How documents stand in memory: as they are added, or "changing_last": a document that is
                updated moves behind those that were updated less often, so that its next update reads little.
            progress: Show progress bars; None shows them on terminals.

        Raises:
            InputError: No memory model, or ``ratio``, ``device`` or ``dtype`` for one that is loaded already;
                no embedder, or one without the token weights that are asked for; no re-ranker; an unknown
                order or tokenization.
            CheckpointError: The checkpoint is damaged or missing.
            UnsupportedModelError: The checkpoint needs a computation that this package lacks.
        """
        self.model = _memory_model(model, ratio, device, dtype)
        self.embedder = None if embedder is None else as_embedder(embedder)
        self.reranker = None if reranker is None else as_reranker(reranker)
        self._count_tokens = count_tokens
        self._ratio = ratio
        self._recalling = clues or ClueSettings()
        self._retrieving = retrieval or RetrievalSettings()
        settings = self._retrieving
        self._maker = IndexMaker(
            self.embedder,
            tokenization=tokenization,
            lexical=settings.lexical_weight > 0,
            entities=entities or (find_entities if settings.graph_weight > 0 else None),
            vectors=vectors or VectorSettings(),
            progress=progress,
        )
        self._reader = Reader(self.model, self._maker, chunks or ChunkSettings(), order, progress)
        self._reading = Lock()
        self._corpus: Corpus | None = None
        self._store: Writer | None = None

    def memorize(self, text_or_documents: str | Document | Sequence[str | Document]) -> Self:
        """Read a text or documents into memory, after what was memorized before.

        Plain texts get the lowest free number as id. If anything fails, nothing has changed.

        Returns:
            Itself, so that ``MemoRAG().memorize(text)`` is ready to be asked.

        Raises:
            InputError: No text in it, or a document id that is in use.
        """
        with self._reading:
            self._place(self._reader.added(self._corpus, text_or_documents))
        return self

    def update(self, documents: Document | Sequence[Document]) -> Self:
        """Replace documents by those with the same ids; if anything fails, nothing has changed.

        The memory is cut back to where the first of them starts, and read on from there, which gives the
        memory that reading the new corpus afresh would give. ``tokens_to_update`` says beforehand how much
        that is.

        Raises:
            InputError: No documents, one without text, or an id that is not there.
            NothingMemorizedError: There is nothing to update.
        """
        with self._reading:
            self._place(self._reader.updated(self._memorized(), documents))
        return self

    def delete(self, ids: str | Collection[str]) -> Self:
        """Forget documents; if anything fails, nothing has changed. What stands behind them is read again.

        Args:
            ids: Of one document, or of several. When none is left, there is nothing to ask.

        Raises:
            InputError: No id, or one that is not there.
            NothingMemorizedError: There is nothing to delete.
        """
        with self._reading:
            self._place(self._reader.without(self._memorized(), ids))
        return self

    def tokens_to_update(self, documents: Document | Sequence[Document]) -> Reading:
        """What ``update`` would make the model read; nothing is read.

        Raises:
            InputError: As ``update``; also for a model that cannot tell.
            NothingMemorizedError: There is nothing to update.
        """
        corpus = self._memorized()
        return self._reader.reading(corpus, self._reader.after_update(corpus, documents))

    def tokens_to_delete(self, ids: str | Collection[str]) -> Reading:
        """What ``delete`` would make the model read; raises as it, and for a model that cannot tell."""
        corpus = self._memorized()
        return self._reader.reading(corpus, self._reader.after_delete(corpus, ids))

    def table(self) -> tuple[DocumentRow, ...]:
        """The documents and where they lie in memory, in the order of reading; empty before there are any."""
        return self._reader.rows(self._corpus) if self._corpus else ()

    def clues(self, question: str, *, kinds: Sequence[ClueKind] | None = None) -> tuple[Clue, ...]:
        """What the memory recalls for a question: keys for retrieval, never evidence.

        Args:
            question: What the user wants to know.
            kinds: Kinds of clue to ask for; None takes those of the settings.

        Raises:
            NothingMemorizedError: There is nothing to recall.
        """
        return self._recall(self._memorized(), [question], self._asked(kinds))[0].clues

    def stream_clues(self, question: str, *, kinds: Sequence[ClueKind] | None = None) -> ClueStream:
        """Clues line by line, as the memory recalls them.

        They come before it is known which are best: what ``clues`` gives afterwards, without asking again, is
        chosen among them. Break a stream off by closing it, or by leaving its ``with`` statement; nothing of
        it is kept then.

        Args:
            question: What the user wants to know.
            kinds: Kinds of clue to ask for; None takes those of the settings.

        Returns:
            An iterator of clues. What the memory model raises, it raises; also, at once:

        Raises:
            NothingMemorizedError: There is nothing to recall.
            InputError: A blank question.
        """
        corpus, settings = self._memorized(), self._asked(kinds)
        asks = [Ask(question, kind) for kind in settings.kinds]
        checked_asks(asks, parts=corpus.memory.parts)
        return ClueStream(
            asks,
            lambda stream: self._recall(corpus, [question], settings, stream=stream),
            deadline=_deadline(settings),
        )

    def explain(self, question: str, *, k: int | None = None) -> Explanation:
        """What happens for a question: asked of the memory, said by it, dropped and why, and found.

        The memory is asked even if the question's clues are kept.

        Args:
            question: What the user wants to know.
            k: How many pieces of evidence; None takes the settings' number, or all there are.

        Raises:
            InputError: As ``retrieve``.
            NothingMemorizedError: There is nothing to search.
        """
        corpus = self._memorized()
        k = self._checked_k(corpus, k)
        settings = self._recalling
        recalled = self._recall(corpus, [question], settings, again=True)[0]
        begun = time.perf_counter()
        evidence = self._found(corpus, [recalled], k)[0]
        seconds = time.perf_counter() - begun
        return Explanation(recalled, evidence, corpus.memory.parts, corpus.memory.tokens, seconds)

    def retrieve(
        self, question: str, *, k: int | None = None, clues: Sequence[Clue] | None = None
    ) -> tuple[Evidence, ...]:
        """The ``k`` chunks that the question and its clues find, best first.

        Args:
            question: What the user wants to know.
            k: How many; None takes the settings' number, or all there are.
            clues: Use these instead of asking the memory; an empty list searches with the question alone.

        Raises:
            InputError: ``k`` below 1 or above the number of chunks, or a question without text.
            NothingMemorizedError: There is nothing to search.
        """
        corpus = self._memorized()
        k = self._checked_k(corpus, k)
        if clues is None:
            clues = self._recall(corpus, [question], self._recalling)[0].clues
        return self._found(corpus, [Recall(question, tuple(clues))], k)[0]

    def retrieve_batch(
        self, questions: Sequence[str], *, k: int | None = None
    ) -> tuple[tuple[Evidence, ...], ...]:
        """``retrieve`` for many questions, which are put to the memory together."""
        corpus = self._memorized()
        k = self._checked_k(corpus, k)
        recalled = self._recall(corpus, questions, self._recalling)
        return self._found(corpus, recalled, k)

    def answer(self, question: str, generate: Generate | None = None, *, k: int | None = None) -> Answer:
        """Answer from evidence with the user's LLM, or, without one, with the memory's own draft.

        Args:
            question: What the user wants to know.
            generate: Gets a prompt with numbered evidence, returns the answer. None gives the memory's draft,
                with ``source="memory"``: it was recalled, and need not agree with the evidence beside it.
            k: How many pieces of evidence; None takes the settings' number, or all there are.

        Raises:
            InputError: As ``retrieve``.
            NothingMemorizedError: There is nothing to answer from.
        """
        corpus = self._memorized()
        k = self._checked_k(corpus, k)
        clues = self._recall(corpus, [question], self._recalling)[0].clues
        evidence = self._found(corpus, [Recall(question, clues)], k)[0]
        if generate is not None:
            prompts = load_prompts(self._recalling.language or detect_language(question))
            return answer_from_evidence(question, evidence, generate=generate, prompts=prompts, clues=clues)
        if "answer" not in self._recalling.kinds:
            clues += self._recall(corpus, [question], self._asked(("answer",)))[0].clues
        return draft_answer(question, clues, evidence=evidence)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        kv: Encoding | None = None,
        wait: float = WAIT_SECONDS,
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        """Write all that was memorized, as a whole or not at all; docs/format.md has the layout.

        Where a memory of the same model was saved before, only what is new is written.

        Args:
            path: A folder, or an address that fsspec knows ("s3://bucket/name").
            kv: How keys and values are stored: "float" as they are; "int8" or "int4" in less space and with a
                loss, which docs/format.md states. None as the last save did there, at first "float".
            wait: Seconds to wait for another process that writes there; 0 gives up at once.
            cache: Where files of remote stores are kept; None for the user's cache folder.

        Raises:
            NothingMemorizedError: There is nothing to save.
            InputError: An unknown ``kv``, or ``wait`` below 0.
            StoreError: The folder cannot be written, is being written by another, or holds something else.
            MissingExtraError: An address, and what reaches it is not installed.
        """
        save_store(path, self._stored(self._memorized()), kv=kv, wait=wait, cache=cache)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        model: str | os.PathLike[str] | MemoryModel | None = None,
        *,
        embedder: Any = None,
        reranker: Any = None,
        ratio: int | Literal["adapt"] | None = None,
        device: str = "auto",
        dtype: str = "auto",
        chunks: ChunkSettings | None = None,
        clues: ClueSettings | None = None,
        retrieval: RetrievalSettings | None = None,
        vectors: VectorSettings | None = None,
        tokenization: Tokenization | None = None,
        entities: EntityFinder | None = None,
        count_tokens: CountTokens = len,
        order: Order | None = None,
        progress: bool | None = None,
        cache: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Open what ``save`` wrote, without reading the text again.

        Settings that are left out are as they were saved, and so is the ratio of a model that is loaded here.

        Args:
            path: The folder or the address.
            model: The memory model that read the text.
            embedder: The one that made the saved vectors. Where none were saved, one can be added here.
            reranker: See ``MemoRAG``.
            ratio: See ``MemoRAG``.
            device: See ``MemoRAG``.
            dtype: See ``MemoRAG``.
            chunks: See ``MemoRAG``; for documents that are memorized from now on.
            clues: See ``MemoRAG``.
            retrieval: See ``MemoRAG``.
            vectors: See ``MemoRAG``.
            tokenization: See ``MemoRAG``; None as it was saved.
            entities: The one that found the entities of the saved graph, where that was your own.
            count_tokens: See ``MemoRAG``.
            order: See ``MemoRAG``.
            progress: See ``MemoRAG``.
            cache: See ``save``.

        Raises:
            StoreError: The store is damaged, of another format version, or was made with another model or
                embedder.
            InputError: Vectors were saved, and no embedder is given; or a graph of a finder of your own, and
                no ``entities``.
            MissingExtraError: An address, and what reaches it is not installed.
        """
        settings = read_manifest(path).settings
        rag = cls(
            model,
            embedder=embedder,
            reranker=reranker,
            ratio=_stored_ratio(settings) if ratio is None and _is_name(model) else ratio,
            device=device,
            dtype=dtype,
            chunks=chunks or _stored_settings(ChunkSettings, settings, "chunks"),
            clues=clues or _stored_settings(ClueSettings, settings, "clues"),
            retrieval=retrieval or _stored_settings(RetrievalSettings, settings, "retrieval"),
            vectors=vectors or _stored_settings(VectorSettings, settings, "vectors"),
            tokenization=tokenization or _stored_tokenization(settings),
            entities=entities,
            count_tokens=count_tokens,
            order=order or _stored_order(settings),
            progress=progress,
        )
        rag._take(load_store(path, rag.model.fingerprint, cache=cache))
        return rag

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        model: str | os.PathLike[str] | MemoryModel | None = None,
        *,
        embedder: Any = None,
        reranker: Any = None,
        ratio: int | Literal["adapt"] | None = None,
        device: str = "auto",
        dtype: str = "auto",
        chunks: ChunkSettings | None = None,
        clues: ClueSettings | None = None,
        retrieval: RetrievalSettings | None = None,
        vectors: VectorSettings | None = None,
        tokenization: Tokenization | None = None,
        entities: EntityFinder | None = None,
        count_tokens: CountTokens = len,
        order: Order | None = None,
        progress: bool | None = None,
        kv: Encoding | None = None,
        wait: float = WAIT_SECONDS,
        cache: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Work on a store in place: what is memorized, updated or deleted is saved before it can be asked.

        The store is made if there is none. Nobody else can write to it until ``close``, or the end of a
        ``with`` statement; others may load it meanwhile, and find what was saved last.

        Args:
            path: The folder or the address.
            model: See ``load``; so are the arguments up to ``progress``.
            embedder: See ``load``.
            reranker: See ``MemoRAG``.
            ratio: See ``MemoRAG``.
            device: See ``MemoRAG``.
            dtype: See ``MemoRAG``.
            chunks: See ``MemoRAG``.
            clues: See ``MemoRAG``.
            retrieval: See ``MemoRAG``.
            vectors: See ``MemoRAG``.
            tokenization: See ``load``.
            entities: See ``load``.
            count_tokens: See ``MemoRAG``.
            order: See ``MemoRAG``.
            progress: See ``MemoRAG``.
            kv: See ``save``; for what is saved from now on.
            wait: Seconds to wait for another who has it open; 0 gives up at once.
            cache: See ``save``.

        Raises:
            StoreError: As ``load`` and ``save``; another has it open.
            InputError: As ``load``; an unknown ``kv``, or ``wait`` below 0.
            MissingExtraError: An address, and what reaches it is not installed.
        """
        with ExitStack() as held:
            store = held.enter_context(Writer(path, kv=kv, wait=wait, cache=cache))
            manifest = store.manifest()
            settings = manifest.settings if manifest else None
            rag = cls(
                model,
                embedder=embedder,
                reranker=reranker,
                ratio=_stored_ratio(settings) if ratio is None and _is_name(model) else ratio,
                device=device,
                dtype=dtype,
                chunks=chunks or _stored_settings(ChunkSettings, settings, "chunks"),
                clues=clues or _stored_settings(ClueSettings, settings, "clues"),
                retrieval=retrieval or _stored_settings(RetrievalSettings, settings, "retrieval"),
                vectors=vectors or _stored_settings(VectorSettings, settings, "vectors"),
                tokenization=tokenization or _stored_tokenization(settings),
                entities=entities,
                count_tokens=count_tokens,
                order=order or _stored_order(settings),
                progress=progress,
            )
            if manifest:
                rag._take(store.load(rag.model.fingerprint))
            else:
                store.save(rag._stored(None))
            held.pop_all()
        rag._store = store
        return rag

    def close(self) -> None:
        """Let others write to the store that was opened; it can still be asked, and no longer changed."""
        with self._reading:  # what is being saved is saved
            if self._store is not None:
                self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def documents(self) -> tuple[Document, ...]:
        """What was memorized, in the order of reading; empty before."""
        return self._corpus.documents if self._corpus else ()

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """What can be found, in the order of the text; empty before anything is memorized."""
        return self._corpus.index.chunks if self._corpus else ()

    @property
    def memory(self) -> Any:
        """The memory, an immutable value of the model's; None before anything is memorized."""
        return self._corpus.memory if self._corpus else None

    def _place(self, corpus: Corpus | None) -> None:
        """Make a corpus the one that is asked; where a store is open, it is saved first."""
        if self._store is not None:
            self._store.save(self._stored(corpus))
        self._corpus = corpus

    def _stored(self, corpus: Corpus | None) -> StoredCorpus:
        """A corpus as the store takes it; None for one without documents."""
        tensors, header = self.model.pack(corpus.memory) if corpus else ({}, {})
        settings = {
            "ratio": self._ratio,
            "order": self._reader.order,
            "changes": dict(corpus.changes) if corpus else {},
            "chunks": asdict(self._reader.chunks),
            "clues": asdict(self._recalling),
            "retrieval": asdict(self._retrieving),
            "vectors": asdict(self._maker.vectors),
            "tokenization": self._maker.tokenization,
        }
        indexes = {}
        if corpus:
            parts = {PASSAGES: corpus.passages.pack(), **self._maker.packed(corpus.index)}
            indexes = {name: StoredIndex(*kept) for name, kept in parts.items()}
        return StoredCorpus(
            documents=corpus.documents if corpus else (),
            chunks=corpus.index.chunks if corpus else (),
            tensors=tensors,
            header=header,
            fingerprint=self.model.fingerprint,
            settings=settings,
            vectors=corpus.index.vectors if corpus else None,
            indexes=indexes,
        )

    def _take(self, stored: StoredCorpus) -> None:
        """Put what was stored in place."""
        if stored.documents:
            kept = {name: (index.arrays, index.header) for name, index in stored.indexes.items()}
            index = self._maker.unpacked(stored.chunks, stored.vectors, kept)
            memory = self.model.unpack(stored.tensors, stored.header)
            passages = _stored_passages(stored)
            changes = _stored_changes(stored.settings)
            self._corpus = Corpus(stored.documents, memory, index, passages, changes)

    def _memorized(self) -> Corpus:
        if self._corpus is None:
            raise NothingMemorizedError(
                "Nothing has been memorized yet, so there is nothing to ask or to save. Call memorize(text) "
                "first, or MemoRAG.load(path) for a text that was saved."
            )
        return self._corpus

    def _asked(self, kinds: Sequence[ClueKind] | None) -> ClueSettings:
        return self._recalling if kinds is None else replace(self._recalling, kinds=tuple(kinds))

    def _recall(
        self,
        corpus: Corpus,
        questions: Sequence[str],
        settings: ClueSettings,
        *,
        stream: ClueStream | None = None,
        again: bool = False,
    ) -> tuple[Recall, ...]:
        """The clues for each question, asking the memory only for those that are not kept.

        What was asked for under a limit that ended it, or for a stream that was broken off, is not kept.
        """
        if isinstance(questions, str) or not all(isinstance(question, str) for question in questions):
            raise InputError(
                f"The questions are {questions!r}; expected a list of texts. Give one text for each."
            )
        kept = {} if again or stream is not None else corpus.recalled.copy()
        missing = [question for question in dict.fromkeys(questions) if (question, settings) not in kept]
        if missing:
            watch = stream or _deadline(settings)
            recalled = recall(
                missing,
                corpus.memory,
                model=self.model,
                settings=replace(settings, language=settings.language or corpus.language),
                parts=self._routed(corpus, missing, settings.max_parts),
                passages=corpus.passages if settings.grounded else None,
                watch=watch,
            )
            recalled = check_clues(
                recalled, passages=corpus.passages, support=corpus.index.support, settings=settings
            )
            fresh = {(one.question, settings): one for one in recalled}
            kept |= fresh
            if watch is None or not watch.ended_early:
                if len(corpus.recalled) + len(fresh) > QUESTIONS_KEPT:
                    corpus.recalled.clear()
                corpus.recalled.update(fresh)
        return tuple(kept[question, settings] for question in questions)

    def _found(self, corpus: Corpus, recalled: Sequence[Recall], k: int) -> tuple[tuple[Evidence, ...], ...]:
        """The evidence for each question and its clues."""
        return corpus.index.retrieve_batch(
            [(one.question, one.clues) for one in recalled],
            k=k,
            settings=self._retrieving,
            reranker=self.reranker,
            count_tokens=self._count_tokens,
        )

    def _routed(
        self, corpus: Corpus, questions: Sequence[str], most: int | None
    ) -> list[tuple[int, ...] | None] | None:
        """The parts that each question is put to; None for all of them."""
        if most is None or corpus.memory.parts <= most:
            return None
        if not keeps_documents(self.model):
            raise InputError(
                f"ClueSettings.max_parts is {most}, and a {type(self.model).__name__} cannot be asked in "
                "part: it lacks the members of memorag_core.DocumentMemoryModel. Leave max_parts out."
            )
        numbers = {document.id: number for number, document in enumerate(corpus.documents)}
        return route(
            questions, corpus.memory, model=self.model, index=corpus.index, numbers=numbers, most=most
        )

    def _checked_k(self, corpus: Corpus, k: int | None) -> int:
        """Refuse a k that cannot be had before the memory is asked, which takes time."""
        if k is None:
            return min(self._retrieving.k, len(corpus.index.chunks))  # a short text has fewer
        corpus.index.retrieve_batch((), k=k, settings=self._retrieving)  # without requests: looks at k only
        return k


def _deadline(settings: ClueSettings) -> Deadline | None:
    return None if settings.max_seconds is None else Deadline(settings.max_seconds)


def _is_name(model: object) -> bool:
    return model is None or isinstance(model, str | os.PathLike)


def _memory_model(model: Any, ratio: int | Literal["adapt"] | None, device: str, dtype: str) -> MemoryModel:
    if _is_name(model):
        from memorag_core.beacon import BeaconModel  # here, for it loads torch and transformers

        path = bundled_path() if model is None else model
        return BeaconModel.from_pretrained(path, ratio=ratio, device=device, dtype=dtype)
    # Methods only: asking for the fingerprint might read all the weights.
    if not all(callable(getattr(model, name, None)) for name in ("memorize", "recollect", "pack", "unpack")):
        raise InputError(
            f"The model is a {type(model).__name__}; expected a memory model (memorag_core.MemoryModel), the "
            f"name or folder of a checkpoint, or None for the bundled model."
        )
    if ratio is not None or (device, dtype) != ("auto", "auto"):
        raise InputError(
            "ratio, device and dtype say how to load a model, but a loaded one was given. Give them where it "
            "is loaded: BeaconModel.from_pretrained(name, ratio=..., device=..., dtype=...)."
        )
    loaded: MemoryModel = model
    return loaded


def _stored_settings(kind: type[S], settings: Mapping[str, Any] | None, name: str) -> S | None:
    """What was saved under a name; None for a store that is new."""
    if settings is None:
        return None
    try:
        return kind(**settings[name])
    except (KeyError, TypeError, InputError) as error:
        raise StoreError(
            f"The saved settings for {name} are {settings.get(name)!r}, unknown to this release: {error} "
            f"Give them on loading: MemoRAG.load(path, {name}={kind.__name__}(...))."
        ) from error


def _stored_ratio(settings: Mapping[str, Any] | None) -> int | Literal["adapt"] | None:
    ratio = (settings or {}).get("ratio")
    if ratio is None or ratio == "adapt" or type(ratio) is int:
        return ratio
    raise StoreError(
        f"The saved ratio is {ratio!r}; expected a whole number, 'adapt' or nothing. Give it on loading."
    )


def _stored_order(settings: Mapping[str, Any] | None) -> Order:
    order: Order = (settings or {}).get("order", "given")
    if order not in get_args(Order):
        raise StoreError(
            f"The saved order is {order!r}; expected one of {', '.join(get_args(Order))}. Give it on "
            "loading: MemoRAG.load(path, order='given')."
        )
    return order


def _stored_tokenization(settings: Mapping[str, Any] | None) -> Tokenization:
    tokenization: Tokenization = (settings or {}).get("tokenization", "grams")
    if tokenization not in get_args(Tokenization):
        raise StoreError(
            f"The saved tokenization is {tokenization!r}; expected one of "
            f"{', '.join(get_args(Tokenization))}. Give it on loading: MemoRAG.load(path, "
            "tokenization='grams')."
        )
    return tokenization


def _stored_changes(settings: Mapping[str, Any]) -> dict[str, int]:
    changes = settings.get("changes", {})
    if not isinstance(changes, dict) or not all(type(count) is int for count in changes.values()):
        raise StoreError(
            f"The saved counts of changes are {changes!r}; expected a number for each changed document. "
            "Restore the folder from a copy, or memorize the text again and save it."
        )
    return changes


def _stored_passages(stored: StoredCorpus) -> Passages:
    kept = stored.indexes.get(PASSAGES)
    if kept is None:  # written by hand, or by what knows no memory
        return Passages.build(stored.documents)
    return Passages.unpack(kept.arrays, dict(kept.header), stored.documents)
