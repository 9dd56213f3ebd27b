"""What a caller may choose, at construction, at a call or as a configurable field, checked.

In: kinds and settings as they were given. Out: the same in the core's terms. Knows nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from pydantic import BaseModel, field_validator

from memorag_core import ClueKind, ClueSettings, InputError, RetrievalSettings


class ChoosesKinds(BaseModel):
    """Chooses which clues are asked for.

    Attributes:
        kinds: Kinds of clue; None takes those of the settings of ``memorag``.
    """

    kinds: tuple[ClueKind, ...] | None = None

    @field_validator("kinds", mode="before")
    @classmethod
    def _are_kinds(cls, value: Any) -> Any:
        return checked_kinds(value)


class ChoosesRetrieval(ChoosesKinds):
    """Chooses that, how the rankings of question and clues are joined, and what is told of the result.

    Attributes:
        retrieval: Settings in place of those of ``memorag``, or only the fields that differ.
        annotate: Whether the metadata of what is found say how it was found. Then what two questions find is
            not equal any more, and no fusion or de-duplication takes it for the same.
    """

    retrieval: RetrievalSettings | dict[str, Any] | None = None
    annotate: bool = False

    @field_validator("retrieval", mode="plain")
    @classmethod
    def _is_retrieval(cls, value: Any) -> Any:
        return checked_retrieval(value)


def checked_kinds(value: Any) -> Any:
    """Kinds of clue as a tuple; None stays.

    Raises:
        InputError: No kind, an unknown one, or one given twice.
    """
    return None if value is None else ClueSettings(kinds=value).kinds


def checked_retrieval(value: Any) -> Any:
    """Retrieval settings, or some fields of them; None stays.

    Raises:
        InputError: Something else, an unknown field, or a value that cannot be used.
    """
    if value is None or isinstance(value, RetrievalSettings):
        return value
    if not isinstance(value, Mapping):
        raise InputError(
            f"'retrieval' is a {type(value).__name__}; expected RetrievalSettings, or the fields that differ "
            "from the settings of the MemoRAG: {'question_weight': 0.5}."
        )
    own = dict(value)
    changed(RetrievalSettings(), own)
    return own


def changed(
    settings: RetrievalSettings, retrieval: RetrievalSettings | Mapping[str, Any] | None
) -> RetrievalSettings:
    """Settings as they were changed.

    Args:
        settings: What holds unless it is changed.
        retrieval: Other settings in their place, or only the fields that differ.

    Raises:
        InputError: An unknown field, or a value that cannot be used.
    """
    if isinstance(retrieval, RetrievalSettings):
        return retrieval
    try:
        return replace(settings, **(retrieval or {}))
    except TypeError:  # a name that it does not know; old ones it knows
        known = [field.name for field in fields(settings)]
        unknown = [name for name in retrieval or {} if name not in known]
        raise InputError(
            f"'retrieval' has {', '.join(map(repr, unknown))}, which RetrievalSettings does not; expected "
            f"some of {', '.join(known)}."
        ) from None


def refuse(function: str, given: Mapping[str, Any], *, besides: type | None = None) -> None:
    """Refuse arguments that LangChain's signatures let in and that mean nothing here.

    Args:
        function: What was called.
        given: The arguments.
        besides: A ``TypedDict`` of those that mean something.

    Raises:
        TypeError: There is another one, as for any function of Python.
    """
    for name in given.keys() - getattr(besides, "__annotations__", {}).keys():
        raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")
