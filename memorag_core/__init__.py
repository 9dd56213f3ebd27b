"""The front door: a memory of a long text recalls clues, the clues find the evidence, the evidence answers.

In: nothing. Out: the public names, each loaded from its module at first use, so that importing the package
costs neither torch nor transformers. Knows where each name lives and nothing else.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memorag_core.clues.asker import ClueStream
    from memorag_core.conversation import Conversation, RecalledTurn, Turn
    from memorag_core.corpus import Change, DocumentRow, Reading
    from memorag_core.errors import (
        CheckpointError,
        InputError,
        MemoRAGError,
        MissingExtraError,
        NothingMemorizedError,
        RetrievalError,
        StoreError,
        UnsupportedModelError,
    )
    from memorag_core.generation.answer import answer_prompt, number_passages
    from memorag_core.generation.citations import (
        CitationParser,
        CitedText,
        find_citations,
        without_citations,
        without_marks,
    )
    from memorag_core.generation.explanation import Explanation
    from memorag_core.memorag import MemoRAG
    from memorag_core.memory.beacon import BeaconModel
    from memorag_core.memory.gist import GistModel, local_condenser
    from memorag_core.memory.hosted import HostedModel
    from memorag_core.memory.longcontext import LongContextModel
    from memorag_core.memory.planning.budget import MemoryBudgetError
    from memorag_core.memory.planning.plan import MemoryPlan, check_plan
    from memorag_core.memory.planning.planner import plan_memory
    from memorag_core.protocols import (
        AsyncQueryCallbacks,
        AsyncSearcher,
        DocumentMemoryModel,
        Embedder,
        Generate,
        LearnedSparseEncoder,
        Memory,
        MemoryModel,
        QueryCallbacks,
        Reranker,
        Searcher,
        Splitter,
        TextEncoder,
        Watch,
    )
    from memorag_core.query import QueryOptions, QueryPipeline, QueryResult
    from memorag_core.retrieval import (
        EvidenceIndex,
        FanOut,
        VectorSettings,
        cross_encoder,
        find_entities,
        flag_embedder,
        flag_reranker,
        sentence_transformer,
    )
    from memorag_core.settings import ChunkSettings, ClueSettings, RetrievalSettings
    from memorag_core.types import (
        CLUE_KINDS,
        Answer,
        Ask,
        Chunk,
        Citation,
        Clue,
        ClueKind,
        Document,
        DroppedClue,
        Evidence,
        Findings,
        FoundPassage,
        Hit,
        Place,
        Recall,
        Recollection,
        SearchFailure,
        Span,
        Unfounded,
    )
    from memorag_core.types.metadata import thawed

__version__ = "0.1.0"

__all__ = [
    "CLUE_KINDS",
    "Answer",
    "Ask",
    "AsyncQueryCallbacks",
    "AsyncSearcher",
    "BeaconModel",
    "Change",
    "CheckpointError",
    "Chunk",
    "ChunkSettings",
    "Citation",
    "CitationParser",
    "CitedText",
    "Clue",
    "ClueKind",
    "ClueSettings",
    "ClueStream",
    "Conversation",
    "Document",
    "DocumentMemoryModel",
    "DocumentRow",
    "DroppedClue",
    "Embedder",
    "Evidence",
    "EvidenceIndex",
    "Explanation",
    "FanOut",
    "Findings",
    "FoundPassage",
    "Generate",
    "GistModel",
    "Hit",
    "HostedModel",
    "InputError",
    "LearnedSparseEncoder",
    "LongContextModel",
    "MemoRAG",
    "MemoRAGError",
    "Memory",
    "MemoryBudgetError",
    "MemoryModel",
    "MemoryPlan",
    "MissingExtraError",
    "NothingMemorizedError",
    "Place",
    "QueryCallbacks",
    "QueryOptions",
    "QueryPipeline",
    "QueryResult",
    "Reading",
    "Recall",
    "RecalledTurn",
    "Recollection",
    "Reranker",
    "RetrievalError",
    "RetrievalSettings",
    "SearchFailure",
    "Searcher",
    "Span",
    "Splitter",
    "StoreError",
    "TextEncoder",
    "Turn",
    "Unfounded",
    "UnsupportedModelError",
    "VectorSettings",
    "Watch",
    "answer_prompt",
    "check_plan",
    "cross_encoder",
    "find_citations",
    "find_entities",
    "flag_embedder",
    "flag_reranker",
    "local_condenser",
    "number_passages",
    "plan_memory",
    "sentence_transformer",
    "thawed",
    "without_citations",
    "without_marks",
]

_HOMES = {
    "generation.answer": ("answer_prompt", "number_passages"),
    "memory.beacon": ("BeaconModel",),
    "clues.asker": ("ClueStream",),
    "generation.citations": (
        "CitationParser",
        "CitedText",
        "find_citations",
        "without_citations",
        "without_marks",
    ),
    "settings": ("ChunkSettings", "ClueSettings", "RetrievalSettings"),
    "conversation": ("Conversation", "RecalledTurn", "Turn"),
    "corpus": ("Change", "DocumentRow", "Reading"),
    "errors": (
        "CheckpointError",
        "InputError",
        "MemoRAGError",
        "MissingExtraError",
        "NothingMemorizedError",
        "RetrievalError",
        "StoreError",
        "UnsupportedModelError",
    ),
    "memory.gist": ("GistModel", "local_condenser"),
    "memory.hosted": ("HostedModel",),
    "memory.longcontext": ("LongContextModel",),
    "types.metadata": ("thawed",),
    "memorag": ("MemoRAG",),
    "memory.planning.budget": ("MemoryBudgetError",),
    "memory.planning.plan": ("MemoryPlan", "check_plan"),
    "memory.planning.planner": ("plan_memory",),
    "query": ("QueryOptions", "QueryPipeline", "QueryResult"),
    "protocols": (
        "AsyncQueryCallbacks",
        "AsyncSearcher",
        "DocumentMemoryModel",
        "Embedder",
        "Generate",
        "LearnedSparseEncoder",
        "Memory",
        "MemoryModel",
        "QueryCallbacks",
        "Reranker",
        "Searcher",
        "Splitter",
        "TextEncoder",
        "Watch",
    ),
    "types": (
        "CLUE_KINDS",
        "Answer",
        "Ask",
        "Chunk",
        "Citation",
        "Clue",
        "ClueKind",
        "Document",
        "DroppedClue",
        "Evidence",
        "Findings",
        "FoundPassage",
        "Hit",
        "Place",
        "Recall",
        "Recollection",
        "SearchFailure",
        "Span",
        "Unfounded",
    ),
    "generation.explanation": ("Explanation",),
    "retrieval": (
        "EvidenceIndex",
        "FanOut",
        "VectorSettings",
        "cross_encoder",
        "find_entities",
        "flag_embedder",
        "flag_reranker",
        "sentence_transformer",
    ),
}
"""Module of this package -> the public names that it defines; what a type checker reads above."""


_RENAMED = {"LexicalEncoder": "LearnedSparseEncoder"}
"""Old names, which will be gone in the next version."""


def __getattr__(name: str) -> object:
    if name in _RENAMED:
        new = _RENAMED[name]
        message = f"{__name__}.{name} is deprecated; use {__name__}.{new}."
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        name = new
    for module, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(f"{__name__}.{module}"), name)
            globals()[name] = value  # the next use finds it without coming here
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
