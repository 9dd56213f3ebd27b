"""Questions to documents, in the runs that they came with: one pass over the memory, then one search.

In: a MemoRAG, questions with their runs, what was chosen. Out: for each question its documents, or its error.
Begins and ends no run of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.runnables import RunnableConfig

from langchain_memorag.documents import evidence_document
from langchain_memorag.finding import Search, afind_all, find_all
from langchain_memorag.recalling import arecall_all, recall_all
from memorag_core import ClueKind, Findings, MemoRAG, Recall


def retrieve_all(
    memorag: MemoRAG,
    questions: Sequence[str],
    runs: Sequence[CallbackManagerForRetrieverRun],
    *,
    kinds: Sequence[ClueKind] | None,
    search: Search,
) -> list[list[Document] | Exception]:
    """For each question its documents, best first, or its error.

    Raises:
        InputError: What cannot be searched for, whatever the question.
        NothingMemorizedError: There is nothing to ask.
    """
    search.check(memorag)
    configs: list[RunnableConfig] = [{"callbacks": run.get_child()} for run in runs]
    recalled = recall_all(memorag, questions, configs, kinds=kinds)
    some = _recalled(recalled)
    own = [configs[place] for place in some]
    found = find_all(memorag, list(some.values()), own, search=search)
    return _documents(memorag, recalled, dict(zip(some, found, strict=True)), annotate=search.annotate)


async def aretrieve_all(
    memorag: MemoRAG,
    questions: Sequence[str],
    runs: Sequence[AsyncCallbackManagerForRetrieverRun],
    *,
    kinds: Sequence[ClueKind] | None,
    search: Search,
) -> list[list[Document] | Exception]:
    """``retrieve_all`` that leaves the event loop free."""
    search.check(memorag)
    configs: list[RunnableConfig] = [{"callbacks": run.get_child()} for run in runs]
    recalled = await arecall_all(memorag, questions, configs, kinds=kinds)
    some = _recalled(recalled)
    own = [configs[place] for place in some]
    found = await afind_all(memorag, list(some.values()), own, search=search)
    return _documents(memorag, recalled, dict(zip(some, found, strict=True)), annotate=search.annotate)


def _recalled(recalled: Sequence[Recall | Exception]) -> dict[int, Recall]:
    """What was recalled, by the place of its question."""
    return {place: one for place, one in enumerate(recalled) if isinstance(one, Recall)}


def _documents(
    memorag: MemoRAG,
    recalled: Sequence[Recall | Exception],
    found: Mapping[int, Findings | Exception],
    *,
    annotate: bool,
) -> list[list[Document] | Exception]:
    outcomes: list[list[Document] | Exception] = []
    for place, recall in enumerate(recalled):
        outcome = recall if isinstance(recall, Exception) else found[place]
        if isinstance(outcome, Exception):
            outcomes.append(outcome)
            continue
        outcomes.append(
            [
                evidence_document(
                    one,
                    source=memorag.document_of(one.chunk),
                    annotate=annotate,
                    failures=outcome.failures,
                )
                for one in outcome.evidence
            ]
        )
    return outcomes
