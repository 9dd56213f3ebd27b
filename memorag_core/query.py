"""The pipeline of a question: it is checked, the memory recalls clues, and the clues find evidence.

In: a corpus, questions, what was chosen for the call, callbacks. Out: for each question its clues and what
was found, or its error. Everything that asks goes this way, for one question or many, called or awaited.
Knows the stages that recall and search, not those that read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from threading import Event
from typing import Any, TypeAlias, cast

from memorag_core.clues.asker import Asker
from memorag_core.clues.recall import Heard, Stop
from memorag_core.clues.request_batching import MOST
from memorag_core.corpus import Corpus
from memorag_core.errors import InputError, NothingMemorizedError
from memorag_core.memory.requests import check_question
from memorag_core.protocols import AsyncQueryCallbacks, CountTokens, QueryCallbacks, Reranker, Searcher
from memorag_core.retrieval import FanOut
from memorag_core.retrieval.queries import query_texts
from memorag_core.settings import ClueSettings, RetrievalSettings
from memorag_core.system.locking import OfProcess
from memorag_core.system.outcomes import AsyncSteps, Steps, aoutcomes, awaited, outcomes
from memorag_core.types import Chunk, Clue, ClueKind, Findings, Recall

AnyCallbacks: TypeAlias = QueryCallbacks | AsyncQueryCallbacks
"""Whom a call that is awaited tells of its steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryOptions:
    """What is chosen for a call; None takes what the ``MemoRAG`` was made with.

    Attributes:
        k: Pieces of evidence for each question; None takes the settings' number, or all there are.
        clue_kinds: Kinds of clue to ask for, in place of those of the clue settings.
        clue_settings: What is asked of the memory.
        retrieval_settings: How rankings are joined.
        base_retriever: A retriever of your own, which is searched instead of what was memorized.
        filter: Whether a chunk of what was memorized may be found; None lets all be found. Called for each
            chunk, at every search.
    """

    k: int | None = None
    clue_kinds: Sequence[ClueKind] | None = None
    clue_settings: ClueSettings | None = None
    retrieval_settings: RetrievalSettings | None = None
    base_retriever: FanOut | Searcher | None = None
    filter: Callable[[Chunk], bool] | None = None


@dataclass(frozen=True, slots=True)
class QueryResult:
    """What came of a question."""

    recall: Recall
    findings: Findings


