"""The user's own retriever beneath the clues: question and clues fan out to it, and its lists are fused.

In: a searcher, then questions with their clues. Out: for each question its evidence, and the searches that
failed. Does not know where the searcher looks, nor where clues come from.

A passage that is found is a document of its own: chunk and document have the retriever's id for it, or a hash
of its text where it gives none, and the chunk is the whole of it. Passages are the same where their ids are,
and without an id where their texts are; the first one found is kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from time import monotonic
from typing import ClassVar

from memorag_core.errors import InputError, RetrievalError
from memorag_core.protocols import CountTokens, Reranker
from memorag_core.retrieval.external.concurrent_search import Outcome, asearch_all, search_all
from memorag_core.retrieval.external.searchers import as_searcher
from memorag_core.retrieval.fusion import RankedList
from memorag_core.retrieval.queries import Query, plans_of
from memorag_core.retrieval.ranking import choose, search_depth
from memorag_core.settings import RetrievalSettings, check_whole
from memorag_core.types import Chunk, Clue, Findings, FoundPassage, SearchFailure

logger = logging.getLogger(__name__)

_DEFAULTS = RetrievalSettings()
_LONGEST_REASON = 500  # characters of a retriever's message that ours repeats; the whole one is the cause


class FanOut:
    """A retriever of the user's own, asked with a question and each of its clues at once.

    Holds no state between calls; threads may share it.

    Args:
        searcher: What ``as_searcher`` takes: an object with ``search(query, k)``, with ``asearch`` beside it
            where it can be awaited, or a function that gives passages. It is called on several threads at
            once.
        concurrency: The most searches that a call waits for at once, 1 or more.
        timeout: Seconds that each search has, from its own beginning. One that takes longer is given up and
            counts as failed; its thread stays until it ends by itself, so set a limit on the client too.
            None waits as long as it takes.
        name: What hits call the retriever.

    Raises:
        InputError: A searcher of another shape, or a concurrency, timeout or name that cannot be used.
    """

    CONCURRENCY: ClassVar[int] = 8
    """Searches at once: a question with the clues of three kinds, three each, takes two rounds."""

    def __init__(
        self,
        searcher: object,
        *,
        concurrency: int = CONCURRENCY,
        timeout: float | None = None,
        name: str = "search",
    ) -> None:
        self.searcher = as_searcher(searcher)
        check_whole("FanOut.concurrency", concurrency, least=1, remedy="Give 1 to search one by one.")
        if timeout is not None and (
            isinstance(timeout, bool)
            or not isinstance(timeout, int | float)
            or not (isfinite(timeout) and timeout > 0)
        ):
            raise InputError(
                f"FanOut.timeout is {timeout!r}; expected seconds above 0, or None to wait for as long "
                "as it takes."
            )
        if not isinstance(name, str) or not name.strip():
            raise InputError(
                f"FanOut.name is {name!r}; expected what hits should call the retriever, such as 'search'."
            )
        self.concurrency = concurrency
        self.timeout = timeout
        self.name = name

    def retrieve_batch(
        self,
        requests: Sequence[tuple[str, Sequence[Clue]]],
        *,
        k: int | None = None,
        settings: RetrievalSettings = _DEFAULTS,
        reranker: Reranker | None = None,
        count_tokens: CountTokens = len,
    ) -> tuple[Findings, ...]:
        """Find the evidence for many questions; no text is searched twice.

        The retriever is asked with each question and each clue, and its lists are fused as the lists of an
        ``EvidenceIndex`` are. A search that fails or takes too long is left out, and named in the findings.
        The result does not depend on which search ends first.

        Args:
            requests: Pairs of a question and its clues. Clues of blank text or of weight 0 are as if absent.
            k: Passages for each question; None takes ``settings.k``.
            settings: As for ``EvidenceIndex``. A search is asked for ``fan_out`` passages, or more where
                ``k`` or a re-ranker needs them. What an index of our own weighs, as BM25 and
                vectors, has no meaning here.
            reranker: What ``as_reranker`` gives; it reads the first ``rerank_depth`` of what was found.
            count_tokens: What a text takes of ``settings.budget``.

        Returns:
            For each request the evidence, best first, and among equals what was found first, by the question
            and then by the clues in their order. Exactly ``k`` pieces where that many different passages were
            found, else all of them; with a budget fewer, where they do not fit. Passages of blank text are as
            if they had not been found.

        Raises:
            InputError: ``k`` below 1, an empty question, a clue whose score or support cannot be used;
                neighbours, the order of the documents, token weights or a graph, which take a corpus of our
                own; relative scores from a searcher that gives none; a budget that no passage fits; a
                re-ranker or a searcher that gives something else than it should.
            RetrievalError: All searches for one of the questions failed.
        """
        asked = self._asked(requests, settings.k if k is None else k, settings, reranker)
        outcomes = search_all(
            self.searcher, asked.texts, asked.depth, concurrency=self.concurrency, timeout=self.timeout
        )
        return self._findings(asked, outcomes, reranker, count_tokens)

    async def aretrieve_batch(
        self,
        requests: Sequence[tuple[str, Sequence[Clue]]],
        *,
        k: int | None = None,
        settings: RetrievalSettings = _DEFAULTS,
        reranker: Reranker | None = None,
        count_tokens: CountTokens = len,
    ) -> tuple[Findings, ...]:
        """``retrieve_batch`` without blocking the event loop.

        A searcher with ``asearch`` is awaited, another one is called on threads. Cancelling cancels the
        searches that are awaited; those on threads end by themselves, and no other one begins.
        """
        asked = self._asked(requests, settings.k if k is None else k, settings, reranker)
        outcomes = await asearch_all(
            self.searcher, asked.texts, asked.depth, concurrency=self.concurrency, timeout=self.timeout
        )
        # A re-ranker computes for as long as it takes.
        return await asyncio.to_thread(self._findings, asked, outcomes, reranker, count_tokens)

    def check_k(self, k: int, settings: RetrievalSettings = _DEFAULTS) -> None:
        """Refuse a number of passages, or settings, that no retriever of the user's own can follow.

        Raises:
            InputError: ``k`` below 1, or settings that take the whole corpus or an index of our own.
        """
        check_whole("k", k, least=1, remedy="Give how many passages to return (4).")
        weights = settings.retriever_weights
        for name, found, plain, why in (
            ("neighbours", settings.neighbours, 0, "the retriever does not say what stands beside a passage"),
            (
                "order",
                settings.order,
                "rank",
                "the retriever does not say where in its corpus a passage stands",
            ),
            ("learned_sparse", weights["learned_sparse"], 0, "token weights are of an index of our own"),
            ("graph", weights["graph"], 0, "a graph is of an index of our own"),
        ):
            if found != plain:
                field, value = name, repr(plain)
                if name in weights:
                    field, value = "retriever_weights", f"{{{name!r}: {plain}}}"
                raise InputError(
                    f"RetrievalSettings.{field} is {getattr(settings, field)!r}, which a retriever of your "
                    f"own cannot give: {why}. Give {field}={value}."
                )

    def _asked(
        self,
        requests: Sequence[tuple[str, Sequence[Clue]]],
        k: int,
        settings: RetrievalSettings,
        reranker: Reranker | None,
    ) -> _Asked:
        began = monotonic()
        self.check_k(k, settings)
        plans = plans_of(requests, settings)
        texts = list(dict.fromkeys(query.text for plan in plans for query in plan))
        questions = [question for question, _ in requests]
        return _Asked(questions, plans, texts, k, search_depth(k, settings, reranker), settings, began)

    def _findings(
        self,
        asked: _Asked,
        searched: Sequence[Outcome],
        reranker: Reranker | None,
        count_tokens: CountTokens,
    ) -> tuple[Findings, ...]:
        outcomes = dict(zip(asked.texts, searched, strict=True))
        self._warn(searched)
        for question, plan in zip(asked.questions, asked.plans, strict=True):
            self._check_any_answered(question, plan, outcomes)
        found = [
            choose(
                question,
                *self._lists(plan, outcomes, asked.depth),
                k=asked.k,
                settings=asked.settings,
                reranker=reranker,
                count_tokens=count_tokens,
            )
            for question, plan in zip(asked.questions, asked.plans, strict=True)
        ]
        seconds = monotonic() - asked.began
        return tuple(
            Findings(question, evidence, _failures(plan, outcomes), seconds)
            for question, plan, evidence in zip(asked.questions, asked.plans, found, strict=True)
        )

    def _lists(
        self, plan: Sequence[Query], outcomes: Mapping[str, Outcome], depth: int
    ) -> tuple[list[RankedList], list[Chunk]]:
        """What was found for one question: lists of places in the chunks, which stand as they were found."""
        ordinals: dict[tuple[bool, str], int] = {}
        chunks: list[Chunk] = []
        lists: list[RankedList] = []
        for query in plan:
            outcome = outcomes[query.text]
            if outcome.error is not None:
                continue
            ranking: dict[int, float | None] = {}
            for passage in outcome.found:
                if len(ranking) == depth:
                    break
                if not passage.text.strip():
                    continue
                key = (True, passage.text) if passage.id is None else (False, passage.id)
                ordinal = ordinals.setdefault(key, len(chunks))
                if ordinal == len(chunks):
                    chunks.append(_chunk(passage))
                ranking.setdefault(ordinal, None if passage.score is None else float(passage.score))
            lists.append(query.ranked(self.name, ranking.items()))
        return lists, chunks

    def _warn(self, searched: Sequence[Outcome]) -> None:
        """Tell the log of failures; messages and texts stay out of it, for they may hold keys and names."""
        for number, outcome in enumerate(searched, start=1):
            if outcome.error is not None:
                logger.warning(
                    "search %d of %d by %r failed after %.1f s: %s",
                    number,
                    len(searched),
                    self.name,
                    outcome.seconds,
                    type(outcome.error).__name__,
                )

    def _check_any_answered(
        self, question: str, plan: Sequence[Query], outcomes: Mapping[str, Outcome]
    ) -> None:
        texts = dict.fromkeys(query.text for query in plan)
        errors = [error for text in texts if (error := outcomes[text].error) is not None]
        if len(errors) < len(texts):
            return
        what = "The only search" if len(errors) == 1 else f"All {len(errors)} searches"
        first = "" if len(errors) == 1 else ", the first one"
        reason = _reason(errors[0]).rstrip(". ")
        raise RetrievalError(
            f"{what} by {self.name!r} for the question {question[:60]!r} failed{first} with {reason}. See "
            "that the retriever answers a single query; where it is slow, raise the timeout (now "
            f"{self.timeout} s) or lower the concurrency (now {self.concurrency})."
        ) from (errors[0] if len(errors) == 1 else ExceptionGroup("searches that failed", errors))


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a call asks of the searcher."""

    questions: list[str]
    plans: list[list[Query]]
    texts: list[str]
    k: int
    depth: int
    settings: RetrievalSettings
    began: float


def _chunk(passage: FoundPassage) -> Chunk:
    name = passage.id
    if name is None:
        name = hashlib.sha256(passage.text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return Chunk(name, passage.text, name, 0, len(passage.text), passage.metadata)


def _failures(plan: Sequence[Query], outcomes: Mapping[str, Outcome]) -> tuple[SearchFailure, ...]:
    failed = {(query.text, query.kind): outcomes[query.text] for query in plan}
    return tuple(
        SearchFailure(text, kind, _reason(outcome.error), outcome.seconds)
        for (text, kind), outcome in failed.items()
        if outcome.error is not None
    )


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:_LONGEST_REASON]
