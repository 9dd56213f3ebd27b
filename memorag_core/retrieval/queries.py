"""What the retrievers are asked for one request: the question, and its clues by what they weigh.

In: a question, its clues, the settings. Out: queries with their weights, and what was found for one as a
ranked list. Knows no retriever.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import exp, isnan
from typing import Literal

from memorag_core.errors import InputError
from memorag_core.retrieval.fusion import RankedList
from memorag_core.settings import RetrievalSettings
from memorag_core.types import Clue, ClueKind

WITH_QUESTION = "+question"
"""Follows the retriever's name in a Hit whose query was the question and the clue."""


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a request: what the retrievers are asked, and what the hits then say of it."""

    text: str
    query: str
    kind: ClueKind | Literal["question"]
    weight: float
    suffix: str = ""

    def ranked(
        self, retriever: str, found: Iterable[tuple[int, float | None]], weight: float = 1.0
    ) -> RankedList:
        """What a retriever of this weight found for it."""
        return RankedList(retriever + self.suffix, self.query, self.kind, self.weight * weight, tuple(found))


def plans_of(
    requests: Sequence[tuple[str, Sequence[Clue]]], settings: RetrievalSettings
) -> list[list[Query]]:
    """The queries of many requests, pairs of a question and its clues.

    Raises:
        InputError: An empty question, or as ``queries``.
    """
    for number, (question, _) in enumerate(requests, start=1):
        if not isinstance(question, str) or not question.strip():
            raise InputError(
                f"Question {number} of {len(requests)} is {question!r}; expected a text that is not empty. "
                "Ask something, or leave it out."
            )
    return [list(queries(question, clues, settings)) for question, clues in requests]


def queries(question: str, clues: Sequence[Clue], settings: RetrievalSettings) -> Iterator[Query]:
    """The queries of one request, the question's first.

    Args:
        question: With words in it.
        clues: Those of blank text or of weight 0 are as if absent.
        settings: The weights, and what a clue asks.

    Raises:
        InputError: A clue whose score is not a number, or whose support is not a share, where they count.
    """
    yield Query(question, question, "question", settings.weight("question"))
    places: Counter[ClueKind] = Counter()
    for clue in clues:
        if not clue.text.strip():
            continue
        weight = settings.weight(clue.kind) * _belief(clue, settings.confidence)
        weight *= _standing(clue, settings.support)
        weight *= settings.decay ** places[clue.kind]
        places[clue.kind] += 1
        if weight == 0:
            continue
        alone = Query(clue.text, clue.text, clue.kind, weight)
        joined = replace(alone, text=f"{question}\n{clue.text}", suffix=WITH_QUESTION)
        if settings.expansion == "both":
            yield replace(alone, weight=weight / 2)
            yield replace(joined, weight=weight / 2)
        else:
            yield alone if settings.expansion == "separate" else joined


def query_texts(question: str, clues: Sequence[Clue], settings: RetrievalSettings) -> tuple[str, ...]:
    """The texts that a retriever is asked for one request, each once; none for what cannot be searched."""
    try:
        return tuple(dict.fromkeys(query.text for query in queries(question, clues, settings)))
    except InputError:
        return ()


def _belief(clue: Clue, confidence: float) -> float:
    """How sure the memory was of a clue, 0 to 1, from its mean log-probability a token."""
    if confidence == 0:
        return 1.0
    if isnan(clue.score):
        raise InputError(
            f"The clue {clue.text[:60]!r} has a score that is not a number; expected a mean log-probability "
            "(0 is certain). Leave confidence off for clues without one."
        )
    return exp(confidence * min(clue.score, 0.0))


def _standing(clue: Clue, power: float) -> float:
    """How well the corpus supports a clue, 0 to 1; 1 for one that was not checked."""
    if power == 0 or clue.support is None:
        return 1.0
    if not 0 <= clue.support <= 1:
        raise InputError(
            f"The clue {clue.text[:60]!r} has the support {clue.support!r}; expected a share from 0 to 1, or "
            "None for a clue that was not checked."
        )
    return float(clue.support**power)
