"""Documents into chunks with character offsets.

In: what the user gave, a text or documents; how to cut them. Out: checked documents, their chunks. Knows no
model but an encoder that counts, and a chunk is always a slice of its document.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import count

from memorag_core.documents.spans import Span, cut_spans, fit_spans, too_long
from memorag_core.documents.splitter import own_spans
from memorag_core.errors import InputError
from memorag_core.protocols import Splitter, TextEncoder
from memorag_core.settings import ChunkSettings
from memorag_core.types import Chunk, Document, has_id
from memorag_core.types.metadata import json_frozen


def as_documents(
    text_or_documents: str | Document | Sequence[str | Document],
    *,
    taken: Collection[str] = (),
    known: Collection[str] = (),
) -> tuple[Document, ...]:
    """Whatever the user gave as checked documents that nobody can change.

    Plain texts, and documents without an id, get the lowest free number as id.

    Args:
        text_or_documents: A text, a document, or several of them in a list or tuple.
        taken: Ids that are in use already, of documents read before.
        known: Ids that a document may have, to replace what has them; no text or document gets one of them.

    Returns:
        One document or more, in the order given, each with text in it and an id of its own. Their metadata
        are what a save would make of them, and are shared with nobody.

    Raises:
        InputError: Nothing given, a text without a visible character or with half of a surrogate pair,
            something that is neither text nor document, an id twice or taken, metadata that JSON cannot hold.
    """
    given = [text_or_documents] if isinstance(text_or_documents, str | Document) else text_or_documents
    if not isinstance(given, Sequence) or isinstance(given, bytes | bytearray):
        raise InputError(
            f"Found {type(given).__name__}, expected a text, a Document, or a list of them. {_remedy(given)}"
        )
    if not given:
        raise InputError("There are no documents; expected at least one. Give a text or a list of Documents.")
    used = set(taken)
    for place, item in enumerate(given):
        if isinstance(item, Document) and has_id(item):
            _check_id(item, place, used)
            used.add(item.id)
    numbers = (number for number in map(str, count()) if number not in used and number not in known)
    documents = []
    for place, item in enumerate(given):
        if isinstance(item, str):
            item = Document(item)
        elif not isinstance(item, Document):
            raise InputError(
                f"Document {place} is of type {type(item).__name__}; expected a text or a Document. "
                f"{_remedy(item)}"
            )
        own = item if has_id(item) else replace(item, id=next(numbers))
        check_text(own)
        named = f"document {own.id!r}" if own is item else f"document {place}, {own.text.strip()[:40]!r},"
        documents.append(Document(own.text, own.id, json_frozen(own.metadata, named)))
    return tuple(documents)


def split_document(document: Document, settings: ChunkSettings) -> tuple[Chunk, ...]:
    """Cut one document by characters alone: ``split_documents`` without an encoder or a splitter."""
    return split_documents((document,), settings)[0]


def split_documents(
    documents: Sequence[Document],
    settings: ChunkSettings,
    *,
    encoder: TextEncoder | None = None,
    splitter: Splitter | None = None,
) -> tuple[tuple[Chunk, ...], ...]:
    """Cut documents into chunks.

    Args:
        documents: Each with at least one visible character.
        settings: Size and overlap in characters. Cuts are between paragraphs and sentences where the size
            allows it. With a ``splitter`` they are not looked at.
        encoder: What will read the chunks: those that it would not read whole are cut further.
        splitter: Makes the chunks instead, which stay as they are; see ``splitter.own_spans``.

    Returns:
        For each document its chunks in the order of the text. ``chunk.text`` is
        ``document.text[chunk.start:chunk.end]``. Without a ``splitter`` every visible character is in some
        chunk, and chunks have no white space at their ends.

    Raises:
        InputError: A document is empty or cannot be encoded; the splitter gave what are no chunks of its
            text; the encoder has no room for text.

    Warns:
        UserWarning: The encoder does not read some of the splitter's chunks whole.
    """
    for document in documents:
        check_text(document)
    texts = [document.text for document in documents]
    if splitter is not None:
        spans = [own_spans(document.text, splitter, document.id) for document in documents]
        if encoder is not None:
            _warn_of_long_ones(texts, spans, encoder)
    else:
        spans = [cut_spans(text, size=settings.size, overlap=settings.overlap) for text in texts]
        if encoder is not None:
            spans = fit_spans(texts, spans, encoder, repeated=settings.overlap / settings.size)
    return tuple(_chunks(document, own) for document, own in zip(documents, spans, strict=True))


def _chunks(document: Document, spans: Sequence[Span]) -> tuple[Chunk, ...]:
    name, text, metadata = document.id, document.text, document.metadata
    return tuple(
        Chunk(f"{name}:{start}-{end}", text[start:end], name, start, end, metadata) for start, end in spans
    )


def _warn_of_long_ones(texts: Sequence[str], spans: Sequence[Sequence[Span]], encoder: TextEncoder) -> None:
    own = [text[start:end] for text, some in zip(texts, spans, strict=True) for start, end in some]
    long = too_long(own, encoder)
    if long:
        warnings.warn(
            f"{len(long)} of {len(own)} chunks that the splitter gave have more tokens (up to "
            f"{max(long.values())}) than the {encoder.max_tokens} that the embedder reads; their ends are "
            "not in their vectors. Let the splitter make shorter ones, or leave it out: then chunks are cut "
            "to fit.",
            UserWarning,
            stacklevel=2,
        )


def _check_id(document: Document, place: int, used: Collection[str]) -> None:
    if not isinstance(document.id, str) or not document.id:
        raise InputError(
            f"Document {place} has the id {document.id!r}; expected a text. Give Document(..., id='a')."
        )
    if document.id in used:
        raise InputError(
            f"Document {place} has the id {document.id!r}, which is in use; expected an id of its own. "
            "Give each Document another id, or none: those without one are numbered."
        )


def check_text(document: Document) -> None:
    """Refuse a document whose text is none, has nothing visible or is no valid Unicode.

    Raises:
        InputError: It is one.
    """
    text = document.text
    if not isinstance(text, str):
        raise InputError(
            f"Document {document.id!r} has a text of type {type(text).__name__}. {_remedy(text)}"
        )
    if not text or text.isspace():
        raise InputError(
            f"Document {document.id!r} is empty: found {len(text)} characters, none of them visible; "
            "expected text. Leave the document out, or look whether its file was read."
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"Document {document.id!r} holds half of a surrogate pair at character {error.start}, which no "
            "tokenizer takes; expected valid Unicode. Read the file with the encoding it was written in."
        ) from error


def _remedy(given: object) -> str:
    if isinstance(given, bytes | bytearray):
        return "Decode the bytes first: data.decode('utf-8')."
    if hasattr(given, "read_text"):
        return "Read the file first: path.read_text(encoding='utf-8')."
    if hasattr(given, "page_content"):
        return "Give Document(text=document.page_content, id=..., metadata=document.metadata)."
    return "Give a str, or memorag_core.Document(text, id=..., metadata=...)."
