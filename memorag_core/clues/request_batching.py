"""Questions that come while a memory is being asked are put to it together, as soon as that has ended.

In: calls from any threads, each with questions, and how a pass is made. Out: for each call what came of its
questions. Knows no memory and no model.

Nobody waits for others to come: a call that finds nobody asking asks at once. Those that come meanwhile wait,
and the first of them then asks for all.

Nothing is handed on that an interrupt could drop on the way. Who asks holds a lock that is free once that
function has ended, however it did. Who waits stays in the list until it is answered, and looks by itself
whether nobody asks any more; being woken only saves time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock as WakeUp
from typing import TypeAlias

from memorag_core.clues.recall import Heard, Stop
from memorag_core.system.locking import LOOK, Lock, Running
from memorag_core.types import Clue, Recall

MOST = 32
"""Questions of a pass, but for a single call that has more: what a row takes while it is asked adds up."""

_STOP_LOOK = 0.02
"""Seconds after which a call that waits looks whether it should stop."""


Pass: TypeAlias = Callable[[Sequence[str], Heard | None, Stop | None], tuple[Recall, ...]]
"""Asks a memory questions, all different; gets also whom to tell of clues, and what ends all replies."""


def _asleep() -> WakeUp:
    lock = WakeUp()
    lock.acquire()
    return lock


@dataclass(slots=True, eq=False)
class _Call:
    """A call, and what became of it."""

    questions: tuple[str, ...]
    kind: Hashable
    heard: Heard | None
    stop: Stop | None
    running: Running
    woken: WakeUp = field(default_factory=_asleep)
    recalled: tuple[Recall, ...] | None = None
    error: BaseException | None = None
    left: bool = False

    @property
    def ended(self) -> bool:
        return self.recalled is not None or self.error is not None

    @property
    def stopped(self) -> bool:
        return self.stop is not None and self.stop.is_set()

    @property
    def gone(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.left or self.error is not None or self.stopped

    def wake(self) -> None:
        with suppress(RuntimeError):  # it has been woken
            self.woken.release()

    def sleep(self) -> None:
        self.woken.acquire(timeout=LOOK if self.stop is None and self.heard is None else _STOP_LOOK)


class Gathering:
    """The calls to one memory. Any number of threads may call."""

    def __init__(self) -> None:
        self._leading = Lock()  # of who makes a pass
        self._waiting: list[_Call] = []  # in the order of coming; every change of it is one step

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
        if self._leading.mine():  # a listener of this pass asks: the pass cannot wait for itself
            return ask(questions, heard, stop)
        call = _Call(tuple(questions), kind, heard, stop, Running(sys._getframe()))
        self._waiting.append(call)
        try:
            self._see_through(call, ask)
        finally:
            call.left = True
            self._drop(call)
            if (first := self._first()) is not None:
                first.wake()
            call.running.end()
        if call.error is not None:
            raise call.error
        if call.recalled is None:
            return tuple(Recall(question) for question in questions)
        return call.recalled

    def _see_through(self, call: _Call, ask: Pass) -> None:
        """Wait until a call is answered or stopped, and make a pass for it where its turn has come."""
        was_free = False
        while not (call.ended or call.gone):
            free = not self._leading.held()
            # The first in the row leads. Where it does not for a whole look, anybody may: its thread may be
            # one that stands still, as under the handler of a signal that asks.
            if free and (was_free or self._is_first(call)) and self._leading.take():
                try:
                    if not call.ended:
                        self._pass(self._joining(call), ask)  # interrupted, the others are still waiting
                finally:
                    self._leading.release()
            else:
                was_free = free
                call.sleep()

    def _drop(self, call: _Call) -> None:
        with suppress(ValueError):  # it leads, or has left
            self._waiting.remove(call)

    def _is_first(self, call: _Call) -> bool:
        while (first := self._first()) is not call and first is not None and first.running.ended():
            self._drop(first)  # an interrupt took it away, or it waits in the process that this was forked of
        return first is call

    def _first(self) -> _Call | None:
        return next(iter(self._waiting[:1]), None)

    def _joining(self, call: _Call) -> list[_Call]:
        """This call, which waits no longer, and those of its kind that do."""
        self._drop(call)
        count = len(call.questions)
        joined = [call]
        for other in self._waiting.copy():
            fits = other.kind == call.kind and count + len(other.questions) <= MOST
            if fits and not (other.ended or other.running.ended()):
                joined.append(other)
                count += len(other.questions)
        return joined

    def _pass(self, calls: Sequence[_Call], ask: Pass) -> None:
        all_ = _All(calls)
        heard = all_.hear if any(call.heard is not None for call in calls) else None
        watched = heard is not None or any(call.stop is not None for call in calls)
        questions = list(dict.fromkeys(question for call in calls for question in call.questions))
        try:
            recalled = ask(questions, heard, all_ if watched else None)
        except Exception as error:
            for call in calls:
                call.error = call.error or error
        else:
            found = {one.question: one for one in recalled}
            for call in calls:
                call.recalled = tuple(found[question] for question in call.questions)
        for other in calls[1:]:
            other.wake()


@dataclass(frozen=True, slots=True)
class _All:
    """The calls of a pass, who hear of its clues, and end it once nobody waits for any."""

    calls: Sequence[_Call]

    def is_set(self) -> bool:
        return all(call.gone for call in self.calls)

    def hear(self, question: str, clue: Clue) -> None:
        """Tell those that asked the question; one that raises hears no more."""
        for call in self.calls:
            if call.heard is not None and not call.gone and question in call.questions:
                try:
                    call.heard(question, clue)
                except KeyboardInterrupt:
                    raise  # of this thread, whoever's listener it met
                except BaseException as error:
                    call.error = error
