"""From a question's ranked lists to its evidence: fused, read by a re-ranker, shaped.

In: ranked lists over chunks, the settings, a re-ranker where there is one. Out: evidence, best first. Does
not know how the lists were found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from memorag_core.protocols import CountTokens, Reranker
from memorag_core.retrieval.fusion import Fused, RankedList, fuse
from memorag_core.retrieval.rerank import RERANKER, rerank_found
from memorag_core.retrieval.result_shape import shaped
from memorag_core.settings import RetrievalSettings
from memorag_core.types import Chunk, Evidence, Hit


def search_depth(k: int, settings: RetrievalSettings, reranker: Reranker | None) -> int:
    """How many chunks each ranked list should hold, so that ``choose`` has enough."""
    return max(settings.fan_out, _wanted(k, settings, reranker))


def choose(
    question: str,
    lists: Sequence[RankedList],
    chunks: Sequence[Chunk],
    *,
    k: int,
    settings: RetrievalSettings,
    reranker: Reranker | None = None,
    count_tokens: CountTokens = len,
) -> tuple[Evidence, ...]:
    """The evidence of one question.

    Args:
        question: What a re-ranker reads with each chunk.
        lists: Rankings of ``chunks``, by their places. A list of the question's own that weighs nothing is
            not in the fusion, but still orders the chunks that fill up where the others hold too few.
        chunks: All that can come out, at least ``k``.
        k: Pieces of evidence, 1 or more.
        settings: How lists are fused, how deep a re-ranker reads, and the shape of the result.
        reranker: What ``as_reranker`` gives; it orders the first ``rerank_depth`` of what was found, and what
            fills up only where ``k`` needs it.
        count_tokens: What a text takes of ``settings.budget``.

    Returns:
        Exactly ``k`` pieces, best first, the earlier chunk first among equals; other numbers and orders where
        a budget, neighbours or the order of the settings ask for them.

    Raises:
        InputError: As ``fuse``, ``rerank_found`` and ``shaped``.
    """
    best = _fused(lists, min(_wanted(k, settings, reranker), len(chunks)), len(chunks), settings)
    if reranker is not None:
        best = _reranked(question, best, chunks, k, reranker)
    return shaped(question, best, chunks, settings, count_tokens=count_tokens)


def _wanted(k: int, settings: RetrievalSettings, reranker: Reranker | None) -> int:
    return k if reranker is None else max(k, settings.rerank_depth)


def _fused(lists: Sequence[RankedList], k: int, size: int, settings: RetrievalSettings) -> tuple[Fused, ...]:
    constant, method = settings.rrf_constant, settings.fusion
    silent = [replace(one, weight=1.0) for one in lists if one.kind == "question" and one.weight == 0]
    asked_alone = len({ordinal for one in silent for ordinal, _ in one.found})
    fill = (
        [one.ordinal for one in fuse(silent, asked_alone, size=size, constant=constant, method=method)]
        if asked_alone
        else []
    )
    return fuse(lists, k, size=size, constant=constant, method=method, fill=fill)


def _reranked(
    question: str, best: Sequence[Fused], chunks: Sequence[Chunk], k: int, reranker: Reranker
) -> tuple[Fused, ...]:
    read = {one.ordinal: one for one in best[: max(k, sum(bool(one.hits) for one in best))]}
    found = [(one.ordinal, one.score) for one in read.values()]
    ranked = rerank_found(question, found, chunks, reranker)[:k]
    return tuple(
        Fused(ordinal, score, (*read[ordinal].hits, Hit(RERANKER, question, "question", rank, score)))
        for rank, (ordinal, score) in enumerate(ranked, start=1)
    )
