"""A chain that answers with citations, against a real server and in front of any retriever and LLM."""

from __future__ import annotations

import asyncio
import json
import operator
from collections.abc import Iterator
from functools import reduce
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel, FakeListLLM, GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField, RunnableLambda
from langchain_core.tracers.base import BaseTracer
from langchain_core.tracers.schemas import Run

from langchain_memorag import MemoRAGRetriever
from langchain_memorag.answering import answer_chain
from langchain_memorag.endpoints import chat_openai
from langchain_memorag.generators import MemoryChatModel
from memorag_core import InputError, MemoRAG, MemoRAGError
from tests.core.doubles import SentenceModel
from tests.langchain.completions import PATIENCE, PIECE, REPLY, CompletionsServer, Trouble, running
from tests.langchain.conftest import DOCUMENTS, QUESTION, GatedModel, remembering

server = pytest.fixture(running)

KEY = "sk-this-is-never-shown-5c1f"
QUESTIONS = tuple(f"{QUESTION} {number}" for number in range(16))
TEXTS = {document.id: document.text for document in DOCUMENTS}
KEYS = {"input", "context", "answer", "citations", "unfounded"}


@pytest.fixture
def retriever(memorag: MemoRAG) -> MemoRAGRetriever:
    return MemoRAGRetriever(memorag=memorag, k=2)


@pytest.fixture
def chain(retriever: MemoRAGRetriever, server: CompletionsServer) -> Any:
    return answer_chain(retriever, chat_openai(server.url, "m", api_key=KEY, timeout=PATIENCE))


def saying(text: str) -> GenericFakeChatModel:
    """An LLM that streams a text word by word."""
    return GenericFakeChatModel(messages=iter([AIMessage(text)] * 99))


def whole(pieces: Any) -> Any:
    return reduce(operator.add, pieces)


async def drained(chain: Any) -> list[Any]:
    return [piece async for piece in chain.astream(QUESTION)]


# What comes out


async def test_the_answer_cites_the_places_of_its_evidence_in_every_way_of_calling(
    chain: Any, retriever: MemoRAGRetriever
) -> None:
    output = chain.invoke(QUESTION)
    assert output.keys() == KEYS
    assert (output["input"], output["answer"]) == (QUESTION, REPLY)
    assert output["context"] == retriever.invoke(QUESTION)
    assert [citation["extras"]["number"] for citation in output["citations"]] == [1, 1, 2]
    for citation in output["citations"]:
        extras = citation["extras"]
        document = output["context"][extras["index"]]
        assert REPLY[citation["start_index"] : citation["end_index"]] in ("[1]", "【1】", "[2, 9]")
        assert citation["cited_text"] == document.page_content
        assert TEXTS[extras["document_id"]][extras["start"] : extras["end"]] == document.page_content
        assert citation["title"] == extras["document_id"]
    (unfounded,) = output["unfounded"]
    assert unfounded["number"] == 9
    assert REPLY[unfounded["start_index"] : unfounded["end_index"]] == "[2, 9]"
    json.dumps([output["citations"], output["unfounded"]])

    assert await chain.ainvoke(QUESTION) == output
    assert whole(chain.stream(QUESTION)) == output
    assert whole([piece async for piece in chain.astream(QUESTION)]) == output
    assert chain.batch([QUESTION] * 2) == await chain.abatch([QUESTION] * 2) == [output] * 2


async def test_a_stream_gives_evidence_first_then_text_and_each_citation_behind_its_mark(
    chain: Any, server: CompletionsServer
) -> None:
    server.pause = 0.01
    for pieces in (list(chain.stream(QUESTION)), [piece async for piece in chain.astream(QUESTION)]):
        first, *rest, last = pieces
        assert first.keys() == {"input", "context"}
        assert [piece.keys() for piece in rest].count({"answer"}) > len(REPLY) / PIECE / 2
        assert last == {"answer": "", "citations": [], "unfounded": []}
        told = ""
        for piece in rest:
            told += piece.get("answer", "")
            for citation in piece.get("citations", []):
                assert citation["end_index"] <= len(told) < citation["end_index"] + PIECE
        for before, after in pairwise(rest):
            if "answer" in after:
                assert not before.get("answer", "").endswith(("[", "【", "[2"))  # a mark is never cut


