"""Work on many items at once, of which each is told of, and an error of one costs the others nothing.

In: items, the work, whom to tell. Out: for each item its result, or its error. Knows nothing of the work.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from inspect import isawaitable
from typing import TypeVar

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


def told(
    places: Collection[int],
    work: Callable[[], Sequence[Result | Exception]],
    *,
    start: Callable[[int], object],
    end: Callable[[int, Result], object],
    error: Callable[[int, BaseException], object],
) -> Sequence[Result | Exception]:
    """Tell of the start at each place, work, and tell of what came of each; what was started is ended.

    Args:
        places: What ``start``, ``end`` and ``error`` are called with, in this order.
        work: Gives an outcome for each place.
        start: Before the work.
        end: After it, with a result.
        error: After it, with an error; that of all where the work or whom is told raises one.
    """
    begun: list[int] = []
    try:
        for place in places:
            start(place)
            begun.append(place)
        found = work()
        for outcome in found:
            place = begun.pop(0)
            if isinstance(outcome, Exception):
                error(place, outcome)
            else:
                end(place, outcome)
    except BaseException as raised:
        for place in begun:
            error(place, raised)
        raise
    return found


async def atold(
    places: Collection[int],
    work: Callable[[], Awaitable[Sequence[Result | Exception]]],
    *,
    start: Callable[[int], object],
    end: Callable[[int, Result], object],
    error: Callable[[int, BaseException], object],
) -> Sequence[Result | Exception]:
    """``told`` for an event loop: what can be awaited is awaited, one after the other."""
    begun: list[int] = []
    try:
        for place in places:
            await awaited(start(place))
            begun.append(place)
        found = await work()
        for outcome in found:
            place = begun.pop(0)
            if isinstance(outcome, Exception):
                await awaited(error(place, outcome))
            else:
                await awaited(end(place, outcome))
    except BaseException as raised:
        for place in begun:
            await awaited(error(place, raised))
        raise
    return found


async def awaited(value: object) -> None:
    """Wait for what a callback gave, if that can be awaited."""
    if isawaitable(value):
        await value
