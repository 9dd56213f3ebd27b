from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Timer

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memorag_core.errors import InputError, RetrievalError
from memorag_core.retrieval import FanOut
from memorag_core.types import Clue, Findings, FoundPassage, SearchFailure
from tests.core.retrieval.external.searching import AsyncTold, Told

QUESTION = "Who mends it?"
CLUES = [Clue("a lantern", "span"), Clue("Who mends clocks?", "query"), Clue("Mara", "answer")]
ASKED = [QUESTION, *(clue.text for clue in CLUES)]
LATE = 0.4  # seconds: long for what answers at once, short for a test
PLENTY = 20.0

Ask = Callable[[FanOut], Findings]


def at_once(fan_out: FanOut) -> Findings:
    return fan_out.retrieve_batch([(QUESTION, CLUES)])[0]


def awaited(fan_out: FanOut) -> Findings:
    return asyncio.run(fan_out.aretrieve_batch([(QUESTION, CLUES)]))[0]


both_ways = pytest.mark.parametrize("ask", [at_once, awaited])
told = pytest.mark.parametrize("kind", [Told, AsyncTold])


def passages(text: str) -> Sequence[FoundPassage]:
    return [FoundPassage(f"of {text}", id=text)]


def texts(findings: Findings) -> set[str]:
    return {piece.chunk.id for piece in findings.evidence}


@both_ways
@told
@given(broken=st.sets(st.sampled_from(ASKED), max_size=3))
@settings(max_examples=20)
def test_searches_that_fail_are_named_and_the_others_give_what_they_give(
    ask: Ask, kind: type[Told], broken: set[str]
) -> None:
    table = {text: ConnectionError("no route") if text in broken else passages(text) for text in ASKED}
    findings = ask(FanOut(kind(table)))
    assert texts(findings) == set(ASKED) - broken
    kinds = dict(zip(ASKED, ("question", "span", "query", "answer"), strict=True))
    assert [(one.query, one.kind, one.error) for one in findings.failures] == [
        (text, kinds[text], "ConnectionError: no route") for text in ASKED if text in broken
    ]
    whole = ask(FanOut(kind({text: () if text in broken else passages(text) for text in ASKED})))
    assert findings.evidence == whole.evidence


@both_ways
@told
@pytest.mark.parametrize("concurrency", [1, 2, 8])
def test_a_search_past_its_time_is_given_up_and_the_rest_goes_on(
    ask: Ask, kind: type[Told], concurrency: int
) -> None:
    searcher = kind({text: passages(text) for text in ASKED}, pauses={ASKED[1]: 3.0, ASKED[2]: 3.0})
    began = time.monotonic()
    findings = ask(FanOut(searcher, timeout=LATE, concurrency=concurrency))
    assert time.monotonic() - began < 2.5
    assert texts(findings) == {ASKED[0], ASKED[3]}
    assert [one.query for one in findings.failures] == ASKED[1:3]
    assert {one.error for one in findings.failures} == {"TimeoutError: no answer within 0.4 s"}
    assert all(LATE <= one.seconds < 2.5 for one in findings.failures)
    assert LATE <= findings.seconds < 2.5


@both_ways
@told
def test_the_time_of_a_search_begins_when_it_begins(ask: Ask, kind: type[Told]) -> None:
    searcher = kind({text: passages(text) for text in ASKED}, pauses=dict.fromkeys(ASKED, 0.15))
    findings = ask(FanOut(searcher, timeout=0.5, concurrency=1))  # all together take longer
    assert texts(findings) == set(ASKED)
    assert findings.failures == ()
    assert findings.seconds > 0.5


@both_ways
def test_a_timeout_of_the_retrievers_own_is_a_failure_like_any_other(ask: Ask) -> None:
    table = {text: passages(text) for text in ASKED} | {ASKED[1]: TimeoutError("the server's")}
    assert [one.error for one in ask(FanOut(AsyncTold(table), timeout=PLENTY)).failures] == [
        "TimeoutError: the server's"
    ]


@both_ways
@told
def test_when_all_searches_of_a_question_fail_it_is_an_error_with_all_causes(
    ask: Ask, kind: type[Told]
) -> None:
    errors = {text: ConnectionError(f"{n} times") for n, text in enumerate(ASKED)}
    with pytest.raises(
        RetrievalError, match=r"All 4 searches by 'shop' for the question 'Who mends it\?' failed, the first "
    ) as raised:
        ask(FanOut(kind(errors), name="shop"))
    assert "ConnectionError: 0 times. See that the retriever answers" in str(raised.value)
    assert isinstance(raised.value.__cause__, ExceptionGroup)
    assert raised.value.__cause__.exceptions == tuple(errors.values())


@both_ways
def test_the_only_failure_is_the_cause_itself(ask: Ask) -> None:
    error = ConnectionError("gone")
    fan_out = FanOut(Told({QUESTION: error}))
    with pytest.raises(
        RetrievalError, match=r"The only search by 'search' .* with ConnectionError"
    ) as raised:
        fan_out.retrieve_batch([(QUESTION, [])])
    assert raised.value.__cause__ is error


def test_one_question_without_any_answer_fails_the_batch_and_is_named() -> None:
    searcher = Told({"one": passages("one"), "two": ValueError("no")})
    with pytest.raises(RetrievalError, match="for the question 'two'"):
        FanOut(searcher).retrieve_batch([("one", ()), ("two", ())])


