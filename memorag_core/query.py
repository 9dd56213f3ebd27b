"""What is asked of all that was memorized: questions recall clues, and clues find evidence.

In: a corpus, questions. Out: what came of asking the memory, then what came of searching. Knows the stages
that recall, check and search, not those that read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial
from threading import Event

from memorag_core.clues import recall
from memorag_core.clues.request_batching import MOST
from memorag_core.clues.streaming import Heard, Listener, Stop
from memorag_core.clues.verification import check_clues
from memorag_core.corpus import Corpus
from memorag_core.errors import InputError
from memorag_core.memory.requests import check_question
from memorag_core.protocols import (
    CountTokens,
    MemoryModel,
    Reranker,
    Searcher,
    asked_together,
    keeps_documents,
)
from memorag_core.retrieval import FanOut
from memorag_core.retrieval.routing import route
from memorag_core.settings import ClueSettings, RetrievalSettings
from memorag_core.system.locking import OfProcess
from memorag_core.types import Ask, Chunk, Findings, Recall

QUESTIONS_KEPT = 256
"""Questions whose clues are kept: asking again, or for more evidence, does not ask the memory again."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks a corpus.

    Attributes:
        model: What made its memory.
        reranker: What orders the first of what was found, or None to leave it as it is.
        count_tokens: What a text takes of a budget.
    """

    model: MemoryModel
    reranker: Reranker | None = None
    count_tokens: CountTokens = len

    def recall(
        self,
        corpus: Corpus,
        questions: Sequence[str],
        settings: ClueSettings,
        *,
        heard: Heard | None = None,
        stop: Stop | None = None,
        again: bool = False,
    ) -> tuple[Recall, ...]:
        """The clues for each question, asking the memory only for those that are not kept.

        Where the model computes here, questions that other threads ask meanwhile go into the same pass.

        Args:
            corpus: What was memorized.
            questions: All are put to the memory together.
            settings: Of clues.
            heard: Is told of clues as their lines are complete, or, where they are kept, at once.
            stop: Ends all replies once it is set.
            again: Ask the memory also for what is kept.

        Returns:
            For each question what came of it. What was ended early, by ``stop`` or by the settings, is not
            kept for the next time.

        Raises:
            InputError: No list of questions, or a blank one.
        """
        if isinstance(questions, str) or not all(isinstance(question, str) for question in questions):
            raise InputError(
                f"The questions are {questions!r}; expected a list of texts. Give one text for each."
            )
        for question in questions:
            check_question(question, settings.kinds)
        each = list(dict.fromkeys(questions))
        told = {} if again else _kept(corpus, each, settings)
        if heard is not None:
            for one in told.values():
                for clue in one.clues:
                    heard(one.question, clue)
        missing = [question for question in each if question not in told]
        if missing:
            ask = partial(self._asked, corpus, settings, again)
            if asked_together(self.model):
                kind = (settings, again)
                fresh = corpus.gathering.ask(missing, ask, kind=kind, heard=heard, stop=stop)
            else:
                fresh = ask(missing, heard=heard, stop=stop)
            told |= {one.question: one for one in fresh}
        return tuple(told[question] for question in questions)

    async def arecall(
        self,
        corpus: Corpus,
        questions: Sequence[str],
        settings: ClueSettings,
        *,
        heard: Heard | None = None,
    ) -> tuple[Recall, ...]:
        """``recall`` in a thread; cancelling it ends the asking at the next token."""
        stop = Event()
        ask = partial(self.recall, corpus, questions, settings, heard=heard, stop=stop)
        try:
            # Not the loop's own threads: on small machines there are few, and most of these only wait.
            return await asyncio.get_running_loop().run_in_executor(_THREADS.get(), copy_context().run, ask)
        finally:
            stop.set()

    def find(
        self,
        corpus: Corpus,
        recalled: Sequence[Recall],
        k: int,
        settings: RetrievalSettings,
        over: FanOut | Searcher | None,
        where: Callable[[Chunk], bool] | None = None,
    ) -> tuple[Findings, ...]:
        """The evidence for each question and its clues, in the corpus or by a retriever of the user's own.

        Raises:
            InputError: As ``retrieve_batch`` of either; ``where`` for a retriever of the user's own.
        """
        requests = [(one.question, one.clues) for one in recalled]
        if over is not None:
            _check_no_filter(where)
            return _fan_out(over).retrieve_batch(
                requests, k=k, settings=settings, reranker=self.reranker, count_tokens=self.count_tokens
            )
        begun = time.perf_counter()
        found = corpus.index.retrieve_batch(
            requests,
            k=k,
            settings=settings,
            reranker=self.reranker,
            count_tokens=self.count_tokens,
            where=where,
        )
        seconds = time.perf_counter() - begun
        return tuple(
            Findings(one.question, evidence, seconds=seconds)
            for one, evidence in zip(recalled, found, strict=True)
        )

    async def afind(
        self,
        corpus: Corpus,
        recalled: Sequence[Recall],
        k: int,
        settings: RetrievalSettings,
        over: FanOut | Searcher | None,
        where: Callable[[Chunk], bool] | None = None,
    ) -> tuple[Findings, ...]:
        """``find`` that leaves the event loop free: the corpus is searched in a thread."""
        if over is None:
            return await asyncio.to_thread(self.find, corpus, recalled, k, settings, None, where)
        _check_no_filter(where)
        return await _fan_out(over).aretrieve_batch(
            [(one.question, one.clues) for one in recalled],
            k=k,
            settings=settings,
            reranker=self.reranker,
            count_tokens=self.count_tokens,
        )

    def checked_k(
        self, corpus: Corpus, k: int | None, settings: RetrievalSettings, over: FanOut | Searcher | None
    ) -> int:
        """How many pieces of evidence; refuses what cannot be had before the memory is asked.

        Raises:
            InputError: ``k`` below 1, or above the chunks of the corpus; over a retriever of the user's own,
                settings that it cannot follow.
        """
        if over is not None:
            k = settings.k if k is None else k  # nobody knows how much it has
            _fan_out(over).check_k(k, settings)
            return k
        if k is None:
            return min(settings.k, len(corpus.index.chunks))  # a short text has fewer
        corpus.index.check_k(k, settings)
        return k

    def _asked(
        self,
        corpus: Corpus,
        settings: ClueSettings,
        again: bool,
        questions: Sequence[str],
        *,
        heard: Heard | None,
        stop: Stop | None,
    ) -> tuple[Recall, ...]:
        """What the memory says to questions, all different; what it was let to end is kept."""
        told = {} if again else _kept(corpus, questions, settings)  # by the pass before this one
        missing = [question for question in questions if question not in told]
        if not missing:
            return tuple(told.values())
        asks = [Ask(question, kind) for question in missing for kind in settings.kinds]
        watched = not (heard is None and stop is None and settings.max_seconds is None)
        listener = Listener(asks, heard=heard, stop=stop, seconds=settings.max_seconds) if watched else None
        recalled = recall(
            missing,
            corpus.memory,
            model=self.model,
            settings=replace(settings, language=settings.language or corpus.language),
            parts=self._routed(corpus, missing, settings.max_parts),
            passages=corpus.passages if settings.grounded else None,
            watch=listener,
        )
        fresh = check_clues(
            recalled, passages=corpus.passages, support=corpus.index.support, settings=settings
        )
        if listener is None or not listener.ended_early:
            if len(corpus.recalled) + len(fresh) > QUESTIONS_KEPT:
                corpus.recalled.clear()
            corpus.recalled.update({(one.question, settings): one for one in fresh})
        return (*told.values(), *fresh)

    def _routed(
        self, corpus: Corpus, questions: Sequence[str], most: int | None
    ) -> list[tuple[int, ...] | None] | None:
        """The parts that each question is put to; None for all of them."""
        if most is None or corpus.memory.parts <= most:
            return None
        if not keeps_documents(self.model):
            raise InputError(
                f"ClueSettings.max_parts is {most}, and a {type(self.model).__name__} cannot be asked in "
                "part: it lacks the members of memorag_core.DocumentMemoryModel. Leave max_parts out."
            )
        numbers = {document.id: number for number, document in enumerate(corpus.documents)}
        return route(
            questions, corpus.memory, model=self.model, index=corpus.index, numbers=numbers, most=most
        )


def _check_no_filter(where: object) -> None:
    if where is not None:
        raise InputError(
            "'where' says which chunks of what was memorized may be found, and a retriever of your own is "
            "searched instead. Filter there, and leave 'where' out."
        )


_THREADS = OfProcess(lambda: ThreadPoolExecutor(MOST, thread_name_prefix="memorag-asking"))
"""For those who await a memory: as many as a pass takes questions. They are begun as they are needed."""


def _kept(corpus: Corpus, questions: Iterable[str], settings: ClueSettings) -> dict[str, Recall]:
    """What is kept for questions, by question."""
    kept = corpus.recalled.copy()  # another thread may be adding to it
    return {
        question: replace(kept[question, settings], kept=True)
        for question in questions
        if (question, settings) in kept
    }


def _fan_out(over: FanOut | Searcher) -> FanOut:
    return over if isinstance(over, FanOut) else FanOut(over)
