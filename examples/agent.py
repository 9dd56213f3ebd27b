"""An agent with two tools: one asks the memory, the other adds to it.

`Ruled` stands in the place of your chat model, and needs no key: it calls a tool for what the user says, and
then repeats what the tool said. Any chat model of LangChain that calls tools goes there:
`create_agent(ChatOpenAI(model="gpt-4.1-mini"), tools)`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import create_retriever_tool

from langchain_memorag import MemoRAGRetriever, memorize_tool


class Ruled(BaseChatModel):
    """Memorizes what is to be remembered, and looks up everything else."""

    _llm_type = "ruled"

    def bind_tools(self, tools: Sequence[Any], **_: Any) -> Any:
        """It knows its tools."""
        return self

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        last, calls = messages[-1], []
        if last.type == "human":
            order, _colon, fact = last.text.partition("Remember: ")
            name, args = ("memorize", {"text": fact}) if fact else ("parish", {"query": order})
            calls = [{"name": name, "args": args, "id": str(len(messages))}]
        reply = AIMessage("" if calls else last.text, tool_calls=calls)
        return ChatResult(generations=[ChatGeneration(message=reply)])


guide = Path(__file__).with_name("parish.txt").read_text(encoding="utf-8")
retriever = MemoRAGRetriever.from_texts(guide.split("\n\n"), k=1, annotate=True)
look_up = create_retriever_tool(
    retriever, "parish", "Looks up what is known of the parish.", response_format="content_and_artifact"
)
agent = create_agent(Ruled(), [look_up, memorize_tool(retriever)])

messages: list[Any] = []
for said in ("Remember: Hester Quill sweeps chimneys.", "Whom should I ask about a smoky fireplace?"):
    seen = len(messages)
    messages = agent.invoke({"messages": [*messages, HumanMessage(said)]})["messages"]
    for message in messages[seen:]:
        calls = getattr(message, "tool_calls", None) or ()
        for call in calls:
            print("calls", call["name"], call["args"])
        if not calls:
            print(f"{message.type}: {message.text}")
        for document in getattr(message, "artifact", None) or ():
            print("  found by the clue:", document.metadata["clues"][0])

# It prints:
# human: Remember: Hester Quill sweeps chimneys.
# calls memorize {'text': 'Hester Quill sweeps chimneys.'}
# tool: Memorized.
# ai: Memorized.
# human: Whom should I ask about a smoky fireplace?
# calls parish {'query': 'Whom should I ask about a smoky fireplace?'}
# tool: Hester Quill sweeps chimneys.
#   found by the clue: sweeps chimneys.
# ai: Hester Quill sweeps chimneys.
