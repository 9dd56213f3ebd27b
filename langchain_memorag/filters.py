"""Which documents may be found, as LangChain's vector stores let one say it: a function, or metadata to have.

In: a function of documents, or a mapping. Out: a function that says whether a chunk may be found. Searches
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import isawaitable, iscoroutinefunction
from typing import Any, TypeAlias

from langchain_core.documents import Document

from langchain_memorag.documents import chunk_document, chunk_metadata
from memorag_core import Chunk, InputError

Filter: TypeAlias = Callable[[Document], bool] | Mapping[str, Any]
"""Whether a document may be found; or what its metadata must have, each name with an equal value."""


def checked_filter(value: Any) -> Any:
    """A filter; None stays.

    Raises:
        InputError: Something else.
    """
    if value is None or (callable(value) and not iscoroutinefunction(value)):
        return value
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return dict(value)
    found = "an async function" if iscoroutinefunction(value) else f"a {type(value).__name__}"
    raise InputError(
        f"'filter' is {found}; expected a function from a document to True or False, or the metadata that a "
        "document must have: {'year': 2026}."
    )


def check_filtered(wanted: Filter | None, over: object) -> None:
    """Refuse a filter where it would filter nothing.

    Raises:
        InputError: A retriever of the user's own is searched instead of what was memorized.
    """
    if wanted is not None and over is not None:
        raise InputError(
            "'filter' is of what was memorized, and 'over' is searched instead. Give it to that: "
            "over=store.as_retriever(search_kwargs={'k': 20, 'filter': ...})."
        )


def chunks_that_pass(wanted: Filter | None) -> Callable[[Chunk], bool] | None:
    """A filter as the core takes it, for one search; None lets all be found."""
    if wanted is None:
        return None
    if isinstance(wanted, Mapping):
        return _having(wanted)

    def passes(chunk: Chunk) -> bool:
        answer: object = wanted(chunk_document(chunk))
        if isawaitable(answer):
            raise InputError(
                "'filter' gave something to be awaited; expected True or False. Give a function that is not "
                "async."
            )
        return bool(answer)

    return passes


def _having(wanted: Mapping[str, Any]) -> Callable[[Chunk], bool]:
    names = wanted.keys()

    def passes(chunk: Chunk) -> bool:
        metadata = chunk_metadata(chunk)
        return names <= metadata.keys() and all(metadata[name] == wanted[name] for name in names)

    return passes
