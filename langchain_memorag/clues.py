"""Clues as a runnable of their own: a question goes in, the clues that a memory recalls for it come out.

In: questions. Out: lists of clues, best first; streamed, lines as they are said. Does not retrieve.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextvars import copy_context
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any, cast

from langchain_core.runnables import RunnableConfig, RunnableSerializable, ensure_config
from langchain_core.runnables.config import get_config_list
from pydantic import ConfigDict

from langchain_memorag.choosing import ChoosesKinds, refuse
from langchain_memorag.holding import HoldsMemory
from langchain_memorag.recalling import arecall_all, recall_all
from langchain_memorag.runs import raised, rounds
from memorag_core import Clue, ClueKind, MemoRAGError, Recall

_LOOK = 0.05  # seconds between two looks at whether who speaks is still there


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
        recalled = recall_all(self.memorag, [input], [ensure_config(config)], **self._how(kinds))
        return _lists(recalled)[0]

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
        recalled = await arecall_all(self.memorag, [input], [ensure_config(config)], **self._how(kinds))
        return _lists(recalled)[0]

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
            recalled += recall_all(self.memorag, some, configs, **self._how(kinds))
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
            recalled += await arecall_all(self.memorag, some, configs, **self._how(kinds))
        return _lists(recalled, return_exceptions=return_exceptions)

    def stream(
        self,
        input: str,  # noqa: A002
        config: RunnableConfig | None = None,
        *,
        kinds: Sequence[ClueKind] | None = None,
        **kwargs: Any,
    ) -> Iterator[list[Clue]]:
        """Lists of one clue, as its line is complete. Closing the stream ends the asking at the next line."""
        refuse("MemoRAGClues.stream", kwargs)
        said: SimpleQueue[Clue | BaseException | None] = SimpleQueue()
        closed = Event()

        def told(clue: Clue) -> None:
            if closed.is_set():
                raise GeneratorExit  # nobody listens any more
            said.put(clue)

        def ask() -> None:
            try:
                (outcome,) = recall_all(
                    self.memorag, [input], [ensure_config(config)], told=told, **self._how(kinds)
                )
            except BaseException as error:
                said.put(error)
            else:
                said.put(outcome if isinstance(outcome, Exception) else None)

        thread = Thread(target=copy_context().run, args=(ask,), name="memorag-clues", daemon=True)
        thread.start()
        try:
            while (line := _next(said, thread)) is not None:
                if isinstance(line, BaseException):
                    raise line
                yield [line]
        finally:
            closed.set()

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
        said: asyncio.Queue[Clue | None] = asyncio.Queue()

        async def ask() -> None:
            try:
                outcomes = await arecall_all(
                    self.memorag, [input], [ensure_config(config)], told=said.put_nowait, **self._how(kinds)
                )
            finally:
                said.put_nowait(None)
            raised(outcomes)

        asking = asyncio.create_task(ask())
        try:
            while (clue := await said.get()) is not None:
                yield [clue]
            await asking
        finally:
            if not asking.done():
                asking.cancel()

    def _how(self, kinds: Sequence[ClueKind] | None) -> dict[str, Any]:
        return {"kinds": self.kinds if kinds is None else kinds, "name": self.get_name()}


def _next(said: SimpleQueue[Clue | BaseException | None], thread: Thread) -> Clue | BaseException | None:
    """What a thread says next; it is not waited for once it has ended, however it did."""
    while True:
        ended = not thread.is_alive()  # what it said was said before
        try:
            return said.get(timeout=0 if ended else _LOOK)
        except Empty:
            if ended:
                return MemoRAGError("The asking was broken off before its end. Ask again.")


def _lists(recalled: list[Recall | Exception], *, return_exceptions: bool = False) -> list[list[Clue]]:
    """The clues of each, a list of the caller's own, or its error."""
    if not return_exceptions:
        raised(recalled)
    lists = [one if isinstance(one, Exception) else list(one.clues) for one in recalled]
    return cast("list[list[Clue]]", lists)  # LangChain's signature says nothing of errors
