"""From a question's ranked lists to its evidence: fused, read by a re-ranker, shaped.

In: ranked lists over chunks, the settings, a re-ranker where there is one. Out: evidence, best first, within
a budget, with neighbours, in an order, as the settings say. Does not know how the lists were found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from memorag_core.errors import InputError
from memorag_core.protocols import CountTokens, Reranker
from memorag_core.retrieval.fusion import Fused, RankedList, fuse
from memorag_core.retrieval.rerank import RERANKER, ordered
from memorag_core.settings import RetrievalSettings
from memorag_core.types import Chunk, Evidence, Hit

NEIGHBOUR = "neighbour"
"""The retriever's name in the Hit of a chunk that was not found, but stands beside one that was. Rank and
score of the hit are those of that piece of evidence."""


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
        chunks: All that can come out.
        k: Pieces of evidence, 1 or more; all where there are fewer.
        settings: How lists are fused, how deep a re-ranker reads, and the shape of the result.
        reranker: What ``as_reranker`` gives; it orders the first ``rerank_depth`` of what was found, and what
            fills up only where ``k`` needs it.
        count_tokens: What a text takes of ``settings.budget``.

    Returns:
        Exactly ``k`` pieces, best first, the earlier chunk first among equals; other numbers and orders where
        a budget, neighbours or the order of the settings ask for them.

    Raises:
        InputError: As ``fuse``, ``rerank`` and ``shaped``.
    """
    if not chunks:
        return ()
    k = min(k, len(chunks))
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
    read = best[: max(k, sum(bool(one.hits) for one in best))]
    ranking = ordered(question, [chunks[one.ordinal].text for one in read], reranker)[:k]
    return tuple(
        Fused(
            read[place].ordinal, score, (*read[place].hits, Hit(RERANKER, question, "question", rank, score))
        )
        for rank, (place, score) in enumerate(ranking, start=1)
    )


def shaped(
    question: str,
    best: Sequence[Fused],
    chunks: Sequence[Chunk],
    settings: RetrievalSettings,
    *,
    count_tokens: CountTokens = len,
) -> tuple[Evidence, ...]:
    """Make evidence of the best chunks.

    The budget is given to them in their order, and what does not fit is left out; what is left of it is given
    to their neighbours, those of the best first. A neighbour follows the piece it was taken for, in the order
    of the text, and has its score.

    Args:
        question: What was asked; neighbours name it.
        best: Chunks, best first; all of them where there is no budget.
        chunks: All chunks of the corpus, those of a document one after the other.
        settings: Budget, neighbours, order.
        count_tokens: What a text takes of the budget; characters unless told.

    Raises:
        InputError: None of the chunks fits the budget, or the counter gives no whole number.
    """
    room = _Room(settings.budget, count_tokens)
    kept = [one for one in best if room.takes(chunks[one.ordinal].text)]
    if not kept:
        raise InputError(
            f"The budget is {settings.budget}, but the best chunk takes "
            f"{_count(chunks[best[0].ordinal].text, count_tokens)} and no other of the best {len(best)} "
            "fits: raise the budget, or cut the documents into smaller chunks."
        )
    placed = {one.ordinal for one in kept}
    found: list[tuple[int, Evidence]] = []
    for one in kept:
        beside: list[int] = []
        for step in (-1, 1):
            for ordinal in _beside(one.ordinal, step * settings.neighbours, chunks):
                if ordinal in placed:
                    continue
                if not room.takes(chunks[ordinal].text):
                    break  # what stands behind it would not go on from here
                placed.add(ordinal)
                beside.append(ordinal)
        rank = len(found) + 1
        found.append((one.ordinal, Evidence(chunks[one.ordinal], one.score, rank, one.hits)))
        hits = (Hit(NEIGHBOUR, question, "question", rank, one.score),)
        for ordinal in sorted(beside):
            found.append((ordinal, Evidence(chunks[ordinal], one.score, len(found) + 1, hits)))
    if settings.order == "document":
        found.sort(key=lambda pair: pair[0])
    return tuple(evidence for _, evidence in found)


class _Room:
    """What is left of a budget."""

    def __init__(self, budget: int | None, count_tokens: CountTokens) -> None:
        self._left = budget
        self._count_tokens = count_tokens

    def takes(self, text: str) -> bool:
        """Whether a text fits; its share is taken then."""
        if self._left is None:
            return True
        size = _count(text, self._count_tokens)
        if size > self._left:
            return False
        self._left -= size
        return True


def _count(text: str, count_tokens: CountTokens) -> int:
    size: object = count_tokens(text)
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise InputError(
            f"The counter gave {size!r} for the text {text[:60]!r}; expected a whole number of 0 or more, as "
            "len gives it."
        )
    return size


def _beside(ordinal: int, reach: int, chunks: Sequence[Chunk]) -> list[int]:
    """The ordinals on one side of a chunk within its document, the nearest first; before it if below 0."""
    step = 1 if reach > 0 else -1
    found = []
    for other in range(ordinal + step, ordinal + reach + step, step) if reach else ():
        if not 0 <= other < len(chunks) or chunks[other].document_id != chunks[ordinal].document_id:
            break
        found.append(other)
    return found
