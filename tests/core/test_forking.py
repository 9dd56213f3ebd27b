"""A process that is forked while others ask and memorize inherits nothing that is held, and nothing hangs."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from memorag_core import BeaconModel, ClueSettings, Document, Evidence, HostedModel, MemoRAG
from memorag_core.memory.bundled import bundled_path

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork"),
    pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning"),
]

PEOPLE = ["Tamsin Oakley covers houses with slate.", "Maud Vane delivers babies.", "Ivo Hart builds boats."]
NEW = Document("Edith Ashdown mends clocks.", "new")
LIMIT = 60


@pytest.fixture(scope="module")
def model() -> BeaconModel:
    return BeaconModel.from_pretrained(bundled_path(), device="cpu")


def memory(model: object) -> MemoRAG:
    documents = [Document(text, f"{number}") for number, text in enumerate(PEOPLE)]
    return MemoRAG(model, clues=ClueSettings(language="en"), progress=False).memorize(documents)  # type: ignore[arg-type]


def forked(child: Callable[[], None]) -> int:
    """Begin a process that does what a function does, and ends; its number."""
    number = os.fork()
    if number == 0:
        status = 1
        try:
            child()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return number


def ended_well(number: int) -> bool:
    """Whether a process ends in time and without error; it is killed where it does not."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        done, status = os.waitpid(number, os.WNOHANG)
        if done:
            return status == 0
        time.sleep(0.01)
    os.kill(number, signal.SIGKILL)
    os.waitpid(number, 0)
    return False


@contextmanager
def again_and_again(action: Callable[[], object]) -> Iterator[None]:
    """A thread that does something until the end of the ``with`` statement."""
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            action()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(LIMIT)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.0005)


def found(evidence: Sequence[Evidence]) -> list[tuple[str, list[str]]]:
    """What was found, by which clues; the last bits of a score may be others in another process."""
    return [(one.chunk.text, [hit.query for hit in one.hits]) for one in evidence]


def answered(rag: MemoRAG) -> list[tuple[str, list[str]]]:
    return found(rag.explain("Who delivers babies?", k=1).evidence)


def asks_and_memorizes(rag: MemoRAG, expected: object) -> Callable[[], None]:
    def child() -> None:
        assert answered(rag) == expected
        assert found(asyncio.run(rag.aretrieve("Who delivers babies?", k=1))) == expected
        rag.memorize(NEW)
        assert rag.documents[-1] == NEW
        assert rag.retrieve("Who mends clocks?", k=1)[0].chunk.text == NEW.text

    return child


def test_a_process_forked_while_a_thread_asks_asks_and_memorizes(model: BeaconModel) -> None:
    rag = memory(model)
    expected = answered(rag)
    gathering = rag._asker.of(rag._memorized()).batching
    with again_and_again(lambda: rag.explain("Who builds boats?", k=1)):
        for _ in range(3):
            until(gathering._leading.held)
            assert ended_well(forked(asks_and_memorizes(rag, expected)))
    assert [document.id for document in rag.documents] == ["0", "1", "2"]


def test_a_process_forked_while_a_thread_memorizes_asks_and_memorizes(model: BeaconModel) -> None:
    rag = memory(model)
    expected = answered(rag)
    long = Document("The miller of Hollowmere grinds oats. " * 400, "long")
    with again_and_again(lambda: rag.upsert(long).delete("long")):
        for _ in range(3):
            until(rag._reading.held)
            assert ended_well(forked(asks_and_memorizes(rag, expected)))


def test_eight_forked_processes_answer_and_lose_nothing(model: BeaconModel) -> None:
    rag = memory(model)
    expected = answered(rag)
    with again_and_again(lambda: rag.explain("Who builds boats?", k=1)):
        numbers = [forked(asks_and_memorizes(rag, expected)) for _ in range(8)]
        assert [ended_well(number) for number in numbers] == [True] * 8
    assert answered(rag) == expected


def test_a_forked_process_may_send_requests_whatever_was_in_flight() -> None:
    may_end, parent, sent = threading.Event(), os.getpid(), threading.Semaphore(0)

    def say(prompt: str) -> str:
        sent.release()
        if os.getpid() == parent:
            may_end.wait(LIMIT)
        return "Maud Vane delivers babies."

    rag = memory(HostedModel(say, concurrency=1))
    thread = threading.Thread(target=rag.explain, args=("Who builds boats?",))
    thread.start()
    assert sent.acquire(timeout=LIMIT)

    def child() -> None:
        assert rag.retrieve("Who delivers babies?", k=1)[0].chunk.text == PEOPLE[1]

    number = forked(child)
    assert ended_well(number)
    may_end.set()
    thread.join(LIMIT)


def test_a_forked_process_computes_though_its_parent_computed_with_several_threads() -> None:
    script = """
import os, sys, torch
torch.set_num_threads(3)
from memorag_core import MemoRAG
rag = MemoRAG(progress=False).memorize("Maud Vane delivers babies. Ivo Hart builds boats. " * 60)
torch.randn(900, 900) @ torch.randn(900, 900)  # with all threads, whatever the model needed
expected = rag.explain("Who delivers babies?", k=1).evidence
number = os.fork()
if number == 0:
    torch.randn(900, 900) @ torch.randn(900, 900)
    found = rag.explain("Who delivers babies?", k=1).evidence
    os._exit(0 if found[0].chunk == expected[0].chunk else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]))
"""
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    with subprocess.Popen([sys.executable, "-c", script], env=environment, start_new_session=True) as process:
        try:
            assert process.wait(LIMIT) == 0
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
