"""A LlamaIndex retriever over what a MemoRAG has memorized.

In: a query bundle. Out: text nodes with scores, best first, each with its place in the text and the clues
that found it. Knows no model, clue or index: it translates.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Self

from llama_index.core.callbacks import CallbackManager
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import (
    BaseNode,
    NodeRelationship,
    NodeWithScore,
    QueryBundle,
    RelatedNodeInfo,
    TextNode,
)

from memorag_core import Document as Source
from memorag_core import Evidence, InputError, MemoRAG

PROVENANCE = ("document_id", "start", "end", "score", "rank", "clues")
"""Metadata names set by the retriever. They are shown to the user, never to an LLM or an embedding: a clue is
a key for retrieval and may be wrong."""

HIDDEN = "llama_index"
"""Metadata name under which a memorized document keeps the names it hides from LLM and embedding."""


class MemoRAGRetriever(BaseRetriever):
    """Finds evidence with the question and with the clues that a memory of the text gives.

    The nodes carry the chunk's id, its characters in the document (``start_char_idx``, ``end_char_idx``),
    the document as their source, and, in ``metadata``, ``document_id``, ``start``, ``end``, ``score``,
    ``rank`` (from 1) and ``clues`` (a list of texts), beside the metadata the user gave; on the same name
    those six win.

    Attributes:
        memorag: What was memorized.
        k: Nodes returned for a query. None leaves it to ``memorag``: what its settings say (4), or all when
            there are fewer.
    """

    def __init__(
        self, memorag: MemoRAG, k: int | None = None, *, callback_manager: CallbackManager | None = None
    ) -> None:
        """Retrieve from what ``memorag`` has memorized.

        Args:
            memorag: What was memorized.
            k: Nodes returned for a query; None leaves it to the settings of ``memorag``.
            callback_manager: LlamaIndex's, for its own tracing.

        Raises:
            InputError: When ``memorag`` is something else, or ``k`` is below 1.
        """
        super().__init__(callback_manager=callback_manager)
        if k is not None and k < 1:
            raise InputError(f"k is {k}; expected 1 or more.")
        self.memorag = as_memorag(memorag)
        self.k = k

    @classmethod
    def from_documents(
        cls,
        documents: Iterable[BaseNode],
        k: int | None = None,
        *,
        memorag: MemoRAG | None = None,
        callback_manager: CallbackManager | None = None,
    ) -> Self:
        """Memorize LlamaIndex documents and return a retriever over them.

        Ids, metadata and the lists of metadata hidden from LLM and embedding are kept.

        Args:
            documents: Documents, or nodes with text.
            k: Nodes returned for a query; None leaves it to the settings of ``memorag``.
            memorag: What reads them, added to what it has memorized; without it, a new ``MemoRAG()``.
            callback_manager: LlamaIndex's, for its own tracing.

        Raises:
            InputError: When a document is empty or no LlamaIndex document, or when an id comes twice.
        """
        if isinstance(documents, BaseNode | str):
            raise InputError(f"'documents' is a {type(documents).__name__}; expected a list, also for one.")
        sources = [_source(document) for document in documents]
        memorag = MemoRAG() if memorag is None else memorag
        retriever = cls(memorag, k, callback_manager=callback_manager)
        memorag.memorize(sources)
        return retriever

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        found = self.memorag.retrieve(query_bundle.query_str, k=self.k)
        return [_node(evidence) for evidence in found]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)


def as_memorag(value: object) -> MemoRAG:
    """Return ``value`` when it is a MemoRAG.

    Raises:
        InputError: When it is something else.
    """
    if isinstance(value, MemoRAG):
        return value
    raise InputError(
        f"'memorag' is a {type(value).__name__}; expected a memorag_core.MemoRAG that has memorized a text: "
        "MemoRAG().memorize(text), or MemoRAG.load(path)."
    )


def _node(evidence: Evidence) -> NodeWithScore:
    """Evidence as LlamaIndex carries it."""
    chunk = evidence.chunk
    given = {name: value for name, value in chunk.metadata.items() if name != HIDDEN}
    hidden = chunk.metadata.get(HIDDEN) or {}
    provenance = {
        "document_id": chunk.document_id,
        "start": chunk.start,
        "end": chunk.end,
        "score": evidence.score,
        "rank": evidence.rank,
        "clues": list(evidence.clues),
    }
    node = TextNode(
        id_=chunk.id,
        text=chunk.text,
        metadata={**given, **provenance},
        start_char_idx=chunk.start,
        end_char_idx=chunk.end,
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=chunk.document_id, metadata=given)},
        excluded_llm_metadata_keys=[*hidden.get("llm", ()), *PROVENANCE],
        excluded_embed_metadata_keys=[*hidden.get("embed", ()), *PROVENANCE],
    )
    return NodeWithScore(node=node, score=evidence.score)


def _source(document: BaseNode) -> Source:
    """A LlamaIndex document as the core reads it."""
    if not isinstance(document, BaseNode):
        raise InputError(
            f"Found a {type(document).__name__} among the documents; expected LlamaIndex documents. "
            "Wrap a plain text: Document(text=...)."
        )
    hidden: Mapping[str, Any] = {
        "llm": list(document.excluded_llm_metadata_keys),
        "embed": list(document.excluded_embed_metadata_keys),
    }
    kept = {HIDDEN: hidden} if any(hidden.values()) else {}
    return Source(text=document.get_content(), id=document.node_id, metadata={**document.metadata, **kept})
