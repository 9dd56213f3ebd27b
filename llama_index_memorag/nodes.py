"""LlamaIndex's documents as the core reads them, and evidence as LlamaIndex's nodes.

In: documents or nodes of LlamaIndex; evidence. Out: documents of the core; nodes with scores. What a document
of LlamaIndex says beside text, id and metadata is kept under one name of its metadata, and not shown again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from llama_index.core.schema import (
    BaseNode,
    IndexNode,
    NodeRelationship,
    NodeWithScore,
    RelatedNodeInfo,
    TextNode,
)

from memorag_core import Chunk, Document, Evidence, InputError, thawed

PROVENANCE = ("document_id", "start", "end", "score", "rank", "clues")
"""Metadata names set by the retriever. They are shown to the user, never to an LLM or an embedding: a clue is
a key for retrieval and may be wrong."""

HIDDEN = "llama_index"
"""Metadata name under which a memorized document keeps what else LlamaIndex said of it: the names it hides
from LLM and embedding ("llm", "embed"), the document it was cut from ("ref_doc_id"), the object it stands for
("index_id")."""

NODE = "llama_index_node"
"""Metadata name under which a passage of the user's own retriever carries the node that it is."""


def listed(documents: Iterable[BaseNode], name: str = "documents") -> list[BaseNode]:
    """Documents or nodes of LlamaIndex, checked.

    Raises:
        InputError: A single one, or something else among them.
    """
    if isinstance(documents, BaseNode | str | Mapping) or not isinstance(documents, Iterable):
        raise InputError(f"'{name}' is a {type(documents).__name__}; expected a list, also for one.")
    found = list(documents)
    for document in found:
        if not isinstance(document, BaseNode):
            raise InputError(
                f"Found a {type(document).__name__} among the {name}; expected LlamaIndex documents. "
                "Wrap a plain text: Document(text=...)."
            )
    return found


def sources(documents: Iterable[BaseNode]) -> list[Document]:
    """Documents or nodes of LlamaIndex as the core reads them."""
    return [_source(document) for document in documents]


def filterable(chunk: Chunk) -> dict[str, Any]:
    """What filters see of a chunk: the user's metadata, and the document by the names LlamaIndex gives it."""
    reference = _reference(chunk)
    return {
        **_given(chunk.metadata),
        "document_id": chunk.document_id,
        "doc_id": reference,
        "ref_doc_id": reference,
    }


def belongs_to(document: Document, ref_doc_id: str) -> bool:
    """Whether a memorized document is the one of this id, or a node that was cut from it."""
    return ref_doc_id in (document.id, _hidden(document.metadata).get("ref_doc_id"))


def node_of(evidence: Evidence) -> NodeWithScore:
    """Evidence as LlamaIndex carries it; the user's own node, where it was found by a retriever of theirs."""
    own = evidence.chunk.metadata.get(NODE)
    node = own if isinstance(own, BaseNode) else _node(evidence)
    score = evidence.score
    if not score and isinstance(node, IndexNode):
        score = sys.float_info.min  # LlamaIndex takes 0 for 1 when it goes on into the object
    return NodeWithScore(node=node, score=score)


def _node(evidence: Evidence) -> TextNode:
    chunk = evidence.chunk
    given, hidden = thawed(_given(chunk.metadata)), _hidden(chunk.metadata)
    provenance = {
        "document_id": chunk.document_id,
        "start": chunk.start,
        "end": chunk.end,
        "score": evidence.score,
        "rank": evidence.rank,
        "clues": list(evidence.clues),
    }
    source = RelatedNodeInfo(node_id=_reference(chunk), metadata=thawed(given))
    values: dict[str, Any] = {
        "id_": chunk.id,
        "text": chunk.text,
        "metadata": {**given, **provenance},
        "start_char_idx": chunk.start,
        "end_char_idx": chunk.end,
        "relationships": {NodeRelationship.SOURCE: source},
        "excluded_llm_metadata_keys": [*hidden.get("llm", ()), *PROVENANCE],
        "excluded_embed_metadata_keys": [*hidden.get("embed", ()), *PROVENANCE],
    }
    if "index_id" in hidden:
        return IndexNode(index_id=hidden["index_id"], **values)
    return TextNode(**values)


def _source(document: BaseNode) -> Document:
    hidden: dict[str, Any] = {
        "llm": list(document.excluded_llm_metadata_keys),
        "embed": list(document.excluded_embed_metadata_keys),
        "ref_doc_id": document.ref_doc_id,
        "index_id": document.index_id if isinstance(document, IndexNode) else None,
    }
    kept = {name: value for name, value in hidden.items() if value}
    return Document(
        text=document.get_content(),
        id=document.node_id,
        metadata={**document.metadata, **({HIDDEN: kept} if kept else {})},
    )


def _given(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metadata.items() if name != HIDDEN}


def _hidden(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    hidden: Mapping[str, Any] = metadata.get(HIDDEN) or {}
    return hidden


def _reference(chunk: Chunk) -> str:
    return str(_hidden(chunk.metadata).get("ref_doc_id", chunk.document_id))
