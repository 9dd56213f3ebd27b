"""A LlamaIndex retriever for summaries: the key points that a memory names, and the text that holds each.

In: a query bundle, whose question may be empty. Out: nodes for a response synthesizer. Writes no summary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Unpack

from llama_index_memorag.callbacks import asked
from llama_index_memorag.retriever import MemoRAGRetriever, Options
from memorag_core import ClueKind, Evidence, Findings, InputError, MemoRAG, Recall

KIND: ClueKind = "key_point"

POINTS = 8
"""Key points of a summary: about as many as a reader keeps in mind, and a prompt holds the evidence for."""


class MemoRAGSummaryRetriever(MemoRAGRetriever):
    """Asks the memory for key points, and finds the evidence for each.

    For a synthesizer that reads all nodes: ``RetrieverQueryEngine(retriever, response_synthesizer=
    get_response_synthesizer("tree_summarize"))``. A question says what the summary is about; an empty one
    asks for the whole text. Where the memory names none, as is often so with the bundled model, the question
    itself is searched for; an empty one finds nothing then.

    The nodes stand key point by key point, in the memory's order, each where it was first found;
    ``clues`` names all key points that found it, and ``score`` is the best of theirs.
    """

    def __init__(
        self, memorag: MemoRAG, k: int | None = None, *, points: int = POINTS, **options: Unpack[Options]
    ) -> None:
        """Retrieve what a summary is written from.

        Args:
            memorag: What was memorized.
            k: Nodes for each key point; None leaves it to the settings.
            points: The most key points.
            **options: As ``MemoRAGRetriever`` takes them, but for ``kinds``.

        Raises:
            InputError: As ``MemoRAGRetriever``; or ``kinds``, or ``points`` below 1.
        """
        if options.get("kinds") is not None:
            raise InputError(
                f"'kinds' is {options['kinds']!r}, and a summary is made from key points. Leave it out, or "
                "take MemoRAGRetriever."
            )
        super().__init__(memorag, k, **options)
        self._asked = asked(self.memorag, (KIND,), per_kind=points)

    def _wanted(self, recalled: Recall) -> Sequence[Recall]:
        points = [Recall(point.text) for point in recalled.clues]
        return points or ([Recall(recalled.question)] if recalled.question else [])

    def _evidence(self, recalled: Recall, findings: Sequence[Findings]) -> Iterable[Evidence]:
        points = {point.text for point in recalled.clues}
        kept: dict[str, Evidence] = {}
        for piece in (piece for one in findings for piece in one.evidence):
            hits = tuple(replace(hit, kind=KIND) if hit.query in points else hit for hit in piece.hits)
            first = kept.get(piece.chunk.id, replace(piece, hits=()))
            kept[piece.chunk.id] = replace(
                first, score=max(first.score, piece.score), hits=(*first.hits, *hits)
            )
        return [replace(piece, rank=rank) for rank, piece in enumerate(kept.values(), start=1)]
