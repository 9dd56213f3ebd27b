"""Documents, as LangChain carries them and as the core reads them.

In: LangChain's documents, or evidence. Out: the core's documents, or LangChain's. Knows no retriever.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langchain_core.documents import Document

from memorag_core import Chunk, Evidence, FoundPassage, InputError, SearchFailure, thawed
from memorag_core import Document as Source

DOCUMENT = "langchain_document"
"""Metadata name under which a passage of the user's own retriever carries the document that it is."""


def evidence_document(
    evidence: Evidence,
    *,
    source: Source | None = None,
    annotate: bool = False,
    failures: Sequence[SearchFailure] = (),
) -> Document:
    """Evidence as LangChain carries it: the same for every question that finds it, unless annotated.

    What a retriever of the user's own found comes back as it was. What was memorized has the id of its chunk
    and its place; where it is all of a document but white space, it is the whole text, as other retrievers
    have it. What is in the metadata can be changed without changing what was memorized.

    Args:
        evidence: What was found.
        source: The document that it is of, where that was memorized.
        annotate: Whether the metadata say how it was found.
        failures: Searches that failed while it was looked for; an annotated document tells of them.
    """
    chunk = evidence.chunk
    found = found_metadata(evidence, failures) if annotate else {}
    place = _place(chunk)
    own = chunk.metadata.get(DOCUMENT)
    if isinstance(own, Document):
        # What its retriever says of a place is better than that it is all of itself.
        given = thawed(own.metadata)
        known = {**place, **given} if annotate else given
        return own.model_copy(update={"metadata": {**known, **found}})
    text = chunk.text
    if source is not None and _is_all_of(source, chunk):
        text = source.text
        place |= {"start": 0, "end": len(text)}
    return Document(id=chunk.id, page_content=text, metadata={**thawed(chunk.metadata), **place, **found})


def chunk_document(chunk: Chunk) -> Document:
    """A chunk of what was memorized as a document, whoever asks."""
    return Document(id=chunk.id, page_content=chunk.text, metadata=chunk_metadata(chunk))


def chunk_metadata(chunk: Chunk) -> dict[str, Any]:
    """The metadata of a chunk's document: what the user gave, and its place."""
    return {**thawed(chunk.metadata), **_place(chunk)}


def found_metadata(evidence: Evidence, failures: Sequence[SearchFailure] = ()) -> dict[str, Any]:
    """How evidence was found for a question, whatever it is of; all of it can be written as JSON."""
    found = {"score": evidence.score, "rank": evidence.rank, "clues": list(evidence.clues)}
    if failures:
        found["failures"] = [failure_row(failure) for failure in failures]
    return found


def failure_row(failure: SearchFailure) -> dict[str, Any]:
    """A search that failed, without the message of its error: that may hold addresses and keys."""
    return {
        "query": failure.query,
        "kind": failure.kind,
        "error": failure.error.partition(":")[0],
        "seconds": failure.seconds,
    }


def passage(document: Document, score: float | None = None) -> FoundPassage:
    """A document that a retriever of LangChain found, as the core takes it, with itself in it."""
    return FoundPassage(
        document.page_content,
        id=document.id or None,
        score=None if score is None else float(score),
        metadata={DOCUMENT: document},
    )


def memorized_document(source: Source) -> Document:
    """A whole document of what was memorized."""
    return Document(id=source.id, page_content=source.text, metadata=thawed(source.metadata))


def sources(documents: Sequence[Document]) -> list[Source]:
    """LangChain documents as the core reads them; those without an id get one when they are memorized.

    Raises:
        InputError: Something else among the documents.
    """
    for document in documents:
        if not isinstance(document, Document):
            raise InputError(
                f"Found a {type(document).__name__} among the documents; expected LangChain documents. "
                "Plain texts go to from_texts."
            )
    return [
        Source(document.page_content, document.id, document.metadata)
        if document.id
        else Source(document.page_content, metadata=document.metadata)
        for document in documents
    ]


def listed(name: str, values: Iterable[Any]) -> list[Any]:
    """An argument that must be several things as a list.

    Raises:
        InputError: A single thing, or nothing that can be listed.
    """
    if isinstance(values, str | bytes | Mapping | Document) or not isinstance(values, Iterable):
        raise InputError(f"'{name}' is a {type(values).__name__}; expected a list, also for a single one.")
    return list(values)


def _place(chunk: Chunk) -> dict[str, Any]:
    return {"document_id": chunk.document_id, "start": chunk.start, "end": chunk.end}


def listed_ids(values: Iterable[Any]) -> list[str]:
    """Ids as a list.

    Raises:
        InputError: A single one, or something else than a text among them.
    """
    ids = listed("ids", values)
    for one in ids:
        if not isinstance(one, str):
            raise InputError(f"Found a {type(one).__name__} among the ids; expected texts.")
    return ids


def _is_all_of(source: Source, chunk: Chunk) -> bool:
    """Whether a chunk is all of its document but white space."""
    return not (source.text[: chunk.start].strip() or source.text[chunk.end :].strip())