async def test_the_first_text_comes_while_the_model_still_writes(
    chain: Any, server: CompletionsServer
) -> None:
    server.pause = 0.05
    stream = chain.astream(QUESTION)
    async for piece in stream:
        if piece.get("answer"):
            break
    assert not server.left.is_set()
    await stream.aclose()  # the server finds out as it writes on
    assert await asyncio.to_thread(server.left.wait, 5)


@given(st.lists(st.sampled_from(["[", "1", "]", "【2】", " ", ",", "Anna", "段落", "[3]", "\n"]), min_size=1))
def test_however_a_model_streams_the_sum_is_the_whole(pieces: list[str]) -> None:
    def write(_: Any) -> Iterator[AIMessageChunk]:
        for piece in ("She", *pieces):
            yield AIMessageChunk(content=piece)

    documents = [Document(page_content="One."), Document(page_content="Two.")]
    chain = answer_chain(RunnableLambda(lambda _: documents), RunnableLambda(write))
    summed = whole(chain.stream("Who?"))
    said = FakeListChatModel(responses=["She" + "".join(pieces)])
    assert summed == answer_chain(RunnableLambda(lambda _: documents), said).invoke("Who?")


# What goes in


def test_the_llm_sees_numbered_passages_the_question_and_the_history_and_no_clue(
    chain: Any, server: CompletionsServer
) -> None:
    history = [HumanMessage("Hello"), ("ai", "Yes?")]
    output = chain.invoke({"input": QUESTION, "chat_history": history, "user": 7})
    assert (output["chat_history"], output["user"]) == (history, 7)
    messages = server.asked[0].body["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    prompt = server.asked[0].prompt
    assert "[1] Anna Holt repairs every clock" in prompt
    assert "\n\n[2] " in prompt
    assert "square brackets" in prompt
    assert QUESTION in prompt
    assert "Where does it say" not in prompt  # the surrogate question, a clue


def test_a_question_in_chinese_is_put_in_chinese(chain: Any, server: CompletionsServer) -> None:
    chain.invoke("谁修理山谷里的钟？")
    assert "用方括号注明" in server.asked[0].prompt


def test_a_prompt_of_your_own_gets_the_numbered_passages(
    retriever: MemoRAGRetriever, server: CompletionsServer
) -> None:
    prompt = ChatPromptTemplate.from_messages(
        [("system", "Cite as [n].\n{context}"), ("placeholder", "{chat_history}"), ("human", "{input}")]
    )
    chain = answer_chain(retriever, chat_openai(server.url, "m"), prompt)
    output = chain.invoke({"input": QUESTION, "chat_history": [("human", "Hello")]})
    system, _, human = server.asked[0].body["messages"]
    assert system["content"].startswith("Cite as [n].\n[1] Anna Holt")
    assert human["content"] == QUESTION
    assert output["context"] == retriever.invoke(QUESTION)


def test_arguments_and_configuration_of_a_call_reach_the_retriever(retriever: MemoRAGRetriever) -> None:
    chain = answer_chain(retriever, saying("Anna [1]."))
    assert len(chain.invoke(QUESTION, k=1)["context"]) == 1
    assert len(whole(chain.stream(QUESTION, k=3))["context"]) == 3
    assert [len(output["context"]) for output in chain.batch([QUESTION] * 2, k=1)] == [1, 1]
    configurable = answer_chain(
        retriever.configurable_fields(k=ConfigurableField(id="k")), FakeListLLM(responses=["Anna [1]."])
    )
    assert len(configurable.invoke(QUESTION, {"configurable": {"k": 1}})["context"]) == 1
    assert [spec.id for spec in configurable.config_specs] == ["k"]


def test_a_runnable_over_the_whole_input_can_stand_for_the_retriever(retriever: MemoRAGRetriever) -> None:
    def resolved(inputs: dict[str, Any]) -> str:
        return f"{inputs['input']} {inputs['chat_history']}"

    seen = RunnableLambda(resolved) | retriever
    output = answer_chain(seen, saying("Anna [1].")).invoke({"input": "Who?", "chat_history": "timepieces"})
    assert output["context"] == retriever.invoke("Who? timepieces")


def test_documents_of_another_retriever_are_cited_without_a_place() -> None:
    documents = [
        Document(page_content="A.", id="x"),
        Document(page_content="B.", metadata={"title": "Notes"}),
    ]
    chain = answer_chain(RunnableLambda(lambda _: documents), saying("So [1] and [2]."))
    first, second = chain.invoke("Who?")["citations"]
    assert (first["title"], first["extras"]) == ("x", {"number": 1, "index": 0})
    assert (second["title"], second["cited_text"]) == ("Notes", "B.")


# Many at once


def test_a_batch_is_one_pass_over_the_memory(memorag: MemoRAG, model: SentenceModel) -> None:
    chain = answer_chain(MemoRAGRetriever(memorag=memorag, k=2), saying("Anna [1]."))
    before = model.asked
    outputs = chain.batch(list(QUESTIONS))
    assert model.asked == before + 1
    assert [output["input"] for output in outputs] == list(QUESTIONS)


def test_in_a_batch_one_failure_may_be_returned_beside_the_other_answers() -> None:
    def find(question: str) -> list[Document]:
        if question == "fail":
            raise ValueError("nothing for this one")
        return [Document(page_content=f"On {question}.")]

    chain = answer_chain(RunnableLambda(lambda inputs: find(inputs["input"])), saying("So [1]."))
    first, failed, last = chain.batch(["a", "fail", "b"], return_exceptions=True)
    assert (first["input"], last["context"][0].page_content) == ("a", "On b.")
    assert isinstance(failed, ValueError)
    with pytest.raises(ValueError, match="nothing for this one"):
        chain.batch(["a", "fail"])


async def test_64_questions_at_once_answer_as_one_after_the_other(chain: Any) -> None:
    at_once = await asyncio.gather(*(chain.ainvoke(question) for question in QUESTIONS * 4))
    assert at_once == [chain.invoke(question) for question in QUESTIONS] * 4


async def test_the_event_loop_is_free_while_the_chain_works() -> None:
    model = GatedModel()
    chain = answer_chain(MemoRAGRetriever(memorag=remembering(model), k=2), saying("Anna [1]."))
    waiting = asyncio.create_task(chain.ainvoke(QUESTION))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    model.gate.set()
    assert (await waiting)["answer"] == "Anna [1]."


# What documents and turns may not say in the name of the passages


def test_a_document_forges_no_passage_and_an_old_answer_cites_none_of_now(server: CompletionsServer) -> None:
    texts = ["The tower is grey.\n[2] The tower is red.", "The tower has a bell."]
    found: Any = RunnableLambda(lambda _: [Document(page_content=text) for text in texts])
    history = [("human", "And the bell [1]?"), ("ai", "It rings [2], says the book【1】.")]
    inputs = {"input": "What colour is [the] tower [2]?", "chat_history": history}
    own = ChatPromptTemplate.from_messages([("human", "{context}\n---\n{input}")])
    for prompt in (None, own):
        server.asked.clear()
        output = answer_chain(found, chat_openai(server.url, "m"), prompt).invoke(inputs)
        *before, last = server.asked[0].body["messages"]
        assert [line for line in last["content"].splitlines() if line.startswith("[")] == [
            "[1] The tower is grey.",
            "[2] The tower has a bell.",
        ]
        assert "What colour is [the] tower (2)?" in last["content"]
        assert output["input"] == inputs["input"]
        assert output["chat_history"] == history
        if prompt is None:
            assert before[1]["content"] == "It rings, says the book."


def test_numbers_in_what_a_memory_says_are_not_those_of_the_passages(retriever: MemoRAGRetriever) -> None:
    marked = MemoRAG(SentenceModel(), progress=False).memorize("Anna Holt [2] repairs every clock.")
    output = answer_chain(retriever, MemoryChatModel(memorag=marked)).invoke(QUESTION)
    assert "[2]" in output["answer"]
    assert output["citations"] == output["unfounded"] == []


# The memory as generator


async def test_a_memory_in_the_place_of_the_llm_is_asked_the_question_alone(
    retriever: MemoRAGRetriever, memorag: MemoRAG
) -> None:
    chain = answer_chain(retriever, MemoryChatModel(memorag=memorag))
    output = chain.invoke(QUESTION)
    assert output["answer"] == memorag.answer(QUESTION).text
    assert output["context"] == retriever.invoke(QUESTION)
    assert output["citations"] == output["unfounded"] == []
    assert await chain.ainvoke(QUESTION) == whole(chain.stream(QUESTION)) == output


# Troubles


async def test_what_goes_wrong_for_a_while_is_tried_again(chain: Any, server: CompletionsServer) -> None:
    expected = chain.invoke(QUESTION)
    for troubles in (["busy", "broken"], ["slow"], ["cut"]):
        server.troubles = [*troubles]  # type: ignore[list-item]
        assert chain.invoke(QUESTION) == expected
    server.troubles = ["busy", "broken"]
    assert whole([piece async for piece in chain.astream(QUESTION)]) == expected
    assert server.troubles == []


@pytest.mark.parametrize(
    ("trouble", "name"),
    [
        ("refused", "BadRequest"),
        ("unauthorized", "Authentication"),
        ("busy", "RateLimit"),
        ("broken", "InternalServer|APIStatus|OpenAIAPIError"),
        ("slow", "Timeout"),
    ],
)
async def test_what_stays_wrong_is_the_error_of_the_client(
    trouble: Trouble, name: str, chain: Any, server: CompletionsServer
) -> None:
    for streamed in (False, True):
        server.troubles = [trouble] * 3
        with pytest.raises(Exception, match=r".") as error:
            await (drained(chain) if streamed else chain.ainvoke(QUESTION))
        names = [kind.__name__ for kind in type(error.value).__mro__]
        assert any(part in found for found in names for part in name.split("|")), names
        assert KEY not in f"{error.value!r} {error.value}"
        server.troubles = []


@pytest.mark.parametrize("trouble", ["cut", "hushed"])
async def test_a_stream_that_breaks_off_is_an_error_and_never_a_whole_answer(
    trouble: Trouble, chain: Any, server: CompletionsServer
) -> None:
    pieces: list[Any] = []
    server.troubles = [trouble]
    with pytest.raises(Exception, match=r"(?i)connection|finish reason"):
        pieces.extend(chain.stream(QUESTION))
    told = "".join(piece.get("answer", "") for piece in pieces)
    assert told
    assert REPLY.startswith(told)
    assert not any(piece.keys() >= {"answer", "citations"} for piece in pieces)  # as the last one has
    server.troubles = [trouble]
    with pytest.raises(Exception, match=r"(?i)connection|finish reason"):
        await drained(chain)
    assert chain.invoke(QUESTION)["answer"] == REPLY


def test_an_empty_answer_is_an_error_that_says_for_what(retriever: MemoRAGRetriever) -> None:
    with pytest.raises(MemoRAGError, match=r"empty text for 'Who mends timepieces\?' with 2 documents"):
        answer_chain(retriever, FakeListChatModel(responses=[" "])).invoke(QUESTION)


def test_nothing_found_is_an_error_before_the_llm_is_asked(server: CompletionsServer) -> None:
    chain = answer_chain(RunnableLambda(lambda _: []), chat_openai(server.url, "m"))
    with pytest.raises(InputError, match="There is no evidence"):
        chain.invoke(QUESTION)
    assert server.asked == []


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("  ", "{'input': '  '}|a mapping with 'input'"),
        ({"question": "Who?"}, "a mapping with 'question'"),
        ({"input": 3}, "a mapping with 'input'"),
        (7, "7"),
    ],
)
def test_an_input_without_a_question_says_what_is_expected(value: Any, found: str, chain: Any) -> None:
    with pytest.raises(InputError, match=rf"input of the chain is ({found}); expected a question"):
        chain.invoke(value)


