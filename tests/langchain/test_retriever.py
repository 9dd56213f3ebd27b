"""The LangChain retriever: what it returns, how it is called, and what it never shows."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.load import dumpd, dumps
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompt_values import PromptValue
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField, RunnableLambda, RunnablePassthrough
from langchain_core.tools import create_retriever_tool
from pydantic import ValidationError

from langchain_memorag import MemoRAGRetriever
from memorag_core import InputError, MemoRAG, NothingMemorizedError, RetrievalSettings
from tests.core.doubles import SentenceModel
from tests.langchain.conftest import DOCUMENTS, QUESTION

QUESTIONS = (QUESTION, "When does the ferry leave?", "What does Oskar bake?", "How old is the tower?")
SOURCES = {document.id: document for document in DOCUMENTS}


@pytest.fixture
def retriever(memorag: MemoRAG) -> MemoRAGRetriever:
    return MemoRAGRetriever(memorag=memorag)


# What comes back


def test_a_clue_finds_what_shares_no_word_with_the_question(retriever: MemoRAGRetriever) -> None:
    best = retriever.invoke(QUESTION, annotate=True)[0]
    assert best.metadata["document_id"] == "clocks"
    assert any("Anna Holt repairs" in clue for clue in best.metadata["clues"])


def test_documents_are_the_evidence_of_the_core_in_its_order(
    retriever: MemoRAGRetriever, memorag: MemoRAG
) -> None:
    evidence = memorag.retrieve(QUESTION, k=4)
    documents = retriever.invoke(QUESTION)
    assert [document.id for document in documents] == [found.chunk.id for found in evidence]
    assert [document.page_content for document in documents] == [found.chunk.text for found in evidence]
    for document, found in zip(documents, evidence, strict=True):
        assert document.metadata == {
            "page": SOURCES[found.chunk.document_id].metadata["page"],
            "document_id": found.chunk.document_id,
            "start": found.chunk.start,
            "end": found.chunk.end,
        }
    annotated = retriever.invoke(QUESTION, annotate=True)
    assert MemoRAGRetriever(memorag=memorag, annotate=True).invoke(QUESTION) == annotated
    for document, plain, found in zip(annotated, documents, evidence, strict=True):
        how = {"score": found.score, "rank": found.rank, "clues": list(found.clues)}
        assert document.metadata == {**plain.metadata, **how}


def test_the_span_in_the_metadata_is_the_text(retriever: MemoRAGRetriever) -> None:
    for document in retriever.invoke(QUESTION):
        place = document.metadata
        assert document.page_content == SOURCES[place["document_id"]].text[place["start"] : place["end"]]


def test_provenance_wins_over_metadata_of_the_same_name(model: SentenceModel) -> None:
    document = Document(page_content="Only one line.", metadata={"score": "mine", "author": "A. Holt"})
    retriever = MemoRAGRetriever.from_documents([document], memorag=MemoRAG(model), k=1)
    found = retriever.invoke("line?", annotate=True)[0]
    assert isinstance(found.metadata["score"], float)
    assert retriever.invoke("line?")[0].metadata["score"] == "mine"
    assert found.metadata["author"] == "A. Holt"


def test_what_a_caller_does_to_a_document_stays_with_that_caller(retriever: MemoRAGRetriever) -> None:
    before = retriever.invoke(QUESTION)
    for document in retriever.invoke(QUESTION):
        document.metadata.clear()
    assert retriever.invoke(QUESTION) == before


def test_documents_can_be_written_as_json(retriever: MemoRAGRetriever) -> None:
    for document in retriever.invoke(QUESTION):
        assert json.loads(json.dumps(document.metadata)) == document.metadata
        assert dumpd(document)["kwargs"]["id"] == document.id


# k


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_exactly_k_documents_at_construction_and_at_call(memorag: MemoRAG, k: int) -> None:
    assert len(MemoRAGRetriever(memorag=memorag, k=k).invoke(QUESTION)) == k
    assert len(MemoRAGRetriever(memorag=memorag).invoke(QUESTION, k=k)) == k


async def test_k_at_call_holds_for_every_way_to_call(retriever: MemoRAGRetriever) -> None:
    assert len(await retriever.ainvoke(QUESTION, k=2)) == 2
    assert [len(found) for found in retriever.batch(list(QUESTIONS), k=2)] == [2, 2, 2, 2]
    assert [len(found) for found in await retriever.abatch(list(QUESTIONS), k=2)] == [2, 2, 2, 2]
    assert retriever.k is None


def test_k_can_be_a_configurable_field(retriever: MemoRAGRetriever) -> None:
    configurable = retriever.configurable_fields(k=ConfigurableField(id="k"))
    assert len(configurable.invoke(QUESTION, {"configurable": {"k": 1}})) == 1
    assert len(configurable.invoke(QUESTION)) == 4


@pytest.mark.parametrize("k", [0, -1, 99])
def test_a_k_that_cannot_be_had_is_an_error_at_the_call(retriever: MemoRAGRetriever, k: int) -> None:
    with pytest.raises(InputError):
        retriever.invoke(QUESTION, k=k)


def test_a_k_below_one_is_an_error_at_construction(memorag: MemoRAG) -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        MemoRAGRetriever(memorag=memorag, k=0)


def test_an_argument_that_is_not_known_is_not_swallowed(retriever: MemoRAGRetriever) -> None:
    with pytest.raises(TypeError, match="top_k"):
        retriever.invoke(QUESTION, top_k=2)


def test_without_k_the_settings_decide_and_a_short_text_gives_all_it_has(model: SentenceModel) -> None:
    settings = RetrievalSettings(k=3)
    retriever = MemoRAGRetriever.from_texts(["One line."], memorag=MemoRAG(model, retrieval=settings))
    assert len(retriever.invoke(QUESTION)) == 1
    retriever.memorag.memorize(DOCUMENTS)
    assert len(retriever.invoke(QUESTION)) == 3


# Ways to call


async def test_async_and_batch_return_what_single_calls_return(retriever: MemoRAGRetriever) -> None:
    questions = list(QUESTIONS)
    singles = [retriever.invoke(question) for question in questions]
    assert [await retriever.ainvoke(question) for question in questions] == singles
    assert retriever.batch(questions) == singles
    assert await retriever.abatch(questions) == singles


async def test_many_questions_at_once_return_what_single_calls_return(retriever: MemoRAGRetriever) -> None:
    questions = list(QUESTIONS) * 16
    at_once = await asyncio.gather(*(retriever.ainvoke(question) for question in questions))
    assert at_once == [retriever.invoke(question) for question in questions]


async def test_the_event_loop_is_free_while_the_memory_is_asked(gated: tuple[MemoRAG, Event]) -> None:
    memorag, gate = gated
    waiting = asyncio.create_task(MemoRAGRetriever(memorag=memorag).ainvoke(QUESTION))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    gate.set()  # the loop opens the gate: it cannot, when the question holds it up
    assert len(await waiting) == 4


async def test_events_and_traces_name_the_retriever_and_carry_its_documents(
    retriever: MemoRAGRetriever,
) -> None:
    events = [event async for event in retriever.astream_events(QUESTION, version="v2")]
    assert [events[0]["event"], events[-1]["event"]] == ["on_retriever_start", "on_retriever_end"]
    assert events[0]["metadata"]["ls_retriever_name"] == "memorag"
    assert events[-1]["data"]["output"] == retriever.invoke(QUESTION)


def test_a_chain_answers_from_evidence_and_never_shows_clues_to_the_llm(retriever: MemoRAGRetriever) -> None:
    seen: list[str] = []

    def watch(value: PromptValue) -> PromptValue:
        seen.append(value.to_string())
        return value

    def passages(documents: list[Document]) -> str:
        return "\n".join(document.page_content for document in documents)

    chain: Any = (
        {"passages": retriever | passages, "question": RunnablePassthrough()}
        | ChatPromptTemplate.from_template("{passages}\n\n{question}")
        | RunnableLambda(watch)
        | FakeListChatModel(responses=["Anna Holt."])
        | StrOutputParser()
    )
    assert chain.invoke(QUESTION) == "Anna Holt."
    assert "Anna Holt repairs every clock" in seen[0]
    assert "Where does it say" not in seen[0]  # the surrogate question, a clue


def test_a_tool_gives_texts_to_the_agent_and_documents_as_artifact(retriever: MemoRAGRetriever) -> None:
    tool = create_retriever_tool(
        retriever, "island", "What is known of the island.", response_format="content_and_artifact"
    )
    call = {"name": "island", "args": {"query": QUESTION}, "id": "1", "type": "tool_call"}
    message = tool.invoke(call)
    assert "Anna Holt repairs every clock" in message.content
    assert message.artifact == retriever.invoke(QUESTION)


# Made from texts, documents, a folder


def test_from_texts_memorizes_them_with_ids_and_metadata(model: SentenceModel) -> None:
    retriever = MemoRAGRetriever.from_texts(
        ["The mail comes at noon.", "Birch burns well."],
        [{"page": 1}, {"page": 2}],
        ids=["mail", "birch"],
        memorag=MemoRAG(model),
        k=2,
    )
    found = {document.metadata["document_id"]: document for document in retriever.invoke("When is the mail?")}
    assert found["mail"].metadata["page"] == 1
    assert found["birch"].page_content == "Birch burns well."


def test_documents_without_an_id_get_one_that_is_free(model: SentenceModel) -> None:
    memorag = MemoRAG(model)
    MemoRAGRetriever.from_documents(
        [
            Document(page_content="One."),
            Document(page_content="Two.", id="0"),
            Document(page_content="Three."),
        ],
        memorag=memorag,
    )
    MemoRAGRetriever.from_texts(["Four."], memorag=memorag)
    assert [(document.id, document.text) for document in memorag.documents] == [
        ("1", "One."),
        ("0", "Two."),
        ("2", "Three."),
        ("3", "Four."),
    ]


def test_a_retriever_is_loaded_as_it_was_saved(
    retriever: MemoRAGRetriever, memorag: MemoRAG, tmp_path: Path
) -> None:
    memorag.save(tmp_path / "island")
    loaded = MemoRAGRetriever.load(tmp_path / "island", model=SentenceModel(), k=3)
    assert loaded.invoke(QUESTION) == retriever.invoke(QUESTION, k=3)


def test_what_is_loaded_can_be_given_a_re_ranker(memorag: MemoRAG, tmp_path: Path) -> None:
    memorag.save(tmp_path / "island")

    def shortest(_: str, passages: Sequence[str]) -> list[float]:
        return [-float(len(passage)) for passage in passages]

    loaded = MemoRAGRetriever.load(tmp_path / "island", model=SentenceModel(), reranker=shortest)
    lengths = [len(document.page_content) for document in loaded.invoke(QUESTION)]
    assert lengths == sorted(lengths)
    assert len(lengths) > 1


# Clear errors


@pytest.mark.parametrize("wrong", ["book.txt", None, SentenceModel(), MemoRAG])
def test_something_else_than_a_memorag_is_named_with_the_remedy(wrong: Any) -> None:
    with pytest.raises(ValidationError, match=r"expected a memorag_core.MemoRAG .*\.from_texts"):
        MemoRAGRetriever(memorag=wrong)


@pytest.mark.parametrize(
    ("texts", "more", "message"),
    [
        ("one text", {}, "'texts' is a str"),
        ([1], {}, "a int among the texts"),
        (["a"], {"metadatas": []}, "1 texts and 0 metadatas"),
        (["a"], {"ids": ["x", "y"]}, "1 texts and 2 ids"),
        (["a", "b"], {"ids": ["x", "x"]}, "x"),
        ([], {}, "no documents"),
        (["a", " "], {}, "is empty"),
    ],
)
def test_texts_that_cannot_be_memorized_are_refused_and_nothing_is_memorized(
    texts: Any, more: dict[str, Any], message: str, model: SentenceModel
) -> None:
    memorag = MemoRAG(model)
    with pytest.raises(InputError, match=message):
        MemoRAGRetriever.from_texts(texts, memorag=memorag, **more)
    assert memorag.documents == ()


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        (["a text"], "Plain texts go to from_texts"),
        (Document(page_content="a text"), "expected a list"),
        ([Document(page_content="a", id="x"), Document(page_content="b", id="x")], "x"),
        ([], "no documents"),
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
        MemoRAGRetriever(memorag=MemoRAG(model)).invoke(QUESTION)


def test_without_langchain_the_error_says_what_to_install() -> None:
    program = "import sys; sys.modules['langchain_core'] = None; import langchain_memorag"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert "pip install 'memorag-adapters[langchain]'" in run.stderr


# Never shown


def test_neither_repr_nor_a_serialized_form_shows_the_memory(retriever: MemoRAGRetriever) -> None:
    for shown in (repr(retriever), str(retriever), dumps(retriever), json.dumps(retriever.model_dump())):
        assert "Anna" not in shown
        assert "SentenceModel" not in shown
        assert "MemoRAG object" not in shown
    assert dumpd(retriever)["type"] == "not_implemented"
    with pytest.raises(TypeError, match=r"cannot be pickled.*save\(path\)"):
        pickle.dumps(retriever)


def test_copies_share_the_memory_and_have_tags_of_their_own(memorag: MemoRAG) -> None:
    retriever = MemoRAGRetriever(memorag=memorag, k=2, tags=["one"])
    for copied in (copy.copy(retriever), copy.deepcopy(retriever), retriever.model_copy(deep=True)):
        assert copied.memorag is memorag
        assert copied.invoke(QUESTION) == retriever.invoke(QUESTION)
    deep = copy.deepcopy(retriever)
    (deep.tags or []).append("two")
    assert retriever.tags == ["one"]