@dataclass(frozen=True, slots=True)
class QueryPipeline:
    """Check, recall, search: over one state of what was memorized, as it was chosen for a call.

    The methods that end in ``outcomes`` give the error of a question in its place, and it costs the others
    nothing; the others raise the first one, before the memory is asked where that can be known.

    Attributes:
        asker: Asks the memory.
        reranker: What orders the first of what was found, or None to leave it as it is.
        count_tokens: What a text takes of a budget.
        corpus: What was memorized; None for nothing, which every step refuses.
        clues: What is asked of the memory.
        retrieval: How rankings are joined.
        k: Pieces of evidence for each question; None for the settings' number, or all there are.
        base_retriever: What is searched instead of the corpus.
        filter: Whether a chunk of the corpus may be found.
    """

    asker: Asker = field(repr=False)
    reranker: Reranker | None = field(repr=False)
    count_tokens: CountTokens = field(repr=False)
    corpus: Corpus | None = field(repr=False)
    clues: ClueSettings
    retrieval: RetrievalSettings
    k: int | None = None
    base_retriever: FanOut | None = field(default=None, repr=False)
    filter: Callable[[Chunk], bool] | None = None

    @property
    def memorized(self) -> Corpus:
        """The corpus.

        Raises:
            NothingMemorizedError: There is none.
        """
        return memorized(self.corpus)

    def check(self) -> int:
        """How many pieces of evidence a question gets; refuses what cannot be had before a memory is asked.

        Raises:
            InputError: ``k`` below 1, or above the chunks of the corpus; settings that what is searched
                cannot follow; a filter for a retriever of the user's own.
            NothingMemorizedError: There is nothing to search.
        """
        corpus = self.memorized
        if self.base_retriever is not None:
            if self.filter is not None:
                raise InputError(
                    "A filter says which chunks of what was memorized may be found, and a retriever of your "
                    "own is searched instead. Filter there, and leave it out here."
                )
            k = self.retrieval.k if self.k is None else self.k  # nobody knows how much it has
            self.base_retriever.check_k(k, self.retrieval)
            return k
        if self.k is None:
            return min(self.retrieval.k, len(corpus.index.chunks))  # a short text has fewer
        corpus.index.check_k(self.k, self.retrieval)
        return self.k

    def run(
        self, questions: Sequence[str], callbacks: QueryCallbacks | None = None, *, again: bool = False
    ) -> tuple[QueryResult, ...]:
        """What came of each question, put to the memory together; ``again`` as for ``recall``.

        Raises:
            InputError: As ``check`` and ``recall``.
            NothingMemorizedError: There is nothing to ask.
            RetrievalError: All searches of a question failed, over a retriever of the user's own.
        """
        k = self.check()
        recalled = self.recall(questions, callbacks, again=again)
        found = self._search(k, dict(enumerate(recalled)), callbacks, each=False)
        return tuple(map(QueryResult, recalled, cast("Sequence[Findings]", found)))

    async def arun(
        self, questions: Sequence[str], callbacks: AnyCallbacks | None = None
    ) -> tuple[QueryResult, ...]:
        """``run`` that leaves the event loop free; cancelling it ends the asking at the next token."""
        k = self.check()
        recalled = await self.arecall(questions, callbacks)
        found = await self._asearch(k, dict(enumerate(recalled)), callbacks, each=False)
        return tuple(map(QueryResult, recalled, cast("Sequence[Findings]", found)))

    def run_outcomes(
        self, questions: Sequence[str], callbacks: QueryCallbacks | None = None
    ) -> tuple[QueryResult | Exception, ...]:
        """``run`` with the error of each question in its place; raises what ``check`` does."""
        k = self.check()
        recalled = self._recall(questions, callbacks, each=True)
        good = _recalled(recalled)
        return _joined(recalled, good, self._search(k, good, callbacks, each=True))

    async def arun_outcomes(
        self, questions: Sequence[str], callbacks: AnyCallbacks | None = None
    ) -> tuple[QueryResult | Exception, ...]:
        """``run_outcomes`` that leaves the event loop free."""
        k = self.check()
        recalled = await self._arecall(questions, callbacks, each=True)
        good = _recalled(recalled)
        return _joined(recalled, good, await self._asearch(k, good, callbacks, each=True))

    def recall(
        self,
        questions: Sequence[str],
        callbacks: QueryCallbacks | None = None,
        *,
        heard: Heard | None = None,
        stop: Stop | None = None,
        again: bool = False,
    ) -> tuple[Recall, ...]:
        """The clues for each question, put to the memory together.

        Args:
            questions: What the user wants to know.
            callbacks: Hear of the steps.
            heard: Is told of questions and clues as well, once for a question that comes twice.
            stop: Ends all replies once it is set.
            again: Ask the memory also for what is kept.

        Raises:
            InputError: No list of questions, or a blank one.
            NothingMemorizedError: There is nothing to ask.
        """
        asked = self._recall(questions, callbacks, each=False, heard=heard, stop=stop, again=again)
        return tuple(cast("Sequence[Recall]", asked))

    async def arecall(
        self,
        questions: Sequence[str],
        callbacks: AnyCallbacks | None = None,
        *,
        heard: Heard | None = None,
    ) -> tuple[Recall, ...]:
        """``recall`` in a thread; cancelling it ends the asking at the next token."""
        asked = await self._arecall(questions, callbacks, each=False, heard=heard)
        return tuple(cast("Sequence[Recall]", asked))

    def recall_outcomes(
        self, questions: Sequence[str], callbacks: QueryCallbacks | None = None
    ) -> tuple[Recall | Exception, ...]:
        """``recall`` with the error of each question in its place; the others go in one pass all the same."""
        return tuple(self._recall(questions, callbacks, each=True))

    async def arecall_outcomes(
        self, questions: Sequence[str], callbacks: AnyCallbacks | None = None
    ) -> tuple[Recall | Exception, ...]:
        """``recall_outcomes`` in a thread; cancelling it ends the asking at the next token."""
        return tuple(await self._arecall(questions, callbacks, each=True))

    def search(
        self, recalled: Sequence[Recall], callbacks: QueryCallbacks | None = None
    ) -> tuple[Findings, ...]:
        """The evidence for each question and its clues; raises as ``run``."""
        found = self._search(self.check(), dict(enumerate(recalled)), callbacks, each=False)
        return tuple(cast("Sequence[Findings]", found))

    async def asearch(
        self, recalled: Sequence[Recall], callbacks: AnyCallbacks | None = None
    ) -> tuple[Findings, ...]:
        """``search`` that leaves the event loop free: the corpus is searched in a thread."""
        found = await self._asearch(self.check(), dict(enumerate(recalled)), callbacks, each=False)
        return tuple(cast("Sequence[Findings]", found))

    def _recall(
        self,
        questions: Sequence[str],
        callbacks: QueryCallbacks | None,
        *,
        each: bool,
        heard: Heard | None = None,
        stop: Stop | None = None,
        again: bool = False,
    ) -> Sequence[Recall | Exception]:
        callbacks, questions = callbacks or _SILENT, _listed(questions)
        hear = _Hearing(callbacks, _places(questions), heard)
        with Steps(callbacks.on_recall_start, callbacks.on_recall_end, callbacks.on_recall_error) as steps:
            for place, question in enumerate(questions):
                steps.start(place, question)
            listener = hear if callbacks.hears_clues else heard
            ask = partial(self._ask, questions, each=each, heard=listener, stop=stop, again=again)
            with callbacks.context() as context:
                found = ask() if context is None else context.run(ask)
            hear.check()
            steps.end(found)
        return found

    async def _arecall(
        self,
        questions: Sequence[str],
        callbacks: AnyCallbacks | None,
        *,
        each: bool,
        heard: Heard | None = None,
    ) -> Sequence[Recall | Exception]:
        callbacks, questions = callbacks or _SILENT, _listed(questions)
        hear = _Hearing(callbacks, _places(questions), heard)
        loop, stop = asyncio.get_running_loop(), Event()
        lines: asyncio.Queue[tuple[str, Clue] | None] = asyncio.Queue()

        def hand_over(question: str, clue: Clue) -> None:  # from the thread that asks to the loop
            loop.call_soon_threadsafe(lines.put_nowait, (question, clue))
            if heard is not None:
                heard(question, clue)

        async with AsyncSteps(
            callbacks.on_recall_start, callbacks.on_recall_end, callbacks.on_recall_error
        ) as steps:
            for place, question in enumerate(questions):
                await steps.astart(place, question)
            listens = callbacks.hears_clues
            on_loop = listens and isinstance(callbacks, AsyncQueryCallbacks)
            listener = hand_over if on_loop else hear if listens else heard
            ask = partial(self._ask, questions, each=each, heard=listener, stop=stop)
            with callbacks.context() as context:
                # Not the loop's own threads: on small machines there are few, and most of these only wait.
                own = copy_context() if context is None else context.copy()
                asking = loop.run_in_executor(_THREADS.get(), own.run, ask)
            try:
                # Behind all lines: what a thread hands to the loop keeps its order.
                asking.add_done_callback(lambda _: lines.put_nowait(None))
                while on_loop and (line := await lines.get()) is not None:
                    for place in hear.places[line[0]]:
                        await awaited(callbacks.on_clue(place, line[1]))
                found = await asking
            finally:
                stop.set()
                if not loop.is_closed():
                    asking.cancel()
            hear.check()
            await steps.aend(found)
        return found

    def _ask(
        self,
        questions: Sequence[str],
        *,
        each: bool,
        heard: Heard | None,
        stop: Stop | None,
        again: bool = False,
    ) -> Sequence[Recall | Exception]:
        recall = self.asker.recall
        ask = partial(recall, self.memorized, self.clues, heard=heard, stop=stop, again=again)
        if not each:
            return ask(questions)
        found: dict[int, Recall | Exception] = {}
        for place, question in enumerate(questions):
            try:
                check_question(question, self.clues.kinds)
            except InputError as error:
                found[place] = error
        good = [place for place in range(len(questions)) if place not in found]
        found |= zip(good, outcomes(ask, [questions[place] for place in good]), strict=True)
        return [found[place] for place in range(len(questions))]

    def _search(
        self, k: int, recalled: Mapping[int, Recall], callbacks: QueryCallbacks | None, *, each: bool
    ) -> Sequence[Findings | Exception]:
        callbacks, find, some = callbacks or _SILENT, partial(self._find, k), [*recalled.values()]

        def end(place: int, findings: Findings) -> None:
            for failure in findings.failures:
                callbacks.on_search_failed(place, failure)
            callbacks.on_search_end(place, findings)

        with Steps(callbacks.on_search_start, end, callbacks.on_search_error) as steps:
            for place, one in recalled.items():
                steps.start(place, one, query_texts(one.question, one.clues, self.retrieval))
            found = outcomes(find, some) if each or not some else find(some)
            steps.end(found)
        return found

    async def _asearch(
        self, k: int, recalled: Mapping[int, Recall], callbacks: AnyCallbacks | None, *, each: bool
    ) -> Sequence[Findings | Exception]:
        callbacks, find, some = callbacks or _SILENT, partial(self._afind, k), [*recalled.values()]

        async def end(place: int, findings: Findings) -> None:
            for failure in findings.failures:
                await awaited(callbacks.on_search_failed(place, failure))
            await awaited(callbacks.on_search_end(place, findings))

        async with AsyncSteps(callbacks.on_search_start, end, callbacks.on_search_error) as steps:
            for place, one in recalled.items():
                await steps.astart(place, one, query_texts(one.question, one.clues, self.retrieval))
            found = await aoutcomes(find, some) if each or not some else await find(some)
            await steps.aend(found)
        return found

    def _find(self, k: int, recalled: Sequence[Recall]) -> Sequence[Findings]:
        requests = [(one.question, one.clues) for one in recalled]
        if self.base_retriever is not None:
            return self.base_retriever.retrieve_batch(requests, k=k, **self._how())
        begun, index = time.perf_counter(), self.memorized.index
        found = index.retrieve_batch(requests, k=k, where=self.filter, **self._how())
        seconds = time.perf_counter() - begun
        return [
            Findings(one.question, evidence, seconds=seconds)
            for one, evidence in zip(recalled, found, strict=True)
        ]

    async def _afind(self, k: int, recalled: Sequence[Recall]) -> Sequence[Findings]:
        if self.base_retriever is None:
            return await asyncio.to_thread(self._find, k, recalled)
        requests = [(one.question, one.clues) for one in recalled]
        return await self.base_retriever.aretrieve_batch(requests, k=k, **self._how())

    def _how(self) -> dict[str, Any]:
        shared = {"reranker": self.reranker, "count_tokens": self.count_tokens}
        return {"settings": self.retrieval, **shared}


