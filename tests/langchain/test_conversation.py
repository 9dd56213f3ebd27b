"""The chat history and the history-aware retriever: messages come back whole, follow-ups find their turns."""

from __future__ import annotations

import asyncio
import json
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory

from langchain_memorag import MemoRAGRetriever
from langchain_memorag.conversation import MESSAGE, MemoRAGChatHistory, conversation_retriever
from memorag_core import Conversation, InputError, MemoRAG, MemoRAGError
from tests.core.at_once import THREADS, at_once
from tests.core.doubles import SentenceModel
from tests.core.test_conversation import SAID, GatedModel, ReadingModel

ASKED = {
    "input": "And where does she live?",
    "chat_history": [HumanMessage("I had lunch with Mara Venn."), AIMessage("How nice.")],
}
ANSWER = SAID[4][1]


@pytest.fixture
def conversation() -> Conversation:
    conversation = Conversation(MemoRAG(ReadingModel(), progress=False))
    conversation.extend(SAID)
    return conversation


def messages() -> list[BaseMessage]:
    call = {"name": "weather", "args": {"town": "Graz"}, "id": "1", "type": "tool_call"}
    return [
        SystemMessage("Be brief."),
        HumanMessage("What is the weather like in Graz?", id="first", name="Mara"),
        AIMessage("", tool_calls=[call], response_metadata={"model_name": "small"}),
        ToolMessage("Rain.", tool_call_id="1"),
        AIMessage([{"type": "text", "text": "It rains."}], usage_metadata=None),
        HumanMessage([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]),
        ChatMessage(content="你好。", role="narrator"),
    ]


# The history


def test_messages_come_back_as_they_went_in() -> None:
    history = MemoRAGChatHistory(Conversation(MemoRAG(SentenceModel(), progress=False)))
    assert history.messages == []
    history.add_messages(messages())
    history.add_user_message("And now?")
    history.add_messages([])
    assert history.messages == [*messages(), HumanMessage("And now?")]
    history.messages[0].content = "changed"
    assert history.messages[0].content == "Be brief."
    assert "Human: And now?" in str(history)


def test_what_is_read_of_a_message_is_its_text_or_what_it_does() -> None:
    history = MemoRAGChatHistory(Conversation(MemoRAG(SentenceModel(), progress=False)))
    history.add_messages(messages())
    said = [(turn.role, turn.text) for turn in history.conversation.turns()]
    assert said == [
        ("system", "Be brief."),
        ("user", "What is the weather like in Graz?"),
        ("assistant", 'weather({"town": "Graz"})'),
        ("tool", "Rain."),
        ("assistant", "It rains."),
        ("user", "[image_url]"),
        ("narrator", "你好。"),
    ]


def test_turns_that_came_in_without_langchain_are_messages_too(conversation: Conversation) -> None:
    conversation.add("narrator", "The curtain falls.")
    found = MemoRAGChatHistory(conversation).messages
    assert [message.type for message in found[:2]] == ["human", "ai"]
    assert isinstance(found[-1], ChatMessage)
    assert [message.content for message in found[:-1]] == [text for _, text in SAID]


def test_the_last_messages_only_where_that_is_wanted(conversation: Conversation) -> None:
    history = MemoRAGChatHistory(conversation, last=2)
    assert [message.content for message in history.messages] == [text for _, text in SAID[-2:]]


async def test_what_is_awaited_equals_what_is_called(conversation: Conversation) -> None:
    history = MemoRAGChatHistory(conversation)
    await history.aadd_messages([HumanMessage("One more."), AIMessage("Noted.")])
    await history.aadd_messages([])
    assert await history.aget_messages() == history.messages
    assert len(history.messages) == len(SAID) + 2
    await history.aclear()
    assert history.messages == []


def test_new_messages_are_read_together_and_only_they(conversation: Conversation) -> None:
    MemoRAGChatHistory(conversation).add_messages([HumanMessage("One."), AIMessage("Two.")])
    model = conversation.rag.model
    assert isinstance(model, ReadingModel)
    assert model.read[1:] == [["One.", "Two."]]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["text"], "expected LangChain messages"),
        ([HumanMessage("a"), HumanMessage("b", additional_kwargs={"at": object()})], "what JSON cannot"),
        ([HumanMessage("a"), HumanMessage("unreadable")], "broke down"),
    ],
)
def test_a_message_that_cannot_be_read_leaves_the_history_as_it_was(
    conversation: Conversation, wrong: Any, message: str
) -> None:
    history = MemoRAGChatHistory(conversation)
    before = history.messages
    with pytest.raises((InputError, RuntimeError), match=message):
        history.add_messages(wrong)
    assert history.messages == before


def test_messages_that_are_added_at_once_are_all_in_the_history() -> None:
    rag = MemoRAG(SentenceModel(), progress=False)

    def add(number: int) -> None:
        history = MemoRAGChatHistory.of_sessions(rag)("anna")  # of its own, as each request of a server has
        history.add_messages([HumanMessage(f"Question {number}?"), AIMessage(f"Answer {number}.")])

    assert at_once([partial(add, number) for number in range(THREADS)]) == [None] * THREADS
    said = [message.text for message in MemoRAGChatHistory.of_sessions(rag)("anna").messages]
    assert sorted(said[::2]) == [f"Question {number}?" for number in range(THREADS)]
    assert said[1::2] == [text.replace("Question", "Answer").replace("?", ".") for text in said[::2]]


