"""A LlamaIndex retriever over what a MemoRAG has memorized, or over an index of the user's own.

In: a query bundle. Out: nodes with scores, best first, each with its place in the text and the clues that
found it, or the user's own nodes. Knows no model, clue or index: it translates.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from os import PathLike
from typing import Any, Self, TypedDict, Unpack

from llama_index.core.callbacks import CallbackManager
from llama_index.core.indices.base import BaseIndex
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import BaseNode, IndexNode, NodeWithScore, QueryBundle
from llama_index.core.storage.docstore import BaseDocumentStore
from llama_index.core.vector_stores import MetadataFilters

from llama_index_memorag.callbacks import Events, arecall_clues, asked, recall_clues
from llama_index_memorag.events import dispatcher
from llama_index_memorag.filters import chunks_that_pass, predicate
from llama_index_memorag.holding import HoldsMemory, as_memorag
from llama_index_memorag.nodes import belongs_to, listed, node_of, sources
from llama_index_memorag.searching import fan_out
from memorag_core import (
    ClueKind,
    Document,
    Evidence,
    FanOut,
    Findings,
    InputError,
    MemoRAG,
    MemoryModel,
    QueryOptions,
    QueryPipeline,
    Recall,
    RetrievalSettings,
)


class Options(TypedDict, total=False):
    """What ``MemoRAGRetriever`` takes by keyword; it says what each of them means."""

    over: BaseIndex[Any] | BaseRetriever | None
    concurrency: int
    timeout: float | None
    filters: MetadataFilters | None
    kinds: Sequence[ClueKind] | None
    retrieval: RetrievalSettings | None
    annotate: bool
    callback_manager: CallbackManager | None
    object_map: dict[str, Any] | None
    objects: list[IndexNode] | None
    verbose: bool


class MemoRAGRetriever(HoldsMemory, BaseRetriever):
    """Finds evidence with the question and with the clues that a memory of the text gives.

    What comes back are ``FoundNode``: nodes with scores that say their ``rank`` (from 1) and the ``clues``
    that found them (a list of texts). The node in it is the same for every question, so fusion and
    de-duplication know it again. It carries the chunk's id, its characters in the document
    (``start_char_idx``, ``end_char_idx``), the document as its source, and the metadata the user gave. What
    was memorized as a node and is found as a whole has the id, text, metadata and relationships that it had;
    over an index or retriever of the user's own they are its nodes, as they are, with the fused score.

    With ``annotate``, nodes have ``document_id``, ``start``, ``end``, ``score``, ``rank`` and ``clues`` in
    ``metadata`` too, over what the user gave on the same names, and hidden from LLM and embedding.

    Whoever listens to LlamaIndex's instrumentation hears ``ClueStartEvent``, ``ClueLineEvent``,
    ``ClueEndEvent``, ``SearchFailedEvent`` and ``EvidenceEvent``, of ``llama_index_memorag.events``.

    Attributes:
        memorag: What was memorized.
        k: Nodes returned for a query. None leaves it to ``memorag``: what its settings say (4), or all when
            there are fewer.
    """

    def __init__(
        self,
        memorag: MemoRAG,
        k: int | None = None,
        *,
        over: BaseIndex[Any] | BaseRetriever | None = None,
        concurrency: int = FanOut.CONCURRENCY,
        timeout: float | None = None,
        filters: MetadataFilters | None = None,
        kinds: Sequence[ClueKind] | None = None,
        retrieval: RetrievalSettings | None = None,
        annotate: bool = False,
        callback_manager: CallbackManager | None = None,
        object_map: dict[str, Any] | None = None,
        objects: list[IndexNode] | None = None,
        verbose: bool = False,
    ) -> None:
        """Retrieve from what ``memorag`` has memorized.

        Args:
            memorag: What was memorized.
            k: Nodes returned for a query; None leaves it to the settings.
            over: Search this instead of what was memorized, with the question and every clue.
            concurrency: With ``over``, the most searches at once.
            timeout: With ``over``, seconds that each search has; one that takes longer or fails is left out,
                and a ``SearchFailedEvent`` tells of it. None waits as long as it takes.
            filters: Find only what passes, by the user's metadata or by "document_id", "doc_id" and
                "ref_doc_id". ``k`` nodes come back where as many pass, else all that do. The clues are
                recalled from the whole memory. Filters of ``over`` are its own.
            kinds: Kinds of clue to ask for; None takes those of ``memorag``'s settings.
            retrieval: How rankings are joined; None takes the settings of ``memorag``.
            annotate: Write into the metadata of nodes where they are from and how they were found. Then they
                are other nodes for each question, and no fusion or de-duplication takes them for the same.
            callback_manager: LlamaIndex's, for its own tracing.
            object_map: LlamaIndex's, for nodes that stand for objects: those are entered once, with the
                question.
            objects: Likewise.
            verbose: LlamaIndex's: print which objects are entered.

        Raises:
            InputError: A value outside of these, or ``filters`` and ``over``.
        """
        super().__init__(
            callback_manager=callback_manager, object_map=object_map, objects=objects, verbose=verbose
        )
        self.memorag = as_memorag(memorag)
        if k is not None:
            RetrievalSettings(k=k)  # refuses what is no number of nodes
        self.k = k
        self._asked = asked(self.memorag, kinds)
        self._settings = _checked_settings(retrieval)
        if not isinstance(annotate, bool):
            raise InputError(f"'annotate' is {annotate!r}; expected True or False.")
        self._annotate = annotate
        self._passes = None if filters is None else predicate(filters)
        if filters is not None and over is not None:
            raise InputError(
                "'filters' are of what was memorized, and 'over' is searched instead. Give them to that: "
                "over=index.as_retriever(similarity_top_k=20, filters=filters)."
            )
        self._over = None if over is None else fan_out(over, concurrency=concurrency, timeout=timeout)

    @classmethod
    def from_documents(
        cls,
        documents: Iterable[BaseNode],
        k: int | None = None,
        *,
        memorag: MemoRAG | None = None,
        **options: Unpack[Options],
    ) -> Self:
        """Memorize LlamaIndex documents and return a retriever over them.

        Ids, metadata and the lists of metadata hidden from LLM and embedding are kept; so are, of nodes, the
        document that they were cut from, their relationships, and the object that they stand for.

        Args:
            documents: Documents, or nodes with text.
            k: Nodes returned for a query; None leaves it to the settings of ``memorag``.
            memorag: What reads them, added to what it has memorized; without it, a new ``MemoRAG()``.
            **options: As ``MemoRAGRetriever`` takes them.

        Raises:
            InputError: When a document is empty or no LlamaIndex document, or when an id comes twice.
        """
        nodes = listed(documents)
        read = sources(nodes)
        retriever = cls(MemoRAG() if memorag is None else memorag, k, **options)
        retriever.memorag.memorize(read)
        retriever._know_objects(nodes)
        return retriever

    @classmethod
    def from_defaults(
        cls,
        index: BaseIndex[Any] | None = None,
        nodes: Sequence[BaseNode] | None = None,
        docstore: BaseDocumentStore | None = None,
        k: int | None = None,
        *,
        memorag: MemoRAG | None = None,
        **options: Unpack[Options],
    ) -> Self:
        """Memorize what LlamaIndex holds already, and search it there if it is an index.

        Args:
            index: Is searched, with the question and every clue. Its nodes are read into memory unless
                others are given, or ``memorag`` has memorized something.
            nodes: Are read into memory. For an index that keeps its nodes in a vector store, and for one
                whose nodes overlap, give the documents that it was made of.
            docstore: Its nodes are read into memory.
            k: Nodes returned for a query; None leaves it to the settings of ``memorag``.
            memorag: What reads; without it, a new ``MemoRAG()``.
            **options: As ``MemoRAGRetriever`` takes them.

        Raises:
            InputError: Nothing to read, both ``nodes`` and ``docstore``, or both ``index`` and ``over``.
        """
        if nodes is not None and docstore is not None:
            raise InputError("Both 'nodes' and 'docstore' are given; expected one of them to be read.")
        if index is not None:
            if options.get("over") is not None:
                raise InputError("Both 'index' and 'over' are given; expected one of them to be searched.")
            options["over"] = index
        chosen = nodes is not None or docstore is not None
        if not chosen and memorag is not None and as_memorag(memorag).documents:
            return cls(memorag, k, **options)
        if nodes is None:
            held = docstore if docstore is not None else None if index is None else index.docstore
            nodes = [] if held is None else [one for one in held.docs.values() if one.get_content().strip()]
        if not nodes:
            raise InputError(
                "There is nothing to read: expected nodes, a docstore or an index that holds some, or a "
                "MemoRAG that has memorized a text. An index over a vector store that keeps the texts itself "
                "has an empty docstore: give nodes=documents beside it."
            )
        if chosen:
            return cls.from_documents(nodes, k, memorag=memorag, **options)
        read = sources(listed(nodes, "nodes"))
        retriever = cls(MemoRAG() if memorag is None else memorag, k, **options)
        retriever.memorag.change(put=lambda there: None if there else read)  # another may have read meanwhile
        retriever._know_objects(nodes)
        return retriever

    @classmethod
    def from_persist_dir(
        cls,
        persist_dir: str | PathLike[str],
        k: int | None = None,
        *,
        model: str | PathLike[str] | MemoryModel | None = None,
        embedder: Any = None,
        reranker: Any = None,
        **options: Unpack[Options],
    ) -> Self:
        """Return a retriever over what ``persist`` wrote, without reading the text again.

        ``k``, ``filters`` and the other options are not stored. ``MemoRAG.load`` takes more choices:
        ``MemoRAGRetriever(MemoRAG.load(persist_dir, ...))``.

        Args:
            persist_dir: The folder, or an address that fsspec knows.
            k: Nodes returned for a query; None leaves it to the saved settings.
            model: The memory model that read the text; without it, the bundled one.
            embedder: The embedder the vectors were made with, when there are vectors.
            reranker: What orders the first of what was found.
            **options: As ``MemoRAGRetriever`` takes them.

        Raises:
            StoreError: When the folder is damaged or was written with another model.
        """
        return cls(MemoRAG.load(persist_dir, model, embedder=embedder, reranker=reranker), k, **options)

    def persist(self, persist_dir: str | PathLike[str], *, overwrite: bool = False) -> None:
        """Write what was memorized, as a whole or not at all; where it was before, only what is new.

        Args:
            persist_dir: A folder of its own, or an address that fsspec knows ("s3://bucket/name").
            overwrite: Write over any memory that lies there, whatever is lost; see ``MemoRAG.save``.

        Raises:
            NothingMemorizedError: There is nothing to write.
            StoreError: The folder cannot be written, holds something else, or a memory that another saved
                meanwhile or that has what this one lacks.
        """
        self.memorag.save(persist_dir, overwrite=overwrite)

    def insert(self, document: BaseNode) -> None:
        """Read a document into memory, behind the others.

        An index that is searched instead of what was memorized is left alone, here and below: insert there
        too, ``index.insert(document)``.

        Raises:
            InputError: No document, one without text, or an id that is in use.
        """
        self.insert_nodes([document])

    async def ainsert(self, document: BaseNode) -> None:
        """``insert`` in a thread."""
        await asyncio.to_thread(self.insert, document)

    def insert_nodes(self, nodes: Sequence[BaseNode]) -> None:
        """Read documents or nodes into memory, behind the others; raises as ``insert``."""
        self.memorag.memorize(sources(listed(nodes, "nodes")))
        self._know_objects(nodes)

    async def ainsert_nodes(self, nodes: Sequence[BaseNode]) -> None:
        """``insert_nodes`` in a thread."""
        await asyncio.to_thread(self.insert_nodes, nodes)

    def delete_ref_doc(self, ref_doc_id: str) -> None:
        """Forget a document, or all nodes that were cut from it; what stands behind them is read again.

        Args:
            ref_doc_id: The document's id, as ``ref_doc_id`` of its nodes says it.

        Raises:
            InputError: No id, or a document that is not there.
            NothingMemorizedError: There is none.
        """
        if not isinstance(ref_doc_id, str):
            raise InputError(
                f"The document to delete is {ref_doc_id!r}; expected its id, as text. A node that was "
                "cut from no document is deleted by its own: delete_ref_doc(node.node_id)."
            )
        self.memorag.change(delete=lambda there: _held(there, ref_doc_id) or ref_doc_id)

    async def adelete_ref_doc(self, ref_doc_id: str) -> None:
        """``delete_ref_doc`` in a thread."""
        await asyncio.to_thread(self.delete_ref_doc, ref_doc_id)

    def update_ref_doc(self, document: BaseNode) -> None:
        """Replace the document with the same id, or insert it where there is none.

        Nodes that were cut from the old one are forgotten, and the new one is read behind all others, in one
        change: if anything fails, all is as it was, and whoever asks meanwhile finds the old or the new.

        Raises:
            InputError: No document, one without text, or metadata that JSON cannot hold.
        """
        (read,) = sources(listed([document]))
        self.memorag.change(put=[read], delete=lambda there: _held(there, read.id))
        self._know_objects([document])

    async def aupdate_ref_doc(self, document: BaseNode) -> None:
        """``update_ref_doc`` in a thread."""
        await asyncio.to_thread(self.update_ref_doc, document)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        pipeline, events = self._pipeline(), Events(self.memorag, self._asked.kinds)
        pipeline.check()
        recalled = recall_clues(pipeline, query_bundle.query_str, events)
        return self._found(recalled, pipeline.search(self._wanted(recalled), events))

    @dispatcher.span
    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        pipeline, events = self._pipeline(), Events(self.memorag, self._asked.kinds)
        pipeline.check()
        recalled = await arecall_clues(pipeline, query_bundle.query_str, events)
        return self._found(recalled, await pipeline.asearch(self._wanted(recalled), events))

    def _pipeline(self) -> QueryPipeline:
        return self.memorag.pipeline(
            QueryOptions(
                k=self.k,
                clue_settings=self._asked,
                retrieval_settings=self._settings,
                base_retriever=self._over,
                filter=None if self._passes is None else chunks_that_pass(self._passes),
            )
        )

    def _wanted(self, recalled: Recall) -> Sequence[Recall]:
        """What to search for: each its own question, with clues."""
        return [recalled]

    def _evidence(self, recalled: Recall, findings: Sequence[Findings]) -> Iterable[Evidence]:
        """What of the findings comes back, in its order."""
        return findings[0].evidence

    def _found(self, recalled: Recall, findings: Sequence[Findings]) -> list[NodeWithScore]:
        return [
            node_of(piece, self.memorag.document_of(piece.chunk), annotate=self._annotate)
            for piece in self._evidence(recalled, findings)
        ]

    def _know_objects(self, nodes: Iterable[BaseNode]) -> None:
        """Keep the objects that nodes stand for, beside those that were given."""
        for node in nodes:
            if isinstance(node, IndexNode) and node.obj is not None:
                self.object_map[node.index_id] = node.obj


def _held(there: Iterable[Document], ref_doc_id: str) -> list[str]:
    """The ids of a document and of the nodes that were cut from it."""
    return [one.id for one in there if belongs_to(one, ref_doc_id)]


def _checked_settings(settings: object) -> RetrievalSettings | None:
    if settings is None or isinstance(settings, RetrievalSettings):
        return settings
    raise InputError(
        f"'retrieval' is a {type(settings).__name__}; expected memorag_core.RetrievalSettings(...), or None "
        "for those of the MemoRAG."
    )