def memorized(corpus: Corpus | None) -> Corpus:
    """A corpus, where there is one.

    Raises:
        NothingMemorizedError: There is none.
    """
    if corpus is None:
        raise NothingMemorizedError(
            "Nothing has been memorized yet, so there is nothing to ask or to save. Call memorize(text) "
            "first, or MemoRAG.load(path) for a text that was saved."
        )
    return corpus


@dataclass(slots=True)
class _Hearing:
    """Tells callbacks of clues, on the thread that asks; what one raises is no question's own error."""

    callbacks: AnyCallbacks
    places: Mapping[str, Sequence[int]]
    heard: Heard | None
    error: BaseException | None = None

    def __call__(self, question: str, clue: Clue) -> None:
        try:
            for place in self.places[question]:
                self.callbacks.on_clue(place, clue)
        except BaseException as error:
            self.error = error
            raise
        if self.heard is not None:
            self.heard(question, clue)

    def check(self) -> None:
        if self.error is not None:
            raise self.error


class _Silent(QueryCallbacks):
    @property
    def hears_clues(self) -> bool:
        return False


_SILENT = _Silent()

_THREADS = OfProcess(lambda: ThreadPoolExecutor(MOST, thread_name_prefix="memorag-asking"))
"""For those who await a memory: as many as a pass takes questions. They are begun as they are needed."""


def _listed(questions: Sequence[str]) -> list[str]:
    if isinstance(questions, str) or not isinstance(questions, Iterable):
        raise InputError(
            f"The questions are {questions!r:.80}; expected a list of texts. Give one text for each."
        )
    return list(questions)


def _places(questions: Sequence[str]) -> dict[str, list[int]]:
    """Where each question stands among those of a call."""
    places: dict[str, list[int]] = {}
    for place, question in enumerate(questions):
        if isinstance(question, str):
            places.setdefault(question, []).append(place)
    return places


def _recalled(recalled: Sequence[Recall | Exception]) -> dict[int, Recall]:
    """What was recalled, by the place of its question."""
    return {place: one for place, one in enumerate(recalled) if isinstance(one, Recall)}


def _joined(
    recalled: Sequence[Recall | Exception], good: Mapping[int, Recall], found: Sequence[Findings | Exception]
) -> tuple[QueryResult | Exception, ...]:
    findings = dict(zip(good, found, strict=True))
    joined: list[QueryResult | Exception] = []
    for place, one in enumerate(recalled):
        outcome = one if isinstance(one, Exception) else findings[place]
        joined.append(outcome if isinstance(outcome, Exception) else QueryResult(good[place], outcome))
    return tuple(joined)
