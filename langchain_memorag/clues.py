"""Clues as a runnable of their own: a question goes in, the clues that a memory recalls for it come out.

In: questions. Out: lists of clues, best first; streamed, lines as they are said. Does not retrieve.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig, RunnableSerializable, ensure_config
from langchain_core.runnables.config import get_config_list
from langchain_core.runnables.utils import AnyConfigurableField
from pydantic import ConfigDict

from langchain_memorag.callbacks import AsyncRuns, Runs, rounds, wanted
from langchain_memorag.fields import WithClueKinds, chosen, renamed
from memorag_core import Clue, ClueKind, ClueStream, QueryOptions, QueryPipeline, Recall


class MemoRAGClues(WithClueKinds, RunnableSerializable[str, list[Clue]]):
    """Recalls clues: keys for retrieval, never evidence.

    ``batch`` and ``abatch`` put all questions to the memory in one pass, or, where the config has
    ``max_concurrency``, that many at a time. ``stream`` and ``astream`` give lists of one clue as its line
    is complete, before it is known which clues are best: ``invoke`` chooses among them. In events and traces
    each clue is a custom event "memorag_clue", and the output has the clues, tokens and seconds.

    Attributes:
        memorag: What was memorized.
        clue_kinds: Kinds of clue to ask for, unless a call says otherwise: ``clues.invoke(question,
            clue_kinds=["span"])``. None takes those of the settings of ``memorag``.
    """

    model_config = ConfigDict(extra="forbid")

    def configurable_fields(self, **kwargs: AnyConfigurableField) -> RunnableSerializable[str, list[Clue]]:
        """LangChain's; takes old names of fields too."""
        return super().configurable_fields(**renamed("MemoRAGClues", kwargs))

    def invoke(
        self,
        input: str,  # noqa: A002 (LangChain's name)
        config: RunnableConfig | None = None,
        *,
        clue_kinds: Sequence[ClueKind] | None = None,
        **kwargs: Any,
    ) -> list[Clue]:
        """The clues for a question, in the order of the kinds, best first within a kind.

        Args:
            input: What the user wants to know.
            config: LangChain's.
            clue_kinds: Kinds of clue for this call.
            **kwargs: None; they are in LangChain's signature.

        Raises:
            InputError: A blank question, or an unknown kind.
            NothingMemorizedError: There is nothing to recall.
        """
        pipeline = self._pipeline("invoke", clue_kinds, kwargs)
        runs = Runs([ensure_config(config)], name=self.get_name())
        return list(pipeline.recall([input], runs)[0].clues)

    async def ainvoke(
        self,
        input: str,  # noqa: A002
        config: RunnableConfig | None = None,
        *,
        clue_kinds: Sequence[ClueKind] | None = None,
        **kwargs: Any,
    ) -> list[Clue]:
        """``invoke`` that leaves the event loop free; cancelling it ends the asking at the next token."""
        pipeline = self._pipeline("ainvoke", clue_kinds, kwargs)
        runs = AsyncRuns([ensure_config(config)], name=self.get_name())
        return list((await pipeline.arecall([input], runs))[0].clues)

    def batch(
        self,
        inputs: list[str],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        clue_kinds: Sequence[ClueKind] | None = None,
        **kwargs: Any,
    ) -> list[list[Clue]]:
        """``invoke`` for many questions, in one pass over the memory."""
        pipeline = self._pipeline("batch", clue_kinds, kwargs)
        recalled: list[Recall | Exception] = []
        for some, configs in rounds(inputs, get_config_list(config, len(inputs))):
            recalled += pipeline.recall_outcomes(some, Runs(configs, name=self.get_name()))
        return _lists(wanted(recalled, return_exceptions=return_exceptions))

    async def abatch(
        self,
        inputs: list[str],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        clue_kinds: Sequence[ClueKind] | None = None,
        **kwargs: Any,
    ) -> list[list[Clue]]:
        """``batch`` that leaves the event loop free."""
        pipeline = self._pipeline("abatch", clue_kinds, kwargs)
        recalled: list[Recall | Exception] = []
        for some, configs in rounds(inputs, get_config_list(config, len(inputs))):
            recalled += await pipeline.arecall_outcomes(some, AsyncRuns(configs, name=self.get_name()))
        return _lists(wanted(recalled, return_exceptions=return_exceptions))

    def stream(
        self,
        input: str,  # noqa: A002
        config: RunnableConfig | None = None,
        *,
        clue_kinds: Sequence[ClueKind] | None = None,
        **kwargs: Any,
    ) -> Iterator[list[Clue]]:
        """Lists of one clue, as its line is complete. Closing it ends the asking at the next token."""
        pipeline = self._pipeline("stream", clue_kinds, kwargs)
        runs = Runs([ensure_config(config)], name=self.get_name())
        with ClueStream(lambda heard, stop: pipeline.recall([input], runs, heard=heard, stop=stop)) as clues:
            for clue in clues:
                yield [clue]

    async def astream(
        self,
        input: str,  # noqa: A002
        config: RunnableConfig | None = None,
        *,
        clue_kinds: Sequence[ClueKind] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[list[Clue]]:
        """``stream`` for an event loop. Closing it ends the asking at the next token."""
        pipeline = self._pipeline("astream", clue_kinds, kwargs)
        runs = AsyncRuns([ensure_config(config)], name=self.get_name())
        loop = asyncio.get_running_loop()
        said: asyncio.Queue[Clue | None] = asyncio.Queue()

        def on_clue(_: str, clue: Clue) -> None:  # on the thread that asks
            loop.call_soon_threadsafe(said.put_nowait, clue)

        asking = asyncio.create_task(pipeline.arecall([input], runs, heard=on_clue))
        asking.add_done_callback(lambda _: said.put_nowait(None))
        try:
            while (clue := await said.get()) is not None:
                yield [clue]
            await asking
        finally:
            asking.cancel()

    def _pipeline(
        self, method: str, clue_kinds: Sequence[ClueKind] | None, others: Mapping[str, Any]
    ) -> QueryPipeline:
        given = {"clue_kinds": clue_kinds, **others}
        choice = chosen(f"MemoRAGClues.{method}", given, ("clue_kinds",))
        return self.memorag.pipeline(QueryOptions(clue_kinds=choice.get("clue_kinds", self.clue_kinds)))


def _lists(recalled: Sequence[Any]) -> list[list[Clue]]:
    """The clues of each as a list of the caller's own; an error stays."""
    return [list(one.clues) if isinstance(one, Recall) else one for one in recalled]
