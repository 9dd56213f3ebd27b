"""Chunks of equal size to measure retrieval on: so many words, or so many sentences.

In: a document. Out: chunks with their character spans. Knows no question. Not what the pipeline cuts:
measures are compared at the same number of words.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import regex

from memorag_core.documents.language import detect_language
from memorag_core.errors import InputError
from memorag_core.types import Chunk, Document
from memorag_evaluation.metrics import Span

WORDS = 200
CHARACTERS = 300
"""Of a chunk in a language that is written without spaces."""

SENTENCES = 3

_UNSPACED_LANGUAGES = ("zh", "ja", "ko", "th")
_WORD = regex.compile(r"\S+")
_VISIBLE = regex.compile(r"\S")
_SENTENCE_END = regex.compile(
    r"(?<=[.!?][\"'”’)\]]*)\s+(?=[\"'“‘(]?[\p{Lu}\p{Lo}\p{N}])|(?<=[。！？][」』”’）]*)(?![」』”’）])|\n+"
)


def word_chunks(document: Document, *, words: int = WORDS, characters: int = CHARACTERS) -> tuple[Chunk, ...]:
    """Chunks of so many words, or of so many visible characters where words have no spaces.

    Raises:
        InputError: A size below 1, or a document without a visible character.
    """
    unspaced = detect_language(document.text) in _UNSPACED_LANGUAGES
    units = (_VISIBLE if unspaced else _WORD).finditer(document.text)
    return _grouped(document, [unit.span() for unit in units], characters if unspaced else words)


def sentence_chunks(document: Document, *, sentences: int = SENTENCES) -> tuple[Chunk, ...]:
    """Chunks of so many sentences; errors as ``word_chunks``."""
    return _grouped(document, sentence_spans(document.text), sentences)


def sentence_spans(text: str) -> list[Span]:
    """The sentences of a text, without the white space between them; a new line ends a sentence too."""
    borders = [0, *(place for end in _SENTENCE_END.finditer(text) for place in end.span()), len(text)]
    found = []
    for start, end in pairwise(borders):
        piece = text[start:end]
        if piece.strip():
            start += len(piece) - len(piece.lstrip())
            found.append((start, start + len(piece.strip())))
    return found


def _grouped(document: Document, units: Sequence[Span], size: int) -> tuple[Chunk, ...]:
    if size < 1:
        raise InputError(f"The size of a chunk is {size}; expected 1 or more.")
    if not units:
        raise InputError(f"Document {document.id!r} has no visible character; expected text.")
    chunks = []
    for first in range(0, len(units), size):
        start, end = units[first][0], units[min(first + size, len(units)) - 1][1]
        chunks.append(
            Chunk(f"{document.id}:{start}-{end}", document.text[start:end], document.id, start, end)
        )
    return tuple(chunks)
