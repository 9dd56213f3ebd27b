"""What a memory model is given to read: a text, a document, or several; nothing else, and nothing empty.

In: what the caller gave. Out: the same as a list. Knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence

from memorag_core.errors import InputError
from memorag_core.types import Document


def as_items(given: str | Document | Sequence[str | Document]) -> Sequence[str | Document]:
    """One or more texts or documents.

    Raises:
        InputError: nothing was given, or something else.
    """
    items = [given] if isinstance(given, str | Document) else given
    if not isinstance(items, Sequence):
        raise InputError(f"Found {type(items).__name__}; expected a text, a document, or a list of them.")
    if not items:
        raise InputError("There are no documents; expected one or more. Give a text or a list of documents.")
    return items


def check_text(text: object, place: int) -> None:
    """Refuse a text that has no words or is no Unicode; ``place`` is its number among those given."""
    if not isinstance(text, str) or not text.strip():
        raise InputError(
            f"Document {place} has the text {text!r}; expected words. Leave empty documents out."
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"Document {place} is no Unicode text: {error}. Read the file with the right encoding."
        ) from error


def texts_of(given: str | Document | Sequence[str | Document]) -> list[str]:
    """The texts of what was given, each with words.

    Raises:
        InputError: nothing was given, an empty text, or one that is no Unicode.
    """
    texts = [item.text if isinstance(item, Document) else item for item in as_items(given)]
    for place, text in enumerate(texts):
        check_text(text, place)
    return texts
