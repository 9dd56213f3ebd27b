"""Questions that come while a memory is being asked are put to it together, as soon as that has ended.

In: calls from any threads, each with questions, and how a pass is made. Out: for each call what came of its
questions. Knows no memory and no model.

Nobody waits for others to come: a call that finds nobody asking asks at once. Those that come meanwhile wait,
and the first of them then asks for all.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from threading import Event, Lock, get_ident
from typing import Protocol

from memorag_core.clues.streaming import Heard, Stop
from memorag_core.types import Clue, Recall

MOST = 32
"""Questions of a pass, but for a single call that has more: what a row takes while it is asked adds up."""

_LOOKS = 0.02
"""Seconds after which a call that waits looks whether it should stop."""


class Pass(Protocol):
    """Asks a memory."""

    def __call__(
        self, questions: Sequence[str], *, heard: Heard | None, stop: Stop | None
    ) -> tuple[Recall, ...]:
        """What came of each question, all different; ``heard`` and ``stop`` as for ``Listener``."""
        ...


@dataclass(slots=True, eq=False)
class _Call:
    """A call, and what became of it."""

    questions: tuple[str, ...]
    kind: Hashable
    heard: Heard | None
    stop: Stop | None
    woken: Event = field(default_factory=Event)
    recalled: tuple[Recall, ...] | None = None
    error: BaseException | None = None

    @property
    def ended(self) -> bool:
        return self.recalled is not None or self.error is not None

    @property
    def gone(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.error is not None or (self.stop is not None and self.stop.is_set())


class Gathering:
    """The calls to one memory. Any number of threads may call."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._busy = False
        self._waiting: list[_Call] = []
        self._asking: int | None = None  # the thread that makes a pass

    def ask(
        self,
        questions: Sequence[str],
        ask: Pass,
        *,
        kind: Hashable,
        heard: Heard | None = None,
        stop: Stop | None = None,
    ) -> tuple[Recall, ...]:
        """Ask, alone or with others.

        Args:
            questions: All different.
            ask: Makes a pass; of calls that are asked together, the first one's.
            kind: Only calls of the same kind are asked together.
            heard: Is told of clues to these questions. What it raises is raised here, and costs the others
                nothing.
            stop: Once it is set, nobody waits for these questions. A pass ends when nobody waits for any.

        Returns:
            What came of each question; nothing of it where ``stop`` was set before they were asked.

        Raises:
            Exception: What the pass raised, for all that were asked together.
        """
        if self._asking == get_ident():  # a listener of this pass asks: the pass cannot wait for itself
            return ask(questions, heard=heard, stop=stop)
        call = _Call(tuple(questions), kind, heard, stop)
        with self._lock:
            leads = not self._busy
            self._busy = True
            if not leads:
                self._waiting.append(call)
        if leads or self._wait(call):
            self._lead(call, ask)
        if call.error is not None:
            raise call.error
        return call.recalled or ()

    def _wait(self, call: _Call) -> bool:
        """Wait for an answer; true where this call is to make the next pass instead."""
        looks = None if call.stop is None and call.heard is None else _LOOKS
        try:
            while not call.woken.wait(looks):
                if call.gone:
                    self._leave(call)
                    call.recalled = tuple(Recall(question) for question in call.questions)
                    return False
        except BaseException:  # an interrupt of this thread
            self._leave(call)
            raise
        return not call.ended

    def _leave(self, call: _Call) -> None:
        """Wait no longer; where this call was to make the next pass, another one does."""
        if not self._withdrawn(call) and call.woken.is_set() and not call.ended:
            self._hand_on()

    def _withdrawn(self, call: _Call) -> bool:
        """Take a call back; false where its turn has come already."""
        with self._lock:
            if call not in self._waiting:
                return False
            self._waiting.remove(call)
            return True

    def _lead(self, call: _Call, ask: Pass) -> None:
        """Make a pass for this call and for those of its kind that wait."""
        others = self._joined(call)
        self._asking = get_ident()
        try:
            self._pass([call, *others], ask)
        except BaseException:  # an interrupt of this thread is no concern of the others
            with self._lock:
                self._waiting[:0] = [other for other in others if not other.ended]
            raise
        finally:
            self._asking = None
            for other in others:
                if other.ended:
                    other.woken.set()
            self._hand_on()

    def _joined(self, call: _Call) -> list[_Call]:
        with self._lock:
            count = len(call.questions)
            joined: list[_Call] = []
            for other in self._waiting:
                if other.kind == call.kind and count + len(other.questions) <= MOST:
                    joined.append(other)
                    count += len(other.questions)
            self._waiting = [other for other in self._waiting if other not in joined]
            return joined

    def _hand_on(self) -> None:
        """Let the next call ask, if one waits."""
        with self._lock:
            if self._waiting:
                self._waiting.pop(0).woken.set()
            else:
                self._busy = False

    def _pass(self, calls: Sequence[_Call], ask: Pass) -> None:
        heard = _heard_by(calls) if any(call.heard is not None for call in calls) else None
        watched = heard is not None or any(call.stop is not None for call in calls)
        questions = list(dict.fromkeys(question for call in calls for question in call.questions))
        try:
            recalled = ask(questions, heard=heard, stop=_AllGone(calls) if watched else None)
        except Exception as error:
            for call in calls:
                call.error = call.error or error
            return
        found = {one.question: one for one in recalled}
        for call in calls:
            call.recalled = tuple(found[question] for question in call.questions)


@dataclass(frozen=True, slots=True)
class _AllGone:
    """Is set once nobody waits for any of the calls."""

    calls: Sequence[_Call]

    def is_set(self) -> bool:
        return all(call.gone for call in self.calls)


def _heard_by(calls: Sequence[_Call]) -> Heard:
    """Tells every call of the clues to its questions; one that raises hears no more."""

    def heard(question: str, clue: Clue) -> None:
        for call in calls:
            if call.heard is not None and not call.gone and question in call.questions:
                try:
                    call.heard(question, clue)
                except BaseException as error:
                    call.error = error

    return heard
