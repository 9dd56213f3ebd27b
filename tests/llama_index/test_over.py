"""Over an index or retriever of the user's own: every clue searches, their nodes come back, failures show."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core import SummaryIndex
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.indices.vector_store import VectorIndexRetriever
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import (
    ImageNode,
    IndexNode,
    NodeRelationship,
    NodeWithScore,
    QueryBundle,
    RelatedNodeInfo,
    TextNode,
)

from llama_index_memorag import EvidenceEvent, MemoRAGRetriever, SearchFailedEvent
from memorag_core import InputError, MemoRAG, RetrievalSettings
from memorag_core.errors import RetrievalError
from tests.core.doubles import SentenceModel
from tests.llama_index.conftest import QUESTION, remembering
from tests.llama_index.doubles import (
    AwaitedRetriever,
    WordEmbedding,
    WordRetriever,
    failing,
    listening,
    nodes,
    slow,
    vector_index,
)

LOUD = RetrievalSettings(clue_weights={"span": 1, "query": 1, "answer": 1}, confidence=0)
"""A vector index ranks all nodes for the question, and this one's ranking means nothing."""


def ids(found: Sequence[NodeWithScore]) -> list[str]:
    return [one.node.node_id for one in found]


class Fixed(BaseRetriever):
    """Gives the same nodes whatever it is asked."""

    def __init__(self, found: Sequence[NodeWithScore]) -> None:
        super().__init__()
        self.found = list(found)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return list(self.found)


# What is searched, and what comes back


async def test_each_clue_searches_a_vector_index_and_finds_what_the_question_misses(memorag: MemoRAG) -> None:
    index = vector_index()
    assert ids(index.as_retriever(similarity_top_k=1).retrieve(QUESTION)) != ["clocks"]
    retriever = MemoRAGRetriever(memorag, 1, over=index, retrieval=LOUD)
    assert ids(retriever.retrieve(QUESTION)) == ["clocks"]
    assert ids(await retriever.aretrieve(QUESTION)) == ["clocks"]


def test_the_retriever_is_asked_with_the_question_and_every_clue_once(memorag: MemoRAG) -> None:
    words = WordRetriever()
    MemoRAGRetriever(memorag, over=words).retrieve(QUESTION)
    clues = [clue.text for clue in memorag.clues(QUESTION)]
    assert sorted(words.asked) == sorted(dict.fromkeys([QUESTION, *clues]))


def test_the_users_nodes_come_back_as_they_are_with_the_fused_score(memorag: MemoRAG) -> None:
    given = nodes()
    for place, node in enumerate(given):
        node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=f"book-{place}")
        node.excluded_llm_metadata_keys = ["page"]
    before = {node.node_id: node.model_copy(deep=True) for node in given}
    found = MemoRAGRetriever(memorag, 3, over=vector_index(given)).retrieve(QUESTION)
    assert len(found) == 3
    for one in found:
        assert one.node == before[one.node.node_id]
        assert one.node.hash == before[one.node.node_id].hash
    scores = [one.get_score(raise_error=True) for one in found]
    assert scores == sorted(scores, reverse=True)
    over_words = MemoRAGRetriever(memorag, 1, over=WordRetriever(given)).retrieve(QUESTION)[0]
    assert over_words.node is given[3]
    assert given == list(before.values())


def test_a_vector_index_is_read_as_deep_as_the_fusion_reads_and_other_indexes_as_they_are(
    memorag: MemoRAG, monkeypatch: pytest.MonkeyPatch
) -> None:
    depths: list[int] = []
    searched = VectorIndexRetriever._retrieve

    def watched(self: VectorIndexRetriever, query_bundle: QueryBundle) -> list[NodeWithScore]:
        depths.append(self.similarity_top_k)
        return searched(self, query_bundle)

    monkeypatch.setattr(VectorIndexRetriever, "_retrieve", watched)
    MemoRAGRetriever(memorag, 2, over=vector_index(), retrieval=RetrievalSettings(fan_out=7)).retrieve(
        QUESTION
    )
    assert set(depths) == {7}
    assert len(MemoRAGRetriever(memorag, 2, over=SummaryIndex(nodes())).retrieve(QUESTION)) == 2


def test_fewer_come_back_where_fewer_are_found_and_none_where_nothing_is(memorag: MemoRAG) -> None:
    assert ids(MemoRAGRetriever(memorag, 9, over=WordRetriever(nodes()[3:])).retrieve(QUESTION)) == ["clocks"]
    assert MemoRAGRetriever(memorag, over=WordRetriever([])).retrieve(QUESTION) == []


def test_nodes_without_text_and_without_scores_are_ranked_as_well(memorag: MemoRAG) -> None:
    picture = ImageNode(image="aGk=", id_="picture")
    plain = NodeWithScore(node=TextNode(text="A caption.", id_="caption"))
    found = MemoRAGRetriever(memorag, over=Fixed([NodeWithScore(node=picture), plain])).retrieve(QUESTION)
    assert ids(found) == ["picture", "caption"]
    assert found[0].node is picture


