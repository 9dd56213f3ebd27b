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
    ObjectType,
    RelatedNodeInfo,
    RelatedNodeType,
    TextNode,
)
from llama_index.core.schema import Document as WholeDocument
from pydantic import Field

from memorag_core import Chunk, Document, Evidence, InputError, thawed

PROVENANCE = ("document_id", "start", "end", "score", "rank", "clues")
"""Metadata names set by the retriever on request. They are for the user, never for an LLM or an embedding: a
clue is a key for retrieval and may be wrong."""

HIDDEN = "llama_index"
"""Metadata name under which a memorized document keeps what else LlamaIndex said of it: the names it hides
from LLM and embedding ("llm", "embed"), the document it was cut from ("ref_doc_id"), the object it stands for
("index_id"), and, of a node, that it is one ("node"), where it begins in that document ("start"),
the nodes that it is related to ("relationships"), and what the user had under that very name ("own")."""

_KEPT: Mapping[str, type[Any]] = {
    "llm": list,
    "embed": list,
    "ref_doc_id": str,
    "index_id": str,
    "node": bool,
    "start": int,
    "relationships": Mapping,
    "own": object,
}
_ROW = {"node_id", "node_type", "hash"}

NODE = "llama_index_node"
"""Metadata name under which a passage of the user's own retriever carries the node that it is."""


