"""Documents, as LangChain carries them and as the core reads them.

In: LangChain's documents, or evidence. Out: the core's documents, or LangChain's. Knows no retriever.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langchain_core.documents import Document

from memorag_core import Document as Source
from memorag_core import Evidence, FoundPassage, InputError, SearchFailure, thawed


def evidence_document(
    evidence: Evidence, *, failures: Sequence[SearchFailure] = (), placed: bool = True
) -> Document:
    """Evidence as LangChain carries it; every value set here can be written as JSON.

    Args:
        evidence: What was found.
        failures: Searches that failed while it was looked for.
        placed: Whether its place is known, that is, whether it is of what was memorized. The place of what
            another retriever found is the whole passage, and gives way to what that retriever says.
    """
    chunk = evidence.chunk
    place = {"document_id": chunk.document_id, "start": chunk.start, "end": chunk.end}
    found = found_metadata(evidence)
    if failures:
        found["failures"] = [failure_row(failure) for failure in failures]
    given = thawed(chunk.metadata)
    own = {**given, **place} if placed else {**place, **given}
    return Document(id=chunk.id, page_content=chunk.text, metadata={**own, **found})


def found_metadata(evidence: Evidence) -> dict[str, Any]:
    """How evidence was found, whatever it is of."""
    return {"score": evidence.score, "rank": evidence.rank, "clues": list(evidence.clues)}


def failure_row(failure: SearchFailure) -> dict[str, Any]:
    """A search that failed, without the message of its error: that may hold addresses and keys."""
    return {
        "query": failure.query,
        "kind": failure.kind,
        "error": failure.error.partition(":")[0],
        "seconds": failure.seconds,
    }


def passage(document: Document, score: float | None = None) -> FoundPassage:
    """A document that a retriever of LangChain found, as the core takes it."""
    return FoundPassage(
        document.page_content,
        id=document.id or None,
        score=None if score is None else float(score),
        metadata=document.metadata,
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
