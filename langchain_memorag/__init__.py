"""MemoRAG for LangChain: a retriever that remembers the text it searches, and what else a chain can use.

In: LangChain's documents, questions, models, messages. Out: retrievers, runnables, tools. Knows only the
public names of ``memorag_core``.
"""

from memorag_core import MissingExtraError

try:
    from langchain_memorag.answering import answer_chain
    from langchain_memorag.clues import MemoRAGClues
    from langchain_memorag.compressor import ClueCompressor
    from langchain_memorag.conversation import MemoRAGChatHistory, conversation_retriever
    from langchain_memorag.endpoints import chat_openai
    from langchain_memorag.generators import MemoryChatModel
    from langchain_memorag.local_chat import LocalChatModel, local_chat_model
    from langchain_memorag.retriever import MemoRAGRetriever
    from langchain_memorag.tools import memorize_tool
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "langchain_core":
        raise
    raise MissingExtraError("langchain-core", "langchain", "langchain_memorag", error) from error

__all__ = [
    "ClueCompressor",
    "LocalChatModel",
    "MemoRAGChatHistory",
    "MemoRAGClues",
    "MemoRAGRetriever",
    "MemoryChatModel",
    "answer_chain",
    "chat_openai",
    "conversation_retriever",
    "local_chat_model",
    "memorize_tool",
]
