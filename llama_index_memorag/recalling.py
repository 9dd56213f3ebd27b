"""Clues from a memory, told of as events of LlamaIndex.

In: a MemoRAG and a question. Out: what the memory recalls. Knows neither retrievers nor query transforms.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from llama_index_memorag.events import ClueEndEvent, ClueLineEvent, ClueStartEvent, dispatcher
from memorag_core import Clue, ClueKind, ClueSettings, MemoRAG, Recall


@dispatcher.span
def recall_clues(memorag: MemoRAG, question: str, settings: ClueSettings) -> Recall:
    """The clues for a question."""
    question = question.strip()  # tools of LlamaIndex end their queries with line breaks
    began = _begin(question, settings)
    return _end(memorag.recall_clues([question], settings=settings, heard=_heard)[0], began)


@dispatcher.span
async def arecall_clues(memorag: MemoRAG, question: str, settings: ClueSettings) -> Recall:
    """``recall_clues`` in a thread; cancelling it ends the asking at the next token."""
    question = question.strip()
    began = _begin(question, settings)
    return _end((await memorag.arecall_clues([question], settings=settings, heard=_heard))[0], began)


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


def _begin(question: str, settings: ClueSettings) -> float:
    dispatcher.event(ClueStartEvent(question=question, kinds=list(settings.kinds)))
    return time.perf_counter()


def _heard(question: str, clue: Clue) -> None:
    dispatcher.event(ClueLineEvent(question=question, clue=clue.text, kind=clue.kind))


def _end(recalled: Recall, began: float) -> Recall:
    dispatcher.event(
        ClueEndEvent(
            question=recalled.question,
            clues=list(recalled.clues),
            dropped=len(recalled.dropped),
            tokens=0 if recalled.kept else recalled.tokens,
            seconds=time.perf_counter() - began,
        )
    )
    return recalled
