"""A memory is asked for clues, each question only once, and questions that come together in one pass.

In: what was memorized, questions, settings. Out: what came of each. Knows the ways that lead to a memory's
reply, and what makes clues of it; knows nothing of retrieval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from memorag_core.clues.cache import ClueCache
from memorag_core.clues.recall import recall
from memorag_core.clues.request_batching import Gathering
from memorag_core.clues.streaming import Heard, Listener, Stop
from memorag_core.clues.verification import check_clues
from memorag_core.memory.grounding import Passages
from memorag_core.memory.requests import check_question
from memorag_core.protocols import MemoryModel, asked_together
from memorag_core.settings import ClueSettings
from memorag_core.types import Ask, Recall


class Memorized(Protocol):
    """What was memorized, as far as a memory is asked; it never changes."""

    @property
    def memory(self) -> Any:
        """What the model made of it."""
        ...

    @property
    def passages(self) -> Passages:
        """The texts, for finding lines in them."""
        ...

    @property
    def language(self) -> str:
        """The language of most of it."""
        ...

    def support(self, texts: Sequence[str]) -> tuple[float, ...]:
        """How much of what each text says one place says."""
        ...

    def parts_for(
        self, questions: Sequence[str], model: MemoryModel, most: int | None
    ) -> list[tuple[int, ...] | None] | None:
        """The parts that each question is put to; None for all of them."""
        ...


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is kept of asking one corpus: its clues, and those that ask it now."""

    clues: ClueCache = field(default_factory=ClueCache)
    batching: Gathering = field(default_factory=Gathering)


class Asker:
    """Asks memories for clues, each the same only once, and questions that come together in one pass."""

    def __init__(self, model: MemoryModel) -> None:
        """Ask with the model that makes the memories."""
        self.model = model
        # Weak, so that a corpus that was changed goes, and what is kept of it with it.
        self._asked_corpora: WeakKeyDictionary[Memorized, _Asked] = WeakKeyDictionary()

    def of(self, corpus: Memorized) -> _Asked:
        """What is kept of asking a corpus."""
        return self._asked_corpora.setdefault(corpus, _Asked())  # one step, whoever comes between

    def recall(
        self,
        corpus: Memorized,
        settings: ClueSettings,
        questions: Sequence[str],
        *,
        heard: Heard | None = None,
        stop: Stop | None = None,
        again: bool = False,
    ) -> tuple[Recall, ...]:
        """The clues for each question, asking the memory only for those that are not kept.

        Where the model computes here, questions that other threads ask meanwhile go into the same pass.

        Args:
            corpus: What was memorized.
            settings: Of clues.
            questions: All are put to the memory together.
            heard: Is told of clues as their lines are complete, or, where they are kept, at once.
            stop: Ends all replies once it is set.
            again: Ask the memory also for what is kept.

        Returns:
            For each question what came of it. What was ended early, by ``stop`` or by the settings, is not
            kept for the next time.

        Raises:
            InputError: A blank question.
        """
        for question in questions:
            check_question(question, settings.kinds)
        each = list(dict.fromkeys(questions))
        asked = self.of(corpus)
        known = {} if again else asked.clues.get(each, settings)
        if heard is not None:
            for one in known.values():
                for clue in one.clues:
                    heard(one.question, clue)
        missing = [question for question in each if question not in known]
        if missing:
            ask = partial(self._ask_model, corpus, settings, again)
            if asked_together(self.model):
                kind = (settings, again)
                fresh = asked.batching.ask(missing, ask, kind=kind, heard=heard, stop=stop)
            else:
                fresh = ask(missing, heard=heard, stop=stop)
            known |= {one.question: one for one in fresh}
        return tuple(known[question] for question in questions)

    def _ask_model(
        self,
        corpus: Memorized,
        settings: ClueSettings,
        again: bool,
        questions: Sequence[str],
        *,
        heard: Heard | None,
        stop: Stop | None,
    ) -> tuple[Recall, ...]:
        """What the memory says to questions, all different; what it was let to end is kept."""
        cache = self.of(corpus).clues
        known = {} if again else cache.get(questions, settings)  # of the pass before this one
        missing = [question for question in questions if question not in known]
        if not missing:
            return tuple(known.values())
        asks = [Ask(question, kind) for question in missing for kind in settings.kinds]
        watched = not (heard is None and stop is None and settings.max_seconds is None)
        listener = Listener(asks, heard=heard, stop=stop, seconds=settings.max_seconds) if watched else None
        recalled = recall(
            missing,
            corpus.memory,
            model=self.model,
            settings=replace(settings, language=settings.language or corpus.language),
            parts=corpus.parts_for(missing, self.model, settings.max_parts),
            passages=corpus.passages if settings.grounded else None,
            watch=listener,
        )
        fresh = check_clues(recalled, passages=corpus.passages, support=corpus.support, settings=settings)
        if listener is None or not listener.ended_early:
            cache.keep(fresh, settings)
        return (*known.values(), *fresh)
