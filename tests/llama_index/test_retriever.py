"""The LlamaIndex retriever: what it returns, in which engines it works, and what it never shows."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from llama_index.core import Settings
from llama_index.core.base.response.schema import Response
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import BaseRetriever, QueryFusionRetriever
from llama_index.core.schema import (
    Document,
    MetadataMode,
    NodeWithScore,
    QueryBundle,
    TextNode,
)
from llama_index.core.tools import RetrieverTool
from llama_index.core.vector_stores import MetadataFilters

from llama_index_memorag import MemoRAGRetriever
from llama_index_memorag.retriever import Options
from memorag_core import Document as Plain
from memorag_core import InputError, MemoRAG, NothingMemorizedError, RetrievalSettings
from tests.core.doubles import SentenceModel
from tests.llama_index.conftest import DOCUMENTS, QUESTION
from tests.llama_index.doubles import WordRetriever, how

QUESTIONS = (QUESTION, "When does the ferry leave?", "What does Oskar bake?", "How old is the tower?")
SOURCES = {document.id: document for document in DOCUMENTS}


@pytest.fixture
def retriever(memorag: MemoRAG) -> MemoRAGRetriever:
    return MemoRAGRetriever(memorag, callback_manager=Settings.callback_manager)


def dumped(nodes: list[NodeWithScore]) -> list[dict[str, Any]]:
    return [node.model_dump() for node in nodes]


# What comes back


def test_a_clue_finds_what_shares_no_word_with_the_question(retriever: MemoRAGRetriever) -> None:
    best = retriever.retrieve(QUESTION)[0]
    assert best.node.ref_doc_id == "clocks"
    assert any("Anna Holt repairs" in clue for clue in how(best).clues)


def test_nodes_are_the_evidence_of_the_core_in_its_order(
    retriever: MemoRAGRetriever, memorag: MemoRAG
) -> None:
    nodes = retriever.retrieve(QUESTION)
    for found, evidence in zip(nodes, memorag.retrieve(QUESTION, k=4), strict=True):
        node, chunk = found.node, evidence.chunk
        assert isinstance(node, TextNode)
        assert (node.node_id, node.text, found.score) == (chunk.id, chunk.text, evidence.score)
        assert (node.start_char_idx, node.end_char_idx) == (chunk.start, chunk.end)
        assert node.ref_doc_id == chunk.document_id
        assert node.source_node is not None
        assert node.source_node.metadata == SOURCES[chunk.document_id].metadata
        assert node.metadata == {"page": SOURCES[chunk.document_id].metadata["page"]}
        assert (how(found).rank, how(found).clues) == (evidence.rank, list(evidence.clues))


def test_on_request_the_metadata_say_where_a_node_is_from_and_how_it_was_found(memorag: MemoRAG) -> None:
    plain = MemoRAGRetriever(memorag).retrieve(QUESTION)
    annotated = MemoRAGRetriever(memorag, annotate=True).retrieve(QUESTION)
    for found, bare, evidence in zip(annotated, plain, memorag.retrieve(QUESTION, k=4), strict=True):
        chunk = evidence.chunk
        assert found.node.metadata == {
            **bare.node.metadata,
            "document_id": chunk.document_id,
            "start": chunk.start,
            "end": chunk.end,
            "score": evidence.score,
            "rank": evidence.rank,
            "clues": list(evidence.clues),
        }
        for mode in (MetadataMode.LLM, MetadataMode.EMBED):
            assert found.node.get_content(metadata_mode=mode) == bare.node.get_content(metadata_mode=mode)
    with pytest.raises(InputError, match="'annotate' is 'yes'"):
        MemoRAGRetriever(memorag, annotate="yes")  # type: ignore[arg-type]


def test_every_node_has_a_score_and_the_best_comes_first(retriever: MemoRAGRetriever) -> None:
    scores = [found.get_score(raise_error=True) for found in retriever.retrieve(QUESTION)]
    assert scores[0] > 0
    assert scores == sorted(scores, reverse=True)


def test_llm_and_embedding_see_the_users_metadata_but_neither_clues_nor_scores(
    retriever: MemoRAGRetriever,
) -> None:
    node = retriever.retrieve(QUESTION)[0].node
    for mode in (MetadataMode.LLM, MetadataMode.EMBED):
        content = node.get_content(metadata_mode=mode)
        assert content == f"page: 4\n\n{DOCUMENTS[3].text}"


# k


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_exactly_k_nodes(memorag: MemoRAG, k: int) -> None:
    assert len(MemoRAGRetriever(memorag, k).retrieve(QUESTION)) == k


def test_a_k_that_cannot_be_had_is_an_error(memorag: MemoRAG) -> None:
    with pytest.raises(InputError, match="k is 0"):
        MemoRAGRetriever(memorag, 0)
    with pytest.raises(InputError):
        MemoRAGRetriever(memorag, 99).retrieve(QUESTION)


def test_without_k_the_settings_decide_and_a_short_text_gives_all_it_has(model: SentenceModel) -> None:
    memorag = MemoRAG(model, retrieval=RetrievalSettings(k=3))
    retriever = MemoRAGRetriever.from_documents([Document(text="One line.")], memorag=memorag)
    assert len(retriever.retrieve(QUESTION)) == 1
    memorag.memorize(DOCUMENTS)
    assert len(retriever.retrieve(QUESTION)) == 3


# Ways to call


async def test_async_returns_what_sync_returns(retriever: MemoRAGRetriever) -> None:
    for question in QUESTIONS:
        assert dumped(await retriever.aretrieve(question)) == dumped(retriever.retrieve(question))
        bundle = QueryBundle(question)
        assert dumped(await retriever.aretrieve(bundle)) == dumped(retriever.retrieve(bundle))


async def test_many_questions_at_once_return_what_single_calls_return(retriever: MemoRAGRetriever) -> None:
    questions = QUESTIONS * 16
    at_once = await asyncio.gather(*(retriever.aretrieve(question) for question in questions))
    assert [dumped(found) for found in at_once] == [dumped(retriever.retrieve(q)) for q in questions]


async def test_the_event_loop_is_free_while_the_memory_is_asked(gated: tuple[MemoRAG, Event]) -> None:
    memorag, gate = gated
    waiting = asyncio.create_task(MemoRAGRetriever(memorag).aretrieve(QUESTION))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    gate.set()  # the loop opens the gate: it cannot, when the question holds it up
    assert len(await waiting) == 4


# In engines


async def test_an_engine_answers_from_the_evidence_and_its_llm_sees_no_clue(
    retriever: MemoRAGRetriever,
) -> None:
    engine = RetrieverQueryEngine.from_args(retriever, llm=MockLLM())  # answers with its prompt
    response = engine.query(QUESTION)
    assert isinstance(response, Response)
    assert "Anna Holt repairs every clock" in str(response)
    assert QUESTION in str(response)
    assert "Where does it say" not in str(response)  # the surrogate question, a clue
    assert dumped(response.source_nodes) == dumped(retriever.retrieve(QUESTION))
    assert str(await engine.aquery(QUESTION)) == str(response)


def test_weights_and_kinds_are_chosen_for_a_retriever(memorag: MemoRAG) -> None:
    alone = RetrievalSettings(clue_weights={"span": 0, "query": 0, "answer": 0})
    unheard = MemoRAGRetriever(memorag, retrieval=alone).retrieve(QUESTION)
    assert all(not how(found).clues for found in unheard)
    spans = MemoRAGRetriever(memorag, kinds=["span"], retrieval=RetrievalSettings(k=1)).retrieve(QUESTION)
    assert len(spans) == 1
    assert how(spans[0]).clues == [clue.text for clue in memorag.clues(QUESTION, kinds=("span",))]


def test_a_k_that_cannot_be_had_is_refused_before_the_memory_is_asked(
    memorag: MemoRAG, model: SentenceModel
) -> None:
    with pytest.raises(InputError, match="k is 99"):
        MemoRAGRetriever(memorag, 99).retrieve(QUESTION)
    assert model.asked == 0


async def test_it_can_be_fused_with_other_retrievers(retriever: MemoRAGRetriever, memorag: MemoRAG) -> None:
    others: list[BaseRetriever] = [retriever, MemoRAGRetriever(memorag, 2)]
    fused = QueryFusionRetriever(others, llm=MockLLM(), num_queries=1, similarity_top_k=3, use_async=False)
    assert fused.retrieve(QUESTION)[0].node_id == retriever.retrieve(QUESTION)[0].node_id
    assert len(await fused.aretrieve(QUESTION)) == 3


async def test_it_can_be_a_tool(retriever: MemoRAGRetriever) -> None:
    tool = RetrieverTool.from_defaults(retriever, name="island", description="What is known of the island.")
    assert "Anna Holt repairs every clock" in str(tool.call(QUESTION))
    assert str(await tool.acall(QUESTION)) == str(tool.call(QUESTION))


# Made from documents


def test_from_documents_memorizes_them_with_ids_and_metadata(model: SentenceModel) -> None:
    documents = [
        Document(text="The mail comes at noon.", id_="mail", metadata={"page": 1}),
        Document(text="Birch burns well.", id_="birch"),
    ]
    retriever = MemoRAGRetriever.from_documents(documents, 2, memorag=MemoRAG(model))
    found = {node.node.ref_doc_id: node.node for node in retriever.retrieve("When is the mail?")}
    assert found["mail"].metadata["page"] == 1
    assert found["birch"].get_content() == "Birch burns well."


def test_what_a_document_hides_from_llm_and_embedding_stays_hidden(
    model: SentenceModel, tmp_path: Path
) -> None:
    document = Document(
        text="The mail comes at noon.",
        metadata={"path": "/private", "page": 1, "size": 9},
        excluded_llm_metadata_keys=["path"],
        excluded_embed_metadata_keys=["path", "size"],
    )
    retriever = MemoRAGRetriever.from_documents([document], 1, memorag=MemoRAG(model))
    node = retriever.retrieve("When is the mail?")[0].node
    assert {name: node.metadata[name] for name in document.metadata} == document.metadata
    assert "llama_index" not in node.metadata
    for mode in (MetadataMode.LLM, MetadataMode.EMBED):
        assert node.get_metadata_str(mode) == document.get_metadata_str(mode)
    retriever.memorag.save(tmp_path / "mail")
    loaded = MemoRAGRetriever(MemoRAG.load(tmp_path / "mail", SentenceModel()), 1)
    assert dumped(loaded.retrieve("When is the mail?")) == dumped(retriever.retrieve("When is the mail?"))


OWN: dict[str, Any] = {
    "a mapping": {"x": 1},
    "a text": "ours",
    "with our names": {"llm": 5, "relationships": 5, "node": True},
    "with our names of other rows": {"node": True, "relationships": {"NEXT": {"page": 2}}},
}


@pytest.mark.parametrize("own", OWN)
def test_what_the_user_has_under_the_name_of_ours_comes_back(own: str, model: SentenceModel) -> None:
    metadata = {"a": 1, "llama_index": OWN[own], "b": 2}
    text = "The mail comes at noon."
    node = TextNode(text=text, id_="n", metadata=metadata, excluded_llm_metadata_keys=["a"])
    plain = Plain("The birch burns well.", "plain", metadata)
    retriever = MemoRAGRetriever(MemoRAG(model).memorize(plain), 2)
    retriever.insert(node)
    found = {one.node.node_id.partition(":")[0]: one.node for one in retriever.retrieve("mail or birch?")}
    assert [list(one.metadata.items()) for one in found.values()] == [list(metadata.items())] * 2
    assert found["n"].hash == node.hash
    retriever.delete_ref_doc("plain")
    retriever.delete_ref_doc("n")
    assert not retriever.memorag.documents


# Clear errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k is 0"),
        ({"k": True}, "k is True"),
        ({"kinds": ["spans"]}, "Take out 'spans'"),
        ({"retrieval": {"k": 3}}, "'retrieval' is a dict"),
        ({"filters": {"page": 3}}, "'filters' is a dict"),
        ({"over": "index"}, "'over' is a str"),
        ({"over": WordRetriever(), "timeout": 0}, "timeout is 0"),
        ({"over": WordRetriever(), "concurrency": 0}, "concurrency is 0"),
        ({"over": WordRetriever(), "filters": MetadataFilters(filters=[])}, "Give them to that"),
    ],
)
def test_wrong_arguments_are_named(memorag: MemoRAG, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MemoRAGRetriever(memorag, **arguments)


@pytest.mark.parametrize("wrong", ["book.txt", None, SentenceModel(), MemoRAG])
def test_something_else_than_a_memorag_is_named_with_the_remedy(wrong: Any) -> None:
    with pytest.raises(InputError, match=r"expected a memorag_core.MemoRAG .* memorize"):
        MemoRAGRetriever(wrong)


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        (["a text"], r"Document\(text=...\)"),
        ("a text", "expected a list"),
        (Document(text="a text"), "expected a list"),
        ([Document(text=" ")], "is empty"),
        ([], "no documents"),
        ([Document(text="a", id_="x"), Document(text="b", id_="x")], "x"),
    ],
)
def test_documents_that_cannot_be_memorized_are_refused_and_nothing_is_memorized(
    documents: Any, message: str, model: SentenceModel
) -> None:
    memorag = MemoRAG(model)
    with pytest.raises(InputError, match=message):
        MemoRAGRetriever.from_documents(documents, memorag=memorag)
    assert memorag.documents == ()


def test_a_question_before_anything_is_memorized_is_an_error(model: SentenceModel) -> None:
    with pytest.raises(NothingMemorizedError):
        MemoRAGRetriever(MemoRAG(model)).retrieve(QUESTION)


def test_without_llama_index_the_error_says_what_to_install() -> None:
    program = "import sys; sys.modules['llama_index'] = None; import llama_index_memorag"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert "pip install 'memorag-adapters[llama-index]'" in run.stderr


# Signatures


def test_public_signatures_are_as_promised() -> None:
    assert list(inspect.signature(MemoRAGRetriever).parameters) == [
        "memorag",
        "k",
        "over",
        "concurrency",
        "timeout",
        "filters",
        "kinds",
        "retrieval",
        "annotate",
        "callback_manager",
        "object_map",
        "objects",
        "verbose",
    ]
    assert [*inspect.signature(MemoRAGRetriever).parameters][2:] == [*Options.__annotations__]
    assert str(inspect.signature(MemoRAGRetriever.from_documents)) == (
        "(documents: 'Iterable[BaseNode]', k: 'int | None' = None, *, memorag: 'MemoRAG | None' = None, "
        "**options: 'Unpack[Options]') -> 'Self'"
    )
    assert issubclass(MemoRAGRetriever, BaseRetriever)
