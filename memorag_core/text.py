"""Documents into chunks with character offsets.

In: what the user gave, a text or documents. Out: checked documents, their chunks. Knows no tokens and no
model: sizes are characters, and a chunk is always a slice of its document.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import count

from semantic_text_splitter import TextSplitter

from memorag_core.config import ChunkSettings
from memorag_core.errors import InputError
from memorag_core.records import Chunk, Document


def as_documents(
    text_or_documents: str | Document | Sequence[str | Document], *, taken: Collection[str] = ()
) -> tuple[Document, ...]:
    """Whatever the user gave as checked documents; plain texts get the lowest free number as id.

    Args:
        text_or_documents: A text, a document, or several of them in a list or tuple.
        taken: Ids that are in use already, of documents read before.

    Returns:
        One document or more, in the order given, each with text in it and an id of its own.

    Raises:
        InputError: Nothing given, a text without a visible character or with half of a surrogate pair,
            something that is neither text nor document, an id twice or taken.
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
        if isinstance(item, Document):
            _check_id(item, place, used)
            used.add(item.id)
    numbers = (str(number) for number in count())
    documents = []
    for place, item in enumerate(given):
        if isinstance(item, str):
            free = next(number for number in numbers if number not in used)
            item = Document(item, id=free)
        elif not isinstance(item, Document):
            raise InputError(
                f"Document {place} is of type {type(item).__name__}; expected a text or a Document. "
                f"{_remedy(item)}"
            )
        _check_text(item)
        documents.append(item)
    return tuple(documents)


def split_document(document: Document, settings: ChunkSettings) -> tuple[Chunk, ...]:
    """Cut a document into chunks, between paragraphs and sentences where the size allows it.

    Args:
        document: A document with at least one visible character.
        settings: Size and overlap in characters.

    Returns:
        The chunks in the order of the text, without white space at their ends. ``chunk.text`` is
        ``document.text[chunk.start:chunk.end]``; every visible character is in some chunk.

    Raises:
        InputError: The document is empty or cannot be encoded.
    """
    _check_text(document)
    splitter = TextSplitter(settings.size, overlap=settings.overlap)
    chunks: list[Chunk] = []
    for start, piece in splitter.chunk_indices(document.text):
        text = piece.strip()  # Python knows a few more white spaces than the splitter does
        start += len(piece) - len(piece.lstrip())
        end = start + len(text)
        if not text or (chunks and end <= chunks[-1].end):
            continue  # nothing but white space, or nothing but overlap
        chunks.append(Chunk(f"{document.id}:{start}-{end}", text, document.id, start, end, document.metadata))
    return tuple(chunks)


def _check_id(document: Document, place: int, used: Collection[str]) -> None:
    if not isinstance(document.id, str) or not document.id:
        raise InputError(
            f"Document {place} has the id {document.id!r}; expected a text. Give Document(..., id='a')."
        )
    if document.id in used:
        raise InputError(
            f"Document {place} has the id {document.id!r}, which is in use; expected an id of its own. "
            "Give each Document another id, or plain texts, which are numbered."
        )


def _check_text(document: Document) -> None:
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
