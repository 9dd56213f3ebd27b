"""Summaries: the memory names key points, each is searched for, and a synthesizer reads what was found."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core import get_response_synthesizer
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters

from llama_index_memorag import ClueEndEvent, EvidenceEvent, MemoRAGRetriever, MemoRAGSummaryRetriever
from memorag_core import ClueSettings, InputError, MemoRAG
from tests.core.doubles import SentenceModel
from tests.llama_index.conftest import DOCUMENTS
from tests.llama_index.doubles import how, listening, vector_index


@pytest.fixture
def memorag() -> MemoRAG:
    """Two sentences to a part, and so three parts that each name a point."""
    return MemoRAG(SentenceModel(capacity=2), clues=ClueSettings(per_kind=3), progress=False).memorize(
        DOCUMENTS
    )


def points(memorag: MemoRAG, question: str = "") -> list[str]:
    return [clue.text for clue in memorag.recall_clues([question], kinds=["key_point"])[0].clues]


@pytest.mark.parametrize("question", ["", "What is known of Anna Holt?"])
async def test_each_key_point_finds_its_evidence_point_by_point(memorag: MemoRAG, question: str) -> None:
    retriever = MemoRAGSummaryRetriever(memorag, 1)
    found = retriever.retrieve(question)
    assert [how(one).clues for one in found] == [[point] for point in points(memorag, question)]
    assert all(how(one).clues[0] in one.node.get_content() for one in found)
    assert [how(one).rank for one in found] == list(range(1, len(found) + 1))
    assert await retriever.aretrieve(question) == found


def test_what_several_points_find_comes_once_and_names_them_all(memorag: MemoRAG) -> None:
    found = MemoRAGSummaryRetriever(memorag, 4).retrieve("")
    named = points(memorag)
    assert len(named) == 3
    assert len({one.node_id for one in found}) == len(found) == 4
    alone = {
        evidence.chunk.id: evidence.score
        for point in named
        for evidence in memorag.retrieve(point, k=4, clues=[])
    }
    assert {one.node_id for one in found} == set(alone)
    for one in found:
        best = max(
            evidence.score
            for point in named
            for evidence in memorag.retrieve(point, k=4, clues=[])
            if evidence.chunk.id == one.node_id
        )
        assert one.score == best
        assert set(how(one).clues) <= set(named)


async def test_a_tree_of_summaries_is_written_from_the_points_evidence(memorag: MemoRAG) -> None:
    synthesizer = get_response_synthesizer(response_mode="tree_summarize", llm=MockLLM())  # type: ignore[arg-type]
    engine = RetrieverQueryEngine(MemoRAGSummaryRetriever(memorag, 1), response_synthesizer=synthesizer)
    for response in (engine.query(""), await engine.aquery("")):
        assert len(response.source_nodes) == 3
        for point in points(memorag):
            assert point in str(response)


async def test_a_summary_can_be_of_some_documents_or_over_an_index(memorag: MemoRAG) -> None:
    page = MetadataFilters(filters=[MetadataFilter(key="page", value=3)])
    some = MemoRAGSummaryRetriever(memorag, 2, filters=page).retrieve("")
    assert {one.node.ref_doc_id for one in some} == {"tower"}
    over = MemoRAGSummaryRetriever(memorag, 1, over=vector_index())
    found = over.retrieve("")
    assert 1 <= len(found) <= 3
    assert await over.aretrieve("") == found


def test_events_tell_of_the_points_and_of_each_search(memorag: MemoRAG) -> None:
    with listening() as ear:
        MemoRAGSummaryRetriever(memorag, 1).retrieve("")
    (end,) = ear.of(ClueEndEvent)
    assert {clue.kind for clue in end.clues} == {"key_point"}
    assert [event.question for event in ear.of(EvidenceEvent)] == [clue.text for clue in end.clues]


async def test_without_a_point_the_question_is_searched_for_and_an_empty_one_finds_nothing() -> None:
    class Mute(SentenceModel):
        def _recollect(self, question: Any, memory: Any, kind: Any) -> Any:
            return ()

    mute = MemoRAG(Mute(), progress=False).memorize(DOCUMENTS)
    retriever = MemoRAGSummaryRetriever(mute, 1)
    assert retriever.retrieve("") == []
    assert await retriever.aretrieve("") == []
    (found,) = retriever.retrieve("Who raised the tower?")
    assert found.node.ref_doc_id == "tower"
    assert how(found).clues == []


def test_kinds_are_not_chosen_and_other_retrievers_need_a_question(memorag: MemoRAG) -> None:
    with pytest.raises(InputError, match="made from key points"):
        MemoRAGSummaryRetriever(memorag, kinds=["span"])
    with pytest.raises(InputError, match="expected words"):
        MemoRAGRetriever(memorag).retrieve("")