def test_settings_that_need_a_corpus_of_our_own_are_refused_before_the_memory_is_asked(
    memorag: MemoRAG, model: SentenceModel
) -> None:
    retriever = MemoRAGRetriever(memorag, over=vector_index(), retrieval=RetrievalSettings(neighbours=1))
    with pytest.raises(InputError, match="neighbours is 1"):
        retriever.retrieve(QUESTION)
    assert model.asked == 0


@given(st.lists(st.sampled_from(["ferry", "bakery", "tower", "clocks"]), unique=True), st.integers(1, 5))
def test_what_comes_back_is_among_what_was_found_each_once_and_at_most_k(names: list[str], k: int) -> None:
    given_nodes = [node for node in nodes() if node.node_id in names]
    found = MemoRAGRetriever(
        remembering(SentenceModel()), k, over=Fixed([NodeWithScore(node=n) for n in given_nodes])
    )
    assert ids(found.retrieve(QUESTION)) == [node.node_id for node in given_nodes][:k]


# Nodes that stand for objects


async def test_an_object_is_entered_once_with_the_question_by_the_object_map(memorag: MemoRAG) -> None:
    inner = WordRetriever([TextNode(text="Who mends timepieces? Anna does.", id_="inner")])
    stands_for = IndexNode(text="Anna Holt repairs every clock.", index_id="people", id_="people-node")
    retriever = MemoRAGRetriever(memorag, over=WordRetriever([stands_for]), object_map={"people": inner})
    assert ids(retriever.retrieve(QUESTION)) == ["inner"]
    assert inner.asked == [QUESTION]
    assert ids(await retriever.aretrieve(QUESTION)) == ["inner"]
    assert inner.asked == [QUESTION] * 2


def test_an_object_of_the_users_index_is_entered_by_that_index(memorag: MemoRAG) -> None:
    inner = TextNode(text="Anna lives by the mill.", id_="inner")
    index = vector_index()
    index.insert_nodes([IndexNode(text="Anna Holt repairs every clock.", index_id="people", obj=inner)])
    found = MemoRAGRetriever(memorag, 5, over=index).retrieve(QUESTION)
    assert "inner" in ids(found)


def test_what_scored_nothing_does_not_rise_through_an_object(memorag: MemoRAG) -> None:
    last = IndexNode(text="Anna", index_id="last", id_="last", obj=TextNode(text="Of the last.", id_="inner"))
    given = [NodeWithScore(node=TextNode(text="First."), score=2.0), NodeWithScore(node=last, score=1.0)]
    retriever = MemoRAGRetriever(
        memorag,
        over=Unentered(given),
        retrieval=RetrievalSettings(fusion="relative_score"),
    )
    found = retriever.retrieve(QUESTION)
    assert ids(found)[1] == "inner"
    assert found[1].get_score() < 1e-300


class Unentered(Fixed):
    """Leaves the nodes that stand for objects to whoever asked."""

    def _handle_recursive_retrieval(
        self, query_bundle: QueryBundle, nodes: list[NodeWithScore]
    ) -> list[NodeWithScore]:
        return nodes


# On the event loop


async def test_a_retriever_with_an_async_method_is_awaited_and_one_without_runs_in_threads(
    memorag: MemoRAG,
) -> None:
    awaited = AwaitedRetriever()
    found = await MemoRAGRetriever(memorag, over=awaited).aretrieve(QUESTION)
    assert awaited.awaited == len(awaited.asked) > 1
    blocking = WordRetriever(before=slow(0.1, where=""))
    pulse = asyncio.create_task(longest_pause())
    assert ids(await MemoRAGRetriever(memorag, over=blocking).aretrieve(QUESTION)) == ids(found)
    pulse.cancel()
    assert await pulse < 0.08


async def longest_pause() -> float:
    """The longest that the loop was held up until cancelled, in seconds."""
    longest, last = 0.0, time.perf_counter()
    try:
        while True:
            await asyncio.sleep(0.005)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
    except asyncio.CancelledError:
        return longest


async def test_searches_run_at_once_up_to_the_bound(memorag: MemoRAG) -> None:
    running = most = 0

    class Counting(WordRetriever):
        async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.02)
            running -= 1
            return self._retrieve(query_bundle)

    memorag.clues(QUESTION)
    await MemoRAGRetriever(memorag, over=Counting(), concurrency=2).aretrieve(QUESTION)
    assert most == 2


# Failures


