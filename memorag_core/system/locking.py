"""Locks that nothing leaves held: no interrupt at any line, no thread that dies, no fork.

In: the code that runs. Out: the word whether other code may run beside it. Knows nothing of what is guarded.

A lock of ``threading`` stays held when an interrupt comes between two statements that take and release it,
and in a process that is forked while another thread holds it. These belong to a function that runs: once it
has returned or raised, or is not in this process, the lock is free, whether or not anybody released it.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from types import BuiltinFunctionType, FrameType
from typing import Any, Generic, TypeVar

from memorag_core.errors import MemoRAGError

LOOK = 0.05
"""Seconds after which who waits looks whether what is waited for still runs: no wake-up is relied on."""

_SUSPENDS = 0x20 | 0x80 | 0x200  # generators, coroutines and both: they leave the stack and come back

T = TypeVar("T")


class Running:
    """A function that runs, on a thread; it has ended once it has returned or raised, or was not forked."""

    __slots__ = ("_frame", "_pid", "thread")

    def __init__(self, frame: FrameType) -> None:
        """Watch a function of the calling thread.

        Args:
            frame: Its own. No generator's: those leave the stack and come back.
        """
        self._frame: FrameType | None = frame
        self._pid = os.getpid()
        self.thread = threading.get_ident()

    def end(self) -> None:
        """Say that it has ended, so that nothing of it is kept."""
        self._frame = None

    def ended(self) -> bool:
        """Whether it has ended, or said so."""
        if self._frame is None:
            return True
        if not _sees_frames():
            return self._pid != os.getpid()
        return not self._on_stack(sys._current_frames().get(self.thread))

    def of(self, frame: FrameType) -> bool:
        """Whether it is this function."""
        return self._frame is frame

    def here(self) -> bool:
        """Whether the calling thread is inside of it."""
        if self.thread != threading.get_ident() or self._frame is None:
            return False
        return self._on_stack(sys._getframe())

    def _on_stack(self, frame: FrameType | None) -> bool:
        looked_for, last = self._frame, None
        while frame is not None:
            if frame is looked_for:
                return True
            last, frame = frame, frame.f_back
        # A generator that was suspended while its thread's stack was looked at has lost what is below it.
        return last is not None and bool(last.f_code.co_flags & _SUSPENDS)


class _Claim:
    """One taking of a lock; the first that follows it takes the lock next."""

    __slots__ = ("done", "followers", "running")

    def __init__(self, running: Running | None) -> None:
        self.running = running
        self.followers: list[_Claim] = []
        self.done = threading.Lock()  # released at the end, for those that wait
        self.done.acquire()

    def over(self) -> bool:
        return self.running is None or self.running.ended()

    def end(self) -> None:
        if self.running is not None:
            self.running.end()
            self.running = None
            self.done.release()

    def wait(self, seconds: float) -> None:
        if self.done.acquire(timeout=seconds):
            self.done.release()  # for the others that wait


class Lock:
    """A lock that is held while the function that took it runs, at most to the end of its ``with`` statement.

    Not for generators. Who waits does not spin, and finds at the latest after ``LOOK`` seconds what was
    dropped. A thread that waits for itself is told so instead of waiting for ever.
    """

    def __init__(self) -> None:
        self._last = _Claim(None)

    def __enter__(self) -> None:
        frame = sys._getframe(1)
        while not self._taken(frame):
            self._check_other_thread()
            self._newest().wait(LOOK)

    def __exit__(self, *_: object) -> None:
        self.release()

    def take(self) -> bool:
        """Take it for the function that calls, if nobody holds it."""
        return self._taken(sys._getframe(1))

    def release(self) -> None:
        """Let others take it; only for who holds it."""
        self._newest().end()

    def held(self) -> bool:
        """Whether anybody holds it."""
        return not self._newest().over()

    def mine(self) -> bool:
        """Whether the calling thread holds it."""
        running = self._newest().running
        return running is not None and running.here()

    def _taken(self, frame: FrameType) -> bool:
        newest = self._newest()
        if not newest.over():
            return False
        claim = _Claim(Running(frame))
        newest.followers.append(claim)  # as one step, whatever comes between: of many the first one has it
        return newest.followers[0] is claim

    def _of(self, frame: FrameType) -> bool:
        running = self._newest().running
        return running is not None and running.of(frame)

    def _newest(self) -> _Claim:
        claim = self._last
        while claim.followers:
            claim = claim.followers[0]
        self._last = claim
        return claim

    def _check_other_thread(self) -> None:
        if self.mine():
            raise MemoRAGError(
                "This thread would wait for what it is doing itself: a change was begun, or a model used, "
                "inside of one that goes on, as by a callback or the handler of a signal. Do it afterwards."
            )


class Slots:
    """So many locks, of which who comes takes one that is free; as ``Lock`` otherwise."""

    def __init__(self, count: int) -> None:
        self._slots = [Lock() for _ in range(count)]
        self._freed = threading.Lock()  # wakes one of those that wait

    def __enter__(self) -> None:
        frame = sys._getframe(1)
        while not any(slot._taken(frame) for slot in self._slots):
            self._freed.acquire(timeout=LOOK)

    def __exit__(self, *_: object) -> None:
        frame = sys._getframe(1)
        next(slot for slot in self._slots if slot._of(frame)).release()
        with suppress(RuntimeError):  # somebody is being woken
            self._freed.release()


class OfProcess(Generic[T]):
    """Something that every process makes for itself, at its first use, such as a pool of threads."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[int, T] = {}

    def get(self) -> T:
        """That of this process."""
        pid = os.getpid()
        if pid not in self._made:
            self._made.setdefault(pid, self._make())
        return self._made[pid]


class cached_property(functools.cached_property[T]):  # as that of functools
    """``functools.cached_property`` without the lock that Python 3.11 has there: a fork leaves it held.

    Threads that come at the same time may compute a value twice.
    """

    def __init__(self, func: Callable[[Any], T]) -> None:
        super().__init__(func)
        self.lock = nullcontext()


def _sees_frames() -> bool:
    """Whether the frames that run can be looked at: not where threads are made of something else."""
    locked = getattr(sys, "_is_gil_enabled", None)
    return isinstance(threading.get_ident, BuiltinFunctionType) and (locked is None or locked())


def _after_fork() -> None:
    """Let a forked process compute: its parent's threads are not there, and what they held stays held."""
    for name, count, set_count in (
        ("torch", "get_num_threads", "set_num_threads"),
        ("faiss", "omp_get_max_threads", "omp_set_num_threads"),
    ):
        library = sys.modules.get(name)
        if hasattr(library, set_count) and getattr(library, count)() > 1:
            getattr(library, set_count)(1)  # with more, OpenMP waits for ever for the parent's threads
    bars = getattr(sys.modules.get("tqdm.std"), "tqdm", None)
    if bars is not None:
        bars.set_lock(threading.RLock())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
