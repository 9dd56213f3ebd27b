"""The user's own retriever or vector store beneath the clues: real stores, failing ones and slow ones."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore
from pydantic import PrivateAttr

from langchain_memorag import MemoRAGRetriever
from memorag_core import InputError, MemoRAG, RetrievalError
from tests.core.doubles import SentenceModel, WordEmbedder
from tests.langchain.conftest import DOCUMENTS, QUESTION, remembering
from tests.langchain.watching import CustomEvents, Traces, all_runs, names

IDS = [f"00000000-0000-0000-0000-00000000000{number}" for number in range(len(DOCUMENTS))]
PASSAGES = [
    Document(id=name, page_content=one.text, metadata={"page": one.metadata["page"], "start": 17})
    for name, one in zip(IDS, DOCUMENTS, strict=True)
]
CLOCKS = IDS[3]
BY_CLUES = {"question_weight": 0.1, "clue_weights": {"span": 1.0, "answer": 1.0}}
QUESTIONS = [QUESTION, "When does the ferry leave?", "What does Oskar bake?", "How old is the tower?"]


class Words(WordEmbedder, Embeddings):
    """Counts words, as LangChain's embeddings."""


def in_memory(_: Path) -> VectorStore:
    return InMemoryVectorStore.from_documents(PASSAGES, Words())


def chroma(folder: Path) -> VectorStore:
    module = pytest.importorskip("langchain_chroma")
    store = module.Chroma(
        "island",
        Words(),
        persist_directory=str(folder),
        collection_configuration={"hnsw": {"space": "cosine"}},
    )
    store.add_documents(PASSAGES)
    return store  # type: ignore[no-any-return]


def qdrant(_: Path) -> VectorStore:
    module = pytest.importorskip("langchain_qdrant")
    return module.QdrantVectorStore.from_documents(  # type: ignore[no-any-return]
        PASSAGES, Words(), location=":memory:", collection_name="island"
    )


class Listed(BaseRetriever):
    """Gives passages by shared words, and writes down what it was asked; some words make it fail or wait."""

    fails_at: str = "\0"
    waits_at: str = "\0"
    waits: float = 5.0
    _asked: list[str] = PrivateAttr(default_factory=list)
    _lock: Any = PrivateAttr(default_factory=Lock)
    _now: int = PrivateAttr(default=0)
    most: int = 0

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        with self._lock:
            self._asked.append(query)
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            if self.waits_at in query:
                time.sleep(self.waits)
            if self.fails_at in query:
                raise ConnectionError("the line is dead")
            words = set(query.casefold().split())
            return sorted(PASSAGES, key=lambda one: -len(words & set(one.page_content.casefold().split())))[
                :2
            ]
        finally:
            with self._lock:
                self._now -= 1


