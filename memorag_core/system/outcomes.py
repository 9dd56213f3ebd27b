"""Work on many items at once: an error of one costs the others nothing, and each that is started is ended.

In: items, the work, whom to tell. Out: for each item its result, or its error. Knows nothing of the work.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from inspect import isawaitable
from typing import Any, Self, TypeVar

from memorag_core.errors import MemoRAGError

Item = TypeVar("Item")
Result = TypeVar("Result")


def outcomes(
    work: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item]
) -> list[Result | Exception]:
    """Work on all items at once; where one of them cannot be used, on each alone.

    Returns:
        For each item its result, or its error. An error that is not about what was given, such as a model
        that failed, is that of all.
    """
    if not items:
        return []
    try:
        return list(work(items))
    except MemoRAGError as error:
        if len(items) == 1:
            return [error]
        return [outcome for item in items for outcome in outcomes(work, [item])]
    except Exception as error:
        return [error] * len(items)


async def aoutcomes(
    work: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]], items: Sequence[Item]
) -> list[Result | Exception]:
    """``outcomes`` for an event loop."""
    if not items:
        return []
    try:
        return list(await work(items))
    except MemoRAGError as error:
        if len(items) == 1:
            return [error]
        return [outcome for item in items for outcome in await aoutcomes(work, [item])]
    except Exception as error:
        return [error] * len(items)


class Steps:
    """A step for each of many items: what is started is ended, however the work on it goes."""

    def __init__(
        self,
        start: Callable[..., object],
        end: Callable[[int, Any], object],
        error: Callable[[int, BaseException], object],
    ) -> None:
        """Begin with none.

        Args:
            start: Is called for a step with its place, and what ``start`` is given.
            end: With its place and result.
            error: With its place and error; that of all which have not ended, where the work raises one.
        """
        self._start, self._end, self._error = start, end, error
        self._open: list[int] = []

    def start(self, place: int, *given: object) -> None:
        """Start the step at a place."""
        self._start(place, *given)
        self._open.append(place)

    def end(self, found: Sequence[object]) -> None:
        """End all steps with their outcomes, in the order in which they were started."""
        for outcome in found:
            tell: Callable[..., object] = self._error if isinstance(outcome, Exception) else self._end
            tell(self._open.pop(0), outcome)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None:
            for place in self._open:
                self._error(place, error)


class AsyncSteps(Steps):
    """``Steps`` in an event loop: what is called and can be awaited is awaited, one after the other."""

    async def astart(self, place: int, *given: object) -> None:
        """Start the step at a place."""
        await awaited(self._start(place, *given))
        self._open.append(place)

    async def aend(self, found: Sequence[object]) -> None:
        """End all steps with their outcomes, in the order in which they were started."""
        for outcome in found:
            tell: Callable[..., object] = self._error if isinstance(outcome, Exception) else self._end
            await awaited(tell(self._open.pop(0), outcome))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None:
            for place in self._open:
                await awaited(self._error(place, error))


async def awaited(value: object) -> None:
    """Wait for what a callback gave, if that can be awaited."""
    if isawaitable(value):
        await value