def test_a_text_asked_for_twice_fails_once_for_each_question_and_kind() -> None:
    searcher = Told({"one": passages("one"), "two": passages("two"), "clue": ValueError("no")})
    clues = [Clue("clue", "span"), Clue("clue", "span"), Clue("clue", "answer")]
    first, second = FanOut(searcher).retrieve_batch([("one", clues), ("two", clues[:1])])
    assert [(one.query, one.kind) for one in first.failures] == [("clue", "span"), ("clue", "answer")]
    assert [(one.query, one.kind) for one in second.failures] == [("clue", "span")]
    assert sorted(searcher.asked) == ["clue", "one", "two"]


def test_the_log_warns_of_each_failure_without_texts_and_messages(caplog: pytest.LogCaptureFixture) -> None:
    table = {text: passages(text) for text in ASKED} | {ASKED[1]: OSError("https://key@host refused")}
    with caplog.at_level(logging.WARNING, "memorag_core"):
        at_once(FanOut(Told(table), name="shop"))
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("memorag_core.retrieval.external.fan_out", "WARNING")
    assert record.getMessage() == "search 2 of 4 by 'shop' failed after 0.0 s: OSError"
    assert record.exc_info is None


@both_ways
@told
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), asyncio.CancelledError()])
def test_what_ends_a_program_or_a_task_is_never_taken_for_a_failure(
    ask: Ask, kind: type[Told], error: BaseException
) -> None:
    table = {text: passages(text) for text in ASKED} | {ASKED[1]: error}
    with pytest.raises(type(error)):
        ask(FanOut(kind(table)))


@both_ways
@told
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda: None, r"The searcher \w*Told gave None; expected a list of passages"),
        (lambda: "a text", r"The searcher \w*Told gave a str"),
        (lambda: (one for one in passages("x")), r"The searcher \w*Told gave a generator"),
        (lambda: [*passages("x"), "y"], r"Passage 2 of 2 that the searcher \w*Told gave is a str"),
        (lambda: [FoundPassage(None)], "has None as its text; expected a str"),  # type: ignore[arg-type]
        (lambda: [FoundPassage("x", id=7)], "has the id 7; expected a str"),  # type: ignore[arg-type]
        (lambda: [FoundPassage("x", id="")], "has the id ''"),
        (lambda: [FoundPassage("x", score=float("nan"))], "has the score nan; expected a finite number"),
        (lambda: [FoundPassage("x", score="1")], "has the score '1'"),  # type: ignore[arg-type]
        (lambda: [FoundPassage("x", score=True)], "has the score True"),
        (lambda: [FoundPassage("x", metadata=None)], "has None as its metadata"),  # type: ignore[arg-type]
    ],
)
def test_an_answer_that_is_no_list_of_passages_is_an_error_that_names_the_searcher(
    ask: Ask, kind: type[Told], answer: Callable[[], object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        ask(FanOut(kind({text: passages(text) for text in ASKED} | {ASKED[2]: answer})))


@both_ways
def test_an_input_error_of_the_retrievers_own_is_a_failure_of_that_search(ask: Ask) -> None:
    table = {text: passages(text) for text in ASKED} | {ASKED[3]: InputError("k is 50, but ...")}
    assert [one.error for one in ask(FanOut(Told(table))).failures] == ["InputError: k is 50, but ..."]


def test_a_long_message_is_cut() -> None:
    table = {text: passages(text) for text in ASKED} | {ASKED[1]: ValueError("x" * 10_000)}
    (failure,) = at_once(FanOut(Told(table))).failures
    assert isinstance(failure, SearchFailure)
    assert len(failure.error) == 500


@both_ways
def test_searches_that_hang_hold_up_neither_this_call_nor_the_next(ask: Ask) -> None:
    released = Event()

    def hang() -> list[FoundPassage]:
        released.wait(PLENTY)
        return []

    searcher = Told(dict.fromkeys(ASKED, hang))
    try:
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(RetrievalError, match=r"timeout \(now 0.4 s\)"):
                ask(FanOut(searcher, timeout=LATE, concurrency=2))
            assert time.monotonic() - began < PLENTY / 4
    finally:
        released.set()
    assert len(searcher.asked) == 8


@pytest.mark.skipif(sys.platform == "win32", reason="no signal of the user's own")
def test_an_interrupt_ends_the_call_while_searches_hang() -> None:
    released = Event()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def hang(query: str, k: int) -> list[str]:
        released.wait(PLENTY)
        return []

    before = signal.signal(signal.SIGUSR1, interrupt)
    timer = Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            at_once(FanOut(hang))
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)
        released.set()
    assert time.monotonic() - began < PLENTY / 4


def test_a_search_that_hangs_does_not_keep_the_interpreter() -> None:
    program = """
import asyncio
from threading import Event
from memorag_core.types import Clue, FoundPassage
from memorag_core.retrieval import FanOut

def search(query, k):
    if query == "hang":
        Event().wait()
    return [FoundPassage(query)]

fan_out = FanOut(search, timeout=0.2)
requests = [("a question", [Clue("hang", "span")])]
for (found,) in fan_out.retrieve_batch(requests), asyncio.run(fan_out.aretrieve_batch(requests)):
    assert [piece.chunk.text for piece in found.evidence] == ["a question"]
    assert [failure.query for failure in found.failures] == ["hang"]
"""
    root = Path(__file__).parents[4]
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=root, check=False, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr


async def test_an_awaited_search_that_holds_on_when_it_is_given_up_is_waited_for() -> None:
    class Tidy(AsyncTold):
        async def asearch(self, query: str, k: int, /) -> Sequence[FoundPassage]:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(PLENTY)
            self.cancelled.append(query)
            raise ConnectionError("closed")

    searcher = Tidy({})
    with pytest.raises(RetrievalError, match="ConnectionError: closed"):
        await FanOut(searcher, timeout=LATE).aretrieve_batch([(QUESTION, [])])
    assert searcher.cancelled == [QUESTION]
