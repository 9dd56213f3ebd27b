"""JSON as it is written and read here: values of a known type, documents and chunks as lines.

In: values, documents, chunks; bytes that anybody may have changed. Out: bytes, the same again, or a
``StoreError``. Knows no files.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from memorag_core.errors import StoreError
from memorag_core.store.layout import REMEDY
from memorag_core.types import Chunk, Document
from memorag_core.types.metadata import frozen

T = TypeVar("T")


def to_json(value: Any, what: str) -> str:
    """A value on one line.

    Raises:
        StoreError: JSON cannot hold it; ``what`` says where it comes from.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(
            f"A value in {what} cannot be saved: {error}. Expected text, finite numbers, booleans, None, "
            f"and lists or mappings of them; convert the value before memorizing."
        ) from error


def encode(text: str) -> bytes:
    """UTF-8; a text with half a surrogate pair is still the user's text."""
    return text.encode("utf-8", "surrogatepass")


def parse(data: bytes, where: object) -> dict[str, Any]:
    """The mapping that bytes hold; ``where`` is named in the error.

    Raises:
        StoreError: they hold anything else.
    """
    try:
        text = data.decode("utf-8", "surrogatepass")
        return typed(json.loads(text, parse_constant=_no_number, parse_float=_finite), dict)
    except (ValueError, TypeError, RecursionError) as error:
        raise StoreError(f"'{where}' is not the JSON that was saved: {error}. {REMEDY}") from error


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no finite number")


def typed(value: Any, kind: type[T]) -> T:
    """The value, if it is exactly of this type; a boolean is no number here."""
    if type(value) is not kind:
        raise TypeError(f"found {type(value).__name__}, expected {kind.__name__}")
    return value


def document_rows(documents: Sequence[Document]) -> list[bytes]:
    """A line for each document.

    Raises:
        StoreError: metadata holds what JSON cannot.
    """
    return [
        _line(
            {"id": document.id, "text": document.text, "metadata": dict(document.metadata)},
            f"the metadata of document '{document.id}'",
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
        rows.append(_line(row, f"the metadata of chunk '{chunk.id}'"))
    return rows


def _line(row: Mapping[str, Any], what: str) -> bytes:
    return encode(to_json(row, what) + "\n")


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
