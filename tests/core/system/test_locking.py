"""A lock belongs to a function that runs: nothing leaves it held, and two never hold it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from memorag_core import MemoRAGError
from memorag_core.system.locking import Lock, Running, Slots, cached_property
from tests.core.interrupts import Interrupt, interrupted_at


def taken_elsewhere(lock: Any, seconds: float = 20) -> bool:
    """Whether another thread gets a lock in time."""

    def take() -> None:
        with lock:
            pass

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


@pytest.mark.parametrize("make", [Lock, partial(Slots, 1), partial(Slots, 2)], ids=("lock", "one", "two"))
def test_no_line_leaves_it_held(make: Callable[[], Any]) -> None:
    lock = make()

    def action() -> None:
        with lock:
            pass

    number = 0
    while interrupted_at(number, action, files=("locking.py", "test_locking.py")):
        assert taken_elsewhere(lock)
        number += 1
    assert number > 10


def test_leaving_a_with_statement_may_be_interrupted_too() -> None:
    lock = Lock()

    def left_before_its_end() -> None:
        lock.__enter__()
        raise Interrupt

    with pytest.raises(Interrupt) as raised:
        left_before_its_end()
    assert raised.traceback  # it keeps the frame, and the lock is free all the same
    assert not lock.held()
    assert taken_elsewhere(lock)


def test_a_thread_that_has_ended_holds_nothing() -> None:
    lock = Lock()
    taken: list[bool] = []
    thread = threading.Thread(target=lambda: taken.append(lock.take()))
    thread.start()
    thread.join()
    assert taken == [True]
    assert not lock.held()


def test_one_at_a_time_and_each_in_the_end() -> None:
    lock, slots = Lock(), Slots(3)
    inside: list[int] = []
    most: list[int] = []
    many: list[int] = []
    total = 0

    def rest() -> Iterator[int]:  # its frame leaves the stack and comes back
        for number in range(20):
            time.sleep(0.0001)
            yield number

    def work(_: int) -> None:
        nonlocal total
        with lock:
            inside.append(1)
            most.append(len(inside))
            before = total
            for _number in rest():
                pass
            total = before + 1
            inside.pop()
        with slots:
            many.append(1)
            most.append(min(1, 4 - len(many)))
            time.sleep(0.0005)
            many.pop()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(160)))
    assert total == 160
    assert set(most) == {1}


def test_it_stays_held_while_a_generator_of_its_function_is_away() -> None:
    lock, may_end = Lock(), threading.Event()

    def away() -> Iterator[None]:
        while not may_end.is_set():
            yield

    def hold() -> None:
        with lock:
            for _ in away():
                pass

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    while not lock.held():
        time.sleep(0.001)
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        assert lock.held()
    may_end.set()
    thread.join(20)
    assert not lock.held()


def test_a_thread_is_told_that_it_waits_for_itself() -> None:
    lock = Lock()

    def twice() -> None:
        with lock:
            assert lock.mine()
            again()

    def again() -> None:
        with lock:
            pass

    with pytest.raises(MemoRAGError, match="Do it afterwards"):
        twice()
    assert not lock.held()
    assert not lock.mine()


def test_a_function_runs_until_it_returns() -> None:
    def watched() -> Running:
        import sys

        running = Running(sys._getframe())
        assert not running.ended()
        assert running.here()
        return running

    running = watched()
    assert running.ended()
    assert not running.here()


def test_a_cached_property_is_computed_once_and_without_a_lock() -> None:
    class Counted:
        count = 0

        @cached_property
        def value(self) -> int:
            self.count += 1
            return self.count

    counted = Counted()
    assert [counted.value, counted.value] == [1, 1]
    assert type(vars(Counted)["value"].lock) is not type(threading.RLock())
