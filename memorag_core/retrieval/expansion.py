"""One more ranked list for a question: what hangs together with the chunks that were found first.

In: a question's ranked lists and the graph of the same chunks. Out: a ranked list to fuse with them. Knows
neither how the lists were found nor how the graph walks.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum, isfinite

from memorag_core.errors import InputError
from memorag_core.retrieval.fusion import RankedList, fuse
from memorag_core.retrieval.graph import DAMPING, EntityGraph
from memorag_core.settings import FusionMethod

ANCHORS = 2
"""Chunks that a walk starts from. More of them are more often beside the point: of 2, 3 and 4, two did best
beside BM25 and beside BM25 with vectors on one half of MuSiQue's questions."""

RETRIEVER = "graph"
"""What hits of the expansion name as their retriever."""


def expansions(
    graph: EntityGraph,
    plans: Sequence[Sequence[RankedList]],
    *,
    weight: float = 1.0,
    anchors: int = ANCHORS,
    depth: int = 50,
    constant: float = 60.0,
    method: FusionMethod = "rrf",
    damping: float = DAMPING,
) -> list[RankedList | None]:
    """The list to add to each question's lists; all questions are walked at once.

    A question's lists are fused, its best chunks become the anchors with their fused scores as weights.

    Args:
        graph: Of the chunks that the lists rank.
        plans: For each question its ranked lists, those of clues among them.
        weight: Of the new list, in units of all the question's own lists together, so that it means the same
            with one retriever and with two; 1 lets the graph say as much as the retrievers. In units of all
            lists where the question has none of its own or they weigh nothing.
        anchors: Chunks to start from.
        depth: The most chunks in a list.
        constant: Of rank fusion, as the lists will be fused.
        method: Of fusion, likewise.
        damping: See ``memorag_core.retrieval.graph.DAMPING``.

    Returns:
        For each question a list whose query is the first list's and whose kind is "question"; None where the
        lists found nothing or weigh nothing, so there is nothing to start from.

    Raises:
        InputError: A weight below 0 or not finite, anchors or a depth below 1, or as ``fuse`` and
            ``EntityGraph.expand``.
    """
    if anchors < 1:
        raise InputError(
            f"anchors is {anchors}; expected 1 or more chunks to start from ({ANCHORS} is usual)."
        )
    if not (isfinite(weight) and weight >= 0):
        raise InputError(f"The weight of the expansion is {weight}; expected a number of 0 or more.")
    count = min(anchors, graph.size)
    starts = [
        [
            (one.ordinal, one.score)
            for one in fuse(lists, count, size=graph.size, constant=constant, method=method)
            if one.score > 0  # not what only fills up
        ]
        for lists in plans
    ]
    found = graph.expand(starts, depth, damping=damping)
    return [
        RankedList(RETRIEVER, lists[0].query, "question", weight * _weight(lists), tuple(ranking))
        if ranking
        else None
        for lists, ranking in zip(plans, found, strict=True)
    ]


def _weight(lists: Sequence[RankedList]) -> float:
    own = fsum(one.weight for one in lists if one.kind == "question")
    return own or fsum(one.weight for one in lists)
