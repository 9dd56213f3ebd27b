"""A tool with which an agent puts what it learns into the memory that its retriever asks.

In: a retriever. Out: a tool. The tool that retrieves is LangChain's own, ``create_retriever_tool``.
"""

from __future__ import annotations

import asyncio

from langchain_core.tools import StructuredTool, ToolException
from pydantic import BaseModel, Field

from langchain_memorag.retriever import MemoRAGRetriever
from memorag_core import InputError

DESCRIPTION = (
    "Remember a text for later: facts, decisions and preferences that may be asked for again. It can be "
    "found from then on."
)


class MemorizeInput(BaseModel):
    """Input of the tool that memorizes."""

    text: str = Field(description="what to remember, in whole sentences that can be understood by themselves")


def memorize_tool(
    retriever: MemoRAGRetriever, name: str = "memorize", description: str = DESCRIPTION
) -> StructuredTool:
    """A tool that memorizes texts, so that the retriever finds them from its next question on.

    Each text is a document of its own, with the lowest free number as its id. A blank text is a message to
    the model, which may call again, and no error of the agent.

    Args:
        retriever: Over what is added to.
        name: What the model calls the tool.
        description: What the model is told of it.

    Raises:
        InputError: No ``MemoRAGRetriever``.
    """
    if not isinstance(retriever, MemoRAGRetriever):
        raise InputError(
            f"'retriever' is a {type(retriever).__name__}; expected a MemoRAGRetriever, for other retrievers "
            "do not memorize. MemoRAGRetriever(memorag=...) makes one of a MemoRAG."
        )
    memorag = retriever.memorag

    def memorize(text: str) -> str:
        try:
            memorag.memorize(text)
        except InputError as error:
            raise ToolException(str(error)) from error
        return "Memorized."

    async def amemorize(text: str) -> str:
        return await asyncio.to_thread(memorize, text)

    return StructuredTool(
        name=name,
        description=description,
        func=memorize,
        coroutine=amemorize,
        args_schema=MemorizeInput,
        handle_tool_error=True,
    )
