"""What a caller chooses, at construction, at a call or as a configurable field, checked.

In: a MemoRAG, clue kinds, settings, a filter, as they were given. Out: fields that retrievers and runnables
share, and the same in the core's terms. Searches nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import fields, replace
from inspect import currentframe, isawaitable, iscoroutinefunction
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from langchain_core.documents import Document
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from langchain_memorag.documents import chunk_document, chunk_metadata
from memorag_core import Chunk, ClueKind, ClueSettings, InputError, MemoRAG, RetrievalSettings

Filter: TypeAlias = Callable[[Document], bool] | Mapping[str, Any]
"""Whether a document may be found; or what its metadata must have, each name with an equal value."""

_RENAMED = {"over": "base_retriever", "kinds": "clue_kinds", "retrieval": "retrieval_settings"}
"""Old names of fields, which will be gone in the next version."""

_BETWEEN = ("langchain_memorag", "langchain_core", "pydantic")


class WithMemory(BaseModel):
    """Holds what was memorized.

    A copy, deep or not, holds the same memory. What is in a MemoRAG cannot be pickled, so neither can what
    holds it.

    Attributes:
        memorag: What was memorized. Left out of ``repr`` and of every serialized form.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, hide_input_in_errors=True)

    memorag: MemoRAG = Field(repr=False, exclude=True)

    @field_validator("memorag", mode="before")
    @classmethod
    def _is_memorag(cls, value: object) -> object:
        if isinstance(value, MemoRAG):
            return value
        raise InputError(
            f"'memorag' is a {type(value).__name__}; expected a memorag_core.MemoRAG that has memorized "
            "a text. MemoRAGRetriever.from_texts([...]), .from_documents([...]) and .load(path) make one."
        )

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        # Memories, models and stores are shared; what a copy may change is its own.
        changeable = {"tags", "metadata"} & self.__dict__.keys()
        return self.model_copy(update={name: deepcopy(getattr(self, name), memo) for name in changeable})


class WithClueKinds(WithMemory):
    """Chooses which clues are asked for.

    Attributes:
        clue_kinds: Kinds of clue; None takes those of the settings of ``memorag``.
    """

    clue_kinds: tuple[ClueKind, ...] | None = None

    @model_validator(mode="before")
    @classmethod
    def _old_names(cls, given: Any) -> Any:
        return renamed(cls.__name__, given) if isinstance(given, dict) else given

    @field_validator("clue_kinds", mode="before")
    @classmethod
    def _are_kinds(cls, value: Any) -> Any:
        return None if value is None else ClueSettings(kinds=value).kinds

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name in _RENAMED:
                (new,) = renamed(type(self).__name__, {name: None})
                return getattr(self, new)
            return super().__getattr__(name)


class WithRetrieval(WithClueKinds):
    """Chooses that, how the rankings of question and clues are joined, and what is told of the result.

    Attributes:
        retrieval_settings: Settings in place of those of ``memorag``, or only the fields that differ.
        annotate: Whether the metadata of what is found say how it was found. Then what two questions find is
            not equal any more, and no fusion or de-duplication takes it for the same.
    """

    retrieval_settings: RetrievalSettings | dict[str, Any] | None = None
    annotate: bool = False

    @field_validator("retrieval_settings", mode="plain")
    @classmethod
    def _are_settings(cls, value: Any) -> Any:
        changed(RetrievalSettings(), value)
        return dict(value) if isinstance(value, Mapping) else value

    def _settings(self, other: Any = None) -> RetrievalSettings:
        """How rankings are joined, where a call may say ``other``."""
        return changed(changed(self.memorag.retrieval, self.retrieval_settings), other)


def changed(settings: RetrievalSettings, by: Any) -> RetrievalSettings:
    """Settings with others in their place, or with only the fields that differ; None changes nothing.

    Raises:
        InputError: Something else, an unknown field, or a value that cannot be used.
    """
    if by is None or isinstance(by, RetrievalSettings):
        return by or settings
    if not isinstance(by, Mapping):
        raise InputError(
            f"'retrieval_settings' is a {type(by).__name__}; expected RetrievalSettings, or the fields that "
            "differ from the settings of the MemoRAG: {'question_weight': 0.5}."
        )
    try:
        return replace(settings, **by)
    except TypeError:  # a name that it does not know; old ones it knows
        known = [field.name for field in fields(settings)]
        unknown = [name for name in by if name not in known]
        raise InputError(
            f"'retrieval_settings' has {', '.join(map(repr, unknown))}, which RetrievalSettings does not; "
            f"expected some of {', '.join(known)}."
        ) from None


def checked_filter(value: Any, base_retriever: object) -> Any:
    """A filter; None stays.

    Raises:
        InputError: Something else, or a filter where ``base_retriever`` is searched instead of what was
            memorized.
    """
    if value is None:
        return None
    if base_retriever is not None:
        raise InputError(
            "'filter' is of what was memorized, and 'base_retriever' is searched instead. Give it to that: "
            "base_retriever=store.as_retriever(search_kwargs={'k': 20, 'filter': ...})."
        )
    if callable(value) and not iscoroutinefunction(value):
        return value
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return dict(value)
    found = "an async function" if iscoroutinefunction(value) else f"a {type(value).__name__}"
    raise InputError(
        f"'filter' is {found}; expected a function from a document to True or False, or the metadata that a "
        "document must have: {'year': 2026}."
    )


def chunks_that_pass(wanted: Filter | None) -> Callable[[Chunk], bool] | None:
    """A filter as the core takes it, for one search; None lets all be found."""
    if wanted is None:
        return None
    if isinstance(wanted, Mapping):
        having = wanted.items()

        def has_metadata(chunk: Chunk) -> bool:
            metadata = chunk_metadata(chunk)
            return all(name in metadata and metadata[name] == value for name, value in having)

        return has_metadata

    def passes(chunk: Chunk) -> bool:
        answer: object = wanted(chunk_document(chunk))
        if isawaitable(answer):
            raise InputError(
                "'filter' gave something to be awaited; expected True or False. Give a function that is not "
                "async."
            )
        return bool(answer)

    return passes


def chosen(function: str, given: Mapping[str, Any], known: Iterable[str] = ()) -> dict[str, Any]:
    """What is chosen at a call, of what LangChain's signatures let in.

    Args:
        function: What was called.
        given: Its arguments; of them, None is no choice.
        known: The names of those that mean something.

    Raises:
        TypeError: There is another one, as for any function of Python.
    """
    choice = renamed(function, given)
    for name in choice.keys() - set(known):
        raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")
    return {name: value for name, value in choice.items() if value is not None}


def renamed(owner: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by their names of today, with a warning for each old name."""
    named = dict(given)
    for old in given.keys() & _RENAMED.keys():
        new = _RENAMED[old]
        if named.get(new) is not None:
            raise TypeError(f"{owner} got both {old!r} and {new!r}, which is its new name; expected one.")
        message = f"{owner}: {old!r} is deprecated; use {new!r}."
        warnings.warn(message, DeprecationWarning, stacklevel=_levels_to_the_user())
        named[new] = named.pop(old)
    return named


def _levels_to_the_user() -> int:
    """How many calls above ``renamed`` stands what is neither ours, nor LangChain's, nor pydantic's."""
    level, frame = 0, currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _BETWEEN:
        level, frame = level + 1, frame.f_back
    return level
