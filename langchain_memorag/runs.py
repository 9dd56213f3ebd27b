"""Runs of LangChain around the steps of many questions: one run a question, begun and ended once.

In: configs, what goes in, what came out. Out: run managers. Knows neither memory nor index.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from langchain_core.callbacks import (
    AsyncCallbackManager,
    AsyncCallbackManagerForChainRun,
    AsyncCallbackManagerForRetrieverRun,
    CallbackManager,
    CallbackManagerForChainRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import (
    get_async_callback_manager_for_config,
    get_callback_manager_for_config,
)

from memorag_core import MemoRAGError

Item = TypeVar("Item")
Result = TypeVar("Result")


def begin(
    name: str, inputs: Sequence[Any], configs: Sequence[RunnableConfig]
) -> list[CallbackManagerForChainRun]:
    """Begin a run for each input, named as its config says or ``name``."""
    return [
        get_callback_manager_for_config(config).on_chain_start(
            None, given, name=config.get("run_name") or name, run_id=config.get("run_id")
        )
        for given, config in zip(inputs, configs, strict=True)
    ]


async def abegin(
    name: str, inputs: Sequence[Any], configs: Sequence[RunnableConfig]
) -> list[AsyncCallbackManagerForChainRun]:
    """``begin`` for an event loop."""
    return [
        await get_async_callback_manager_for_config(config).on_chain_start(
            None, given, name=config.get("run_name") or name, run_id=config.get("run_id")
        )
        for given, config in zip(inputs, configs, strict=True)
    ]


def end(
    runs: Sequence[CallbackManagerForChainRun],
    outcomes: Sequence[Result | BaseException],
    shown: Callable[[Result], Mapping[str, Any]],
) -> None:
    """End each run with what came out of it, as ``shown`` has it, or with its error."""
    for run, outcome in zip(runs, outcomes, strict=True):
        if isinstance(outcome, BaseException):
            run.on_chain_error(outcome)
        else:
            run.on_chain_end(dict(shown(outcome)))


async def aend(
    runs: Sequence[AsyncCallbackManagerForChainRun],
    outcomes: Sequence[Result | BaseException],
    shown: Callable[[Result], Mapping[str, Any]],
) -> None:
    """``end`` for an event loop."""
    for run, outcome in zip(runs, outcomes, strict=True):
        if isinstance(outcome, BaseException):
            await run.on_chain_error(outcome)
        else:
            await run.on_chain_end(dict(shown(outcome)))


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


def together(
    work: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item]
) -> list[Result | Exception]:
    """Work on all items at once; where one of them cannot be used, on each alone.

    Returns:
        For each item its result, or its error. An error that is not about what was given, such as a model
        that failed, is that of all.
    """
    if not items:
        return []
    try:
        return list(work(items))
    except MemoRAGError as error:
        if len(items) == 1:
            return [error]
        return [outcome for item in items for outcome in together(work, [item])]
    except Exception as error:
        return [error] * len(items)


async def atogether(
    work: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]], items: Sequence[Item]
) -> list[Result | Exception]:
    """``together`` for an event loop."""
    if not items:
        return []
    try:
        return list(await work(items))
    except MemoRAGError as error:
        if len(items) == 1:
            return [error]
        return [outcome for item in items for outcome in await atogether(work, [item])]
    except Exception as error:
        return [error] * len(items)


def raised(outcomes: Sequence[object]) -> None:
    """Raise the first error among outcomes, if there is one."""
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


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
