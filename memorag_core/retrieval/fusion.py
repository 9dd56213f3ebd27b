"""Several rankings of the same chunks into one, by their ranks or by their scores.

In: ranked lists of chunk ordinals, each with its weight and where it came from. Out: exactly k ordinals with
a fused score and the places that made it. Knows neither texts nor chunks, nor how a list was found.

Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms Condorcet and individual rank learning
methods", SIGIR 2009: only ranks count, so rankings whose scores have nothing in common can be joined. With
relative scores it counts by how much a list prefers its first chunks: those of each list go from 0 to 1
(min-max normalisation, Lee, "Analyses of multiple evidence combination", SIGIR 1997).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from math import fsum, isfinite
from typing import Literal

from memorag_core.errors import InputError
from memorag_core.settings import FusionMethod
from memorag_core.types import ClueKind, Hit


@dataclass(frozen=True, slots=True)
class RankedList:
    """What one retriever found for one query: pairs (chunk ordinal, score), best first.

    The score is None where the retriever gives none; such lists are fused by rank. ``query`` is the
    question's or the clue's own text, also where the retriever was asked with both joined; ``weight`` 0 makes
    the list as if it were not there.
    """

    retriever: str
    query: str
    kind: ClueKind | Literal["question"]
    weight: float
    found: tuple[tuple[int, float | None], ...]


@dataclass(frozen=True, slots=True)
class Fused:
    """A chunk's fused score, and its place in every list that added to it, in the order of the lists."""

    ordinal: int
    score: float
    hits: tuple[Hit, ...] = ()


def fuse(
    lists: Sequence[RankedList],
    k: int,
    *,
    size: int,
    constant: float = 60.0,
    method: FusionMethod = "rrf",
    fill: Iterable[int] = (),
) -> tuple[Fused, ...]:
    """Join ranked lists: a chunk scores the sum of its shares of the lists that hold it.

    By "rrf" a share is ``weight / (constant + rank)``, ranks from 1. By "relative_score" it is
    ``weight * (score - lowest) / (highest - lowest)`` with the lowest and the highest score of the list, and
    ``weight`` where these are equal; so the last of a list has 0, but still stands before what no list holds.

    Args:
        lists: Rankings over the same chunks; their order does not change the result, only the order of hits.
        k: How many chunks to return.
        size: How many chunks there are; ordinals run from 0 to ``size - 1``.
        constant: Damps the lead of the first ranks; 60 in the paper. Relative scores have no use for it.
        method: Which of the two.
        fill: Ordinals to go on with, best first, where the lists hold fewer than ``k`` chunks; after them the
            remaining ordinals follow in order. Chunks filled in score 0 and have no hits.

    Returns:
        Exactly ``k`` chunks, best first, the lowest ordinal first among equals.

    Raises:
        InputError: ``k`` not between 1 and ``size``, a negative or non-finite weight, a negative constant,
            an ordinal outside the chunks or twice in one list, or no score or one that is not finite where
            scores count.
    """
    if not 1 <= k <= size:
        raise InputError(f"k is {k}, but there are {size} chunks: give k between 1 and {size}.")
    if not (isfinite(constant) and constant >= 0):
        raise InputError(f"The constant of rank fusion is {constant}; it must be 0 or more (60 is usual).")
    shares: dict[int, list[float]] = {}
    hits: dict[int, list[Hit]] = {}
    for ranked in lists:
        _check(ranked, size)
        if ranked.weight == 0:
            continue
        own = _relative(ranked) if method == "relative_score" else _reciprocal(ranked, constant)
        for rank, ((ordinal, score), share) in enumerate(zip(ranked.found, own, strict=True), start=1):
            shares.setdefault(ordinal, []).append(share)
            hits.setdefault(ordinal, []).append(Hit(ranked.retriever, ranked.query, ranked.kind, rank, score))
    # fsum is exact, so the order of the lists cannot move a score by a rounding and break a tie.
    scores = {ordinal: fsum(parts) for ordinal, parts in shares.items()}
    best = sorted(scores, key=lambda ordinal: (-scores[ordinal], ordinal))
    fused = [Fused(ordinal, scores[ordinal], tuple(hits[ordinal])) for ordinal in best[:k]]
    for ordinal in chain(fill, range(size)):
        if len(fused) == k:
            break
        if ordinal not in scores:
            scores[ordinal] = 0.0
            fused.append(Fused(ordinal, 0.0))
    return tuple(fused)


def _reciprocal(ranked: RankedList, constant: float) -> list[float]:
    return [ranked.weight / (constant + rank) for rank in range(1, len(ranked.found) + 1)]


def _relative(ranked: RankedList) -> list[float]:
    scores = [score for _, score in ranked.found if score is not None]
    if len(scores) < len(ranked.found):
        raise InputError(
            f"The list of {ranked.retriever!r} for {ranked.query!r} holds no scores, or not for all; "
            "relative scores need numbers. Fuse by rank ('rrf')."
        )
    if not all(map(isfinite, scores)):
        raise InputError(
            f"The list of {ranked.retriever!r} for {ranked.query!r} holds a score that is not finite; "
            "relative scores need numbers. Fuse by rank ('rrf')."
        )
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    if low == high:
        return [ranked.weight] * len(scores)
    return [ranked.weight * ((score - low) / (high - low)) for score in scores]


def _check(ranked: RankedList, size: int) -> None:
    where = f"The list of {ranked.retriever!r} for {ranked.query!r}"
    if not (isfinite(ranked.weight) and ranked.weight >= 0):
        raise InputError(f"{where} has the weight {ranked.weight}; a weight must be a number of 0 or more.")
    ordinals = {ordinal for ordinal, _ in ranked.found}
    if len(ordinals) < len(ranked.found):
        raise InputError(f"{where} holds a chunk twice; each chunk has one rank in a list.")
    if not all(0 <= ordinal < size for ordinal in ordinals):
        raise InputError(f"{where} holds an ordinal outside 0 to {size - 1}; it is of another set of chunks.")
