"""Clues as a runnable of their own: a question goes in, the clues that a memory recalls for it come out.

In: questions. Out: lists of clues, best first; streamed, lines as they are said. Does not retrieve.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, cast

from langchain_core.runnables import RunnableConfig, RunnableSerializable, ensure_config
from langchain_core.runnables.config import get_config_list
from pydantic import ConfigDict

from langchain_memorag.callbacks import AsyncRuns, Runs
from langchain_memorag.choosing import ChoosesKinds, refuse
from langchain_memorag.holding import HoldsMemory
from langchain_memorag.runs import raised, rounds
from memorag_core import Clue, ClueKind, ClueStream, QueryOptions, QueryPipeline, Recall


class MemoRAGClues(HoldsMemory, ChoosesKinds, RunnableSerializable[str, list[Clue]]):
    """Recalls clues: keys for retrieval, never evidence.

    ``batch`` and ``abatch`` put all questions to the memory in one pass, or, where the config has
    ``max_concurrency``, that many at a time. ``stream`` and ``astream`` give lists of one clue as its line
    is complete, before it is known which clues are best: ``invoke`` chooses among them. In events and traces
    each clue is a custom event "memorag_clue", and the output has the clues, tokens and seconds.

    Attributes:
        memorag: What was memorized.
        kinds: Kinds of clue to ask for, unless a call says otherwise: ``clues.invoke(question,
            kinds=["span"])``. None takes those of the settings of ``memorag``.
    """

    model_config = ConfigDict(extra="forbid")

    def invoke(
        self,
        input: str,  # noqa: A002 (LangChain's name)
        config: RunnableConfig | None = None,
        *,
        kinds: Sequence[ClueKind] | None = None,
        **kwargs: Any,
    ) -> list[Clue]:
        """The clues for a question, in the order of the kinds, best first within a kind.

        Args:
            input: What the user wants to know.
            config: LangChain's.
            kinds: Kinds of clue for this call.
            **kwargs: None; they are in LangChain's signature.

        Raises:
            InputError: A blank question, or an unknown kind.
            NothingMemorizedError: There is nothing to recall.
        """
        refuse("MemoRAGClues.invoke", kwargs)
        runs = Runs([ensure_config(config)], name=self.get_name())
        return _lists(self._pipeline(kinds).recall([input], runs))[0]

    async def ainvoke(
        self,
        input: str,  # noqa: A002
        config: RunnableConfig | None = None,
        *,
        kinds: Sequence[ClueKind] | None = None,
        **kwargs: Any,
    ) -> list[Clue]:
        """``invoke`` that leaves the event loop free; cancelling it ends the asking at the next token."""
        refuse("MemoRAGClues.ainvoke", kwargs)
        runs = AsyncRuns([ensure_config(config)], name=self.get_name())
        return _lists(await self._pipeline(kinds).arecall([input], runs))[0]

    def batch(
        self,
        inputs: list[str],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        kinds: Sequence[ClueKind] | None = None,
        **kwargs: Any,
    ) -> list[list[Clue]]:
        """``invoke`` for many questions, in one pass over the memory."""
        refuse("MemoRAGClues.batch", kwargs)
        recalled: list[Recall | Exception] = []
        for some, configs in rounds(inputs, get_config_list(config, len(inputs))):
            runs = Runs(configs, name=self.get_name())
            recalled += self._pipeline(kinds).recall_outcomes(some, runs)
        return _lists(recalled, return_exceptions=return_exceptions)

    async def abatch(
        self,
        inputs: list[str],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        kinds: Sequence[ClueKind] | None = None,
        **kwargs: Any,
    ) -> list[list[Clue]]:
        """``batch`` that leaves the event loop free."""
        refuse("MemoRAGClues.abatch", kwargs)
        recalled: list[Recall | Exception] = []
        for some, configs in rounds(inputs, get_config_list(config, len(inputs))):
            runs = AsyncRuns(configs, name=self.get_name())
            recalled += await self._pipeline(kinds).arecall_outcomes(some, runs)
        return _lists(recalled, return_exceptions=return_exceptions)

    def stream(
        self,
        input: str,  # noqa: A002
        config: RunnableConfig | None = None,
        *,
        kinds: Sequence[ClueKind] | None = None,
        **kwargs: Any,
    ) -> Iterator[list[Clue]]:
        """Lists of one clue, as its line is complete. Closing it ends the asking at the next token."""
        refuse("MemoRAGClues.stream", kwargs)
        pipeline, runs = self._pipeline(kinds), Runs([ensure_config(config)], name=self.get_name())
        with ClueStream(lambda heard, stop: pipeline.recall([input], runs, heard=heard, stop=stop)) as clues:
            for clue in clues:
                yield [clue]

    async def astream(
        self,
        input: str,  # noqa: A002
        config: RunnableConfig | None = None,
        *,
        kinds: Sequence[ClueKind] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[list[Clue]]:
        """``stream`` for an event loop. Closing it ends the asking at the next token."""
        refuse("MemoRAGClues.astream", kwargs)
        pipeline = self._pipeline(kinds)
        said: asyncio.Queue[Clue | None] = asyncio.Queue()
        runs = AsyncRuns([ensure_config(config)], name=self.get_name(), told=said.put_nowait)
        asking = asyncio.create_task(pipeline.arecall([input], runs))
        asking.add_done_callback(lambda _: said.put_nowait(None))
        try:
            while (clue := await said.get()) is not None:
                yield [clue]
            await asking
        finally:
            if not asking.done():
                asking.cancel()

    def _pipeline(self, kinds: Sequence[ClueKind] | None) -> QueryPipeline:
        return self.memorag.pipeline(QueryOptions(clue_kinds=self.kinds if kinds is None else kinds))


def _lists(recalled: Sequence[Recall | Exception], *, return_exceptions: bool = False) -> list[list[Clue]]:
    """The clues of each, a list of the caller's own, or its error."""
    if not return_exceptions:
        raised(recalled)
    lists = [one if isinstance(one, Exception) else list(one.clues) for one in recalled]
    return cast("list[list[Clue]]", lists)  # LangChain's signature says nothing of errors