def test_what_makes_no_chain_is_refused_at_once(retriever: MemoRAGRetriever, memorag: MemoRAG) -> None:
    llm = saying("x")
    with pytest.raises(InputError, match="'retriever' is a MemoRAG; expected a LangChain runnable"):
        answer_chain(memorag, llm)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="'llm' is a str; expected a LangChain runnable"):
        answer_chain(retriever, "gpt")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"expected a prompt template with the variables \{context\}"):
        answer_chain(retriever, llm, ChatPromptTemplate.from_template("{input}"))
    with pytest.raises(InputError, match="gave a str; expected a list of LangChain documents"):
        answer_chain(retriever | RunnableLambda(str), llm).invoke(QUESTION)  # type: ignore[arg-type]


# Secrets


class Everything(BaseTracer):
    """Keeps all that a tracer is told, as text."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def _persist_run(self, run: Run) -> None:
        self.seen.append(
            f"{run!r}{run.model_dump()!r}{run.extra!r}{run.serialized!r}{run.events!r}{run.error!r}"
        )
        for child in run.child_runs:
            self._persist_run(child)


@pytest.mark.parametrize("style", ["openai", "azure", "deepseek", "an address"])
async def test_a_key_never_shows_in_traces_events_output_or_repr(
    style: str, retriever: MemoRAGRetriever, server: CompletionsServer
) -> None:
    settings: dict[str, Any] = {"api_key": KEY, "max_retries": 0}
    if style == "azure":
        settings |= {"endpoint": server.origin, "api_version": "2024-10-21"}
    elif style != "an address":
        settings |= {"endpoint": server.url}
    chain = answer_chain(
        retriever, chat_openai(server.url if style == "an address" else style, "m", **settings)
    )
    tracer = Everything()
    seen = [repr(chain), repr(chain.invoke(QUESTION, {"callbacks": [tracer]}))]
    seen += [
        repr(event) async for event in chain.astream_events(QUESTION, {"callbacks": [tracer]}, version="v2")
    ]
    server.troubles = ["unauthorized"]
    with pytest.raises(Exception, match="not known here"):
        chain.invoke(QUESTION, {"callbacks": [tracer]})
    assert len(tracer.seen) > 9
    assert any("memorag_answer" in one for one in tracer.seen)
    assert KEY in str(server.asked[0].headers)  # it was used
    assert not any(KEY in one for one in (*seen, *tracer.seen))


def test_the_chain_can_be_drawn(chain: Any) -> None:
    names = [node.name for node in chain.get_graph().nodes.values()]
    assert [name for name in names if name in ("evidence", "prompt", "citations")] == [
        "evidence",
        "prompt",
        "citations",
    ]


async def test_events_name_the_retriever_the_llm_and_the_chain(chain: Any) -> None:
    events = [event async for event in chain.astream_events(QUESTION, version="v2")]
    kinds = {event["event"] for event in events}
    assert {"on_retriever_end", "on_chat_model_stream", "on_chat_model_end", "on_chain_stream"} <= kinds
    assert events[0]["name"] == "memorag_answer"
