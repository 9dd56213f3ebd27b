"""Ranked lists over some of the chunks only: those that may be found.

In: what ranks all chunks, and the places of those that may be found. Out: lists that hold no others, as deep
as asked for. Does not know why a chunk may be found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil
from typing import Protocol, TypeAlias

from memorag_core.retrieval.fusion import RankedList

Places: TypeAlias = Mapping[int, int]
"""The ordinals of the chunks that may be found, each with its place among them."""

_SPARE = 2
"""How many times as deep as an even spread asks for: chunks of one document stand together in a list."""


class Ranks(Protocol):
    """What ranks all chunks for texts; a longer list of it begins as a shorter one."""

    def search(self, queries: Sequence[str], k: int) -> list[list[tuple[int, float]]]:
        """At most ``k`` pairs (ordinal, score) for each query, best first."""
        ...


def search_selected(
    ranker: Ranks, texts: Sequence[str], depth: int, *, places: Places | None, size: int
) -> dict[str, list[tuple[int, float]]]:
    """Rank the chunks that may be found; the others are as if they had not been in the list.

    Reads each list about as deep as it takes, and to its end only where that was not enough.

    Args:
        ranker: Ranks all chunks.
        texts: What to search for, each once.
        depth: The most chunks in a list.
        places: The ordinals that may be found; None for all.
        size: How many chunks there are.

    Returns:
        For each text its list of pairs (ordinal, score).
    """
    if places is None:
        return dict(zip(texts, ranker.search(texts, depth), strict=True))
    if not places:
        return {text: [] for text in texts}
    read = min(size, _SPARE * ceil(depth * size / len(places)))
    found: dict[str, list[tuple[int, float]]] = {}
    missing = list(texts)
    while missing:
        again = []
        for text, ranking in zip(missing, ranker.search(missing, read), strict=True):
            found[text] = [pair for pair in ranking if pair[0] in places][:depth]
            if len(found[text]) < min(depth, len(places)) and read < size:
                again.append(text)
        missing, read = again, size
    return found


def renumbered(lists: Sequence[RankedList], places: Places) -> list[RankedList]:
    """Lists of the places of chunks, instead of their ordinals; those that may not be found are left out."""
    return [
        replace(
            one, found=tuple((places[ordinal], score) for ordinal, score in one.found if ordinal in places)
        )
        for one in lists
    ]
