"""A memory is asked for clues, each question only once, and questions that come together in one pass.

In: what was memorized, questions, settings. Out: what came of each; or the clues one by one, as a stream.
Knows the ways that lead to a memory's reply, and what makes clues of it; knows nothing of retrieval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from functools import partial
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from memorag_core.clues.recall import Heard, Listener, Stop, recall, requests
from memorag_core.clues.request_batching import Gathering
from memorag_core.clues.verification import check_clues
from memorag_core.errors import MemoRAGError
from memorag_core.memory.grounding import Passages
from memorag_core.memory.requests import check_question
from memorag_core.protocols import MemoryModel, asked_together
from memorag_core.settings import ClueSettings
from memorag_core.system.locking import LOOK
from memorag_core.types import Clue, Recall

QUESTIONS_KEPT = 256
"""Questions of a corpus whose clues are kept. Once there are so many, all are forgotten."""


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
    """What is kept of asking one corpus: its clues, and those that ask it now.

    Any number of threads may use the clues without a lock: every access is one operation of a dict, and
    nobody walks through it. So there is nothing that an interrupt or a fork could leave held or half done.
    """

    clues: dict[tuple[str, ClueSettings], Recall] = field(default_factory=dict)
    batching: Gathering = field(default_factory=Gathering)

    def known(self, questions: Iterable[str], settings: ClueSettings) -> dict[str, Recall]:
        """What is kept for questions, by question."""
        found = {question: self.clues.get((question, settings)) for question in questions}
        return {question: replace(one, kept=True) for question, one in found.items() if one is not None}

    def keep(self, recalls: Iterable[Recall], settings: ClueSettings) -> None:
        for one in recalls:
            if len(self.clues) >= QUESTIONS_KEPT:
                self.clues.clear()
            self.clues[one.question, settings] = one


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
        known = {} if again else asked.known(each, settings)
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
                fresh = ask(missing, heard, stop)
            known |= {one.question: one for one in fresh}
        return tuple(known[question] for question in questions)

    def _ask_model(
        self,
        corpus: Memorized,
        settings: ClueSettings,
        again: bool,
        questions: Sequence[str],
        heard: Heard | None,
        stop: Stop | None,
    ) -> tuple[Recall, ...]:
        """What the memory says to questions, all different; what it was let to end is kept."""
        asked = self.of(corpus)
        known = {} if again else asked.known(questions, settings)  # of the pass before this one
        missing = [question for question in questions if question not in known]
        if not missing:
            return tuple(known.values())
        seconds, listener = settings.max_seconds, None
        if not (heard is None and stop is None and seconds is None):
            listener = Listener(requests(missing, settings), heard, stop, seconds)
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
            asked.keep(fresh, settings)
        return (*known.values(), *fresh)


class ClueStream:
    """Clues as they are heard, from a memory that is asked on a thread of its own.

    Iterating waits for the next clue. Closing it, or leaving its ``with`` statement, ends the asking at the
    next token; nothing of it is kept then.
    """

    def __init__(self, asking: Callable[[Heard, Stop], object]) -> None:
        """Begin to ask.

        Args:
            asking: Asks; gets whom to tell of clues, and what ends the replies once it is set.
        """
        self._queue: SimpleQueue[Clue | BaseException | None] = SimpleQueue()
        self._closed = Event()
        self._ended = False
        # A context of its own, for clients that keep traces and callbacks in it.
        run = copy_context().run
        self._thread = Thread(target=run, args=(self._ask, asking), name="memorag-clues", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Clue]:
        return self

    def __next__(self) -> Clue:
        if self._ended or self._closed.is_set():
            raise StopIteration
        found = self._next()
        if isinstance(found, Clue):
            return found
        self._ended = True
        if found is not None:
            raise found
        raise StopIteration

    def _next(self) -> Clue | BaseException | None:
        """What is said next; nothing more comes of a thread that has ended, however it did."""
        while True:
            ended = not self._thread.is_alive()  # what it said was said before
            try:
                return self._queue.get(timeout=0 if ended else LOOK)
            except Empty:
                if ended:
                    return MemoRAGError("The asking was broken off before its end. Ask again.")

    def close(self) -> None:
        """End the asking, and wait until it has ended."""
        self._closed.set()
        self._thread.join()

    def __enter__(self) -> ClueStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, asking: Callable[[Heard, Stop], object]) -> None:
        try:
            asking(lambda _, clue: self._queue.put(clue), self._closed)
        except BaseException as error:
            self._queue.put(error)
        else:
            self._queue.put(None)
