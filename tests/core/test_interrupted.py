"""An interrupt at any line of asking: nothing hangs afterwards, and what is answered is right."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from memorag_core import ClueSettings, Document, MemoRAG
from tests.core.doubles import SentenceModel
from tests.core.interrupts import interrupted_at

TEXT = "Tamsin Oakley covers houses with slate. Maud Vane delivers babies. Barnaby Rudd keeps a tortoise."
QUESTIONS = ["Who covers houses?", "Who delivers babies?", "Who keeps a tortoise?"]
LIMIT = 20
HANDING = (
    *(
        "request_batching.py",
        "locking.py",
        "query.py",
        "asker.py",
        "outcomes.py",
        "recall.py",
    ),
    *("memorag.py", "requests.py", "corpus.py"),
)
"""Where calls wait for one another."""


class Together(SentenceModel):
    """Is asked in passes, each of which takes a while."""

    asked_together = True

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self.seconds = seconds

    def recollect(self, *given: Any, **how: Any) -> Any:
        time.sleep(self.seconds)
        return super().recollect(*given, **how)


def memory(seconds: float = 0.0) -> MemoRAG:
    settings = ClueSettings(language="en")
    return MemoRAG(Together(seconds), clues=settings, progress=False).memorize(Document(TEXT))


def on_a_thread(action: Callable[[], Any]) -> Any:
    """What an action gives on another thread, in time."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(action())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future.result(LIMIT)


def every_line(action: Callable[[], Any], check: Callable[[], None], **where: Any) -> int:
    """Interrupt an action at each of its lines, and check after each; how many there were."""
    number, step = 0, where.pop("step", 1)
    while interrupted_at(number, action, **where):
        check()
        number += step
    return number


@pytest.mark.parametrize(("files", "step"), [(HANDING, 1), ((), 11)])
def test_the_next_question_is_answered_after_an_interrupt_at_any_line(
    files: tuple[str, ...], step: int
) -> None:
    rag = memory()
    expected = [rag.explain(question, k=1).evidence for question in QUESTIONS]

    def check() -> None:
        assert rag.explain(QUESTIONS[0], k=1).evidence == expected[0]
        assert on_a_thread(lambda: rag.explain(QUESTIONS[1], k=1)).evidence == expected[1]

    lines = every_line(lambda: rag.explain(QUESTIONS[2], k=1), check, files=files, step=step)
    assert lines > 100


def test_a_batch_may_be_interrupted_at_any_line() -> None:
    rag = memory()
    corpus = rag._memorized()
    expected = rag.retrieve_batch(QUESTIONS, k=1)

    def ask() -> Any:
        rag._asker.of(corpus).clues.clear()
        return rag.retrieve_batch(QUESTIONS, k=1)

    def check() -> None:
        assert rag.retrieve_batch(QUESTIONS, k=1) == expected
        assert on_a_thread(ask) == expected

    assert every_line(ask, check, files=HANDING, step=4) > 100


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_stream_and_its_thread_may_be_interrupted_at_any_line() -> None:
    rag = memory()
    expected = [clue.text for clue in rag.stream_clues(QUESTIONS[0])]

    def ask() -> None:
        try:
            with rag.stream_clues(QUESTIONS[0]) as clues:
                list(clues)
        except Exception as error:
            assert "broken off" in str(error)  # noqa: PT017  # told by who reads of a thread that was ended

    def check() -> None:
        assert on_a_thread(lambda: [clue.text for clue in rag.stream_clues(QUESTIONS[0])]) == expected

    def in_time() -> None:
        on_a_thread(lambda: interrupted.append(interrupted_at(number, ask, files=HANDING, threads=True)))

    number, interrupted = 0, [True]
    while interrupted[-1]:
        in_time()
        check()
        number += 1
    assert number > 60


def test_those_that_wait_are_answered_whoever_is_interrupted() -> None:
    rag = memory(0.001)
    expected = {question: rag.explain(question, k=1).evidence for question in QUESTIONS}
    gathering = rag._asker.of(rag._memorized()).batching
    with ThreadPoolExecutor(8) as pool:
        for number in range(120):
            others = [pool.submit(rag.explain, question, k=1) for question in QUESTIONS * 2]
            interrupted_at(
                number, lambda: rag.explain(QUESTIONS[0], k=1), files=("request_batching.py", "locking.py")
            )
            for question, other in zip(QUESTIONS * 2, others, strict=True):
                assert other.result(LIMIT).evidence == expected[question]
            assert not gathering._leading.held()
    assert rag.explain(QUESTIONS[0], k=1).evidence == expected[QUESTIONS[0]]
    assert not gathering._waiting


def test_what_is_memorized_next_is_read_after_an_interrupt_at_any_line() -> None:
    rag = memory()
    numbers = iter(range(10_000))

    def check() -> None:
        on_a_thread(lambda: rag.memorize(Document("Edith Ashdown mends clocks.", f"next {next(numbers)}")))

    def change() -> None:
        rag.memorize(Document("Rufus Hale bakes bread.", f"one {next(numbers)}"))

    assert every_line(change, check, files=("memorag.py", "locking.py")) > 10
    assert rag.retrieve("Who mends clocks?", k=1)[0].chunk.text == "Edith Ashdown mends clocks."


async def _cancelled(asking: Any, steps: int) -> None:
    task = asyncio.ensure_future(asking)
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_a_task_may_be_cancelled_at_any_await() -> None:
    rag = memory(0.0005)
    expected = rag.explain(QUESTIONS[0], k=1).evidence
    for steps in (*range(12), 20, 40, 80, 160):
        corpus = rag._memorized()
        rag._asker.of(corpus).clues.clear()
        asyncio.run(_cancelled(rag.arecall_clues(QUESTIONS), steps))
        rag._asker.of(corpus).clues.clear()
        asyncio.run(_cancelled(rag.aretrieve(QUESTIONS[1], k=1), steps))
        rag._asker.of(corpus).clues.clear()
        assert asyncio.run(asyncio.wait_for(rag.aretrieve(QUESTIONS[0], k=1), LIMIT)) == expected
        assert on_a_thread(lambda: rag.explain(QUESTIONS[0], k=1)).evidence == expected


def test_a_loop_that_is_closed_in_the_middle_costs_later_ones_nothing() -> None:
    rag = memory(0.05)
    expected = rag.explain(QUESTIONS[0], k=1).evidence
    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(rag.aretrieve(question, k=1)) for question in QUESTIONS]
    loop.run_until_complete(asyncio.sleep(0.01))
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is meant
    loop.close()
    assert asyncio.run(asyncio.wait_for(rag.aretrieve(QUESTIONS[0], k=1), LIMIT)) == expected
