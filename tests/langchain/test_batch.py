"""Many questions at once: one pass over the memory, the results of single calls, runs and errors of each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableConfig, RunnableLambda

from langchain_memorag import MemoRAGClues, MemoRAGRetriever
from memorag_core import Ask, InputError, Recollection
from tests.core.doubles import SentenceMemory, SentenceModel
from tests.langchain.conftest import remembering
from tests.langchain.watching import Traces

SUBJECTS = ("timepieces", "the ferry", "rye bread", "the tower", "granite", "the mail", "birch", "May")
QUESTIONS = [f"{verb} {subject}?" for verb in ("Who mends", "What is known of") for subject in SUBJECTS]


def fresh() -> tuple[MemoRAGRetriever, SentenceModel]:
    """A retriever that has not been asked anything."""
    model = SentenceModel()
    return MemoRAGRetriever(memorag=remembering(model)), model


@pytest.fixture
def singles() -> list[list[Document]]:
    retriever, model = fresh()
    found = [retriever.invoke(question) for question in QUESTIONS]
    assert model.asked == len(QUESTIONS) == 16
    return found


async def test_sixteen_questions_are_one_pass_and_find_what_single_calls_find(
    singles: list[list[Document]],
) -> None:
    retriever, model = fresh()
    assert retriever.batch(QUESTIONS) == singles
    assert model.asked == 1
    retriever, model = fresh()
    assert await retriever.abatch(QUESTIONS) == singles
    assert model.asked == 1


async def test_a_chain_that_begins_with_the_retriever_asks_in_one_pass(singles: list[list[Document]]) -> None:
    retriever, model = fresh()
    chain = retriever | RunnableLambda(lambda found: found[0].page_content) | StrOutputParser()
    assert chain.batch(QUESTIONS) == [found[0].page_content for found in singles]
    assert model.asked == 1
    retriever, model = fresh()
    bound = retriever.bind(k=1) | RunnableLambda(len)
    assert await bound.abatch(QUESTIONS) == [1] * 16
    assert model.asked == 1


@pytest.mark.parametrize(("most", "passes"), [(16, 1), (8, 2), (5, 4), (1, 16), (99, 1), (None, 1)])
async def test_max_concurrency_is_how_many_questions_go_in_a_pass(
    singles: list[list[Document]], most: int | None, passes: int
) -> None:
    config: RunnableConfig = {"max_concurrency": most}
    retriever, model = fresh()
    assert retriever.batch(QUESTIONS, config) == singles
    assert model.asked == passes
    retriever, model = fresh()
    assert await retriever.abatch(QUESTIONS, config) == singles
    assert model.asked == passes


async def test_nothing_asked_is_nothing_found() -> None:
    retriever, model = fresh()
    assert retriever.batch([]) == await retriever.abatch([]) == []
    clues = MemoRAGClues(memorag=retriever.memorag)
    assert clues.batch([]) == await clues.abatch([]) == []
    assert model.asked == 0


async def test_a_question_asked_twice_is_answered_twice() -> None:
    retriever, _ = fresh()
    first, second = retriever.batch([QUESTIONS[0]] * 2)
    assert first == second
    first[0].metadata.clear()
    assert second[0].metadata


# Runs and configs


async def test_every_question_has_a_run_of_its_own_with_its_config() -> None:
    retriever, _ = fresh()
    for batch in (retriever.batch, retriever.abatch):
        traces = [Traces(), Traces()]
        configs: list[RunnableConfig] = [
            {"callbacks": [traces[0]], "tags": ["first"], "run_name": "one"},
            {"callbacks": [traces[1]], "metadata": {"user": "second"}},
        ]
        found: Any = batch(QUESTIONS[:2], configs)
        found = await found if asyncio.iscoroutine(found) else found
        one, two = (trace.root for trace in traces)
        assert (one.name, two.name) == ("one", "MemoRAGRetriever")
        assert one.tags == ["first"]
        assert (two.extra or {})["metadata"]["user"] == "second"
        assert one.run_type == two.run_type == "retriever"
        for run, question, documents in zip((one, two), QUESTIONS, found, strict=False):
            assert run.inputs == {"query": question}
            assert (run.outputs or {})["documents"] == documents
            assert [child.name for child in run.child_runs] == ["MemoRAGClues", "MemoRAGSearch"]
            assert run.child_runs[0].inputs == {"input": question}
            assert all(child.end_time for child in run.child_runs)


def test_configs_must_be_as_many_as_the_questions() -> None:
    retriever, _ = fresh()
    with pytest.raises(ValueError, match="same length"):
        retriever.batch(QUESTIONS[:2], [{}])


def test_an_argument_that_is_not_known_is_not_swallowed() -> None:
    retriever, _ = fresh()
    for runnable in (retriever, MemoRAGClues(memorag=retriever.memorag)):
        with pytest.raises(TypeError, match="top_k"):
            runnable.batch(QUESTIONS, top_k=2)


# Errors


class Moody(SentenceModel):
    """Fails as a model does whose machine is gone, if asked about anything that has the word."""

    def recollect(
        self, asks: Sequence[Ask], memory: SentenceMemory, **how: Any
    ) -> tuple[tuple[Recollection, ...], ...]:
        if any("granite" in ask.question for ask in asks):
            self.asked += 1
            raise ConnectionError("the machine is gone")
        return super().recollect(asks, memory, **how)


async def test_an_error_of_one_question_leaves_the_others_in_one_pass() -> None:
    retriever, model = fresh()
    traces = [Traces() for _ in range(3)]
    questions = [QUESTIONS[0], " ", QUESTIONS[1]]
    configs: list[RunnableConfig] = [{"callbacks": [trace]} for trace in traces]
    found: list[Any] = list(retriever.batch(questions, configs, return_exceptions=True))
    assert isinstance(found[1], InputError)
    assert [found[0], found[2]] == retriever.batch([QUESTIONS[0], QUESTIONS[1]])
    assert model.asked == 1
    assert [bool(trace.root.error) for trace in traces] == [False, True, False]
    again: list[Any] = list(await retriever.abatch(questions, return_exceptions=True))
    assert [again[0], again[2]] == [found[0], found[2]]
    assert isinstance(again[1], InputError)
    clues: list[Any] = list(MemoRAGClues(memorag=retriever.memorag).batch(questions, return_exceptions=True))
    assert isinstance(clues[1], InputError)
    assert clues[0]


async def test_an_error_is_raised_unless_it_is_wanted_as_a_result() -> None:
    retriever, _ = fresh()
    clues = MemoRAGClues(memorag=retriever.memorag)
    for runnable in (retriever, clues):
        with pytest.raises(InputError):
            runnable.batch([QUESTIONS[0], ""])
        with pytest.raises(InputError):
            await runnable.abatch([QUESTIONS[0], ""])


async def test_a_model_that_fails_fails_all_that_it_was_asked_and_is_not_asked_again() -> None:
    model = Moody()
    retriever = MemoRAGRetriever(memorag=remembering(model))
    trace = Traces()
    found: list[Any] = list(retriever.batch(QUESTIONS, {"callbacks": [trace]}, return_exceptions=True))
    assert all(isinstance(one, ConnectionError) for one in found)
    assert model.asked == 1
    assert all("the machine is gone" in (run.error or "") for run in trace.roots)
    assert len(trace.roots) == 16
    with pytest.raises(ConnectionError):
        await retriever.abatch(QUESTIONS)


# Many at once


async def test_64_at_once_find_what_calls_in_a_row_find_and_leave_the_loop_free() -> None:
    retriever, _ = fresh()
    questions = [f"{question} ({number})" for number in range(4) for question in QUESTIONS]
    late: list[float] = []

    async def tick() -> None:
        while True:
            begun = time.perf_counter()
            await asyncio.sleep(0.005)
            late.append(time.perf_counter() - begun - 0.005)

    ticker = asyncio.create_task(tick())
    at_once = await asyncio.gather(*(retriever.ainvoke(question) for question in questions))
    ticker.cancel()
    other, _ = fresh()
    assert at_once == [other.invoke(question) for question in questions]
    assert late
    assert max(late) < 1.0


async def test_retries_and_fallbacks_ask_in_one_pass_too(singles: list[list[Document]]) -> None:
    retriever, model = fresh()
    assert retriever.with_retry().batch(QUESTIONS) == singles
    assert model.asked == 1
    broken = MemoRAGRetriever(memorag=remembering(Moody()))
    retriever, model = fresh()
    assert await broken.with_fallbacks([retriever]).abatch(QUESTIONS) == singles
    assert model.asked == 1