@pytest.fixture(params=[in_memory, chroma, qdrant], ids=["in_memory", "chroma", "qdrant"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> VectorStore:
    make: Callable[[Path], VectorStore] = request.param
    return make(tmp_path)


# Real stores


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_clues_find_in_a_store_what_the_question_does_not(store: VectorStore, memorag: MemoRAG) -> None:
    retriever = MemoRAGRetriever(
        memorag=memorag, base_retriever=store, k=2, retrieval_settings=BY_CLUES, annotate=True
    )
    found = retriever.invoke(QUESTION)
    assert found[0].page_content == DOCUMENTS[3].text
    assert found[0].metadata["page"] == 4
    assert found[0].metadata["rank"] == 1
    assert any("Anna Holt repairs" in clue for clue in found[0].metadata["clues"])
    assert "failures" not in found[0].metadata
    assert await retriever.ainvoke(QUESTION) == found
    assert len(retriever.invoke(QUESTION, k=4)) == 4
    assert len(retriever.invoke(QUESTION, k=9)) == 4  # all that there are


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_many_questions_over_a_store_find_what_single_ones_find(store: VectorStore) -> None:
    retriever = MemoRAGRetriever(memorag=remembering(SentenceModel()), base_retriever=store, k=2)
    singles = [retriever.invoke(question) for question in QUESTIONS]
    model = SentenceModel()
    other = MemoRAGRetriever(memorag=remembering(model), base_retriever=store, k=2)
    assert other.batch(QUESTIONS) == singles
    assert model.asked == 1
    assert await other.abatch(QUESTIONS) == singles
    at_once = await asyncio.gather(*(other.ainvoke(question) for question in QUESTIONS * 16))
    assert at_once == singles * 16


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_searches_of_a_store_are_runs_in_the_question_s(store: VectorStore, memorag: MemoRAG) -> None:
    trace = Traces()
    MemoRAGRetriever(memorag=memorag, base_retriever=store).invoke(QUESTION, {"callbacks": [trace]})
    asking, searching = trace.root.child_runs
    assert {*names(searching.child_runs)} == {type(store).__name__}
    assert all(run.run_type == "retriever" for run in searching.child_runs)
    asked = {run.inputs["query"] for run in searching.child_runs}
    assert asked == {QUESTION, *(row["text"] for row in (asking.outputs or {})["clues"])}
    assert (trace.root.extra or {})["metadata"]["ls_vector_store_provider"] == type(store).__name__


def test_scores_are_used_where_a_store_says_which_are_good(tmp_path: Path, memorag: MemoRAG) -> None:
    relative = {"fusion": "relative_score"}
    with_scores = MemoRAGRetriever(
        memorag=memorag, base_retriever=qdrant(tmp_path), retrieval_settings=relative
    )
    assert with_scores.invoke(QUESTION)
    without = MemoRAGRetriever(
        memorag=memorag, base_retriever=in_memory(tmp_path), retrieval_settings=relative
    )
    with pytest.raises(InputError, match="score"):
        without.invoke(QUESTION)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_ids_are_those_of_the_store_where_it_gives_them(tmp_path: Path, memorag: MemoRAG) -> None:
    for make in (in_memory, chroma):
        found = MemoRAGRetriever(memorag=memorag, base_retriever=make(tmp_path / make.__name__)).invoke(
            QUESTION
        )
        assert {document.id for document in found} == set(IDS)
    hashed = MemoRAGRetriever(memorag=memorag, base_retriever=qdrant(tmp_path)).invoke(QUESTION)
    assert {document.metadata["_id"] for document in hashed} == set(IDS)  # Qdrant gives them so


def test_what_the_store_says_of_a_place_is_kept(memorag: MemoRAG, tmp_path: Path) -> None:
    retriever = MemoRAGRetriever(memorag=memorag, base_retriever=in_memory(tmp_path), k=1, annotate=True)
    (found,) = retriever.invoke(QUESTION)
    assert found.metadata["start"] == 17
    assert found.metadata["document_id"] == found.id


# Retrievers


async def test_a_retriever_is_asked_the_question_and_each_clue_once(memorag: MemoRAG) -> None:
    beneath = Listed()
    retriever = MemoRAGRetriever(memorag=memorag, base_retriever=beneath)
    found = retriever.invoke(QUESTION)
    clues = [clue.text for clue in memorag.clues(QUESTION)]
    assert sorted(beneath._asked) == sorted({QUESTION, *clues})
    assert await retriever.ainvoke(QUESTION) == found


async def test_no_more_searches_run_at_once_than_allowed() -> None:
    for allowed in (1, 3):
        beneath = Listed(waits_at="", waits=0.01)
        retriever = MemoRAGRetriever(
            memorag=remembering(SentenceModel()), base_retriever=beneath, concurrency=allowed
        )
        retriever.batch(QUESTIONS)
        await retriever.abatch(QUESTIONS)
        assert 1 <= beneath.most <= allowed


def test_the_searches_of_a_batch_are_runs_in_the_question_they_belong_to() -> None:
    retriever = MemoRAGRetriever(memorag=remembering(SentenceModel()), base_retriever=Listed())
    traces = [Traces() for _ in QUESTIONS]
    retriever.batch(QUESTIONS, [{"callbacks": [trace]} for trace in traces])
    for trace, question in zip(traces, QUESTIONS, strict=True):
        asking, searching = trace.root.child_runs
        own = {question, *(row["text"] for row in (asking.outputs or {})["clues"])}
        asked = {run.inputs["query"] for run in searching.child_runs}
        assert question in asked
        assert asked <= own
    every = [run for trace in traces for run in all_runs(trace.root) if run.name == "Listed"]
    assert len(every) == len({run.inputs["query"] for run in every})  # no text is searched for twice


@pytest.mark.parametrize("expansion", ["append", "both"])
def test_clues_behind_their_question_are_traced_too(memorag: MemoRAG, expansion: str) -> None:
    trace = Traces()
    retriever = MemoRAGRetriever(
        memorag=memorag, base_retriever=Listed(), retrieval_settings={"expansion": expansion}
    )
    retriever.invoke(QUESTION, {"callbacks": [trace]})
    searches = trace.root.child_runs[1].child_runs
    assert any(run.inputs["query"].startswith(f"{QUESTION}\n") for run in searches)


# Failures


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "batch", "abatch"])
async def test_a_clue_that_fails_does_not_lose_the_rest_and_is_seen(
    memorag: MemoRAG, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    retriever = MemoRAGRetriever(
        memorag=memorag,
        base_retriever=Listed(fails_at="Where does it say"),
        k=2,
        retrieval_settings=BY_CLUES,
        annotate=True,
    )
    events, trace = CustomEvents("memorag_search_failed"), Traces()
    config: Any = {"callbacks": [events, trace]}
    with caplog.at_level(logging.WARNING, "memorag_core"):
        match way:
            case "invoke":
                found = retriever.invoke(QUESTION, config)
            case "ainvoke":
                found = await retriever.ainvoke(QUESTION, config)
            case "batch":
                (found,) = retriever.batch([QUESTION], config)
            case _:
                (found,) = await retriever.abatch([QUESTION], config)
    assert len(found) == 2
    assert CLOCKS in [document.id for document in found]
    for document in found:
        (failure,) = document.metadata["failures"]
        assert failure["error"] == "ConnectionError"
        assert failure["kind"] == "query"
        assert failure["query"].startswith("Where does it say")
    (event,) = events.data
    assert event["question"] == QUESTION
    assert "failed" in caplog.text
    shown = trace.root.child_runs[1].outputs or {}
    assert [failure["kind"] for failure in shown["failures"]] == ["query"]


async def test_a_clue_that_takes_too_long_does_not_lose_the_rest(memorag: MemoRAG) -> None:
    beneath = Listed(waits_at="Where does it say", waits=1.0)
    how: dict[str, Any] = {"k": 2, "timeout": 0.2, "retrieval_settings": BY_CLUES, "annotate": True}
    retriever = MemoRAGRetriever(memorag=memorag, base_retriever=beneath, **how)
    for way in ("sync", "async"):
        begun = time.monotonic()
        found = retriever.invoke(QUESTION) if way == "sync" else await retriever.ainvoke(QUESTION)
        assert time.monotonic() - begun < 0.9
        assert CLOCKS in [document.id for document in found]
        assert {failure["error"] for failure in found[0].metadata["failures"]} == {"TimeoutError"}


async def test_if_all_searches_fail_it_is_an_error_with_its_cause(memorag: MemoRAG) -> None:
    retriever = MemoRAGRetriever(memorag=memorag, base_retriever=Listed(fails_at=""))
    with pytest.raises(RetrievalError, match="ConnectionError: the line is dead"):
        retriever.invoke(QUESTION)
    with pytest.raises(RetrievalError, match="'Listed'"):
        await retriever.ainvoke(QUESTION)


async def test_a_question_whose_searches_all_fail_leaves_the_others_of_a_batch() -> None:
    retriever = MemoRAGRetriever(
        memorag=remembering(SentenceModel()), base_retriever=Listed(fails_at="ferry"), clue_kinds=("span",)
    )
    found: list[Any] = list(retriever.batch(QUESTIONS, return_exceptions=True))
    again: list[Any] = list(await retriever.abatch(QUESTIONS, return_exceptions=True))
    for outcomes in (found, again):
        assert [isinstance(one, RetrievalError) for one in outcomes] == [False, True, False, False]
    with pytest.raises(RetrievalError):
        retriever.batch(QUESTIONS)


async def test_the_loop_stays_free_while_a_store_is_slow(memorag: MemoRAG) -> None:
    retriever = MemoRAGRetriever(memorag=memorag, base_retriever=Listed(waits_at="", waits=0.2))
    waiting = asyncio.create_task(retriever.ainvoke(QUESTION))
    ticks = 0
    while not waiting.done():
        await asyncio.sleep(0.005)
        ticks += 1
    assert ticks > 10
