"""The pipeline of a question: who is told of what and when, errors of each question, and one search."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import Context, ContextVar, copy_context
from typing import Any

import pytest

from memorag_core import (
    AsyncQueryCallbacks,
    Clue,
    EvidenceIndex,
    Findings,
    InputError,
    MemoRAG,
    NothingMemorizedError,
    QueryCallbacks,
    QueryOptions,
    QueryResult,
    Recall,
    RetrievalSettings,
    SearchFailure,
)
from tests.core.doubles import SentenceModel

TEXT = "Tamsin Oakley covers houses with slate. Maud Vane delivers babies. Barnaby Rudd keeps a tortoise."
QUESTIONS = ["Who covers houses?", "Who delivers babies?", "Who keeps a tortoise?"]
LIMIT = 20
Call = tuple[str, int, Any]


def memory(model: SentenceModel | None = None, **options: Any) -> MemoRAG:
    return MemoRAG(model or SentenceModel(), progress=False, **options).memorize(TEXT)


class Story(QueryCallbacks):
    """Writes down what it is told, and on which thread."""

    def __init__(self, failing: str | None = None) -> None:
        self.calls: list[Call] = []
        self.threads: set[int] = set()
        self.failing = failing

    def told(self, name: str, place: int, value: Any) -> None:
        self.calls.append((name, place, value))
        if name != "clue":  # in awaited calls these are told of on the thread that asks
            self.threads.add(threading.get_ident())
        if name == self.failing:
            raise LookupError(name)

    def on_recall_start(self, place: int, question: str) -> None:
        self.told("recall_start", place, question)

    def on_clue(self, place: int, clue: Clue) -> None:
        self.told("clue", place, clue)

    def on_recall_end(self, place: int, recall: Recall) -> None:
        self.told("recall_end", place, recall)

    def on_recall_error(self, place: int, error: BaseException) -> None:
        self.told("recall_error", place, error)

    def on_search_start(self, place: int, recall: Recall, queries: Sequence[str]) -> None:
        self.told("search_start", place, tuple(queries))

    def on_search_failed(self, place: int, failure: SearchFailure) -> None:
        self.told("search_failed", place, failure)

    def on_search_end(self, place: int, findings: Findings) -> None:
        self.told("search_end", place, findings)

    def on_search_error(self, place: int, error: BaseException) -> None:
        self.told("search_error", place, error)

    def names(self) -> list[tuple[str, int]]:
        """What happened where, in order, without the clues that came at once."""
        return [(name, place) for name, place, _ in self.calls if name != "clue"]

    def of(self, name: str) -> list[Any]:
        return [value for called, _, value in self.calls if called == name]


class AsyncStory(AsyncQueryCallbacks):
    """The same, awaited: other tasks run before a call has ended."""

    def __init__(self, failing: str | None = None) -> None:
        self.story = Story(failing)
        self.running = 0

    async def told(self, name: str, place: int, value: Any) -> None:
        assert not self.running, "two at once"
        self.running += 1
        await asyncio.sleep(0)
        self.running -= 1
        self.story.told(name, place, value)

    async def on_recall_start(self, place: int, question: str) -> None:
        await self.told("recall_start", place, question)

    async def on_clue(self, place: int, clue: Clue) -> None:
        await self.told("clue", place, clue)

    async def on_recall_end(self, place: int, recall: Recall) -> None:
        await self.told("recall_end", place, recall)

    async def on_recall_error(self, place: int, error: BaseException) -> None:
        await self.told("recall_error", place, error)

    async def on_search_start(self, place: int, recall: Recall, queries: Sequence[str]) -> None:
        await self.told("search_start", place, tuple(queries))

    async def on_search_failed(self, place: int, failure: SearchFailure) -> None:
        await self.told("search_failed", place, failure)

    async def on_search_end(self, place: int, findings: Findings) -> None:
        await self.told("search_end", place, findings)

    async def on_search_error(self, place: int, error: BaseException) -> None:
        await self.told("search_error", place, error)


def each_way(name: str, *questions: str, options: QueryOptions | None = None, **how: Any) -> list[Any]:
    """What a method of the pipeline gives and tells: called, awaited, and awaited with plain callbacks."""
    ways: list[Any] = []
    for callbacks in (Story(**how), AsyncStory(**how), Story(**how)):
        pipeline = memory().pipeline(options or QueryOptions(k=1))
        try:
            if ways:
                given: Any = asyncio.run(getattr(pipeline, f"a{name}")(list(questions), callbacks))
            else:
                given = getattr(pipeline, name)(list(questions), callbacks)
        except Exception as error:
            given = error
        story = callbacks.story if isinstance(callbacks, AsyncStory) else callbacks
        ways.append((given, story))
    return ways


# What is told


@pytest.mark.parametrize("name", ["run", "run_outcomes"])
def test_the_steps_of_all_questions_are_told_in_order_on_the_thread_that_calls(name: str) -> None:
    for results, story in each_way(name, *QUESTIONS):
        assert story.names() == [
            (step, place)
            for step in ("recall_start", "recall_end", "search_start", "search_end")
            for place in range(3)
        ]
        assert story.threads == {threading.get_ident()}
        assert story.of("recall_start") == QUESTIONS
        assert story.of("recall_end") == [one.recall for one in results]
        assert story.of("search_end") == [one.findings for one in results]
        order = [called for called, _, _ in story.calls]
        first, last = order.index("clue"), len(order) - 1 - order[::-1].index("clue")
        assert order[:first] == ["recall_start"] * 3
        assert order[last + 1] == "recall_end"
        for place, one in enumerate(results):
            heard = {clue.text for called, at, clue in story.calls if (called, at) == ("clue", place)}
            assert {clue.text for clue in one.recall.clues} <= heard


def test_awaited_and_called_give_and_tell_the_same() -> None:
    ways = each_way("run", *QUESTIONS)
    for results, story in ways[1:]:
        assert [one.recall.clues for one in results] == [one.recall.clues for one in ways[0][0]]
        assert [one.findings.evidence for one in results] == [one.findings.evidence for one in ways[0][0]]
        for step in ("recall_start", "clue", "search_start"):
            assert sorted(map(repr, story.of(step))) == sorted(map(repr, ways[0][1].of(step)))


def test_a_question_that_comes_twice_is_told_of_in_both_places_and_asked_once() -> None:
    model, story = SentenceModel(), Story()
    one, two = memory(model).pipeline(QueryOptions(k=1)).run([QUESTIONS[0]] * 2, story)
    assert one.recall == two.recall
    assert model.asked == 1
    places = [place for name, place, _ in story.calls if name == "clue"]
    assert places.count(0) == places.count(1) > 0


@pytest.mark.parametrize("expansion", ["separate", "append", "both"])
def test_the_queries_told_are_those_that_a_retriever_is_given(expansion: Any) -> None:
    given: list[str] = []

    def search(query: str, _: int) -> list[str]:
        given.append(query)
        return [TEXT]

    story = Story()
    settings = RetrievalSettings(expansion=expansion)
    options = QueryOptions(k=1, retrieval_settings=settings, base_retriever=search)  # type: ignore[arg-type]
    memory().pipeline(options).run(QUESTIONS[:1], story)
    (queries,) = story.of("search_start")
    assert sorted(queries) == sorted(given)
    assert queries[0] == QUESTIONS[0]


def test_failed_searches_are_told_before_the_end_of_their_question() -> None:
    def search(query: str, _: int) -> list[str]:
        if query in QUESTIONS:
            return [TEXT]
        raise ConnectionError("no answer")

    options = QueryOptions(k=1, base_retriever=search)  # type: ignore[arg-type]
    for results, story in each_way("run", *QUESTIONS[:2], options=options):
        searching = [call for call in story.names() if call[0].startswith("search")][2:]
        assert [place for _, place in searching] == sorted(place for _, place in searching)
        for place in (0, 1):
            own = [name for name, at in searching if at == place]
            failures = results[place].findings.failures
            assert own == ["search_failed"] * len(failures) + ["search_end"]
            assert len(failures) > 1


def test_whoever_hears_no_clues_is_told_of_none_and_the_model_is_not_watched() -> None:
    class Deaf(Story):
        @property
        def hears_clues(self) -> bool:
            return False

    class Unwatched(SentenceModel):
        def recollect(self, *given: Any, watch: Any = None, **how: Any) -> Any:
            assert watch is None
            return super().recollect(*given, watch=watch, **how)

    story = Deaf()
    memory(Unwatched()).pipeline().run(QUESTIONS, story)
    assert story.of("clue") == []
    assert len(story.of("search_end")) == 3


@pytest.mark.parametrize("is_async", [False, True])
def test_the_memory_is_asked_in_the_context_that_is_given(is_async: bool) -> None:
    caller: ContextVar[str] = ContextVar("caller", default="nobody")

    class Asked(SentenceModel):
        def recollect(self, *given: Any, **how: Any) -> Any:
            callers.append(caller.get())
            return super().recollect(*given, **how)

    def context() -> AbstractContextManager[Context]:
        own = copy_context()
        own.run(caller.set, "us")
        return nullcontext(own)

    class Here(QueryCallbacks):
        def context(self) -> AbstractContextManager[Context]:
            return context()

    callers: list[str] = []
    pipeline = memory(Asked()).pipeline(QueryOptions(k=1))
    if is_async:
        asyncio.run(pipeline.arun(QUESTIONS, Here()))
    else:
        pipeline.run(QUESTIONS, Here())
    assert callers == ["us"]
    assert caller.get() == "nobody"


def test_without_one_it_is_asked_in_the_context_of_the_call() -> None:
    asked: ContextVar[int] = ContextVar("asked", default=0)

    class Counting(SentenceModel):
        def recollect(self, *given: Any, **how: Any) -> Any:
            asked.set(asked.get() + 1)
            return super().recollect(*given, **how)

    rag = memory(Counting())
    rag.retrieve(QUESTIONS[0], k=1)
    rag.pipeline().recall(QUESTIONS[1:], Story())
    assert asked.get() == 2


# Errors


def test_an_error_of_one_question_is_told_and_costs_the_others_nothing() -> None:
    for results, story in each_way("run_outcomes", QUESTIONS[0], " ", QUESTIONS[1]):
        assert isinstance(results[1], InputError)
        assert [type(one) for one in (results[0], results[2])] == [QueryResult] * 2
        assert story.names() == [
            *(("recall_start", place) for place in range(3)),
            ("recall_end", 0),
            ("recall_error", 1),
            ("recall_end", 2),
            *(("search_start", place) for place in (0, 2)),
            *(("search_end", place) for place in (0, 2)),
        ]
        assert story.of("recall_error") == [results[1]]


def test_without_outcomes_a_bad_question_is_refused_before_the_memory_is_asked() -> None:
    model, story = SentenceModel(), Story()
    with pytest.raises(InputError, match="question is ' '"):
        memory(model).pipeline().run([QUESTIONS[0], " "], story)
    assert model.asked == 0
    assert story.names() == [
        *(("recall_start", place) for place in (0, 1)),
        *(("recall_error", place) for place in (0, 1)),
    ]


def test_a_question_that_nothing_answers_fails_alone() -> None:
    def search(query: str, _: int) -> list[str]:
        if "babies" in query:
            raise ConnectionError("no answer")
        return [TEXT]

    options = QueryOptions(k=1, clue_kinds=("query",), base_retriever=search)  # type: ignore[arg-type]
    for results, story in each_way("run_outcomes", *QUESTIONS[:2], options=options):
        assert isinstance(results[0], QueryResult)
        assert "babies" in str(results[1])
        assert [name for name, _ in story.names()][-2:] == ["search_end", "search_error"]


@pytest.mark.parametrize("step", ["recall_start", "clue", "recall_end", "search_start", "search_end"])
def test_what_a_callback_raises_ends_the_call_and_what_was_started_is_ended(step: str) -> None:
    for error, story in each_way("run_outcomes", *QUESTIONS, failing=step):
        assert isinstance(error, LookupError)
        names = story.names()
        for kind in ("recall", "search"):
            started = [place for name, place in names if name == f"{kind}_start"]
            ended = [place for name, place in names if name in (f"{kind}_end", f"{kind}_error")]
            unstarted = 1 if step == f"{kind}_start" else 0  # it was in the middle of it
            assert sorted(ended) == started[: len(started) - unstarted]


def test_cancelling_ends_what_was_started_and_the_asking() -> None:
    begun, ended = threading.Event(), threading.Event()

    class Slow(SentenceModel):
        def recollect(self, *given: Any, watch: Any = None, **how: Any) -> Any:
            begun.set()
            while watch.goes_on():
                threading.Event().wait(0.002)
            ended.set()
            return super().recollect(*given, **how)

    story = AsyncStory()

    async def cancelled() -> None:
        task = asyncio.create_task(memory(Slow()).pipeline().arun(QUESTIONS[:2], story))
        await asyncio.to_thread(begun.wait, LIMIT)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert ended.wait(LIMIT)
    assert story.story.names()[2:] == [("recall_error", 0), ("recall_error", 1)]
    assert all(isinstance(error, asyncio.CancelledError) for error in story.story.of("recall_error"))


# One search, and a check that is none


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    calls: list[int] = []
    search = EvidenceIndex.retrieve_batch

    def count(self: EvidenceIndex, requests: Any, **how: Any) -> Any:
        calls.append(len(requests))
        return search(self, requests, **how)

    with monkeypatch.context() as patched:
        patched.setattr(EvidenceIndex, "retrieve_batch", count)
        yield calls


def asked_in_the_core(rag: MemoRAG) -> list[Callable[[], object]]:
    question = QUESTIONS[0]
    return [
        lambda: rag.retrieve(question, k=1),
        lambda: asyncio.run(rag.aretrieve(question, k=1)),
        lambda: rag.answer(question, k=1),
        lambda: rag.explain(question, k=1),
        lambda: rag.find_evidence([Recall(question)], k=1),
    ]


def test_a_question_searches_once(monkeypatch: pytest.MonkeyPatch) -> None:
    langchain: Any = pytest.importorskip("langchain_memorag")
    llama_index: Any = pytest.importorskip("llama_index_memorag")
    rag = memory()
    ways: list[Callable[[], object]] = [
        *asked_in_the_core(rag),
        lambda: langchain.MemoRAGRetriever(memorag=rag, k=1).invoke(QUESTIONS[0]),
        lambda: asyncio.run(langchain.MemoRAGRetriever(memorag=rag).ainvoke(QUESTIONS[0])),
        lambda: llama_index.MemoRAGRetriever(rag, 1).retrieve(QUESTIONS[0]),
        lambda: asyncio.run(llama_index.MemoRAGRetriever(rag).aretrieve(QUESTIONS[0])),
    ]
    for way in ways:
        with counted(monkeypatch) as calls:
            way()
        assert calls == [1]


def test_a_number_that_cannot_be_had_is_refused_before_asking_and_without_a_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = SentenceModel()
    rag, story = memory(model), Story()
    with counted(monkeypatch) as calls, pytest.raises(InputError, match="k is 99"):
        rag.pipeline(QueryOptions(k=99)).run_outcomes(QUESTIONS, story)
    assert (calls, model.asked, story.calls) == ([], 0, [])
    assert rag.pipeline(QueryOptions()).check() == 1
    with pytest.raises(InputError, match="Filter there"):
        rag.pipeline(QueryOptions(base_retriever=lambda *_: [], filter=bool)).check()  # type: ignore[arg-type]


def test_nothing_memorized_is_refused_by_every_step() -> None:
    pipeline, story = MemoRAG(SentenceModel(), progress=False).pipeline(), Story()
    for step in (
        pipeline.check,
        lambda: pipeline.run(QUESTIONS),
        lambda: pipeline.recall(QUESTIONS, story),
        lambda: pipeline.search([Recall(QUESTIONS[0])]),
    ):
        with pytest.raises(NothingMemorizedError):
            step()
    assert story.names()[3:] == [("recall_error", place) for place in range(3)]


# What is kept of a corpus


def test_a_pipeline_keeps_to_what_was_memorized_when_it_was_made() -> None:
    rag = memory()
    before = rag.pipeline(QueryOptions(k=1))
    expected = before.run(QUESTIONS[:1])[0].findings.evidence
    rag.delete(rag.documents[0].id)
    assert before.run(QUESTIONS[:1])[0].findings.evidence == expected


def test_clues_are_kept_with_a_corpus_and_go_with_it() -> None:
    model = SentenceModel()
    rag = memory(model)
    for _ in range(2):
        rag.retrieve(QUESTIONS[0], k=1)
    assert model.asked == 1
    before = weakref.ref(rag._memorized())
    rag.memorize("Edith Ashdown mends clocks.")
    gc.collect()
    assert before() is None
    assert len(rag._asker._asked_corpora) == 0
    rag.retrieve(QUESTIONS[0], k=1)
    assert model.asked == 2
    assert len(rag._asker._asked_corpora) == 1


def test_many_threads_share_what_is_kept() -> None:
    rag = memory()
    questions = [f"{question} ({number})" for number in range(120) for question in QUESTIONS]
    expected = {question: rag.clues(question) for question in questions[:30]}
    errors: list[BaseException] = []

    def ask(start: int) -> None:
        try:
            for question in questions[start::8]:
                clues = rag.clues(question)
                assert clues == expected.get(question, clues)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=ask, args=(start % 8,)) for start in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert 0 < len(rag._asker.of(rag._memorized()).clues) <= 256
