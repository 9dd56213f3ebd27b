"""Who watches while a memory is asked: a deadline, and a stream of clues that can be broken off.

In: replies as they grow. Out: clues as their lines are complete, and the word to stop. Knows no model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
from queue import SimpleQueue
from threading import Event, Thread

from memorag_core.clues import clues_of
from memorag_core.records import Ask, Clue, Recollection


class Deadline:
    """Ends all replies after a time; a ``protocols.Watch``."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self.ended_early = False
        """Whether it has ended any."""

    def said(self, ask: int, reply: Recollection) -> None:
        """Nothing is done with replies."""

    def goes_on(self) -> bool:
        """Whether there is time left."""
        self.ended_early = self.ended_early or time.monotonic() >= self._end
        return not self.ended_early


class ClueStream:
    """Clues as they are heard, from a memory that is asked on a thread of its own.

    Iterating waits for the next clue. Closing it, or leaving its ``with`` statement, ends the asking at the
    next token; nothing of it is kept then.
    """

    def __init__(
        self,
        asks: Sequence[Ask],
        asking: Callable[[ClueStream], object],
        *,
        deadline: Deadline | None = None,
    ) -> None:
        """Begin to ask.

        Args:
            asks: The requests, in the order in which replies are told of.
            asking: Asks, with this stream as its watch.
            deadline: When replies end.
        """
        self._asks = asks
        self._deadline = deadline
        self._heard: set[tuple[int, str]] = set()
        self._queue: SimpleQueue[Clue | BaseException | None] = SimpleQueue()
        self._closed = Event()
        self._ended = False
        # A context of its own, for clients that keep traces and callbacks in it.
        run = copy_context().run
        self._thread = Thread(target=run, args=(self._ask, asking), name="memorag-clues", daemon=True)
        self._thread.start()

    def said(self, ask: int, reply: Recollection) -> None:
        """Put the clues that are new in a reply into the stream."""
        asked = self._asks[ask]
        for clue in clues_of(reply, asked.kind, asked.question)[0]:
            if (ask, clue.text) not in self._heard:
                self._heard.add((ask, clue.text))
                self._queue.put(clue)

    def goes_on(self) -> bool:
        """Whether anybody waits for more."""
        return not self._closed.is_set() and (self._deadline is None or self._deadline.goes_on())

    def __iter__(self) -> Iterator[Clue]:
        return self

    def __next__(self) -> Clue:
        if self._ended or self._closed.is_set():
            raise StopIteration
        found = self._queue.get()
        if isinstance(found, Clue):
            return found
        self._ended = True
        if found is not None:
            raise found
        raise StopIteration

    def close(self) -> None:
        """End the asking, and wait until it has ended."""
        self._closed.set()
        self._thread.join()

    def __enter__(self) -> ClueStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def ended_early(self) -> bool:
        """Whether replies were ended before they ended by themselves."""
        return self._closed.is_set() or (self._deadline is not None and self._deadline.ended_early)

    def _ask(self, asking: Callable[[ClueStream], object]) -> None:
        try:
            asking(self)
        except BaseException as error:
            self._queue.put(error)
        else:
            self._queue.put(None)
