"""The whole story: text is memorized, a question recalls clues, clues find evidence, evidence answers.

In: the user's text, then questions. Out: clues, evidence, answers. Knows the stages and their order, while no
stage knows another; how a memory is made, a clue parsed or a chunk found is theirs.

All that was memorized is one immutable value. A call takes it once and works on it to the end; memorizing
builds the next one and puts it in place with one assignment. So any number of threads may ask while one reads
on, and a reading that fails changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Literal, NoReturn, Self, SupportsIndex, Unpack

from memorag_core.clues.asker import Asker, ClueStream
from memorag_core.clues.recall import Heard
from memorag_core.corpus import Change, Corpus, DocumentRow, Gone, Order, Put, Reader, Reading
from memorag_core.documents.language import detect_language
from memorag_core.errors import InputError
from memorag_core.generation.answer import answer_from_evidence, draft_answer
from memorag_core.generation.explanation import Explanation
from memorag_core.memory.named import memory_model, names_model
from memorag_core.memory.requests import checked_asks
from memorag_core.persistence import Choices, from_stored, to_stored, with_saved
from memorag_core.prompts import load_prompts
from memorag_core.protocols import CountTokens, Generate, MemoryModel, Searcher, ShowProgress, Splitter
from memorag_core.query import QueryOptions, QueryPipeline, memorized
from memorag_core.retrieval import (
    EntityFinder,
    FanOut,
    IndexMaker,
    Tokenization,
    VectorSettings,
    as_embedder,
    as_reranker,
    find_entities,
)
from memorag_core.settings import ChunkSettings, ClueSettings, RetrievalSettings
from memorag_core.store import (
    WAIT_SECONDS,
    Encoding,
    StoredCorpus,
    StoreReader,
    Writer,
)
from memorag_core.system.locking import Lock
from memorag_core.types import (
    Answer,
    Ask,
    Chunk,
    Clue,
    ClueKind,
    Document,
    Evidence,
    Findings,
    Recall,
)

_DEFAULTS = QueryOptions()


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
        splitter: Splitter | None = None,
        clues: ClueSettings | None = None,
        retrieval: RetrievalSettings | None = None,
        vectors: VectorSettings | None = None,
        tokenization: Tokenization | None = None,
        entities: EntityFinder | None = None,
        count_tokens: CountTokens = len,
        order: Order | None = None,
        progress: ShowProgress = None,
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
            chunks: How documents are cut. Chunks that have more tokens than the embedder reads are cut on.
            splitter: Makes the chunks instead: a function from a text to (start, end) pairs or to texts, such
                as the ``split_text`` of LangChain's and LlamaIndex's splitters.
            clues: What is asked of the memory.
            retrieval: How many results, how rankings are joined, and whether token weights of the embedder
                and a graph of chunks take part: these are made only if their weight is above 0.
            vectors: How vectors are searched.
            tokenization: What BM25 makes of scripts without spaces: their characters and pairs of them
                ("grams", unless told), or words of Japanese ("japanese", for corpora in Japanese).
            entities: Finds the entities of a text for the graph, which is made then, whatever its weight;
                None finds names and rare words without a model.
            count_tokens: What a text takes of ``RetrievalSettings.budget``; characters unless told.
            order: How documents stand in memory: as they are added ("given", unless told), or
                "changing_last": a document that is updated moves behind those that were updated less often,
                so that its next update reads little.
            progress: Show progress bars; None shows them on terminals. Or a function that is called as the
                work goes on, with how much is done, how much there is, and of what: "memorizing" or
                "condensing" (tokens), or "encoding" (chunks). An exception that it raises ends the work, and
                the memory stays as it was.

        Raises:
            InputError: No memory model, or ``ratio``, ``device`` or ``dtype`` for one that is loaded already;
                no embedder, or one without the token weights that are asked for; no re-ranker; a splitter
                that cannot be called; an unknown order or tokenization.
            CheckpointError: The checkpoint is damaged or missing.
            UnsupportedModelError: The checkpoint needs a computation that this package lacks.
        """
        self.model = memory_model(model, ratio, device, dtype)
        self.embedder = None if embedder is None else as_embedder(embedder)
        self.reranker = None if reranker is None else as_reranker(reranker)
        self._asker = Asker(self.model)
        self._count_tokens = count_tokens
        self._ratio = ratio
        self._recalling = clues or ClueSettings()
        self._retrieving = retrieval or RetrievalSettings()
        settings = self._retrieving
        maker = IndexMaker(
            self.embedder,
            tokenization=tokenization or "grams",
            learned_sparse=settings.retriever_weights["learned_sparse"] > 0,
            entities=entities or (find_entities if settings.retriever_weights["graph"] > 0 else None),
            vectors=vectors or VectorSettings(),
            progress=progress,
        )
        self._reader = Reader(
            self.model, maker, chunks or ChunkSettings(), order or "given", progress, splitter
        )
        self._reading = Lock()
        self._corpus: Corpus | None = None
        self._store: Writer | None = None
        self._states: dict[str, frozenset[str]] = {}  # by place: the states there that this came from

    def memorize(self, text_or_documents: str | Document | Sequence[str | Document]) -> Self:
        """Read a text or documents into memory, after what was memorized before.

        Plain texts, and documents without an id, get the lowest free number as id; ``change`` says which. If
        anything fails, nothing has changed.

        Returns:
            Itself, so that ``MemoRAG().memorize(text)`` is ready to be asked.

        Raises:
            InputError: No text in it, a document id that is in use, or metadata that JSON cannot hold.
        """
        with self._alone():
            self._place(self._reader.added(self._corpus, text_or_documents))
        return self

    def update(self, documents: Document | Sequence[Document]) -> Self:
        """Replace documents by those with the same ids; if anything fails, nothing has changed.

        The memory is cut back to where the first of them starts, and read on from there, which gives the
        memory that reading the new corpus afresh would give. ``tokens_to_update`` says beforehand how much
        that is.

        Raises:
            InputError: No documents, one without text, one without an id or with one that is not there, or
                metadata that JSON cannot hold.
            NothingMemorizedError: There is nothing to update.
        """
        with self._alone():
            self._place(self._reader.updated(self._memorized(), documents))
        return self

    def upsert(self, documents: Document | Sequence[Document]) -> Self:
        """``update`` those documents whose ids are there, and ``memorize`` the others, in one reading.

        Documents without an id are new ones. If anything fails, nothing has changed.

        Raises:
            InputError: No documents, one without text, an id twice, or metadata that JSON cannot hold.
        """
        self.change(put=() if documents is None else documents)
        return self

    def delete(self, ids: str | Collection[str]) -> Self:
        """Forget documents; if anything fails, nothing has changed. What stands behind them is read again.

        Args:
            ids: Of one document, or of several. When none is left, there is nothing to ask.

        Raises:
            InputError: No id, or one that is not there.
            NothingMemorizedError: There is nothing to delete.
        """
        with self._alone():
            self._place(self._reader.without(self._memorized(), ids))
        return self

    def change(self, *, put: Put | None = None, delete: Gone | None = None) -> Change:
        """Put documents and forget others, in one reading and, where a store is open, in one save.

        Whoever asks meanwhile finds the state before or the state after. If anything fails, nothing has
        changed; where all is as it was, nothing is read or saved.

        Args:
            put: Texts or documents. They take the place of those that have their ids, or come behind them
                all; without an id, they get the lowest free number and replace none.
            delete: Ids of documents to forget. What is put with one of them takes its place.

        Either may be a function from the documents that are there to such a value, or to None: nobody changes
        them between that look and the change. It must not change the memory itself.

        Returns:
            The ids of what was put, in its order, and of what was forgotten.

        Raises:
            InputError: Documents as ``upsert`` refuses them, an id to forget that is not there, or a change
                within this one.
            NothingMemorizedError: An id to forget, and there is no document at all.
        """
        with self._alone():
            edit = self._reader.edit(self._corpus, put=put, delete=delete)
            corpus = self._reader.edited(self._corpus, edit)
            if corpus is not self._corpus:
                self._place(corpus)
        return edit.change

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
        corpus = self._corpus  # once, for another may take its place at any moment
        return self._reader.rows(corpus) if corpus else ()

    def clues(self, question: str, *, kinds: Sequence[ClueKind] | None = None) -> tuple[Clue, ...]:
        """What the memory recalls for a question: keys for retrieval, never evidence.

        Args:
            question: What the user wants to know.
            kinds: Kinds of clue to ask for; None takes those of the settings.

        Raises:
            NothingMemorizedError: There is nothing to recall.
        """
        return self.recall_clues([question], kinds=kinds)[0].clues

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
        pipeline = self.pipeline(QueryOptions(clue_kinds=kinds))
        parts = pipeline.memorized.memory.parts
        checked_asks([Ask(question, kind) for kind in pipeline.clues.kinds], parts=parts)
        return ClueStream(lambda heard, stop: pipeline.recall([question], heard=heard, stop=stop, again=True))

    def recall_clues(
        self,
        questions: Sequence[str],
        *,
        kinds: Sequence[ClueKind] | None = None,
        settings: ClueSettings | None = None,
        heard: Heard | None = None,
    ) -> tuple[Recall, ...]:
        """Clues for many questions, which are put to the memory together, with all that came of it.

        Args:
            questions: What the user wants to know.
            kinds: Kinds of clue to ask for; None takes those of the settings.
            settings: What is asked of the memory; None takes those this was made with.
            heard: Called with a question and a clue, on the thread that asks, as soon as the clue's line is
                complete, before it is known which are best; for a question whose clues are kept, at once.

        Returns:
            For each question its clues, what was dropped and why, and what asking took.

        Raises:
            NothingMemorizedError: There is nothing to recall.
            InputError: No list of questions, or a blank one.
        """
        options = QueryOptions(clue_kinds=kinds, clue_settings=settings)
        return self.pipeline(options).recall(questions, heard=heard)

    async def arecall_clues(
        self,
        questions: Sequence[str],
        *,
        kinds: Sequence[ClueKind] | None = None,
        settings: ClueSettings | None = None,
        heard: Heard | None = None,
    ) -> tuple[Recall, ...]:
        """``recall_clues`` in a thread; cancelling it ends the asking at the next token."""
        options = QueryOptions(clue_kinds=kinds, clue_settings=settings)
        return await self.pipeline(options).arecall(questions, heard=heard)

    def find_evidence(
        self,
        recalled: Sequence[Recall],
        *,
        k: int | None = None,
        settings: RetrievalSettings | None = None,
        over: FanOut | Searcher | None = None,
        where: Callable[[Chunk], bool] | None = None,
    ) -> tuple[Findings, ...]:
        """The evidence for questions and the clues that were recalled for them.

        Args:
            recalled: What ``recall_clues`` gave.
            k: How many pieces for each question; None takes the settings' number, or all there are.
            settings: How rankings are joined; None takes those this was made with.
            over: A retriever of your own, which is asked instead of the chunks of what was memorized.
            where: Whether a chunk of what was memorized may be found; None lets all be found. Called for each
                chunk, at every search.

        Returns:
            For each question the evidence, best first: exactly ``k`` pieces of what was memorized, or all
            that may be found where these are fewer; over a retriever of your own as many as it has, and the
            searches that failed.

        Raises:
            InputError: ``k`` below 1 or above the number of chunks, a question without text, or ``where`` and
                a retriever of your own.
            NothingMemorizedError: There is nothing to search.
            RetrievalError: All searches of a question failed, over a retriever of your own.
        """
        options = QueryOptions(k=k, retrieval_settings=settings, base_retriever=over, filter=where)
        return self.pipeline(options).search(recalled)

    async def afind_evidence(
        self,
        recalled: Sequence[Recall],
        *,
        k: int | None = None,
        settings: RetrievalSettings | None = None,
        over: FanOut | Searcher | None = None,
        where: Callable[[Chunk], bool] | None = None,
    ) -> tuple[Findings, ...]:
        """``find_evidence`` that leaves the event loop free; a retriever that can be awaited is awaited."""
        options = QueryOptions(k=k, retrieval_settings=settings, base_retriever=over, filter=where)
        return await self.pipeline(options).asearch(recalled)

    def explain(
        self, question: str, *, k: int | None = None, over: FanOut | Searcher | None = None
    ) -> Explanation:
        """What happens for a question: asked of the memory, said by it, dropped and why, and found.

        The memory is asked even if the question's clues are kept.

        Args:
            question: What the user wants to know.
            k: How many pieces of evidence; None takes the settings' number, or all there are.
            over: See ``find_evidence``.

        Raises:
            InputError: As ``retrieve``.
            NothingMemorizedError: There is nothing to search.
        """
        pipeline = self.pipeline(QueryOptions(k=k, base_retriever=over))
        (result,) = pipeline.run([question], again=True)
        found, memory = result.findings, pipeline.memorized.memory
        return Explanation(
            result.recall, found.evidence, memory.parts, memory.tokens, found.seconds, found.failures
        )

    def retrieve(
        self,
        question: str,
        *,
        k: int | None = None,
        clues: Sequence[Clue] | None = None,
        over: FanOut | Searcher | None = None,
    ) -> tuple[Evidence, ...]:
        """The ``k`` chunks that the question and its clues find, best first.

        Args:
            question: What the user wants to know.
            k: How many; None takes the settings' number, or all there are.
            clues: Use these instead of asking the memory; an empty list searches with the question alone.
            over: See ``find_evidence``.

        Raises:
            InputError: ``k`` below 1 or above the number of chunks, or a question without text.
            NothingMemorizedError: There is nothing to search.
            RetrievalError: All searches failed, over a retriever of your own.
        """
        if clues is None:
            return self.retrieve_batch([question], k=k, over=over)[0]
        return self.find_evidence([Recall(question, tuple(clues))], k=k, over=over)[0].evidence

    async def aretrieve(
        self,
        question: str,
        *,
        k: int | None = None,
        clues: Sequence[Clue] | None = None,
        over: FanOut | Searcher | None = None,
    ) -> tuple[Evidence, ...]:
        """``retrieve`` that leaves the event loop free."""
        if clues is None:
            return (await self.aretrieve_batch([question], k=k, over=over))[0]
        return (await self.afind_evidence([Recall(question, tuple(clues))], k=k, over=over))[0].evidence

    def retrieve_batch(
        self, questions: Sequence[str], *, k: int | None = None, over: FanOut | Searcher | None = None
    ) -> tuple[tuple[Evidence, ...], ...]:
        """``retrieve`` for many questions, which are put to the memory together."""
        found = self.pipeline(QueryOptions(k=k, base_retriever=over)).run(questions)
        return tuple(one.findings.evidence for one in found)

    async def aretrieve_batch(
        self, questions: Sequence[str], *, k: int | None = None, over: FanOut | Searcher | None = None
    ) -> tuple[tuple[Evidence, ...], ...]:
        """``retrieve_batch`` that leaves the event loop free."""
        found = await self.pipeline(QueryOptions(k=k, base_retriever=over)).arun(questions)
        return tuple(one.findings.evidence for one in found)

    def answer(
        self,
        question: str,
        generate: Generate | None = None,
        *,
        k: int | None = None,
        over: FanOut | Searcher | None = None,
    ) -> Answer:
        """Answer from evidence with the user's LLM, or, without one, with the memory's own draft.

        Args:
            question: What the user wants to know.
            generate: Gets a prompt with numbered evidence, returns the answer. None gives the memory's draft,
                with ``source="memory"``: it was recalled, and need not agree with the evidence beside it.
            k: How many pieces of evidence; None takes the settings' number, or all there are.
            over: See ``find_evidence``.

        Raises:
            InputError: As ``retrieve``.
            NothingMemorizedError: There is nothing to answer from.
        """
        pipeline = self.pipeline(QueryOptions(k=k, base_retriever=over))
        (result,) = pipeline.run([question])
        clues, evidence = result.recall.clues, result.findings.evidence
        if generate is not None:
            prompts = load_prompts(self.recalling.language or detect_language(question))
            return answer_from_evidence(question, evidence, generate=generate, prompts=prompts, clues=clues)
        if "answer" not in self.recalling.kinds:
            draft = replace(pipeline, clues=replace(self.recalling, kinds=("answer",)))
            clues += draft.recall([question])[0].clues
        return draft_answer(question, clues, evidence=evidence)

    def pipeline(self, options: QueryOptions = _DEFAULTS) -> QueryPipeline:
        """The pipeline over what is memorized now: check, recall, search, with callbacks at every step.

        What all methods that ask are made of, for those that show or trace what happens. It keeps to this
        state, whatever is memorized later.

        Raises:
            InputError: Settings or a retriever that cannot be used.
        """
        clues = options.clue_settings or self.recalling
        if options.clue_kinds is not None:
            clues = replace(clues, kinds=options.clue_kinds)  # type: ignore[arg-type]  # checks what it gets
        over = options.base_retriever
        return QueryPipeline(
            self._asker,
            self.reranker,
            self._count_tokens,
            self._corpus,
            clues,
            options.retrieval_settings or self.retrieval,
            options.k,
            over if over is None or isinstance(over, FanOut) else FanOut(over),
            options.filter,
        )

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        kv: Encoding | None = None,
        wait: float = WAIT_SECONDS,
        cache: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Write all that was memorized, as a whole or not at all; docs/format.md has the layout.

        Where this memory was loaded from or saved before, only what is new is written, unless somebody else
        saved there meanwhile. Over any other memory it is saved only if it has all the documents of that one.

        Args:
            path: A folder, or an address that fsspec knows ("s3://bucket/name").
            kv: How keys and values are stored: "float" as they are; "int8" or "int4" in less space and with a
                loss, which docs/format.md states. None as the last save did there, at first "float".
            wait: Seconds to wait for another process that writes there; 0 gives up at once.
            cache: Where files of remote stores are kept; None for the user's cache folder.
            overwrite: Save over any memory that lies there, whatever is lost. What is no memory, or one that
                cannot be read, is refused all the same.

        Raises:
            NothingMemorizedError: There is nothing to save.
            InputError: A path that names no place, an unknown ``kv``, or ``wait`` below 0.
            StoreError: The folder cannot be written, is being written by another, holds something else, or a
                memory that another saved meanwhile or that has what this one lacks.
            MissingExtraError: An address, and what reaches it is not installed.
        """
        self._memorized()  # before anything is made there
        with Writer(path, kv=kv, wait=wait, cache=cache) as store:
            stored = self._stored(self._memorized())  # now, for another thread may have saved a later one
            known = self._states.get(store.place, frozenset())
            if self._store is not None and self._store.place == store.place:
                known |= self._store.state | self._store.tried
            if not overwrite:
                store.expect_nothing_lost(stored, known)

            def placed() -> None:
                self._states[store.place] = store.state

            try:
                store.save(stored, placed)
            finally:
                if store.tried:
                    self._states[store.place] = known | store.tried

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        model: str | os.PathLike[str] | MemoryModel | None = None,
        *,
        cache: str | os.PathLike[str] | None = None,
        **choices: Unpack[Choices],
    ) -> Self:
        """Open what ``save`` wrote, without reading the text again.

        Args:
            path: The folder or the address.
            model: The memory model that read the text.
            cache: See ``save``.
            **choices: As ``MemoRAG`` takes them. Settings that are left out are as they were saved, and so is
                the ratio of a model that is loaded here. ``embedder`` is the one that made the saved vectors;
                where none were saved, one can be added. ``chunks`` is for documents that are memorized from
                now on, and so is ``splitter``. ``entities`` is what found those of the saved graph, where
                that was your own.

        Raises:
            StoreError: The store is damaged, of another format version, or was made with another model or
                embedder.
            InputError: Vectors were saved, and no embedder is given; or a graph of a finder of your own, and
                no ``entities``.
            MissingExtraError: An address, and what reaches it is not installed.
        """
        store = StoreReader(path, cache=cache)
        while True:
            saved = store.manifest.settings
            rag = cls(model, **with_saved(choices, saved, names_model=names_model(model)))
            stored = store.load(rag.model.fingerprint)
            if {**stored.settings, "changes": None} == {**saved, "changes": None}:
                break  # else another saved there meanwhile, with other settings
        rag._corpus = from_stored(stored, rag._reader)
        rag._states[store.place] = frozenset({store.state})
        return rag

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        model: str | os.PathLike[str] | MemoryModel | None = None,
        *,
        kv: Encoding | None = None,
        wait: float = WAIT_SECONDS,
        cache: str | os.PathLike[str] | None = None,
        **choices: Unpack[Choices],
    ) -> Self:
        """Work on a store in place: what is memorized, updated or deleted is saved before it can be asked.

        The store is made if there is none. Nobody else can write to it until ``close``, or the end of a
        ``with`` statement; others may load it meanwhile, and find what was saved last.

        Args:
            path: The folder or the address.
            model: The memory model that read the text, or is to read it.
            kv: See ``save``; for what is saved from now on.
            wait: Seconds to wait for another who has it open; 0 gives up at once.
            cache: See ``save``.
            **choices: See ``load``.

        Raises:
            StoreError: As ``load`` and ``save``; another has it open.
            InputError: As ``load``; an unknown ``kv``, or ``wait`` below 0.
            MissingExtraError: An address, and what reaches it is not installed.
        """
        with ExitStack() as held:
            store = held.enter_context(Writer(path, kv=kv, wait=wait, cache=cache))
            manifest = store.manifest()
            saved = manifest.settings if manifest else None
            rag = cls(model, **with_saved(choices, saved, names_model=names_model(model)))
            if manifest:
                rag._corpus = from_stored(store.load(rag.model.fingerprint), rag._reader)
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

    def __copy__(self) -> Self:
        return self  # it is a place, not a value: what holds it shares it with its copies

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(
            "A MemoRAG cannot be pickled, for it holds a model, and maybe keys. Save what was memorized, "
            "memorag.save(path), and load it where it is needed, MemoRAG.load(path)."
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def documents(self) -> tuple[Document, ...]:
        """What was memorized, in the order of reading; empty before."""
        corpus = self._corpus
        return corpus.documents if corpus else ()

    def document_of(self, chunk: Chunk) -> Document | None:
        """The document that a chunk was cut from; None where that is gone, or has another text by now."""
        document = self._corpus.by_id.get(chunk.document_id) if self._corpus else None
        cut = document is not None and document.text[chunk.start : chunk.end] == chunk.text
        return document if cut else None

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """What can be found, in the order of the text; empty before anything is memorized."""
        corpus = self._corpus
        return corpus.index.chunks if corpus else ()

    @property
    def memory(self) -> Any:
        """The memory, an immutable value of the model's; None before anything is memorized."""
        corpus = self._corpus
        return corpus.memory if corpus else None

    @property
    def recalling(self) -> ClueSettings:
        """What is asked of the memory for a question."""
        return self._recalling

    @property
    def retrieval(self) -> RetrievalSettings:
        """How many results a question gets, and how rankings are joined."""
        return self._retrieving

    def _alone(self) -> Lock:
        """The lock with which one thread at a time changes the memory; it would wait for itself for ever.

        Raises:
            InputError: Whom this thread asks during a change, such as an embedder, wants to change it too.
        """
        if self._reading.mine():
            raise InputError(
                "A change of the memory was begun within another one, by the same thread; expected one at a "
                "time. A function that is given to change() says what to put and what to delete."
            )
        return self._reading

    def _place(self, corpus: Corpus | None) -> None:
        """Make a corpus the one that is asked; where a store is open, once that holds it and not before."""

        def placed() -> None:
            self._corpus = corpus

        if self._store is None:
            placed()
        else:
            self._store.save(self._stored(corpus), placed)

    def _stored(self, corpus: Corpus | None) -> StoredCorpus:
        """A corpus as the store takes it; None for one without documents."""
        return to_stored(
            corpus, self._reader, ratio=self._ratio, clues=self._recalling, retrieval=self._retrieving
        )

    def _memorized(self) -> Corpus:
        return memorized(self._corpus)
