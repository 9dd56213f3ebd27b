"""Which parts of a memory a question is put to, where not to all: those that hold what the question finds.

In: questions, the index, a memory and the model that made it. Out: for each question the numbers of parts.
Knows nothing of clues.

A question that shares no words with its evidence is what a memory is for, and no index can say where to ask
it. So nothing is routed unless that is asked for, and a question that finds nothing goes to all parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from memorag_core.protocols import DocumentMemoryModel
from memorag_core.retrieval.index import EvidenceIndex

CHUNKS_A_PART = 8
"""Chunks that are looked at for each part that is wanted: several of the best often lie in one part."""


def route(
    questions: Sequence[str],
    memory: Any,
    *,
    model: DocumentMemoryModel,
    index: EvidenceIndex,
    numbers: Mapping[str, int],
    most: int,
) -> list[tuple[int, ...] | None]:
    """The parts that each question is put to.

    Args:
        questions: with words in them.
        memory: with several parts.
        model: what made it.
        index: over the chunks of all its documents.
        numbers: the place of each document in the order of reading, by id.
        most: parts for a question.

    Returns:
        For each question at most so many parts, in the order of the evidence that it finds by itself; None,
        which is all parts, where it finds nothing.
    """
    k = min(len(index.chunks), most * CHUNKS_A_PART)
    found = index.retrieve_batch([(question, ()) for question in questions], k=k)
    routes: list[tuple[int, ...] | None] = []
    for evidence in found:
        parts: dict[int, None] = {}
        for piece in evidence:
            if not piece.hits:
                break  # filled up: from here on nothing matched
            chunk = piece.chunk
            held = model.parts_of(memory, numbers[chunk.document_id], chunk.start, chunk.end)
            parts |= dict.fromkeys(held)
        routes.append(tuple(parts)[:most] or None)
    return routes
