"""What a memory said to a question is kept: asking again, or for more evidence, does not ask it again.

In: what came of questions, with the settings that they were asked by. Out: the same, for the same question.
Knows no memory.

Any number of threads may use a cache without a lock: every access is one operation of a dict, and nobody
walks through it. So there is nothing that an interrupt or a fork could leave held or half done.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from memorag_core.settings import ClueSettings
from memorag_core.types import Recall

QUESTIONS_KEPT = 256
"""Questions of a cache. A full one begins anew."""


class ClueCache:
    """What one memory recalled, by question and settings."""

    def __init__(self) -> None:
        self._recalls: dict[tuple[str, ClueSettings], Recall] = {}

    def __len__(self) -> int:
        return len(self._recalls)

    def get(self, questions: Iterable[str], settings: ClueSettings) -> dict[str, Recall]:
        """What is kept for questions, by question."""
        found = {question: self._recalls.get((question, settings)) for question in questions}
        return {question: replace(one, kept=True) for question, one in found.items() if one is not None}

    def keep(self, recalls: Iterable[Recall], settings: ClueSettings) -> None:
        """Keep what came of questions."""
        for one in recalls:
            if len(self._recalls) >= QUESTIONS_KEPT:
                self._recalls.clear()
            self._recalls[one.question, settings] = one

    def clear(self) -> None:
        """Forget all of it."""
        self._recalls.clear()