class FoundNode(NodeWithScore):
    """A node with its score, and how a question found it; the node is the same for every question.

    Attributes:
        rank: Its place in the result, from 1.
        clues: The clues that found it, best rank first, without the question.
    """

    rank: int = Field(description="The place in the result, from 1.")
    clues: list[str] = Field(default_factory=list, description="The clues that found the node.")

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex knows the class."""
        return "FoundNode"


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
    return ref_doc_id in (document.id, _hidden(document.metadata).get("ref_doc_id", document.id))


def node_of(evidence: Evidence, source: Document | None = None, *, annotate: bool = False) -> FoundNode:
    """Evidence as LlamaIndex carries it, with the same node for every question, unless annotated.

    The node is the user's own where it was found by a retriever of theirs, and as it was given where it was
    memorized as a node and all of it was found. What is in its metadata can be changed without changing what
    was memorized.

    Args:
        evidence: What was found.
        source: The document that it is of, where that was memorized.
        annotate: Whether the node's metadata say where it is from and how it was found. A node of the user's
            own retriever is left alone all the same.
    """
    own = evidence.chunk.metadata.get(NODE)
    node = own if isinstance(own, BaseNode) else _node(evidence, source, annotate=annotate)
    score = evidence.score
    if not score and isinstance(node, IndexNode):
        score = sys.float_info.min  # LlamaIndex takes 0 for 1 when it goes on into the object
    return FoundNode(node=node, score=score, rank=evidence.rank, clues=list(evidence.clues))


def node_id_of(chunk: Chunk, source: Document | None) -> str:
    """The id of the node that ``node_of`` makes of a chunk."""
    return chunk.document_id if _is_whole_node(chunk, source) else chunk.id


def _node(evidence: Evidence, source: Document | None, *, annotate: bool) -> TextNode:
    chunk = evidence.chunk
    given, hidden = thawed(_given(chunk.metadata)), _hidden(chunk.metadata)
    text, start, end = chunk.text, chunk.start, chunk.end
    relationships: dict[NodeRelationship, RelatedNodeType] = {}
    if source is not None and _is_whole_node(chunk, source):
        text, start, end = source.text, 0, len(source.text)
        relationships = _related(hidden.get("relationships"))
    parent = RelatedNodeInfo(node_id=_reference(chunk), metadata=thawed(given))
    values: dict[str, Any] = {
        "id_": node_id_of(chunk, source),
        "text": text,
        "metadata": given,
        "start_char_idx": _in_reference(hidden, start),
        "end_char_idx": _in_reference(hidden, end),
        "relationships": {NodeRelationship.SOURCE: parent, **relationships},
        "excluded_llm_metadata_keys": list(hidden.get("llm", ())),
        "excluded_embed_metadata_keys": list(hidden.get("embed", ())),
    }
    if annotate:
        values["metadata"] |= {
            "document_id": chunk.document_id,
            "start": start,
            "end": end,
            "score": evidence.score,
            "rank": evidence.rank,
            "clues": list(evidence.clues),
        }
        values["excluded_llm_metadata_keys"] += PROVENANCE
        values["excluded_embed_metadata_keys"] += PROVENANCE
    if "index_id" in hidden:
        return IndexNode(index_id=hidden["index_id"], **values)
    return TextNode(**values)


def _is_whole_node(chunk: Chunk, source: Document | None) -> bool:
    """Whether a chunk is all but white space of what was memorized as a node."""
    return (
        source is not None
        and bool(_hidden(chunk.metadata).get("node"))
        and not (source.text[: chunk.start].strip() or source.text[chunk.end :].strip())
    )


def _in_reference(hidden: Mapping[str, Any], at: int) -> int | None:
    """A character of what was memorized, counted in the document that is its source; None if unknown."""
    if "ref_doc_id" not in hidden:
        return at
    return hidden["start"] + at if "start" in hidden else None


def _source(document: BaseNode) -> Document:
    text = document.get_content()
    metadata = document.metadata
    hidden: dict[str, Any] = {
        "llm": list(document.excluded_llm_metadata_keys),
        "embed": list(document.excluded_embed_metadata_keys),
        "ref_doc_id": document.ref_doc_id,
        "index_id": document.index_id if isinstance(document, IndexNode) else None,
        "node": not isinstance(document, WholeDocument),
        "relationships": _relations(document),
    }
    kept = {name: value for name, value in hidden.items() if value}
    if HIDDEN in metadata:
        kept["own"] = metadata[HIDDEN]
    start, end = (getattr(document, name, None) for name in ("start_char_idx", "end_char_idx"))
    if isinstance(start, int) and isinstance(end, int) and end - start == len(text):
        kept["start"] = start  # of a text that was changed when it was cut, places are not known
    return Document(
        text=text,
        id=document.node_id,
        metadata={**metadata, **({HIDDEN: kept} if kept else {})},
    )


def _relations(document: BaseNode) -> dict[str, Any]:
    """The nodes that a node is related to, as JSON; its source is kept by its id."""
    return {
        relation.name: [_row(one) for one in others] if isinstance(others, list) else _row(others)
        for relation, others in document.relationships.items()
        if relation != NodeRelationship.SOURCE
    }


def _row(info: RelatedNodeInfo) -> dict[str, Any]:
    # The metadata of the others are their own, and would be kept once more for each neighbour.
    kind = info.node_type
    return {
        "node_id": info.node_id,
        "node_type": kind.name if isinstance(kind, ObjectType) else kind,
        "hash": info.hash,
    }


def _related(rows: Any) -> dict[NodeRelationship, RelatedNodeType]:
    return {
        NodeRelationship[name]: [_info(one) for one in row] if isinstance(row, list) else _info(row)
        for name, row in (rows or {}).items()
    }


def _info(row: Mapping[str, Any]) -> RelatedNodeInfo:
    kind = row["node_type"]
    known = ObjectType[kind] if kind in ObjectType.__members__ else kind
    return RelatedNodeInfo(node_id=row["node_id"], node_type=known, hash=row["hash"])


def _given(metadata: Mapping[str, Any]) -> dict[str, Any]:
    hidden = _hidden(metadata)
    if not hidden:
        return dict(metadata)
    own = {HIDDEN: hidden["own"]} if "own" in hidden else {}
    return {name: own.get(name, value) for name, value in metadata.items() if name != HIDDEN or name in own}


def _hidden(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is kept of a document; nothing where the user, who knows no such name, has another value there."""
    hidden = metadata.get(HIDDEN)
    if not isinstance(hidden, Mapping) or not hidden.keys() <= _KEPT.keys():
        return {}
    fits = all(name == "own" or isinstance(value, _KEPT[name]) for name, value in hidden.items())
    return hidden if fits and _are_relations(hidden.get("relationships", {})) else {}


def _are_relations(relations: Mapping[str, Any]) -> bool:
    rows = [row for value in relations.values() for row in (value if isinstance(value, list) else [value])]
    return relations.keys() <= NodeRelationship.__members__.keys() and all(
        isinstance(row, Mapping) and row.keys() >= _ROW and isinstance(row["node_id"], str) for row in rows
    )


def _reference(chunk: Chunk) -> str:
    return str(_hidden(chunk.metadata).get("ref_doc_id", chunk.document_id))
