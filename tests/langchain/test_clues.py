"""The runnable of clues: what the core recalls, in chains, streams and batches."""

from __future__ import annotations

import asyncio
import copy
import pickle
from operator import itemgetter
from threading import Event
from typing import Any

import pytest
from langchain_core.load import dumps
from langchain_core.runnables import RunnableConfig, RunnablePassthrough

from langchain_memorag import MemoRAGClues
from memorag_core import Clue, InputError, MemoRAG, NothingMemorizedError
from tests.core.doubles import SentenceModel
from tests.langchain.conftest import QUESTION, remembering
from tests.langchain.watching import CustomEvents, Traces

QUESTIONS = [QUESTION, "When does the ferry leave?", "What does Oskar bake?"]


@pytest.fixture
def clues(memorag: MemoRAG) -> MemoRAGClues:
    return MemoRAGClues(memorag=memorag)


async def test_a_question_becomes_the_clues_of_the_core(clues: MemoRAGClues, memorag: MemoRAG) -> None:
    expected = list(memorag.clues(QUESTION))
    assert expected
    assert clues.invoke(QUESTION) == await clues.ainvoke(QUESTION) == expected
    assert clues.invoke(QUESTION, clue_kinds=["query"]) == list(memorag.clues(QUESTION, kinds=["query"]))
    assert MemoRAGClues(memorag=memorag, clue_kinds=("query",)).invoke(QUESTION) == clues.invoke(
        QUESTION, clue_kinds=["query"]
    )


async def test_many_questions_are_one_pass(model: SentenceModel) -> None:
    singles = [MemoRAGClues(memorag=remembering(SentenceModel())).invoke(one) for one in QUESTIONS]
    assert MemoRAGClues(memorag=remembering(model)).batch(QUESTIONS) == singles
    assert model.asked == 1
    assert await MemoRAGClues(memorag=remembering(model)).abatch(QUESTIONS) == singles
    assert model.asked == 2


def test_clues_go_through_a_chain(clues: MemoRAGClues) -> None:
    def texts(found: list[Clue]) -> list[str]:
        return [clue.text for clue in found]

    question: Any = itemgetter("question")
    chain = RunnablePassthrough.assign(clues=question | clues | texts)
    said = chain.invoke({"question": QUESTION})
    assert any("Anna Holt repairs" in text for text in said["clues"])


async def test_a_stream_gives_every_clue_that_is_chosen_later(clues: MemoRAGClues, memorag: MemoRAG) -> None:
    lines = [clue for chunk in clues.stream(QUESTION) for clue in chunk]
    assert {clue.text for clue in clues.invoke(QUESTION)} <= {clue.text for clue in lines}
    again = MemoRAGClues(memorag=remembering(SentenceModel()))
    assert [clue async for chunk in again.astream(QUESTION) for clue in chunk] == lines


async def test_a_stream_comes_line_by_line(gated: tuple[MemoRAG, Event]) -> None:
    memorag, gate = gated
    stream = MemoRAGClues(memorag=memorag).astream(QUESTION)
    first = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0.05)
    assert not first.done()
    gate.set()
    (clue,) = await first
    assert isinstance(clue, Clue)
    await stream.aclose()  # type: ignore[attr-defined]


async def test_a_stream_that_is_closed_early_leaves_the_memory_as_it_was(clues: MemoRAGClues) -> None:
    for _ in clues.stream(QUESTION):
        break
    async for _ in clues.astream(QUESTIONS[1]):
        break
    assert clues.invoke(QUESTION) == await clues.ainvoke(QUESTION)


async def test_what_is_raised_comes_out_of_a_stream(clues: MemoRAGClues) -> None:
    with pytest.raises(InputError):
        list(clues.stream(" "))
    with pytest.raises(InputError):
        [chunk async for chunk in clues.astream(" ")]
    with pytest.raises(NothingMemorizedError):
        list(MemoRAGClues(memorag=MemoRAG(SentenceModel())).stream(QUESTION))


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream", "batch", "abatch"])
async def test_every_way_to_ask_is_traced_alike(clues: MemoRAGClues, way: str) -> None:
    trace, events = Traces(), CustomEvents("memorag_clue")
    config: RunnableConfig = {"callbacks": [trace, events], "run_name": "what is remembered"}
    match way:
        case "invoke":
            clues.invoke(QUESTION, config)
        case "ainvoke":
            await clues.ainvoke(QUESTION, config)
        case "stream":
            list(clues.stream(QUESTION, config))
        case "astream":
            [chunk async for chunk in clues.astream(QUESTION, config)]
        case "batch":
            clues.batch([QUESTION], config)
        case "abatch":
            await clues.abatch([QUESTION], config)
    run = trace.root
    assert run.name == "what is remembered"
    assert run.inputs == {"input": QUESTION}
    outputs = run.outputs or {}
    assert [row["text"] for row in outputs["clues"]] == [clue.text for clue in clues.invoke(QUESTION)]
    assert outputs["tokens"] > 0
    assert outputs["seconds"] >= 0
    assert {row["text"] for row in outputs["clues"]} <= {data["text"] for data in events.data}
    assert {*events.runs} == {run.id}


def test_nothing_of_the_memory_is_shown(clues: MemoRAGClues, memorag: MemoRAG) -> None:
    for shown in (repr(clues), str(clues), dumps(clues), clues.model_dump_json()):
        assert "Anna" not in shown
        assert "SentenceModel" not in shown
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(clues)
    assert copy.deepcopy(clues).memorag is memorag


def test_types_are_declared(clues: MemoRAGClues) -> None:
    assert clues.InputType is str
    assert clues.get_output_jsonschema()["type"] == "array"