@pytest.mark.parametrize("kind", [WordRetriever, AwaitedRetriever])
@pytest.mark.parametrize("is_async", [False, True])
async def test_one_clues_failure_does_not_lose_the_rest_and_shows_as_event_and_in_the_log(
    memorag: MemoRAG, kind: type[WordRetriever], is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    secret = ConnectionError("https://store.example/?key=sk-secret-123")
    broken = kind(before=failing(secret, where="Where does it say"))
    retriever = MemoRAGRetriever(memorag, over=broken)
    with listening() as ear, caplog.at_level(logging.WARNING):
        found = await retriever.aretrieve(QUESTION) if is_async else retriever.retrieve(QUESTION)
    assert ids(found)[0] == "clocks"
    failed = ear.of(SearchFailedEvent)
    assert failed
    assert {(event.question, event.kind, event.error) for event in failed} == {
        (QUESTION, "query", "ConnectionError")
    }
    assert ear.of(EvidenceEvent)[-1].failures == len(failed)
    assert "failed" in caplog.text
    ours = "".join(event.model_dump_json() for event in ear.events if "memorag" in type(event).__module__)
    assert "sk-secret-123" not in ours
    assert "sk-secret-123" not in caplog.text


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_slow_search_is_given_up_and_the_others_come_in_time(
    memorag: MemoRAG, is_async: bool
) -> None:
    memorag.clues(QUESTION)
    retriever = MemoRAGRetriever(memorag, over=WordRetriever(before=slow(3, where="Where does")), timeout=0.2)
    began = time.perf_counter()
    with listening() as ear:
        found = await retriever.aretrieve(QUESTION) if is_async else retriever.retrieve(QUESTION)
    assert time.perf_counter() - began < 2
    assert ids(found)[0] == "clocks"
    assert {event.error for event in ear.of(SearchFailedEvent)} == {"TimeoutError"}


@pytest.mark.parametrize("is_async", [False, True])
async def test_where_all_searches_fail_that_is_an_error_with_its_cause(
    memorag: MemoRAG, is_async: bool
) -> None:
    retriever = MemoRAGRetriever(memorag, over=WordRetriever(before=failing(OSError("no route"))))
    with pytest.raises(RetrievalError, match="no route") as caught:
        _ = await retriever.aretrieve(QUESTION) if is_async else retriever.retrieve(QUESTION)
    assert caught.value.__cause__ is not None


# Made from what is there


async def test_three_lines_give_an_index_a_memory(model: SentenceModel) -> None:
    index = vector_index()
    retriever = MemoRAGRetriever.from_defaults(index, k=1, memorag=MemoRAG(model), retrieval=LOUD)
    assert {document.id for document in retriever.memorag.documents} == {node.node_id for node in nodes()}
    engine = RetrieverQueryEngine.from_args(retriever, llm=MockLLM())
    assert "Anna Holt repairs" in str(engine.query(QUESTION))
    assert "Anna Holt repairs" in str(await engine.aquery(QUESTION))


def test_what_a_memory_has_read_is_not_read_again(memorag: MemoRAG) -> None:
    before = memorag.memory
    retriever = MemoRAGRetriever.from_defaults(vector_index(), memorag=memorag, k=1, retrieval=LOUD)
    assert memorag.memory is before
    assert ids(retriever.retrieve(QUESTION)) == ["clocks"]


def test_nodes_or_a_docstore_alone_are_read_and_searched_by_us(model: SentenceModel) -> None:
    from_nodes = MemoRAGRetriever.from_defaults(nodes=nodes(), memorag=MemoRAG(model))
    docstore = vector_index().docstore
    from_store = MemoRAGRetriever.from_defaults(docstore=docstore, memorag=MemoRAG(SentenceModel()))
    assert from_nodes.memorag.documents == from_store.memorag.documents
    assert from_store.retrieve(QUESTION)[0].node.ref_doc_id == "clocks"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "nothing to read"),
        ({"index": vector_index([])}, "nothing to read"),
        ({"nodes": nodes(), "docstore": vector_index().docstore}, "Both 'nodes' and 'docstore'"),
        ({"index": vector_index(), "over": WordRetriever()}, "Both 'index' and 'over'"),
        ({"nodes": [3]}, "Found a int among the documents"),
    ],
)
def test_what_cannot_be_made_is_said_and_nothing_is_memorized(
    arguments: dict[str, Any], message: str, model: SentenceModel
) -> None:
    memorag = MemoRAG(model)
    with pytest.raises(InputError, match=message):
        MemoRAGRetriever.from_defaults(memorag=memorag, **arguments)
    assert memorag.documents == ()


def test_the_embedding_model_of_the_index_is_the_one_that_encodes(memorag: MemoRAG) -> None:
    index = vector_index()
    index._embed_model = MockEmbedding(embed_dim=512)  # points one way for every text
    blind = MemoRAGRetriever(memorag, 1, over=index, retrieval=LOUD).retrieve(QUESTION)
    index._embed_model = WordEmbedding()
    assert ids(blind) != ["clocks"]
    assert ids(MemoRAGRetriever(memorag, 1, over=index, retrieval=LOUD).retrieve(QUESTION)) == ["clocks"]
