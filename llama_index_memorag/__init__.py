"""MemoRAG for LlamaIndex: a retriever that remembers its text, and a query transform for other retrievers.

In: LlamaIndex's documents, indexes and query bundles. Out: its nodes with scores, its query bundles and
events. Knows only the public names of ``memorag_core``.
"""

from memorag_core import MissingExtraError

try:
    from llama_index_memorag.conversation import MemoRAGConversationRetriever, MemoRAGMemoryBlock
    from llama_index_memorag.events import (
        ClueEndEvent,
        ClueLineEvent,
        ClueStartEvent,
        EvidenceEvent,
        SearchFailedEvent,
    )
    from llama_index_memorag.nodes import FoundNode
    from llama_index_memorag.query_transform import MemoRAGQueryTransform
    from llama_index_memorag.retriever import MemoRAGRetriever
    from llama_index_memorag.summary import MemoRAGSummaryRetriever
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "llama_index":
        raise
    raise MissingExtraError("llama-index-core", "llama-index", "llama_index_memorag", error) from error

__all__ = [
    "ClueEndEvent",
    "ClueLineEvent",
    "ClueStartEvent",
    "EvidenceEvent",
    "FoundNode",
    "MemoRAGConversationRetriever",
    "MemoRAGMemoryBlock",
    "MemoRAGQueryTransform",
    "MemoRAGRetriever",
    "MemoRAGSummaryRetriever",
    "SearchFailedEvent",
]
