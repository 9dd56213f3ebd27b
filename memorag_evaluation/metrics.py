"""The measures: exact match, token F1, coverage of gold spans, shares of evidence found, their intervals.

In: texts, character spans, numbers with the cluster that each belongs to. Out: numbers. Knows no model, no
file and no retriever.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from memorag_core.documents.words import words_of
from memorag_core.errors import InputError

Span: TypeAlias = tuple[int, int]
"""Characters from the first to before the second."""

HIT = 0.5
"""Coverage from which on the gold evidence counts as found."""


def answer_tokens(text: str) -> list[str]:
    """The words of a text, folded; characters where words have no spaces."""
    return words_of(text)


def exact_match(prediction: str, gold: str) -> float:
    """1.0 where both texts have the same words in the same order, else 0.0; case and punctuation aside."""
    return float(answer_tokens(prediction) == answer_tokens(gold))


def token_f1(prediction: str, gold: str) -> float:
    """The harmonic mean of precision and recall over the words of both texts, repeats counted, 0 to 1."""
    said, wanted = Counter(answer_tokens(prediction)), Counter(answer_tokens(gold))
    if not said or not wanted:
        return float(said == wanted)
    shared = (said & wanted).total()
    return 2 * shared / (said.total() + wanted.total())


def best_of(measure: Callable[[str, str], float], text: str, others: Iterable[str]) -> float:
    """The best value of a measure between a text and several others; 0.0 without any."""
    return max((measure(text, other) for other in others), default=0.0)


def coverage(gold: Collection[Span], found: Collection[Span]) -> float:
    """The share of the gold characters that lie inside the found spans, 0 to 1; overlaps count once.

    Raises:
        InputError: No gold characters.
    """
    wanted = _merged(gold)
    total = sum(end - start for start, end in wanted)
    if not total:
        raise InputError(f"The gold spans {list(gold)!r} hold no character; expected at least one.")
    pieces = _merged(found)
    covered = sum(overlap(one, other) for one in wanted for other in pieces)
    return covered / total


def is_hit(gold: Collection[Span], found: Collection[Span]) -> float:
    """1.0 where at least half of the gold characters are covered, else 0.0."""
    return float(coverage(gold, found) >= HIT)


def share_found(wanted: Collection[Hashable], found: Iterable[Hashable]) -> float:
    """The share of the wanted things that were found, 0 to 1.

    Raises:
        InputError: Nothing is wanted.
    """
    distinct = set(wanted)
    if not distinct:
        raise InputError("Nothing is wanted; a share needs at least one thing.")
    return len(distinct & set(found)) / len(distinct)


def overlap(one: Span, other: Span) -> int:
    """How many characters two spans share."""
    return max(0, min(one[1], other[1]) - max(one[0], other[0]))


def _merged(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(span for span in spans if span[1] > span[0]):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its interval.

    Attributes:
        mean: over all values.
        low: lower end of the interval.
        high: upper end.
        values: how many.
        clusters: how many groups were drawn with replacement.
    """

    mean: float
    low: float
    high: float
    values: int
    clusters: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def estimate(
    values: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    seed: int = 0,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Estimate:
    """The mean of values, with a percentile bootstrap interval over whole clusters.

    Values of one cluster (questions on one document) go together, because they are not independent. A single
    cluster says nothing about the spread between clusters: then every value is drawn by itself, and
    ``clusters`` is the number of values.

    Args:
        values: One or more.
        clusters: The cluster of each value.
        seed: Equal seeds give equal intervals.
        resamples: How often the clusters are drawn.
        confidence: The share of the draws inside the interval.

    Raises:
        InputError: No values, not one cluster for each, or settings out of range.
    """
    if not values or len(values) != len(clusters):
        raise InputError(
            f"Found {len(values)} values and {len(clusters)} clusters; expected as many, and at least one."
        )
    if resamples < 1 or not 0 < confidence < 1:
        raise InputError(
            f"resamples is {resamples} and confidence {confidence}; expected 1 or more, and a share "
            "between 0 and 1."
        )
    names: dict[Hashable, int] = {}
    groups = [names.setdefault(cluster, len(names)) for cluster in clusters]
    if len(names) < 2:
        groups = list(range(len(values)))
    count = max(groups) + 1
    sums = np.bincount(groups, weights=np.asarray(values, dtype=np.float64), minlength=count)
    sizes = np.bincount(groups, minlength=count)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    means: Any = (draws @ sums) / (draws @ sizes)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(float(np.mean(values)), float(low), float(high), len(values), count)


def paired_difference(
    values: Sequence[float],
    baseline: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    seed: int = 0,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Estimate:
    """The mean of the differences ``values - baseline``, question by question; else as ``estimate``.

    Raises:
        InputError: As ``estimate``, and where the two have not as many values.
    """
    if len(values) != len(baseline):
        raise InputError(
            f"Found {len(values)} values and {len(baseline)} of the baseline; expected a pair for each."
        )
    differences = [value - other for value, other in zip(values, baseline, strict=True)]
    return estimate(differences, clusters, seed=seed, resamples=resamples, confidence=confidence)
