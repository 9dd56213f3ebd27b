"""A question into clues: the memory is asked for every kind at once, and what it said is read and merged.

In: questions, a memory and its model, settings. Out: clues, best first within each kind, and what became
none; while replies grow, each clue as soon as its line is complete. Knows nothing of the corpus but what
spans are held to, and nothing of retrieval.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from math import inf, isnan
from typing import Any, Protocol, TypeAlias

from memorag_core.clues.parsing.clue_parser import judge_span, read_clues
from memorag_core.clues.parsing.filters import comparable
from memorag_core.errors import InputError, MemoRAGError
from memorag_core.memory.requests import check_question
from memorag_core.protocols import MemoryModel, Watch
from memorag_core.settings import ClueSettings
from memorag_core.types import Ask, Clue, ClueKind, DroppedClue, Recall, Recollection

Heard: TypeAlias = Callable[[str, Clue], object]
"""Is told of a question and a clue, on the thread that asks, as soon as the clue's line is complete."""


class Stop(Protocol):
    """Ends replies once it is set; a ``threading.Event`` does."""

    def is_set(self) -> bool:
        """Asked again and again."""
        ...


class Listener:
    """Tells of the clues in replies as they grow, and ends replies; a ``protocols.Watch``."""

    def __init__(
        self, asks: Sequence[Ask], heard: Heard | None, stop: Stop | None, seconds: float | None
    ) -> None:
        """Begin to listen, and to count the time.

        Args:
            asks: The requests, in the order in which replies are told of.
            heard: Is told of each clue once; what it raises ends the asking.
            stop: Ends all replies once it is set.
            seconds: Ends all replies after this time; None lets them end by themselves.
        """
        self._asks = asks
        self._heard = heard
        self._stop = stop
        self._end = inf if seconds is None else time.monotonic() + seconds
        self._told: set[tuple[int, str]] = set()
        self.ended_early = False
        """Whether replies were ended before they ended by themselves."""

    def said(self, ask: int, reply: Recollection) -> None:
        """Tell of the clues that are new in a reply."""
        if self._heard is None:
            return
        asked = self._asks[ask]
        for clue in clues_of(reply, asked.kind, asked.question)[0]:
            if (ask, clue.text) not in self._told:
                self._told.add((ask, clue.text))
                self._heard(asked.question, clue)

    def goes_on(self) -> bool:
        """Whether there is time left, and nobody has said to stop."""
        stopped = self._stop is not None and self._stop.is_set()
        self.ended_early = self.ended_early or stopped or time.monotonic() >= self._end
        return not self.ended_early


def requests(
    questions: Sequence[str], settings: ClueSettings, parts: Sequence[tuple[int, ...] | None] | None = None
) -> list[Ask]:
    """The requests for questions: kind by kind within a question."""
    routed = parts if parts is not None else [None] * len(questions)
    return [
        Ask(question, kind, some)
        for question, some in zip(questions, routed, strict=True)
        for kind in settings.kinds
    ]


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
        watch: Who hears replies as they come, and may end them; requests count as ``requests`` has them.

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
    asks = requests(questions, settings, parts)
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
    replies = iter(said)
    return tuple(
        _read(question, {kind: next(replies) for kind in settings.kinds}, settings.per_kind, seconds)
        for question in questions
    )


def clues_of(said: Recollection, kind: ClueKind, question: str) -> tuple[list[Clue], list[DroppedClue]]:
    """The clues in one reply, in the order written, and what of it is none.

    Args:
        said: The reply; one that was held to the corpus is its spans.
        kind: What was asked for.
        question: What was asked.
    """
    if said.spans is None:
        found = read_clues(said.text, kind=kind, question=question, finished=said.finished)
        clues = [Clue(text, kind, said.score, said.part) for text in found.kept]
        return clues, [DroppedClue(gone.text, kind, gone.reason, said.part) for gone in found.dropped]
    clues, dropped = [], []
    for span in said.spans:
        if reason := judge_span(span.text):
            dropped.append(DroppedClue(span.text, kind, reason, said.part))
        else:
            clues.append(Clue(span.text, kind, span.score, said.part, span.place, 1.0))
    return clues, dropped


def _read(
    question: str, replies: Mapping[ClueKind, tuple[Recollection, ...]], per_kind: int, seconds: float
) -> Recall:
    clues: list[Clue] = []
    dropped: list[DroppedClue] = []
    for kind, said in replies.items():
        found: list[Clue] = []
        for reply in sorted(said, key=lambda reply: (_last_if_nan(reply.score), reply.part, reply.text)):
            some, gone = clues_of(reply, kind, question)
            found += some
            dropped += gone
            if reply.withheld:
                dropped.append(DroppedClue(reply.withheld, kind, "the model hardly believes it", reply.part))
        earlier, own = [comparable(clue.text) for clue in clues], list[str]()
        for clue in sorted(
            found, key=lambda clue: _last_if_nan(clue.score)
        ):  # spans have scores of their own
            if reason := _needless(clue, earlier, own, per_kind):
                dropped.append(DroppedClue(clue.text, kind, reason, clue.part))
            else:
                own.append(comparable(clue.text))
                clues.append(clue)
    tokens = sum(reply.tokens for said in replies.values() for reply in said)
    return Recall(question, tuple(clues), tuple(dropped), replies, tokens, seconds)


def _last_if_nan(score: float) -> float:
    """By what scores are sorted, the best first."""
    return inf if isnan(score) else -score


def _needless(clue: Clue, earlier: Sequence[str], own: Sequence[str], per_kind: int) -> str | None:
    """Why a clue is not wanted beside better ones; None for one that is."""
    key = comparable(clue.text)
    if any(key in other or other in key for other in own):
        return "a better clue of its kind says it"
    draft = clue.kind == "answer" and not own  # what the memory itself would answer must not be lost
    if not draft and any(key in other for other in earlier):
        return "a clue of an earlier kind says it"
    return f"more than {per_kind} of its kind" if len(own) == per_kind else None
