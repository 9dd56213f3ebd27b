"""The steps of the pipeline as runs of LangChain: one for asking and one for searching, for each question.

In: the config that each question came with, and what the pipeline tells. Out: runs that are begun and ended
once, with custom events in them. Knows neither memory nor index.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context
from typing import Any, Generic, TypeAlias, TypeVar

from langchain_core.callbacks import (
    AsyncCallbackManagerForChainRun,
    BaseCallbackManager,
    CallbackManagerForChainRun,
    adispatch_custom_event,
    dispatch_custom_event,
)
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import (
    get_async_callback_manager_for_config,
    get_callback_manager_for_config,
    set_config_context,
)

from langchain_memorag.documents import failure_row, found_metadata
from memorag_core import AsyncQueryCallbacks, Clue, Findings, QueryCallbacks, Recall, SearchFailure

CLUE_EVENT = "memorag_clue"
"""The custom event of a clue whose line is complete: the question, and what ``clue_row`` gives."""

FAILURE_EVENT = "memorag_search_failed"
"""The custom event of a search that failed; its data has the question and what ``failure_row`` gives."""

CLUES_RUN, SEARCH_RUN = "MemoRAGClues", "MemoRAGSearch"

Told: TypeAlias = Callable[[Clue], object]
"""Is told of each clue as its line is complete."""

_Run = TypeVar("_Run", CallbackManagerForChainRun, AsyncCallbackManagerForChainRun)


class _Runs(Generic[_Run]):
    """The runs of a call."""

    def __init__(
        self, configs: Sequence[RunnableConfig], *, name: str = CLUES_RUN, told: Told | None = None
    ) -> None:
        """Begin no run yet.

        Args:
            configs: One for each question; its callbacks hear of the runs.
            name: Of the runs of asking, where a config has none.
            told: Is told of clues too, after the callbacks.
        """
        self.of_query: dict[str, BaseCallbackManager] = {}
        """For each text that a retriever is given, the callbacks of the run that it belongs to."""
        self._configs = configs
        self._name = name
        self._told = told
        self._questions: dict[int, str] = {}
        self._asking: dict[int, _Run] = {}
        self._searching: dict[int, _Run] = {}

    @property
    def hears_clues(self) -> bool:
        """Whether anybody hears of clues."""
        return self._told is not None or self._traced

    def context(self) -> AbstractContextManager[Context | None]:
        """A context in which a chat model that stands behind a memory is traced inside the (first) run."""
        if not self._traced:
            return nullcontext()
        return set_config_context({"callbacks": self._asking[0].get_child()})

    @property
    def _traced(self) -> bool:
        return any(run.handlers for run in self._asking.values())

    def _searches(self, place: int, run: _Run, queries: Sequence[str]) -> None:
        self._searching[place] = run
        for text in queries:
            self.of_query.setdefault(text, run.get_child())  # searched once, for the first that asks


class Runs(_Runs[CallbackManagerForChainRun], QueryCallbacks):
    """The runs of a call."""

    def on_recall_start(self, place: int, question: str) -> None:
        """Begin the run of asking."""
        self._questions[place] = question
        self._asking[place] = self._begun(self._name, place, question)

    def on_clue(self, place: int, clue: Clue) -> None:
        """Dispatch a custom event."""
        data = {"question": self._questions[place], **clue_row(clue)}
        dispatch_custom_event(CLUE_EVENT, data, config={"callbacks": self._asking[place].get_child()})
        if self._told is not None:
            self._told(clue)

    def on_recall_end(self, place: int, recall: Recall) -> None:
        """End the run with the clues."""
        self._asking[place].on_chain_end(dict(shown_recall(recall)))

    def on_recall_error(self, place: int, error: BaseException) -> None:
        """End the run with the error."""
        self._asking[place].on_chain_error(error)

    def on_search_start(self, place: int, recall: Recall, queries: Sequence[str]) -> None:
        """Begin the run of searching."""
        self._questions[place] = recall.question
        self._searches(place, self._begun(SEARCH_RUN, place, recall.question), queries)

    def on_search_failed(self, place: int, failure: SearchFailure) -> None:
        """Dispatch a custom event."""
        data = {"question": self._questions[place], **failure_row(failure)}
        dispatch_custom_event(FAILURE_EVENT, data, config={"callbacks": self._searching[place].get_child()})

    def on_search_end(self, place: int, findings: Findings) -> None:
        """End the run with what was found."""
        self._searching[place].on_chain_end(dict(shown_findings(findings)))

    def on_search_error(self, place: int, error: BaseException) -> None:
        """End the run with the error."""
        self._searching[place].on_chain_error(error)

    def _begun(self, name: str, place: int, question: str) -> CallbackManagerForChainRun:
        config = self._configs[place]
        return get_callback_manager_for_config(config).on_chain_start(
            None, question, name=config.get("run_name") or name, run_id=config.get("run_id")
        )


class AsyncRuns(_Runs[AsyncCallbackManagerForChainRun], AsyncQueryCallbacks):
    """``Runs`` for an event loop."""

    async def on_recall_start(self, place: int, question: str) -> None:
        """See ``Runs``; so below."""
        self._questions[place] = question
        self._asking[place] = await self._begun(self._name, place, question)

    async def on_clue(self, place: int, clue: Clue) -> None:
        """Dispatch a custom event."""
        data = {"question": self._questions[place], **clue_row(clue)}
        await adispatch_custom_event(CLUE_EVENT, data, config={"callbacks": self._asking[place].get_child()})
        if self._told is not None:
            self._told(clue)

    async def on_recall_end(self, place: int, recall: Recall) -> None:
        """End the run with the clues."""
        await self._asking[place].on_chain_end(dict(shown_recall(recall)))

    async def on_recall_error(self, place: int, error: BaseException) -> None:
        """End the run with the error."""
        await self._asking[place].on_chain_error(error)

    async def on_search_start(self, place: int, recall: Recall, queries: Sequence[str]) -> None:
        """Begin the run of searching."""
        self._questions[place] = recall.question
        self._searches(place, await self._begun(SEARCH_RUN, place, recall.question), queries)

    async def on_search_failed(self, place: int, failure: SearchFailure) -> None:
        """Dispatch a custom event."""
        data = {"question": self._questions[place], **failure_row(failure)}
        run = self._searching[place]
        await adispatch_custom_event(FAILURE_EVENT, data, config={"callbacks": run.get_child()})

    async def on_search_end(self, place: int, findings: Findings) -> None:
        """End the run with what was found."""
        await self._searching[place].on_chain_end(dict(shown_findings(findings)))

    async def on_search_error(self, place: int, error: BaseException) -> None:
        """End the run with the error."""
        await self._searching[place].on_chain_error(error)

    async def _begun(self, name: str, place: int, question: str) -> AsyncCallbackManagerForChainRun:
        config = self._configs[place]
        return await get_async_callback_manager_for_config(config).on_chain_start(
            None, question, name=config.get("run_name") or name, run_id=config.get("run_id")
        )


def clue_row(clue: Clue) -> dict[str, Any]:
    """A clue as JSON has it."""
    row: dict[str, Any] = {"text": clue.text, "kind": clue.kind, "score": clue.score, "part": clue.part}
    if clue.support is not None:
        row["support"] = clue.support
    if clue.place is not None:
        row |= {
            "document_id": clue.place.document_id,
            "start": clue.place.start,
            "end": clue.place.end,
        }
    return row


def shown_recall(recall: Recall) -> Mapping[str, Any]:
    """What a trace shows of asking: the clues, how many lines were dropped, tokens generated, seconds.

    Seconds are those of the whole pass. Clues that were kept from before cost neither tokens nor time.
    """
    return {
        "clues": [clue_row(clue) for clue in recall.clues],
        "dropped": len(recall.dropped),
        "kept": recall.kept,
        "tokens": 0 if recall.kept else recall.tokens,
        "seconds": 0.0 if recall.kept else recall.seconds,
    }


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
