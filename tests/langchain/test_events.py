"""What is seen of a question while it is answered: its clues, its searches, tokens; and no secrets."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.load import dumps
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from pydantic import SecretStr

from langchain_memorag import ClueCompressor, MemoRAGClues, MemoRAGRetriever
from memorag_core import HostedModel, MemoRAG
from tests.core.doubles import SentenceModel
from tests.langchain.conftest import DOCUMENTS, QUESTION
from tests.langchain.watching import CustomEvents, Traces, all_runs, names

KEY = "sk-thekeythatnobodysees"


class Keyed(BaseRetriever):
    """A retriever with a key, as one for a service has."""

    api_key: SecretStr
    endpoint: str = f"https://search.example/?key={KEY}"

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        if query == QUESTION:
            return [Document(page_content="Anna Holt repairs every clock.", id="a")]
        raise ConnectionError("no answer")


class KeyedModel(SentenceModel):
    """A memory model with a key."""

    api_key = KEY

    def __repr__(self) -> str:
        return f"KeyedModel(api_key={KEY!r})"


async def test_events_show_the_start_of_asking_each_clue_and_the_end_with_tokens(memorag: MemoRAG) -> None:
    chain = MemoRAGRetriever(memorag=memorag) | RunnableLambda(len)
    events = [event async for event in chain.astream_events(QUESTION, version="v2")]
    asking = [event for event in events if event["name"] in ("MemoRAGClues", "memorag_clue")]
    assert asking[0]["event"] == "on_chain_start"
    assert asking[-1]["event"] == "on_chain_end"
    lines: list[Any] = asking[1:-1]
    assert lines
    assert all(event["event"] == "on_custom_event" for event in lines)
    assert {event["run_id"] for event in asking} == {asking[0]["run_id"]}
    end: Any = asking[-1]
    output = end["data"]["output"]
    assert {row["text"] for row in output["clues"]} <= {event["data"]["text"] for event in lines}
    assert output["tokens"] > 0
    assert output["seconds"] > 0
    assert json.loads(json.dumps(output)) == output
    retrieving = [event for event in events if event["name"] == "MemoRAGRetriever"]
    assert retrieving[0]["run_id"] in asking[0]["parent_ids"]
    (searched,) = (
        event for event in events if (event["name"], event["event"]) == ("MemoRAGSearch", "on_chain_end")
    )
    assert searched["data"]["output"]["seconds"] >= 0


async def test_a_trace_is_the_same_sync_and_async(memorag: MemoRAG) -> None:
    retriever = MemoRAGRetriever(memorag=memorag)
    one, two = Traces(), Traces()
    retriever.invoke(QUESTION, {"callbacks": [one]})
    await retriever.ainvoke(QUESTION, {"callbacks": [two]})
    shapes = [[(run.name, run.run_type, run.inputs) for run in all_runs(trace.root)] for trace in (one, two)]
    assert shapes[0] == shapes[1]
    assert names(one.root.child_runs) == ["MemoRAGClues", "MemoRAGSearch"]
    search = one.root.child_runs[1].outputs or {}
    found = retriever.invoke(QUESTION, annotate=True)
    assert search["found"] == [document.id for document in found]
    for row, document in zip(search["evidence"], found, strict=True):
        assert row == {"id": document.id} | {
            name: document.metadata[name] for name in ("score", "rank", "clues")
        }


async def test_a_chat_model_behind_a_memory_is_traced_inside_the_asking() -> None:
    answers = ["Anna Holt repairs every clock in the valley."] * 50
    hosted = HostedModel(FakeListChatModel(responses=answers), name="scripted")
    memorag = MemoRAG(hosted, progress=False).memorize([document.text for document in DOCUMENTS])
    retriever = MemoRAGRetriever(memorag=memorag, clue_kinds=("answer",))
    for way in ("sync", "async"):
        trace = Traces()
        question = f"{QUESTION} ({way})"  # clues are kept for a question
        if way == "sync":
            retriever.invoke(question, {"callbacks": [trace]})
        else:
            await retriever.ainvoke(question, {"callbacks": [trace]})
        asking = trace.root.child_runs[0]
        assert asking.name == "MemoRAGClues"
        assert "FakeListChatModel" in names(asking.child_runs)


async def test_no_key_and_no_model_is_in_what_is_shown() -> None:
    memorag = MemoRAG(KeyedModel(), progress=False).memorize(DOCUMENTS)
    beneath = Keyed(api_key=SecretStr(KEY))
    retriever = MemoRAGRetriever(memorag=memorag, base_retriever=beneath)
    trace, failed = Traces(), CustomEvents("memorag_search_failed")
    found = retriever.invoke(QUESTION, {"callbacks": [trace, failed]})
    events = [event async for event in retriever.astream_events(QUESTION, version="v2")]
    assert failed.data
    shown = [
        repr(retriever),
        dumps(retriever),
        retriever.model_dump_json(),
        repr(MemoRAGClues(memorag=memorag)),
        dumps(MemoRAGClues(memorag=memorag)),
        repr(ClueCompressor(memorag=memorag)),
        ClueCompressor(memorag=memorag).model_dump_json(),
        dumps(found),
        repr(events),
        repr(failed.data),
        *(run.model_dump_json() for run in trace.roots),
    ]
    for text in shown:
        assert KEY not in text
        assert "KeyedModel" not in text


async def test_a_message_of_a_failed_search_is_not_in_metadata_or_events(memorag: MemoRAG) -> None:
    class Leaky(Keyed):
        def _get_relevant_documents(
            self, query: str, *, run_manager: CallbackManagerForRetrieverRun
        ) -> list[Document]:
            if query == QUESTION:
                return [Document(page_content="Anna Holt repairs every clock.")]
            raise ConnectionError(f"cannot reach {self.endpoint}")

    failed = CustomEvents("memorag_search_failed")
    retriever = MemoRAGRetriever(memorag=memorag, base_retriever=Leaky(api_key=SecretStr(KEY)), annotate=True)
    (found,) = retriever.invoke(QUESTION, {"callbacks": [failed]})
    assert {failure["error"] for failure in found.metadata["failures"]} == {"ConnectionError"}
    assert KEY not in repr(failed.data) + dumps(found)


async def test_cancelling_ends_the_runs(gated: Any) -> None:
    import asyncio

    memorag, gate = gated
    reached = memorag.model.reached
    trace = Traces()
    waiting = asyncio.create_task(MemoRAGRetriever(memorag=memorag).ainvoke(QUESTION, {"callbacks": [trace]}))
    assert await asyncio.to_thread(reached.wait, 20)
    waiting.cancel()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    clues = MemoRAGClues(memorag=memorag)
    gate.clear()
    reached.clear()
    trace = Traces()
    # Another question: the memory may have answered the first before the loop came to cancel it.
    other = "Who was born in May?"
    waiting_for_clues = asyncio.create_task(clues.ainvoke(other, {"callbacks": [trace]}))
    assert await asyncio.to_thread(reached.wait, 20)
    waiting_for_clues.cancel()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting_for_clues
    assert trace.root.error
