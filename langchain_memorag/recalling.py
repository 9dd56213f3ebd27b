"""Asking the memory as a run of LangChain: its start, each clue as it is said, its end with tokens.

In: a MemoRAG, questions, the config that each question came with. Out: for each question all that came of it,
or its error. All questions are put to the memory in one pass. Knows no retriever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context, copy_context
from typing import Any, TypeAlias, TypeVar

from langchain_core.callbacks import (
    AsyncCallbackManagerForChainRun,
    CallbackManagerForChainRun,
    adispatch_custom_event,
    dispatch_custom_event,
)
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import set_config_context

from langchain_memorag.runs import abegin, aend, atogether, begin, end, together
from memorag_core import Clue, ClueKind, MemoRAG, Recall

CLUE_EVENT = "memorag_clue"
"""The custom event of a clue whose line is complete: the question, and what ``clue_row`` gives."""

RUN_NAME = "MemoRAGClues"

Told: TypeAlias = Callable[[Clue], object]
"""Is told of each clue as its line is complete."""

_Run: TypeAlias = CallbackManagerForChainRun | AsyncCallbackManagerForChainRun
_AnyRun = TypeVar("_AnyRun", CallbackManagerForChainRun, AsyncCallbackManagerForChainRun)


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


def recall_all(
    memorag: MemoRAG,
    questions: Sequence[str],
    configs: Sequence[RunnableConfig],
    *,
    kinds: Sequence[ClueKind] | None,
    name: str = RUN_NAME,
    told: Told | None = None,
) -> list[Recall | Exception]:
    """What the memory recalls for each question, each in a run of its own, all in one pass.

    Args:
        memorag: What was memorized.
        questions: What cannot be a question costs the others nothing: it is asked alone.
        configs: One for each question; its callbacks hear of the run.
        kinds: Kinds of clue; None takes those of the settings.
        name: Of the runs.
        told: Is told of clues on the thread that asks; what it raises ends the asking.
    """
    runs = begin(name, questions, configs)
    of = _runs_of(questions, runs)

    def heard(question: str, clue: Clue) -> None:
        for run in of[question]:
            dispatch_custom_event(CLUE_EVENT, _event(question, clue), config={"callbacks": run.get_child()})
        if told is not None:
            told(clue)

    def ask(some: Sequence[str]) -> tuple[Recall, ...]:
        return memorag.recall_clues(some, kinds=kinds, heard=heard if _anyone_hears(runs, told) else None)

    outcomes: dict[int, Recall | Exception] = {}
    try:
        with _inside(runs) as context:
            for places in _passes(questions):
                some = [questions[place] for place in places]
                outcomes |= zip(places, context.run(together, ask, some), strict=True)
    except BaseException as error:
        end(runs, [error] * len(runs), shown_recall)
        raise
    ordered = [outcomes[place] for place in range(len(questions))]
    end(runs, ordered, shown_recall)
    return ordered


async def arecall_all(
    memorag: MemoRAG,
    questions: Sequence[str],
    configs: Sequence[RunnableConfig],
    *,
    kinds: Sequence[ClueKind] | None,
    name: str = RUN_NAME,
    told: Told | None = None,
) -> list[Recall | Exception]:
    """``recall_all`` that leaves the event loop free; ``told`` is called on it. Cancelling ends it."""
    runs = await abegin(name, questions, configs)
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[tuple[str, Clue] | None] = asyncio.Queue()

    def heard(question: str, clue: Clue) -> None:  # on the thread that asks
        loop.call_soon_threadsafe(lines.put_nowait, (question, clue))

    async def tell() -> None:
        of = _runs_of(questions, runs)
        while (line := await lines.get()) is not None:
            for run in of[line[0]]:
                config: RunnableConfig = {"callbacks": run.get_child()}
                await adispatch_custom_event(CLUE_EVENT, _event(*line), config=config)
            if told is not None:
                told(line[1])

    async def ask(some: Sequence[str]) -> tuple[Recall, ...]:
        return await memorag.arecall_clues(
            some, kinds=kinds, heard=heard if _anyone_hears(runs, told) else None
        )

    outcomes: dict[int, Recall | Exception] = {}
    teller = asyncio.create_task(tell())
    try:
        with _inside(runs) as context:
            for places in _passes(questions):
                asking = atogether(ask, [questions[place] for place in places])
                outcomes |= zip(places, await asyncio.create_task(asking, context=context), strict=True)
        # Lines were put on the queue before the answers came, so all of them are told of before the end.
        lines.put_nowait(None)
        await teller
    except BaseException as error:
        teller.cancel()
        await aend(runs, [error] * len(runs), shown_recall)
        raise
    ordered = [outcomes[place] for place in range(len(questions))]
    await aend(runs, ordered, shown_recall)
    return ordered


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


def _passes(questions: Sequence[str]) -> list[list[int]]:
    """Places of the questions that go in one pass, then of each that cannot be one."""
    good = [place for place, one in enumerate(questions) if isinstance(one, str) and one.strip()]
    return [good, *([place] for place in range(len(questions)) if place not in good)]


def _runs_of(questions: Sequence[str], runs: Sequence[_AnyRun]) -> dict[str, list[_AnyRun]]:
    of: dict[str, list[_AnyRun]] = {}
    for question, run in zip(questions, runs, strict=True):
        if isinstance(question, str):
            of.setdefault(question, []).append(run)
    return of


def _anyone_hears(runs: Sequence[_Run], told: Told | None) -> bool:
    return told is not None or any(run.handlers for run in runs)


def _event(question: str, clue: Clue) -> dict[str, Any]:
    return {"question": question, **clue_row(clue)}


def _inside(runs: Sequence[_Run]) -> AbstractContextManager[Context]:
    """A context in which a chat model that stands behind a memory is traced inside the (first) run."""
    if not any(run.handlers for run in runs):
        return nullcontext(copy_context())
    return set_config_context({"callbacks": runs[0].get_child()})
