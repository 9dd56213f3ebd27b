"""Tools of an agent: one that retrieves, one that memorizes, in LangChain's own agent loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import BaseTool, create_retriever_tool

from langchain_memorag import MemoRAGRetriever, memorize_tool
from memorag_core import InputError, MemoRAG

Turn = Callable[[Sequence[BaseMessage]], AIMessage]


class Scripted(BaseChatModel):
    """A chat model that says what its script says of the messages so far, tool calls included."""

    script: list[Turn]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **_: Any) -> Any:
        assert {tool.name for tool in tools} == {"island", "memorize"}
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **_: Any,
    ) -> ChatResult:
        turn = sum(isinstance(message, AIMessage) for message in messages)
        return ChatResult(generations=[ChatGeneration(message=self.script[turn](messages))])


def calls(tool: str, **args: str) -> Turn:
    return lambda messages: AIMessage(
        "", tool_calls=[{"name": tool, "args": args, "id": f"call-{len(messages)}"}]
    )


def last_sentence_with(word: str) -> Turn:
    def answer(messages: Sequence[BaseMessage]) -> AIMessage:
        seen = str(messages[-1].content)
        return AIMessage(next(line for line in seen.splitlines() if word in line))

    return answer


def tools_of(retriever: MemoRAGRetriever) -> list[BaseTool]:
    return [
        create_retriever_tool(
            retriever, "island", "What is known of the island.", response_format="content_and_artifact"
        ),
        memorize_tool(retriever),
    ]


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_an_agent_remembers_what_it_was_told_and_finds_it_again(memorag: MemoRAG, way: str) -> None:
    agents = pytest.importorskip("langchain.agents")
    retriever = MemoRAGRetriever(memorag=memorag, k=1)
    script = [
        calls("memorize", text="The mill burned down in 1902, and nobody rebuilt it."),
        lambda _: AIMessage("I will remember that."),
        calls("island", query="When did the mill burn?"),
        last_sentence_with("1902"),
    ]
    agent = agents.create_agent(Scripted(script=script), tools_of(retriever))
    told = {"messages": [("user", "Remember: the mill burned down in 1902.")]}
    state = agent.invoke(told) if way == "invoke" else await agent.ainvoke(told)
    assert state["messages"][-1].content == "I will remember that."
    assert len(memorag.documents) == 5
    asked = {"messages": [*state["messages"], ("user", "When did the mill burn?")]}
    state = agent.invoke(asked) if way == "invoke" else await agent.ainvoke(asked)
    assert state["messages"][-1].content == "The mill burned down in 1902, and nobody rebuilt it."
    found = [message for message in state["messages"] if isinstance(message, ToolMessage)][-1]
    (document,) = found.artifact
    assert document.metadata["document_id"] == "0"  # the lowest number that was free
    assert document.page_content == found.content


def test_an_agent_that_memorizes_nothing_is_told_so_and_goes_on(memorag: MemoRAG) -> None:
    agents = pytest.importorskip("langchain.agents")
    script = [calls("memorize", text=" "), lambda messages: AIMessage(str(messages[-1].content))]
    agent = agents.create_agent(Scripted(script=script), tools_of(MemoRAGRetriever(memorag=memorag)))
    said = agent.invoke({"messages": [("user", "Remember this.")]})["messages"][-1].content
    assert "empty" in said
    assert len(memorag.documents) == 4


def test_texts_that_are_memorized_at_once_all_stay(memorag: MemoRAG) -> None:
    tool = memorize_tool(MemoRAGRetriever(memorag=memorag))
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(tool.invoke, [{"text": f"Fact number {number}."} for number in range(16)]))
    assert said == ["Memorized."] * 16
    assert len(memorag.documents) == 20


def test_only_a_retriever_over_a_memory_can_memorize() -> None:
    with pytest.raises(InputError, match="'retriever' is a str"):
        memorize_tool("book.txt")  # type: ignore[arg-type]


def test_name_and_description_are_what_the_model_is_told(memorag: MemoRAG) -> None:
    tool = memorize_tool(MemoRAGRetriever(memorag=memorag), "note", "Keep a note.")
    assert (tool.name, tool.description) == ("note", "Keep a note.")
    assert list(tool.args) == ["text"]