def test_a_history_on_a_store_is_there_again(tmp_path: Path) -> None:
    with MemoRAG.open(tmp_path / "talk", SentenceModel()) as rag:
        MemoRAGChatHistory.of_sessions(rag)("anna").add_messages(messages())
    with MemoRAG.open(tmp_path / "talk", SentenceModel()) as rag:
        histories = MemoRAGChatHistory.of_sessions(rag)
        assert histories("anna").messages == messages()
        assert histories("anna") is histories("anna")
        assert histories("ben").messages == []


@pytest.mark.parametrize("last", [0, -1, True, 1.5])
def test_a_number_of_messages_that_is_none_is_refused(conversation: Conversation, last: Any) -> None:
    with pytest.raises(InputError, match="last is"):
        MemoRAGChatHistory(conversation, last=last)
    with pytest.raises(InputError, match="last is"):
        MemoRAGChatHistory.of_sessions(conversation.rag, last=last)


def test_something_else_than_a_conversation_is_refused() -> None:
    wrong: Any = MemoRAG(SentenceModel())
    with pytest.raises(InputError, match=r"expected a memorag_core\.Conversation"):
        MemoRAGChatHistory(wrong)
    with pytest.raises(InputError, match=r"expected a memorag_core\.Conversation"):
        conversation_retriever(wrong)


async def test_a_chain_with_message_history_keeps_each_session_apart() -> None:
    rag = MemoRAG(SentenceModel(), progress=False)
    prompt = ChatPromptTemplate.from_messages([MessagesPlaceholder("history"), ("human", "{input}")])
    chain = RunnableWithMessageHistory(
        prompt | FakeListChatModel(responses=["One.", "Two.", "Three."]),
        MemoRAGChatHistory.of_sessions(rag),
        input_messages_key="input",
        history_messages_key="history",
    )

    def of(session: str) -> Any:
        return {"configurable": {"session_id": session}}

    chain.invoke({"input": "I am Mara."}, of("mara"))
    await chain.ainvoke({"input": "I am Ole."}, of("ole"))
    chain.invoke({"input": "Who am I?"}, of("mara"))
    history = MemoRAGChatHistory.of_sessions(rag)
    assert [message.content for message in history("mara").messages] == [
        "I am Mara.",
        "One.",
        "Who am I?",
        "Three.",
    ]
    assert [message.content for message in history("ole").messages] == ["I am Ole.", "Two."]


def test_a_history_does_not_show_its_memory_and_cannot_be_pickled(conversation: Conversation) -> None:
    history = MemoRAGChatHistory(conversation)
    assert "SentenceModel" not in repr(history)
    with pytest.raises(TypeError):
        pickle.dumps(history)


# The retriever


def test_a_follow_up_finds_the_turn_that_answers_it(conversation: Conversation) -> None:
    retriever = conversation_retriever(conversation, k=3)
    best = retriever.invoke(ASKED)[0]
    assert best.page_content == ANSWER
    turn = next(turn for turn in conversation.turns() if turn.text == ANSWER)
    assert best.metadata["turn_id"] == best.metadata["document_id"] == turn.id
    assert best.metadata["role"] == "user"
    assert best.metadata["session"] == "main"
    assert json.loads(json.dumps(best.metadata)) == best.metadata


def test_documents_are_the_turns_that_the_core_recalls(conversation: Conversation) -> None:
    conversation.add("user", "Mara Venn lives in a house near the sea now.")
    history = [("user", "I had lunch with Mara Venn."), ("assistant", "How nice.")]
    recalled = conversation.recall(ASKED["input"], history, k=6)  # type: ignore[arg-type]
    documents = conversation_retriever(conversation, k=6, annotate=True).invoke(ASKED)
    assert [document.metadata["turn_id"] for document in documents] == [one.turn.id for one in recalled]
    assert [document.metadata.get("superseded_by") for document in documents] == [
        one.superseded_by for one in recalled
    ]
    assert any(one.superseded_by for one in recalled)
    unordered = conversation_retriever(conversation, k=6, newest=False, annotate=True).invoke(ASKED)
    assert not any("superseded_by" in document.metadata for document in unordered)
    plain = conversation_retriever(conversation, k=6).invoke(ASKED)
    assert [document.id for document in plain] == [document.id for document in documents]
    assert not any({"superseded_by", "score"} & document.metadata.keys() for document in plain)


@pytest.mark.parametrize(
    "history",
    [
        ASKED["chat_history"],
        [("human", "I had lunch with Mara Venn."), ("ai", "How nice.")],
        [{"role": "user", "content": "I had lunch with Mara Venn."}],
        [HumanMessage([{"type": "text", "text": "I had lunch with Mara Venn."}]), AIMessage("")],
    ],
)
def test_messages_may_come_in_any_form_of_langchain_s(conversation: Conversation, history: Any) -> None:
    retriever = conversation_retriever(conversation)
    found = retriever.invoke({"question": ASKED["input"], "chat_history": history})
    assert found[0].page_content == ANSWER


