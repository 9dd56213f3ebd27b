"""A question into clues: the memory is asked for each kind, and what it said is read and merged.

In: questions, a memory and its model, settings. Out: clues, best first within each kind. Knows nothing of the
corpus, so it cannot tell whether a clue is true to it, and nothing of retrieval.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from math import inf, isnan
from typing import Any

from memorag_core.clues.parsing import comparable, parse_clues
from memorag_core.config import ClueSettings
from memorag_core.errors import InputError, MemoRAGError
from memorag_core.protocols import MemoryModel
from memorag_core.records import Clue, ClueKind, Recollection


def generate_clues(
    question: str, memory: Any, *, model: MemoryModel, settings: ClueSettings
) -> tuple[Clue, ...]:
    """The clues that a memory holds for one question; see ``generate_clues_batch``."""
    return generate_clues_batch((question,), memory, model=model, settings=settings)[0]


def generate_clues_batch(
    questions: Sequence[str],
    memory: Any,
    *,
    model: MemoryModel,
    settings: ClueSettings,
    parts: Sequence[Collection[int] | None] | None = None,
) -> tuple[tuple[Clue, ...], ...]:
    """Ask a memory for the clues to several questions, with one request to the model for each kind.

    Args:
        questions: The questions; blank ones only where nothing but key points is asked for.
        memory: What the model left after reading.
        model: The model that made the memory.
        settings: Which kinds, how many of each, in which language.
        parts: For each question the parts of the memory that it is put to, with a ``DocumentMemoryModel``;
            None for all.

    Returns:
        For each question its clues, in the order of ``settings.kinds`` and best first within a kind; fewer
        than ``settings.per_kind`` or none where the memory had nothing to say. A clue is left out when a
        better one of its kind says the same, or any of an earlier kind holds its words; only the best draft
        answer stays always.

    Raises:
        InputError: A blank question.
        MemoRAGError: The model did not answer every question.
    """
    if isinstance(questions, str):
        raise InputError(f"Found the text {questions!r}; expected several questions. Give a list of them.")
    for question in questions:
        if not question.strip() and set(settings.kinds) != {"key_point"}:
            raise InputError(f"The question is {question!r}; expected words. Ask something about the text.")
    if not questions:
        return ()
    routed: dict[str, Any] = {} if parts is None else {"parts": parts}
    said = {
        kind: model.recollect(
            questions,
            memory,
            kind=kind,
            language=settings.language,
            max_new_tokens=settings.max_new_tokens,
            **routed,
        )
        for kind in settings.kinds
    }
    for kind, answers in said.items():
        if len(answers) != len(questions):
            raise MemoRAGError(
                f"The memory model gave {len(answers)} recollections of kind {kind!r} for {len(questions)} "
                "questions; expected one tuple for each. Its recollect() must keep their number and order."
            )
    return tuple(
        _merge({kind: answers[place] for kind, answers in said.items()}, question, settings.per_kind)
        for place, question in enumerate(questions)
    )


def _merge(said: Mapping[ClueKind, Iterable[Recollection]], question: str, per_kind: int) -> tuple[Clue, ...]:
    clues: list[Clue] = []
    for kind, recollections in said.items():
        earlier = [comparable(clue.text) for clue in clues]
        own: list[str] = []
        for clue in _by_score(recollections, kind, question):
            key = comparable(clue.text)
            if any(key in other or other in key for other in own):
                continue
            draft = kind == "answer" and not own  # what the memory itself would answer must not be lost
            if not draft and any(key in other for other in earlier):
                continue
            own.append(key)
            clues.append(clue)
            if len(own) == per_kind:
                break
    return tuple(clues)


def _by_score(recollections: Iterable[Recollection], kind: ClueKind, question: str) -> Iterator[Clue]:
    for said in sorted(recollections, key=_place):
        for text in parse_clues(said.text, kind=kind, question=question, finished=said.finished):
            yield Clue(text, kind, said.score, said.part)


def _place(said: Recollection) -> tuple[float, int, str]:
    """Best score first, then the earlier part; a score that is no number comes last."""
    return inf if isnan(said.score) else -said.score, said.part, said.text
