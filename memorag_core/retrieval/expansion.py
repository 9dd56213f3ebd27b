"""One more ranked list for a question: what hangs together with the chunks that were found first.

In: a question's ranked lists and the graph of the same chunks. Out: a ranked list to fuse with them. Knows
neither how the lists were found nor how the graph walks.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum

from memorag_core.retrieval.fusion import RankedList, fuse
from memorag_core.retrieval.graph import EntityGraph
from memorag_core.settings import RetrievalSettings

RETRIEVER = "graph"
"""What hits of the expansion name as their retriever."""


def expansions(
    graph: EntityGraph, plans: Sequence[Sequence[RankedList]], settings: RetrievalSettings, *, depth: int
) -> list[RankedList | None]:
    """The list to add to each question's lists; all questions are walked at once.

    A question's lists are fused, its best chunks become the anchors with their fused scores as weights.

    Args:
        graph: Of the chunks that the lists rank.
        plans: For each question its ranked lists, those of clues among them.
        settings: How lists are fused, how many chunks the walk starts from, how far it goes, and the weight
            of the new list, in units of all the question's own lists together, so that it means the same with
            one retriever and with two. In units of all lists where the question has none of its own or they
            weigh nothing.
        depth: The most chunks in a list.

    Returns:
        For each question a list whose query is the first list's and whose kind is "question"; None where the
        lists found nothing or weigh nothing, so there is nothing to start from.

    Raises:
        InputError: A depth below 1, or as ``fuse``.
    """
    count = min(settings.graph_anchors, graph.size)
    constant, method = settings.rrf_constant, settings.fusion
    starts = [
        [
            (one.ordinal, one.score)
            for one in fuse(lists, count, size=graph.size, constant=constant, method=method)
            if one.score > 0  # not what only fills up
        ]
        for lists in plans
    ]
    found = graph.expand(starts, depth, damping=settings.graph_damping)
    weight = settings.retriever_weights["graph"]
    return [
        RankedList(RETRIEVER, lists[0].query, "question", weight * _weight(lists), tuple(ranking))
        if ranking
        else None
        for lists, ranking in zip(plans, found, strict=True)
    ]


def _weight(lists: Sequence[RankedList]) -> float:
    own = fsum(one.weight for one in lists if one.kind == "question")
    return own or fsum(one.weight for one in lists)