def test_without_messages_the_question_is_taken_as_it_is(conversation: Conversation) -> None:
    conversation.add("user", "I met Ole Brandt.")
    retriever = conversation_retriever(conversation)
    question = "Where does Mara Venn live?"
    plain = retriever.invoke(question)
    assert plain == retriever.invoke({"input": question})
    assert plain == retriever.invoke({"input": question, "chat_history": []})
    assert plain[0].page_content == ANSWER


def test_a_message_does_not_come_along_with_the_documents() -> None:
    history = MemoRAGChatHistory(Conversation(MemoRAG(SentenceModel(), progress=False)))
    history.add_messages(messages())
    found = conversation_retriever(history.conversation).invoke("What is the weather like?")
    assert found
    assert all(MESSAGE not in document.metadata for document in found)


async def test_the_completed_question_goes_to_a_retriever_of_one_s_own(conversation: Conversation) -> None:
    asked: list[str] = []

    def search(question: str) -> list[Document]:
        asked.append(question)
        return [Document(page_content="mine")]

    retriever = conversation_retriever(conversation, RunnableLambda(search))
    assert retriever.invoke(ASKED) == await retriever.ainvoke(ASKED) == [Document(page_content="mine")]
    assert asked == ["And where does she live? (Mara Venn)"] * 2
    library = MemoRAGRetriever.from_texts(
        ["Mara Venn wrote on bees.", "Ole Brandt wrote on boats."], memorag=MemoRAG(SentenceModel()), k=1
    )
    about = {"input": "What did she write on?", "chat_history": ASKED["chat_history"]}
    found = conversation_retriever(conversation, library).invoke(about)
    assert [document.page_content for document in found] == ["Mara Venn wrote on bees."]


async def test_an_llm_writes_the_question_and_its_run_is_seen(conversation: Conversation) -> None:
    llm = FakeListChatModel(responses=["Where does Ole Brandt live?"])
    retriever = conversation_retriever(conversation, llm=llm)
    assert retriever.invoke(ASKED)[0].page_content == SAID[5][1]
    assert await retriever.ainvoke(ASKED) == retriever.invoke(ASKED)
    events = [event async for event in retriever.astream_events(ASKED, version="v2")]
    started = [event["name"] for event in events if event["event"].endswith("_start")]
    assert started[0] == "memorag_conversation"
    assert "FakeListChatModel" in started


async def test_an_llm_that_says_nothing_is_an_error(conversation: Conversation) -> None:
    retriever = conversation_retriever(conversation, llm=FakeListChatModel(responses=[" "]))
    with pytest.raises(MemoRAGError, match="empty text"):
        retriever.invoke(ASKED)
    with pytest.raises(MemoRAGError, match="empty text"):
        await retriever.ainvoke(ASKED)


@pytest.mark.parametrize("wrong", [{}, {"input": 3}, {"query": "Where?"}, 3])
def test_an_input_without_a_question_is_named(conversation: Conversation, wrong: Any) -> None:
    with pytest.raises(InputError, match="expected a question, or a mapping"):
        conversation_retriever(conversation).invoke(wrong)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"k": 0}, "k is 0"),
        ({"llm": "gpt"}, "'llm' is a str"),
        ({"retriever": "store"}, "'retriever' is a str"),
        ({"k": 2, "retriever": RunnableLambda(lambda _: [])}, "Set k there"),
    ],
)
def test_a_choice_that_is_none_is_refused_at_once(
    conversation: Conversation, choice: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        conversation_retriever(conversation, **choice)


async def test_64_concurrent_questions_equal_sequential_ones(conversation: Conversation) -> None:
    retriever = conversation_retriever(conversation)
    expected = retriever.invoke(ASKED)
    assert await asyncio.gather(*(retriever.ainvoke(ASKED) for _ in range(64))) == [expected] * 64
    assert retriever.batch([ASKED] * 4) == await retriever.abatch([ASKED] * 4) == [expected] * 4


async def test_the_event_loop_is_free_while_the_memory_is_asked() -> None:
    model = GatedModel()
    conversation = Conversation(MemoRAG(model, progress=False))
    conversation.extend(SAID)
    waiting = asyncio.create_task(conversation_retriever(conversation).ainvoke(ASKED))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    model.gate.set()
    assert (await waiting)[0].page_content == ANSWER


def test_chinese_messages_are_read_and_found() -> None:
    history = MemoRAGChatHistory(Conversation(MemoRAG(SentenceModel(), progress=False)))
    history.add_messages([HumanMessage("王芳住在上海。"), HumanMessage("李明住在北京。")])
    found = conversation_retriever(history.conversation).invoke(
        {"input": "她住在哪里？", "chat_history": [HumanMessage("我昨天见了王芳。")]}
    )
    assert found[0].page_content == "王芳住在上海。"
