"""The steps of the pipeline as events of LlamaIndex, and asking the memory as a span.

In: what the pipeline tells. Out: events. Knows neither retrievers nor query transforms.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from llama_index_memorag.events import (
    ClueEndEvent,
    ClueLineEvent,
    ClueStartEvent,
    EvidenceEvent,
    SearchFailedEvent,
    dispatcher,
)
from llama_index_memorag.nodes import node_id_of
from memorag_core import (
    Clue,
    ClueKind,
    ClueSettings,
    Findings,
    MemoRAG,
    QueryCallbacks,
    QueryPipeline,
    Recall,
    SearchFailure,
)


class Events(QueryCallbacks):
    """Dispatches an event at every step of a call."""

    def __init__(self, memorag: MemoRAG, kinds: Sequence[ClueKind]) -> None:
        """Tell of questions to ``memorag``, which is asked for clues of these kinds."""
        self._memorag = memorag
        self._kinds = kinds
        self._began = 0.0
        self._questions: dict[int, str] = {}

    def on_recall_start(self, place: int, question: str) -> None:
        """The memory is about to be asked."""
        self._questions[place] = question
        dispatcher.event(ClueStartEvent(question=question, kinds=list(self._kinds)))
        self._began = time.perf_counter()

    def on_clue(self, place: int, clue: Clue) -> None:
        """One more clue."""
        dispatcher.event(ClueLineEvent(question=self._questions[place], clue=clue.text, kind=clue.kind))

    def on_recall_end(self, place: int, recall: Recall) -> None:
        """The clues are chosen."""
        dispatcher.event(
            ClueEndEvent(
                question=recall.question,
                clues=list(recall.clues),
                dropped=len(recall.dropped),
                tokens=0 if recall.kept else recall.tokens,
                seconds=time.perf_counter() - self._began,
            )
        )

    def on_search_start(self, place: int, recall: Recall, queries: Sequence[str]) -> None:
        """A question is searched for, which for a summary is none that was asked."""
        self._questions[place] = recall.question

    def on_search_failed(self, place: int, failure: SearchFailure) -> None:
        """A search failed."""
        dispatcher.event(
            SearchFailedEvent(
                question=self._questions[place],
                query=failure.query,
                kind=failure.kind,
                error=failure.error.partition(":")[0],  # the message may hold addresses and keys
                seconds=failure.seconds,
            )
        )

    def on_search_end(self, place: int, findings: Findings) -> None:
        """What was found."""
        dispatcher.event(
            EvidenceEvent(
                question=findings.question,
                found={
                    node_id_of(piece.chunk, self._memorag.document_of(piece.chunk)): list(piece.clues)
                    for piece in findings.evidence
                },
                failures=len(findings.failures),
                seconds=findings.seconds,
            )
        )


@dispatcher.span
def recall_clues(pipeline: QueryPipeline, question: str, events: Events) -> Recall:
    """The clues for a question, in a span of their own."""
    return pipeline.recall([question.strip()], events)[0]  # tools of LlamaIndex end queries with line breaks


@dispatcher.span
async def arecall_clues(pipeline: QueryPipeline, question: str, events: Events) -> Recall:
    """``recall_clues`` in a thread; cancelling it ends the asking at the next token."""
    return (await pipeline.arecall([question.strip()], events))[0]


def asked(memorag: MemoRAG, kinds: Sequence[ClueKind] | None, *, per_kind: int | None = None) -> ClueSettings:
    """What a memory is asked for; None takes what the settings of ``memorag`` say.

    Raises:
        InputError: An unknown kind, none, or one given twice; a number below 1.
    """
    own = memorag.recalling
    return replace(
        own,
        kinds=own.kinds if kinds is None else kinds,  # type: ignore[arg-type]  # it checks what it gets
        per_kind=own.per_kind if per_kind is None else per_kind,
    )
