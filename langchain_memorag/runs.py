"""Runs of a retriever for the questions of a batch: LangChain begins and ends only those of single calls.

In: configs, questions, what came out. Out: run managers. Knows neither memory nor index.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from langchain_core.callbacks import (
    AsyncCallbackManager,
    AsyncCallbackManagerForRetrieverRun,
    CallbackManager,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig

Item = TypeVar("Item")
Result = TypeVar("Result")


def begin_retrieval(
    retriever: BaseRetriever, questions: Sequence[str], configs: Sequence[RunnableConfig]
) -> list[CallbackManagerForRetrieverRun]:
    """Begin a retriever's run for each question, as its ``invoke`` does."""
    return [
        CallbackManager.configure(**_hearing(retriever, config)).on_retriever_start(
            None, question, name=config.get("run_name") or retriever.get_name(), run_id=config.get("run_id")
        )
        for question, config in zip(questions, configs, strict=True)
    ]


async def abegin_retrieval(
    retriever: BaseRetriever, questions: Sequence[str], configs: Sequence[RunnableConfig]
) -> list[AsyncCallbackManagerForRetrieverRun]:
    """``begin_retrieval`` for an event loop."""
    return [
        await AsyncCallbackManager.configure(**_hearing(retriever, config)).on_retriever_start(
            None, question, name=config.get("run_name") or retriever.get_name(), run_id=config.get("run_id")
        )
        for question, config in zip(questions, configs, strict=True)
    ]


def end_retrieval(
    runs: Sequence[CallbackManagerForRetrieverRun], outcomes: Sequence[list[Document] | BaseException]
) -> None:
    """End each run with its documents, or with its error."""
    for run, outcome in zip(runs, outcomes, strict=True):
        if isinstance(outcome, BaseException):
            run.on_retriever_error(outcome)
        else:
            run.on_retriever_end(outcome)


async def aend_retrieval(
    runs: Sequence[AsyncCallbackManagerForRetrieverRun], outcomes: Sequence[list[Document] | BaseException]
) -> None:
    """``end_retrieval`` for an event loop."""
    for run, outcome in zip(runs, outcomes, strict=True):
        if isinstance(outcome, BaseException):
            await run.on_retriever_error(outcome)
        else:
            await run.on_retriever_end(outcome)


def raised(outcomes: Sequence[object]) -> None:
    """Raise the first error among outcomes, if there is one."""
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


def only(outcomes: Sequence[Result | Exception]) -> Result:
    """The result of a single question; raises its error."""
    (outcome,) = outcomes
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def rounds(
    inputs: Sequence[Item], configs: Sequence[RunnableConfig]
) -> Iterator[tuple[Sequence[Item], Sequence[RunnableConfig]]]:
    """The inputs of a batch with their configs, as many at a time as ``max_concurrency`` allows; else all."""
    most = configs[0].get("max_concurrency") if configs else None
    size = max(1, most or len(inputs))
    for start in range(0, len(inputs), size):
        yield inputs[start : start + size], configs[start : start + size]


def _hearing(retriever: BaseRetriever, config: RunnableConfig) -> dict[str, Any]:
    """Who hears of a question, and what is said of it."""
    return {
        "inheritable_callbacks": config.get("callbacks"),
        "inheritable_tags": config.get("tags"),
        "local_tags": retriever.tags,
        "inheritable_metadata": {**(config.get("metadata") or {}), **retriever._get_ls_params()},
        "local_metadata": retriever.metadata,
    }
