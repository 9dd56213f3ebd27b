"""A question into clues: the memory is asked for every kind at once, and what it said is read and merged.

In: questions, a memory and its model, settings. Out: clues, best first within each kind, and what became
none. Knows nothing of the corpus but what spans are held to, and nothing of retrieval.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from math import inf, isnan
from typing import Any

from memorag_core.clues.parsing.clue_parser import comparable, judge_span, read_clues
from memorag_core.errors import InputError, MemoRAGError
from memorag_core.memory.requests import check_question
from memorag_core.protocols import MemoryModel, Watch
from memorag_core.settings import ClueSettings
from memorag_core.types import Ask, Clue, ClueKind, DroppedClue, Recall, Recollection


def generate_clues(
    question: str, memory: Any, *, model: MemoryModel, settings: ClueSettings, passages: Any = None
) -> tuple[Clue, ...]:
    """The clues that a memory holds for one question; see ``recall``."""
    return recall((question,), memory, model=model, settings=settings, passages=passages)[0].clues


def recall(
    questions: Sequence[str],
    memory: Any,
    *,
    model: MemoryModel,
    settings: ClueSettings,
    parts: Sequence[tuple[int, ...] | None] | None = None,
    passages: Any = None,
    watch: Watch | None = None,
) -> tuple[Recall, ...]:
    """Ask a memory for the clues to several questions: all kinds of all questions in one call of the model.

    Args:
        questions: The questions; blank ones only where nothing but key points is asked for.
        memory: What the model left after reading.
        model: The model that made the memory.
        settings: Which kinds, how many of each, in which language.
        parts: For each question the parts of the memory that it is put to, with a ``DocumentMemoryModel``;
            None for all.
        passages: ``grounding.Passages`` of the corpus that spans are held to; None leaves them free.
        watch: Who hears replies as they come, and may end them; requests count kind by kind within a
            question.

    Returns:
        For each question what came of it: clues in the order of ``settings.kinds`` and best first within a
        kind, fewer than ``settings.per_kind`` or none where the memory had nothing to say. A clue is left out
        when a better one of its kind says the same, or any of an earlier kind holds its words; only the best
        draft answer stays always.

    Raises:
        InputError: A blank question.
        MemoRAGError: The model did not answer every request.
    """
    if isinstance(questions, str):
        raise InputError(f"Found the text {questions!r}; expected several questions. Give a list of them.")
    for question in questions:
        check_question(question, settings.kinds)
    if not questions:
        return ()
    routed = parts if parts is not None else [None] * len(questions)
    asks = [
        Ask(question, kind, some)
        for question, some in zip(questions, routed, strict=True)
        for kind in settings.kinds
    ]
    begun = time.perf_counter()
    said = model.recollect(
        asks,
        memory,
        language=settings.language,
        max_new_tokens=settings.max_new_tokens,
        passages=passages,
        watch=watch,
    )
    seconds = time.perf_counter() - begun
    if len(said) != len(asks):
        raise MemoRAGError(
            f"The memory model gave {len(said)} recollections for {len(asks)} requests; expected one tuple "
            "for each. Its recollect() must keep their number and order."
        )
    each = len(settings.kinds)
    return tuple(
        _read(
            question,
            dict(zip(settings.kinds, said[number * each : (number + 1) * each], strict=True)),
            settings.per_kind,
            seconds,
        )
        for number, question in enumerate(questions)
    )


def clues_of(said: Recollection, kind: ClueKind, question: str) -> tuple[list[Clue], list[DroppedClue]]:
    """The clues in one reply, in the order written, and what of it is none.

    Args:
        said: The reply; one that was held to the corpus is its spans.
        kind: What was asked for.
        question: What was asked.
    """
    if said.spans is not None:
        judged = [(span, judge_span(span.text)) for span in said.spans]
        return (
            [
                Clue(span.text, kind, span.score, said.part, span.place, 1.0)
                for span, reason in judged
                if reason is None
            ],
            [
                DroppedClue(span.text, kind, reason, said.part)
                for span, reason in judged
                if reason is not None
            ],
        )
    found = read_clues(said.text, kind=kind, question=question, finished=said.finished)
    clues = [Clue(text, kind, said.score, said.part) for text in found.kept]
    return clues, [DroppedClue(gone.text, kind, gone.reason, said.part) for gone in found.dropped]


def _read(
    question: str, replies: dict[ClueKind, tuple[Recollection, ...]], per_kind: int, seconds: float
) -> Recall:
    clues: list[Clue] = []
    dropped: list[DroppedClue] = []
    for kind, said in replies.items():
        earlier = [comparable(clue.text) for clue in clues]
        own: list[str] = []
        for clue in _by_score(said, kind, question, dropped):
            reason = _needless(clue, earlier, own, per_kind)
            if reason is not None:
                dropped.append(DroppedClue(clue.text, kind, reason, clue.part))
            else:
                own.append(comparable(clue.text))
                clues.append(clue)
    tokens = sum(reply.tokens for said in replies.values() for reply in said)
    return Recall(question, tuple(clues), tuple(dropped), replies, tokens, seconds)


def _needless(clue: Clue, earlier: Sequence[str], own: Sequence[str], per_kind: int) -> str | None:
    """Why a clue is not wanted beside better ones; None for one that is."""
    key = comparable(clue.text)
    if any(key in other or other in key for other in own):
        return "a better clue of its kind says it"
    draft = clue.kind == "answer" and not own  # what the memory itself would answer must not be lost
    if not draft and any(key in other for other in earlier):
        return "a clue of an earlier kind says it"
    return f"more than {per_kind} of its kind" if len(own) == per_kind else None


def _by_score(
    recollections: Iterable[Recollection], kind: ClueKind, question: str, dropped: list[DroppedClue]
) -> Iterator[Clue]:
    found: list[Clue] = []
    for said in sorted(recollections, key=_place):
        clues, gone = clues_of(said, kind, question)
        dropped += gone
        if said.withheld:
            dropped.append(DroppedClue(said.withheld, kind, "the model hardly believes it", said.part))
        found += clues
    # Spans have scores of their own.
    yield from sorted(found, key=lambda clue: inf if isnan(clue.score) else -clue.score)


def _place(said: Recollection) -> tuple[float, int, str]:
    """Best score first, then the earlier part; a score that is no number comes last."""
    return inf if isnan(said.score) else -said.score, said.part, said.text
