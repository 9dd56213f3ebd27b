"""Searching with question and clues as a run of LangChain: its start, its searches, its end with seconds.

In: a MemoRAG, what was recalled, the config that each question came with. Out: for each question what was
found, or its error. Does not ask the memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from langchain_core.callbacks import (
    AsyncCallbackManagerForChainRun,
    BaseCallbackManager,
    CallbackManagerForChainRun,
    adispatch_custom_event,
    dispatch_custom_event,
)
from langchain_core.runnables import RunnableConfig

from langchain_memorag.documents import failure_row, found_metadata
from langchain_memorag.over import Over, searcher
from langchain_memorag.runs import abegin, aend, atogether, begin, end, together
from memorag_core import FanOut, Findings, MemoRAG, Recall, RetrievalSettings

FAILURE_EVENT = "memorag_search_failed"
"""The custom event of a search that failed; its data has the question and what ``failure_row`` gives."""

RUN_NAME = "MemoRAGSearch"

_AnyRun = TypeVar("_AnyRun", CallbackManagerForChainRun, AsyncCallbackManagerForChainRun)


@dataclass(frozen=True, slots=True)
class Search:
    """How evidence is searched for.

    Attributes:
        k: How many documents; None leaves it to the settings.
        settings: How rankings are joined.
        over: What is searched; None for what was memorized.
        concurrency: The most searches at once.
        timeout: Seconds that each search has; None waits as long as it takes.
        annotate: Whether documents say how they were found.
    """

    k: int | None
    settings: RetrievalSettings
    over: Over | None
    concurrency: int
    timeout: float | None
    annotate: bool

    def fan_out(self, callbacks: Mapping[str, BaseCallbackManager]) -> FanOut | None:
        """What the core searches; None for what was memorized.

        Raises:
            InputError: A concurrency or a timeout that cannot be used.
        """
        if self.over is None:
            return None
        return FanOut(
            searcher(self.over, callbacks),
            concurrency=self.concurrency,
            timeout=self.timeout,
            name=type(self.over).__name__,
        )

    def check(self, memorag: MemoRAG) -> None:
        """Refuse what cannot be searched for, before a memory is asked.

        Raises:
            InputError: ``k`` below 1, or above the number of chunks.
            NothingMemorizedError: There is nothing to search.
        """
        memorag.find_evidence((), k=self.k, settings=self.settings, over=self.fan_out({}))


def find_all(
    memorag: MemoRAG,
    recalled: Sequence[Recall],
    configs: Sequence[RunnableConfig],
    *,
    search: Search,
) -> list[Findings | Exception]:
    """What the questions and their clues find, each in a run of its own; no text is searched for twice.

    Args:
        memorag: What was memorized.
        recalled: The questions with their clues.
        configs: One for each question; its callbacks hear of the run and of the searches in it.
        search: How.
    """
    runs = begin(RUN_NAME, [one.question for one in recalled], configs)

    def find(some: Sequence[int]) -> Sequence[Findings]:
        requests = [recalled[place] for place in some]
        over = search.fan_out(_callbacks(requests, [runs[place] for place in some]))
        return memorag.find_evidence(requests, k=search.k, settings=search.settings, over=over)

    try:
        outcomes = together(find, range(len(recalled)))
    except BaseException as error:
        end(runs, [error] * len(runs), shown_findings)
        raise
    for run, outcome in zip(runs, outcomes, strict=True):
        for data in _failures(outcome):
            dispatch_custom_event(FAILURE_EVENT, data, config={"callbacks": run.get_child()})
    end(runs, outcomes, shown_findings)
    return outcomes


async def afind_all(
    memorag: MemoRAG,
    recalled: Sequence[Recall],
    configs: Sequence[RunnableConfig],
    *,
    search: Search,
) -> list[Findings | Exception]:
    """``find_all`` that leaves the event loop free: what is searched is awaited, where it can be."""
    runs = await abegin(RUN_NAME, [one.question for one in recalled], configs)

    async def find(some: Sequence[int]) -> Sequence[Findings]:
        requests = [recalled[place] for place in some]
        over = search.fan_out(_callbacks(requests, [runs[place] for place in some]))
        return await memorag.afind_evidence(requests, k=search.k, settings=search.settings, over=over)

    try:
        outcomes = await atogether(find, range(len(recalled)))
    except BaseException as error:
        await aend(runs, [error] * len(runs), shown_findings)
        raise
    for run, outcome in zip(runs, outcomes, strict=True):
        for data in _failures(outcome):
            await adispatch_custom_event(FAILURE_EVENT, data, config={"callbacks": run.get_child()})
    await aend(runs, outcomes, shown_findings)
    return outcomes


def shown_findings(findings: Findings) -> Mapping[str, Any]:
    """What a trace shows of searching: what was found and how, the searches that failed, seconds of them all.

    What is ``found`` are chunks by their ids, best first; ``evidence`` says of each what the metadata of an
    annotated document say.
    """
    return {
        "found": [evidence.chunk.id for evidence in findings.evidence],
        "evidence": [{"id": one.chunk.id, **found_metadata(one)} for one in findings.evidence],
        "failures": [failure_row(failure) for failure in findings.failures],
        "seconds": findings.seconds,
    }


def _failures(outcome: Findings | Exception) -> list[dict[str, Any]]:
    if isinstance(outcome, Exception):
        return []
    return [{"question": outcome.question, **failure_row(failure)} for failure in outcome.failures]


def _callbacks(recalled: Sequence[Recall], runs: Sequence[_AnyRun]) -> dict[str, BaseCallbackManager]:
    """For each text that may be searched for, the callbacks of the run it belongs to.

    A text of several questions is searched for once, in the run of the first of them.
    """
    callbacks: dict[str, BaseCallbackManager] = {}
    for one, run in zip(recalled, runs, strict=True):
        child = run.get_child()
        callbacks.setdefault(one.question, child)
        for clue in one.clues:
            # A clue is searched for alone, or behind its question (RetrievalSettings.expansion).
            callbacks.setdefault(clue.text, child)
            callbacks.setdefault(f"{one.question}\n{clue.text}", child)
    return callbacks
