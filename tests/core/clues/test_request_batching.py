"""Questions of many threads in one pass: each gets its own answers, and nobody waits for another's end."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from memorag_core import BeaconModel, Clue, ClueSettings, Document, GistModel, HostedModel, MemoRAG, Recall
from memorag_core.clues.request_batching import MOST, Gathering
from memorag_core.memory.bundled import bundled_path
from memorag_core.protocols import asked_together
from tests.core.doubles import SentenceModel


class Asked:
    """Makes passes: waits until it may go on, tells a clue for each question, and answers."""

    def __init__(self) -> None:
        self.passes: list[list[str]] = []
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Event()
        self.raises: BaseException | None = None

    def __call__(self, questions: Sequence[str], heard: Any, stop: Any) -> tuple[Recall, ...]:
        self.passes.append(list(questions))
        self.begun.release()
        while not self.may_end.wait(0.005):
            if stop is not None and stop.is_set():
                return tuple(Recall(question) for question in questions)
        if self.raises is not None:
            raise self.raises
        for question in questions:
            if heard is not None:
                heard(question, Clue(f"of {question}", "span"))
        return tuple(Recall(question, (Clue(f"of {question}", "span"),)) for question in reversed(questions))


@pytest.fixture
def threads() -> Any:
    with ThreadPoolExecutor(64) as pool:
        yield pool


def waiting(gathering: Gathering, count: int) -> None:
    """Until so many calls wait."""
    end = time.monotonic() + 20
    while len(gathering._waiting) < count:
        assert time.monotonic() < end
        time.sleep(0.001)


def start(
    threads: ThreadPoolExecutor, gathering: Gathering, asked: Asked, *questions: str, **how: Any
) -> Future[tuple[Recall, ...]]:
    return threads.submit(gathering.ask, questions, asked, **{"kind": "same", **how})


def is_idle(gathering: Gathering) -> bool:
    return not gathering._leading.held() and not gathering._waiting


def test_what_comes_while_the_memory_is_asked_is_asked_together_afterwards(
    threads: ThreadPoolExecutor,
) -> None:
    gathering, asked = Gathering(), Asked()
    calls = [start(threads, gathering, asked, "first")]
    asked.begun.acquire()
    for number in range(9):
        calls.append(start(threads, gathering, asked, f"{number}", "shared"))
        waiting(gathering, number + 1)
    asked.may_end.set()
    answers = [call.result(20) for call in calls]
    assert asked.passes == [["first"], ["0", "shared", *map(str, range(1, 9))]]
    for call, answer in zip([("first",), *((str(n), "shared") for n in range(9))], answers, strict=True):
        assert [(one.question, one.clues[0].text) for one in answer] == [(q, f"of {q}") for q in call]
    assert is_idle(gathering)


def test_calls_of_another_kind_and_more_than_a_pass_takes_are_asked_apart(
    threads: ThreadPoolExecutor,
) -> None:
    gathering, asked = Gathering(), Asked()
    calls = [start(threads, gathering, asked, "first")]
    asked.begun.acquire()
    many = [f"{number}" for number in range(MOST - 1)]
    for number, (questions, kind) in enumerate(((many, "same"), (["other"], "other"), (["a", "b"], "same"))):
        calls.append(start(threads, gathering, asked, *questions, kind=kind))
        waiting(gathering, number + 1)
    asked.may_end.set()
    for call in calls:
        call.result(20)
    assert asked.passes == [["first"], many, ["other"], ["a", "b"]]


def test_what_a_pass_raises_is_raised_by_all_of_it_and_by_no_other(threads: ThreadPoolExecutor) -> None:
    gathering, good, bad = Gathering(), Asked(), Asked()
    bad.raises = ValueError("no room")
    bad.may_end.set()
    first = start(threads, gathering, good, "first")
    good.begun.acquire()
    failing = []
    for number in range(2):
        failing.append(start(threads, gathering, bad, f"{number}"))
        waiting(gathering, number + 1)
    last = start(threads, gathering, good, "last", kind="other")
    waiting(gathering, 3)
    good.may_end.set()
    for call in failing:
        with pytest.raises(ValueError, match="no room"):
            call.result(20)
    assert first.result(20)[0].question == "first"
    assert last.result(20)[0].question == "last"
    assert is_idle(gathering)


def test_a_listener_that_raises_costs_the_others_nothing(threads: ThreadPoolExecutor) -> None:
    gathering, asked = Gathering(), Asked()
    heard: list[tuple[str, str]] = []

    def refuse(question: str, clue: Clue) -> None:
        raise LookupError(question)

    calls = [start(threads, gathering, asked, "first")]
    asked.begun.acquire()
    for number, how in enumerate((refuse, lambda question, clue: heard.append((question, clue.text)))):
        calls.append(start(threads, gathering, asked, f"{number}", heard=how))
        waiting(gathering, number + 1)
    asked.may_end.set()
    with pytest.raises(LookupError, match="0"):
        calls[1].result(20)
    assert calls[2].result(20)[0].clues[0].text == "of 1"
    assert heard == [("1", "of 1")]


def test_a_call_that_stops_waits_no_longer_and_is_not_asked(threads: ThreadPoolExecutor) -> None:
    gathering, asked = Gathering(), Asked()
    first = start(threads, gathering, asked, "first")
    asked.begun.acquire()
    stop = threading.Event()
    stopped = start(threads, gathering, asked, "stopped", stop=stop)
    other = start(threads, gathering, asked, "other")
    waiting(gathering, 2)
    stop.set()
    assert stopped.result(20) == (Recall("stopped"),)
    asked.may_end.set()
    first.result(20)
    other.result(20)
    assert asked.passes == [["first"], ["other"]]


def test_a_pass_ends_when_nobody_waits_for_it_and_not_before(threads: ThreadPoolExecutor) -> None:
    gathering, before, asked = Gathering(), Asked(), Asked()
    first = start(threads, gathering, before, "first")
    before.begun.acquire()
    stops = [threading.Event(), threading.Event(), threading.Event()]
    calls = []
    for number, stop in enumerate(stops):
        calls.append(start(threads, gathering, asked, f"{number}", stop=stop))
        waiting(gathering, number + 1)
    before.may_end.set()
    first.result(20)
    asked.begun.acquire()
    stops[1].set()
    assert calls[1].result(20) == (Recall("1"),)  # while the pass goes on
    assert not calls[0].done()
    assert not calls[2].done()
    stops[0].set()
    stops[2].set()
    assert [calls[number].result(20)[0].question for number in (0, 2)] == ["0", "2"]
    assert asked.passes == [["0", "1", "2"]]
    assert is_idle(gathering)


def test_an_interrupt_of_the_one_that_asks_for_all_leaves_the_others_their_answers(
    threads: ThreadPoolExecutor,
) -> None:
    gathering, asked, interrupted = Gathering(), Asked(), Asked()
    interrupted.raises = KeyboardInterrupt()
    interrupted.may_end.set()
    first = start(threads, gathering, asked, "first")
    asked.begun.acquire()
    leader = start(threads, gathering, interrupted, "leader")
    waiting(gathering, 1)
    other = start(threads, gathering, asked, "other")
    waiting(gathering, 2)
    asked.may_end.set()
    with pytest.raises(KeyboardInterrupt):
        leader.result(20)
    assert first.result(20)[0].clues
    assert other.result(20)[0].clues[0].text == "of other"
    assert is_idle(gathering)


def test_a_listener_may_ask_too() -> None:
    gathering, asked = Gathering(), Asked()
    asked.may_end.set()
    inner: list[Recall] = []

    def ask_on(question: str, clue: Clue) -> None:
        inner.extend(gathering.ask(["inner"], asked, kind="same"))

    (outer,) = gathering.ask(["outer"], asked, kind="same", heard=ask_on)
    assert [one.question for one in (outer, *inner)] == ["outer", "inner"]
    assert is_idle(gathering)


def test_any_number_of_threads_at_any_times_get_their_own_answers() -> None:
    gathering = Gathering()
    passes: list[int] = []
    inside = threading.Semaphore(1)

    def ask(questions: Sequence[str], heard: Any, stop: Any) -> tuple[Recall, ...]:
        assert inside.acquire(blocking=False)  # one pass at a time
        time.sleep(0.001)
        passes.append(len(questions))
        inside.release()
        if "fails" in questions[0]:
            raise ValueError(questions[0])
        return tuple(Recall(question, (Clue(f"of {question}", "span"),)) for question in questions)

    def call(number: int) -> None:
        chance = random.Random(number)
        time.sleep(chance.random() * 0.05)
        name = f"fails {number}" if chance.random() < 0.1 else f"{number}"
        stop = threading.Event()
        if chance.random() < 0.2:
            stop.set()
        try:
            (found,) = gathering.ask(
                [name], ask, kind=number % 2, stop=stop if chance.random() < 0.5 else None
            )
        except ValueError:
            return
        assert found.question == name
        assert [clue.text for clue in found.clues] in ([f"of {name}"], [])

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(call, range(600)))
    assert is_idle(gathering)
    assert max(passes) > 1


# With models


def test_models_that_compute_here_are_asked_together_and_others_at_once() -> None:
    bundled = BeaconModel.from_pretrained(bundled_path(), device="cpu")
    hosted = HostedModel(lambda prompt: "nothing")
    assert asked_together(bundled)
    assert asked_together(GistModel(lambda prompt: "a gist", bundled))
    assert not asked_together(hosted)
    assert not asked_together(GistModel(lambda prompt: "a gist", hosted))
    assert not asked_together(SentenceModel())


async def test_concurrent_questions_find_what_single_ones_find_in_a_few_passes() -> None:
    class Counting(BeaconModel):
        def recollect(self, *given: Any, **how: Any) -> Any:
            passes.append(len(given[0]))
            time.sleep(0.05)  # so that the others come meanwhile, on any machine
            return super().recollect(*given, **how)

    passes: list[int] = []
    text = "Tamsin Oakley covers houses with slate. Maud Vane delivers babies. Barnaby Rudd keeps a tortoise."
    questions = [
        f"{start} {rest}?"
        for start in ("Whom should I ask about", "Who knows about", "Who is there for", "Who could help with")
        for rest in ("a leaking roof", "an expectant mother", "a slow pet", "a hole in the ceiling")
    ]
    model: Callable[..., BeaconModel] = Counting.from_pretrained
    rag = MemoRAG(model(bundled_path(), device="cpu"), progress=False).memorize(Document(text))
    single = [rag.explain(question).evidence for question in questions]  # asks each anew
    rag = MemoRAG(rag.model, clues=ClueSettings(), progress=False).memorize(Document(text))
    passes.clear()
    together = await asyncio.gather(*(rag.aretrieve(question) for question in questions))
    assert [[one.chunk for one in found] for found in together] == [
        [one.chunk for one in found] for found in single
    ]
    for found, other in zip(together, single, strict=True):
        assert [one.clues for one in found] == [one.clues for one in other]
        assert [one.score for one in found] == pytest.approx([one.score for one in other], abs=1e-5)
    assert sum(passes) == len(questions) * 3
    assert len(passes) <= 6
