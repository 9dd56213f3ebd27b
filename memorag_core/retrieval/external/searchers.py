"""The user's own retriever in one shape, and what it gives, checked.

In: an object that searches, or a function. Out: a ``Searcher``; for each of its answers a tuple of passages.
Knows no framework: the adapters wrap their frameworks' retrievers. Does not search.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, iscoroutine, iscoroutinefunction, signature
from math import isfinite
from numbers import Real
from typing import Any

from memorag_core.errors import InputError
from memorag_core.protocols import Searcher
from memorag_core.types import FoundPassage

_EXPECTED = (
    "expected an object with search(query, k), or a function (query, k), that gives passages, best first. A "
    "retriever, a vector store or an index of LangChain or LlamaIndex is given to the adapter of its "
    "framework, which wraps it"
)


@dataclass(frozen=True, slots=True)
class FunctionSearcher:
    """A function as a searcher. It may give passages as texts, or as pairs of a text and its score."""

    function: Callable[[str, int], Any]

    def search(self, query: str, k: int, /) -> Sequence[FoundPassage]:
        """What the function gives, as passages; what cannot be one is left for ``checked_passages``."""
        given = self.function(query, k)
        return [_as_passage(one) for one in given] if isinstance(given, list | tuple) else given


def as_searcher(value: object) -> Searcher:
    """Make a searcher of a retriever of the user's own.

    Args:
        value: An object with ``search(query, k)`` that gives ``FoundPassage`` values, with ``asearch`` beside
            it where it can be awaited; or a function of the two that gives a list of ``FoundPassage``, of
            texts, or of pairs (text, score), best first.

    Raises:
        InputError: Anything else: a retriever of a framework, a class in place of its object, an async
            function, or one that does not take a query and a number.
    """
    if isinstance(value, type):
        raise InputError(
            f"The searcher is the class {value.__name__}; give an object: {value.__name__}(...)."
        )
    # LangChain's vector stores have a search of another meaning; both frameworks' indexes make retrievers.
    foreign = hasattr(value, "similarity_search") or hasattr(value, "as_retriever")
    if isinstance(value, Searcher) and not foreign:
        _check_takes(value.search, f"{called(value)}.search")
        return value
    if callable(value) and not foreign:
        _check_takes(value, called(value))
        return FunctionSearcher(value)
    raise InputError(f"The searcher is a {type(value).__name__}; {_EXPECTED}.")


def called(searcher: object) -> str:
    """What errors call a searcher: the name of its function, or of its class."""
    own = searcher.function if isinstance(searcher, FunctionSearcher) else searcher
    return str(getattr(own, "__qualname__", type(own).__qualname__))


def checked_passages(given: object, searcher: Searcher) -> tuple[FoundPassage, ...]:
    """What a search gave, or the error that says why it cannot be used.

    Args:
        given: What ``search`` returned.
        searcher: Whose answer it is; errors name it.

    Raises:
        InputError: No list or tuple, or one that holds something else than passages: the searcher is wrong,
            and would be with every query.
    """
    name = called(searcher)
    if not isinstance(given, list | tuple):
        if iscoroutine(given):
            given.close()  # or Python warns that it was never awaited
        raise InputError(
            f"The searcher {name} gave {_a(given)}; expected a list of passages, best first, and an "
            "empty one where it finds nothing."
        )
    for number, passage in enumerate(given, start=1):
        fault = _fault(passage)
        if fault:
            raise InputError(
                f"Passage {number} of {len(given)} that the searcher {name} gave {fault}. Correct what it "
                "returns: FoundPassage(text, id=..., score=..., metadata={...})."
            )
    return tuple(given)


def _as_passage(one: Any) -> Any:
    if isinstance(one, str):
        return FoundPassage(one)
    if isinstance(one, tuple) and len(one) == 2:
        return FoundPassage(one[0], score=one[1])
    return one


def _fault(passage: object) -> str:
    """What is wrong with a passage, empty where nothing is."""
    if not isinstance(passage, FoundPassage):
        return f"is {_a(passage)}; expected a FoundPassage"
    text, name, score, metadata = map(_untyped, (passage.text, passage.id, passage.score, passage.metadata))
    if not isinstance(text, str):
        return f"has {_a(text)} as its text; expected a str"
    if name is not None and not (isinstance(name, str) and name):
        return f"has the id {name!r:.60}; expected a str that is not empty, or None"
    # Real, for numpy's numbers are scores too.
    if score is not None and (
        isinstance(score, bool) or not isinstance(score, Real) or not isfinite(float(score))
    ):
        return f"has the score {score!r:.60}; expected a finite number, the higher the better, or None"
    if not isinstance(metadata, Mapping):
        return f"has {_a(metadata)} as its metadata; expected a mapping"
    return ""


def _untyped(value: object) -> object:
    """What a user's object really holds, whatever its type says."""
    return value


def _a(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _check_takes(function: Callable[..., object], name: str) -> None:
    """Hold a search to two arguments by place, where its signature can be read."""
    if iscoroutinefunction(function):
        raise InputError(
            f"{name} is async; {_EXPECTED}. Give an object that has it as asearch, and a search beside it."
        )
    try:
        parameters = signature(function)
    except (TypeError, ValueError):  # some built-in functions have none
        return
    try:
        parameters.bind("", 1)
    except TypeError:
        wanted = [one.name for one in parameters.parameters.values() if one.kind != Parameter.VAR_KEYWORD]
        raise InputError(
            f"{name} takes ({', '.join(wanted)}), not a query and a number by place; {_EXPECTED}."
        ) from None
