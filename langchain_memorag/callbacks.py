"""The steps of the pipeline as runs of LangChain: one for asking and one for searching, for each question.

In: the config that each question came with, and what the pipeline tells. Out: runs that are begun and ended
once, with custom events in them. Knows neither memory nor index.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context
from typing import Any, TypeAlias, TypeVar

from langchain_core.callbacks import (
    AsyncCallbackManager,
    AsyncCallbackManagerForChainRun,
    BaseCallbackManager,
    CallbackManager,
    CallbackManagerForChainRun,
)
from langchain_core.retrievers import BaseRetriever
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

Item = TypeVar("Item")

_Run: TypeAlias = CallbackManagerForChainRun | AsyncCallbackManagerForChainRun


class _Runs:
    """The runs of a call, told of by the pipeline.

    What a method gives is what the run's manager gave: in an event loop something to be awaited.
    """

    def __init__(self, configs: Sequence[RunnableConfig], *, name: str = CLUES_RUN) -> None:
        """Begin no run yet.

        Args:
            configs: One for each question; its callbacks hear of the runs.
            name: Of the runs of asking, where a config has none.
        """
        self._configs = configs
        self._name = name
        self._questions: dict[int, str] = {}
        self._asking: dict[int, _Run] = {}
        self._searching: dict[int, _Run] = {}
        self._places: dict[str, int] = {}  # of the question that a text is searched for, the first

    def of_query(self, text: str) -> BaseCallbackManager:
        """The callbacks of the run in which a text is searched for."""
        return self._searching[self._places[text]].get_child()

    @property
    def hears_clues(self) -> bool:
        """Whether anybody hears of clues."""
        return any(run.handlers for run in self._asking.values())

    def context(self) -> AbstractContextManager[Context | None]:
        """A context in which a chat model that stands behind a memory is traced inside the (first) run."""
        if not self.hears_clues:
            return nullcontext()
        return set_config_context({"callbacks": self._asking[0].get_child()})

    def on_recall_start(self, place: int, question: str) -> Any:
        """Begin the run of asking."""
        return self._begin(self._asking, place, self._name, question)

    def on_clue(self, place: int, clue: Clue) -> Any:
        """Dispatch a custom event."""
        return self._dispatch(self._asking, place, CLUE_EVENT, clue_row(clue))

    def on_recall_end(self, place: int, recall: Recall) -> Any:
        """End the run with the clues."""
        return self._asking[place].on_chain_end(shown_recall(recall))

    def on_recall_error(self, place: int, error: BaseException) -> Any:
        """End the run with the error."""
        return self._asking[place].on_chain_error(error)

    def on_search_start(self, place: int, recall: Recall, queries: Sequence[str]) -> Any:
        """Begin the run of searching."""
        for text in queries:
            self._places.setdefault(text, place)
        return self._begin(self._searching, place, SEARCH_RUN, recall.question)

    def on_search_failed(self, place: int, failure: SearchFailure) -> Any:
        """Dispatch a custom event."""
        return self._dispatch(self._searching, place, FAILURE_EVENT, failure_row(failure))

    def on_search_end(self, place: int, findings: Findings) -> Any:
        """End the run with what was found."""
        return self._searching[place].on_chain_end(shown_findings(findings))

    def on_search_error(self, place: int, error: BaseException) -> Any:
        """End the run with the error."""
        return self._searching[place].on_chain_error(error)

    def _begin(self, runs: dict[int, _Run], place: int, name: str, question: str) -> Any:
        raise NotImplementedError

    def _begun(self, configured: Any, place: int, name: str, question: str) -> Any:
        self._questions[place] = question
        config = self._configs[place]
        return configured(config).on_chain_start(
            None, question, name=config.get("run_name") or name, run_id=config.get("run_id")
        )

    def _dispatch(self, runs: dict[int, _Run], place: int, event: str, row: dict[str, Any]) -> Any:
        run, data = runs[place], {"question": self._questions[place], **row}
        return run.get_child().on_custom_event(event, data, run_id=run.run_id)


class Runs(_Runs, QueryCallbacks):
    """The runs of a call."""

    def _begin(self, runs: dict[int, _Run], place: int, name: str, question: str) -> None:
        runs[place] = self._begun(get_callback_manager_for_config, place, name, question)


class AsyncRuns(_Runs, AsyncQueryCallbacks):
    """The runs of a call that is awaited."""

    async def _begin(self, runs: dict[int, _Run], place: int, name: str, question: str) -> None:
        runs[place] = await self._begun(get_async_callback_manager_for_config, place, name, question)


def begin_retrieval(
    managers: type[CallbackManager | AsyncCallbackManager],
    retriever: BaseRetriever,
    question: str,
    config: RunnableConfig,
) -> Any:
    """Begin a retriever's run for a question of a batch, as its ``invoke`` does; awaitable if async."""
    manager = managers.configure(
        config.get("callbacks"),
        inheritable_tags=config.get("tags"),
        local_tags=retriever.tags,
        inheritable_metadata={**(config.get("metadata") or {}), **retriever._get_ls_params()},
        local_metadata=retriever.metadata,
    )
    name = config.get("run_name") or retriever.get_name()
    return manager.on_retriever_start(None, question, name=name, run_id=config.get("run_id"))


def end_retrieval(run: Any, outcome: object) -> Any:
    """End a retriever's run with its documents, or with its error."""
    failed = isinstance(outcome, BaseException)
    return run.on_retriever_error(outcome) if failed else run.on_retriever_end(outcome)


def rounds(
    inputs: Sequence[Item], configs: Sequence[RunnableConfig]
) -> Iterator[tuple[Sequence[Item], Sequence[RunnableConfig]]]:
    """The inputs of a batch with their configs, as many at a time as ``max_concurrency`` allows; else all."""
    most = configs[0].get("max_concurrency") if configs else None
    size = max(1, most or len(inputs))
    for start in range(0, len(inputs), size):
        yield inputs[start : start + size], configs[start : start + size]


def wanted(outcomes: Sequence[Any], *, return_exceptions: bool) -> Sequence[Any]:
    """What a batch gives back; raises the first error that is not wanted as a result."""
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not (return_exceptions and isinstance(outcome, Exception)):
            raise outcome
    return outcomes


def clue_row(clue: Clue) -> dict[str, Any]:
    """A clue as JSON has it."""
    row: dict[str, Any] = {"text": clue.text, "kind": clue.kind, "score": clue.score, "part": clue.part}
    if clue.support is not None:
        row["support"] = clue.support
    if clue.place is not None:
        place = clue.place
        row |= {"document_id": place.document_id, "start": place.start, "end": place.end}
    return row


def shown_recall(recall: Recall) -> dict[str, Any]:
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


def shown_findings(findings: Findings) -> dict[str, Any]:
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
