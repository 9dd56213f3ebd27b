"""MemoRAG for LangChain: a retriever that remembers the text it searches.

In: LangChain's documents and questions. Out: LangChain's documents. Knows only the public names of
``memorag_core``.
"""

from memorag_core import MissingExtraError

try:
    from langchain_memorag.retriever import MemoRAGRetriever
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "langchain_core":
        raise
    raise MissingExtraError("langchain-core", "langchain", "langchain_memorag") from error

__all__ = ["MemoRAGRetriever"]
