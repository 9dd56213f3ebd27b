"""Documents in blocks that are condensed one by one.

In: documents, a way to count tokens. Out: blocks that cover each document exactly, none of which reaches over
two documents. Knows no gists and no model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate, count

from memorag_core.errors import InputError
from memorag_core.memory.input_texts import as_items, check_text
from memorag_core.memory.prompt_chunks import cut_parts, cut_pieces
from memorag_core.types import Document

_LONGEST_PIECE = 8
"""A sentence of more than an eighth of a block is cut, so that little of a block stays empty before it."""


@dataclass(frozen=True, slots=True)
class Block:
    """A run of sentences: ``text`` is ``document.text[start:end]``, with the white space behind it."""

    document_id: str
    text: str
    start: int
    end: int
    tokens: int

    @property
    def name(self) -> str:
        """What an error calls it."""
        return f"characters {self.start}-{self.end} of document {self.document_id!r}"


def cut_blocks(document: Document, count_tokens: Callable[[str], int], *, tokens: int) -> tuple[Block, ...]:
    """Cut a document into blocks of at most so many tokens, at the ends of paragraphs or sentences.

    A block is longer only with white space that has no text behind it, or with one character of more tokens.
    """
    pieces = cut_pieces(document.text, count_tokens, longest=max(1, tokens // _LONGEST_PIECE))
    places = list(accumulate((len(piece.text) for piece in pieces), initial=0))
    blocks: list[Block] = []
    for first, last in cut_parts(pieces, capacity=tokens, overlap=0):
        start, end = places[first], places[last]
        size = sum(piece.tokens for piece in pieces[first:last])
        blocks.append(Block(document.id, document.text[start:end], start, end, size))
    return _without_blanks(blocks)


def checked_documents(
    given: str | Document | Sequence[str | Document], *, taken: Collection[str]
) -> tuple[Document, ...]:
    """What the user gave as documents; plain texts get the lowest free number as id.

    Args:
        given: a text, a document, or several.
        taken: ids of documents that were read before.

    Raises:
        InputError: nothing given, an empty text, one that is no Unicode, or an id twice.
    """
    items = as_items(given)
    used = {*taken}
    for item in items:
        if isinstance(item, Document):
            if item.id in used:
                raise InputError(
                    f"The document id {item.id!r} is in use; expected one of its own for each document, by "
                    "which its blocks are found. Give Document(text, id=...), or plain texts."
                )
            used.add(item.id)
    numbers = (str(number) for number in count())
    documents = []
    for place, item in enumerate(items):
        if isinstance(item, str):
            item = Document(item, id=next(number for number in numbers if number not in used))
        check_text(item.text if isinstance(item, Document) else item, place)
        documents.append(item)
    return tuple(documents)


def _without_blanks(blocks: Sequence[Block]) -> tuple[Block, ...]:
    """Blocks of white space alone become the end of the one before, or the beginning of the one after."""
    joined: list[Block] = []
    for block in blocks:
        if joined and (not block.text.strip() or not joined[-1].text.strip()):
            last = joined.pop()
            block = Block(
                block.document_id, last.text + block.text, last.start, block.end, last.tokens + block.tokens
            )
        joined.append(block)
    return tuple(joined)
