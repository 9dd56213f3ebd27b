"""Who hears clues while a memory is asked, and may end the asking: a listener, and a stream of clues.

In: replies as they grow. Out: clues as their lines are complete, and the word to stop. Knows no model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Protocol, TypeAlias

from memorag_core.clues.recall import clues_of
from memorag_core.errors import MemoRAGError
from memorag_core.system.locking import LOOK
from memorag_core.types import Ask, Clue, Recollection

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
        self,
        asks: Sequence[Ask],
        *,
        heard: Heard | None = None,
        stop: Stop | None = None,
        seconds: float | None = None,
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
        self._end = None if seconds is None else time.monotonic() + seconds
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
        if not self.ended_early:
            stopped = self._stop is not None and self._stop.is_set()
            late = self._end is not None and time.monotonic() >= self._end
            self.ended_early = stopped or late
        return not self.ended_early


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
