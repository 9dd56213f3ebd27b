"""Documents and chunks as JSON lines.

In: documents, chunks. Out: one line each, and the same documents and chunks again. Knows no files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from memorag_core.errors import StoreError
from memorag_core.store.jsontext import encode, to_json, typed
from memorag_core.store.layout import REMEDY
from memorag_core.types import Chunk, Document
from memorag_core.types.metadata import frozen


def document_rows(documents: Sequence[Document]) -> list[bytes]:
    """A line for each document.

    Raises:
        StoreError: metadata holds what JSON cannot.
    """
    return [
        encode(
            to_json(
                {"id": document.id, "text": document.text, "metadata": dict(document.metadata)},
                f"the metadata of document '{document.id}'",
            )
            + "\n"
        )
        for document in documents
    ]


def chunk_rows(chunks: Sequence[Chunk], documents: Sequence[Document]) -> list[bytes]:
    """Chunks as spans: their text is in the document, and so is metadata that they share with it.

    Raises:
        StoreError: a chunk is no slice of its document.
    """
    by_id = {document.id: document for document in documents}
    rows = []
    for chunk in chunks:
        document = by_id.get(chunk.document_id)
        if document is None or chunk.text != document.text[chunk.start : chunk.end]:
            raise StoreError(
                f"Chunk '{chunk.id}' is not the text of document '{chunk.document_id}' from {chunk.start} "
                f"to {chunk.end}. Expected slices of the saved documents, as split_document makes them."
            )
        row: dict[str, Any] = {
            "id": chunk.id,
            "document": chunk.document_id,
            "start": chunk.start,
            "end": chunk.end,
        }
        if chunk.metadata != document.metadata:
            row["metadata"] = dict(chunk.metadata)
        rows.append(encode(to_json(row, f"the metadata of chunk '{chunk.id}'") + "\n"))
    return rows


def parse_document(row: Mapping[str, Any], where: object) -> Document:
    """The document of a line; ``where`` is named in the error."""
    try:
        text = typed(row["text"], str)
        text.encode()  # half a surrogate pair is text for no tokenizer
        return Document(text, id=typed(row["id"], str), metadata=frozen(typed(row["metadata"], dict)))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"'{where}' has a row that is no document: {error}. {REMEDY}") from error


def parse_chunk(row: Mapping[str, Any], documents: Mapping[str, Document], where: object) -> Chunk:
    """The chunk of a line, with its slice of the document's text; ``where`` is named in the error."""
    try:
        document = documents[typed(row["document"], str)]
        start, end = typed(row["start"], int), typed(row["end"], int)
        if not 0 <= start < end <= len(document.text):
            raise StoreError(
                f"'{where}' has a chunk from {start} to {end} in a text of {len(document.text)}. {REMEDY}"
            )
        metadata = typed(row["metadata"], dict) if "metadata" in row else document.metadata
        return Chunk(
            id=typed(row["id"], str),
            text=document.text[start:end],
            document_id=document.id,
            start=start,
            end=end,
            metadata=metadata,
        )
    except StoreError:
        raise
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"'{where}' has a row that is no chunk: {error}. {REMEDY}") from error
