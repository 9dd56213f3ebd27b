"""The ways to search that are compared, all over one index of the same chunks.

In: settings of retrieval. Out: the same settings for each way: what searches, and whether the graph expands
what was found. Knows no text and no clue.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, TypeAlias, get_args

from memorag_core.settings import RetrievalSettings

Way: TypeAlias = Literal["bm25", "dense", "hybrid", "bm25 + graph", "hybrid + graph"]
"""BM25 alone, vectors alone, both; and what the graph adds to the first and the last."""

WAYS: tuple[Way, ...] = get_args(Way)

WITHOUT_VECTORS: tuple[Way, ...] = ("bm25", "bm25 + graph")
"""The ways that need no encoder."""

GRAPH_WEIGHT = 1.0
"""Of the graph in the ways that have it: it says as much as the retrievers."""

PARTS: Mapping[Way, tuple[Way, ...]] = {
    "hybrid": ("bm25", "dense"),
    "bm25 + graph": ("bm25",),
    "hybrid + graph": ("hybrid",),
}
"""What each way is made of, and is compared with."""


def settings_of(way: Way, settings: RetrievalSettings) -> RetrievalSettings:
    """The settings by which a way searches; what does not search has a weight of 0.

    Args:
        way: which.
        settings: weights of the retrievers where both search, and all else; a weight of 0 for the graph
            becomes ``GRAPH_WEIGHT`` in the ways with a graph.
    """
    weights = dict(settings.retriever_weights)
    weights["graph"] = (weights["graph"] or GRAPH_WEIGHT) if way.endswith("graph") else 0.0
    if way.startswith("bm25"):
        weights["dense"] = 0.0
    if way == "dense":
        weights["bm25"] = 0.0
    return replace(settings, retriever_weights=weights)
