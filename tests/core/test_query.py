"""Asking in two steps: clues for many questions, then evidence here or from elsewhere; and awaited."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_type_hints

import pytest

from memorag_core import (
    Ask,
    Clue,
    ClueSettings,
    Document,
    FanOut,
    Findings,
    FoundPassage,
    HostedModel,
    InputError,
    MemoRAG,
    NothingMemorizedError,
    Recollection,
    RetrievalSettings,
)
from memorag_core.persistence import Choices
from tests.core.doubles import SentenceModel

TOWN = Document(
    "The market opens at seven. Bread is sold out by nine. "
    "Mara Venn repairs timepieces in Orrin. She learned it from her aunt. "
    "The river floods every other spring. Boats are kept in barns then.",
    id="town",
)
QUESTIONS = ["Who would mend a broken clock?", "What floods in spring?", "Who would mend a broken clock?"]


def memorag(model: Any = None, **options: Any) -> MemoRAG:
    return MemoRAG(model or SentenceModel(), progress=False, **options).memorize(TOWN)


class Shelf:
    """A retriever of the user's own: the passages that share a word with the query, in their order."""

    def __init__(self, passages: Sequence[str], *, fails_on: str = "") -> None:
        self.passages = passages
        self.fails_on = fails_on
        self.asked: list[str] = []

    def search(self, query: str, k: int) -> list[FoundPassage]:
        self.asked.append(query)
        if self.fails_on and self.fails_on in query:
            raise ConnectionError("the shelf is locked")
        words = set(query.lower().split())
        found = [text for text in self.passages if words & set(text.lower().split())]
        return [FoundPassage(text, id=str(self.passages.index(text))) for text in found[:k]]


SHELF = ["Timepieces are mended here", "A broken heart", "Spring water"]


def test_the_two_steps_give_what_retrieving_gives() -> None:
    rag = memorag()
    recalled = rag.recall_clues(QUESTIONS)
    found = rag.find_evidence(recalled, k=1)
    assert [one.clues for one in recalled] == [rag.clues(question) for question in QUESTIONS]
    assert [one.evidence for one in found] == list(rag.retrieve_batch(QUESTIONS, k=1))
    assert [one.question for one in found] == QUESTIONS
    assert all(one.failures == () and one.seconds > 0 for one in found)


def test_settings_at_the_call_win_over_those_at_the_making() -> None:
    rag = memorag()
    assert rag.retrieval == RetrievalSettings()
    assert rag.recalling == ClueSettings()
    recalled = rag.recall_clues(QUESTIONS[:1])
    silent = replace(rag.retrieval, clue_weights={"span": 0, "query": 0, "answer": 0}, k=1)
    assert rag.find_evidence(recalled, settings=silent)[0].evidence == rag.retrieve(
        QUESTIONS[0], k=1, clues=()
    )


def test_what_is_asked_can_be_said_at_the_call() -> None:
    rag = memorag()
    few = ClueSettings(kinds=("answer",), per_kind=1)
    asked = rag.recall_clues(QUESTIONS[:1], settings=few)[0]
    assert [clue.kind for clue in asked.clues] == ["answer"]
    assert rag.recall_clues(QUESTIONS[:1], kinds=("answer",), settings=ClueSettings(per_kind=1))[0] == asked


def test_a_question_that_is_no_unicode_is_refused_before_any_model_reads_it() -> None:
    rag = MemoRAG(SentenceModel(), progress=False).memorize(TOWN)
    model = HostedModel(lambda prompt: "Anything.")
    with pytest.raises(InputError, match="surrogate pair at character 7"):
        rag.clues("What is\ud800?")
    with pytest.raises(InputError, match="surrogate pair"):
        model.recollect([Ask("\udfff", "key_point")], model.memorize(TOWN))


def test_a_memorag_is_shared_by_copies_and_never_pickled() -> None:
    rag = memorag()
    assert copy.copy(rag) is rag
    assert copy.deepcopy({"rag": rag})["rag"] is rag
    with pytest.raises(TypeError, match="save"):
        pickle.dumps(rag)


def test_clues_are_heard_as_they_come_and_kept_ones_at_once() -> None:
    model = SentenceModel()
    rag = memorag(model)
    heard: list[tuple[str, Clue]] = []
    first = rag.recall_clues(QUESTIONS, heard=lambda question, clue: heard.append((question, clue)))
    asked = model.asked
    for recalled in first:
        # What is heard was not yet held against the corpus.
        texts = {clue.text for question, clue in heard if question == recalled.question}
        assert {clue.text for clue in recalled.clues} <= texts
    again: list[tuple[str, Clue]] = []
    assert rag.recall_clues(QUESTIONS, heard=lambda question, clue: again.append((question, clue))) == first
    assert model.asked == asked
    assert [one.kept for one in first] == [False] * 3
    assert all(one.kept for one in rag.recall_clues(QUESTIONS))
    assert again == [(one.question, clue) for one in first[:2] for clue in one.clues]


def test_what_a_listener_raises_ends_the_asking_and_nothing_is_kept() -> None:
    rag = memorag()

    def refuse(question: str, clue: Clue) -> None:
        raise LookupError(clue.text)

    with pytest.raises(LookupError):
        rag.recall_clues(QUESTIONS, heard=refuse)
    assert rag._corpus is not None
    assert len(rag._asker.of(rag._corpus).clues) == 0


# Awaited


async def test_what_is_awaited_is_what_is_called() -> None:
    rag = memorag()
    question = QUESTIONS[0]
    assert [one.clues for one in await rag.arecall_clues(QUESTIONS)] == [
        rag.clues(question) for question in QUESTIONS
    ]
    assert await rag.aretrieve(question, k=1) == rag.retrieve(question, k=1)
    assert await rag.aretrieve(question, k=1, clues=()) == rag.retrieve(question, k=1, clues=())
    assert await rag.aretrieve_batch(QUESTIONS, k=1) == rag.retrieve_batch(QUESTIONS, k=1)


class Slow(SentenceModel):
    """Goes on until it is told to stop."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.ended = threading.Event(), threading.Event()

    def recollect(self, asks: Any, memory: Any, *, watch: Any = None, **_: Any) -> Any:
        self.begun.set()
        end = time.monotonic() + 30
        while watch.goes_on() and time.monotonic() < end:
            time.sleep(0.002)
        self.ended.set()
        return tuple((Recollection("", finished=False),) for _ in asks)


async def test_cancelling_ends_the_asking_and_leaves_the_loop_free_meanwhile() -> None:
    model = Slow()
    rag = memorag(model)
    task = asyncio.create_task(rag.arecall_clues(QUESTIONS[:1]))
    ticks = 0
    while not model.begun.is_set():
        await asyncio.sleep(0.001)
    for _ in range(20):
        await asyncio.sleep(0.001)
        ticks += 1
    assert ticks == 20
    assert not model.ended.is_set()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(model.ended.wait, 10)
    assert rag._corpus is not None
    assert len(rag._asker.of(rag._corpus).clues) == 0


# Over a retriever of the user's own


async def test_a_retriever_of_ones_own_is_asked_with_question_and_clues() -> None:
    rag, shelf = memorag(), Shelf(SHELF)
    question = QUESTIONS[0]
    found = rag.find_evidence(rag.recall_clues([question]), over=shelf)[0]
    assert set(shelf.asked) == {question, *(clue.text for clue in rag.clues(question))}
    assert {one.chunk.text for one in found.evidence} == {SHELF[0], SHELF[1]}
    by_clue = next(one for one in found.evidence if one.chunk.text == SHELF[0])
    assert by_clue.clues
    assert rag.retrieve(question, over=shelf) == found.evidence
    assert await rag.aretrieve(question, over=FanOut(shelf)) == found.evidence
    assert rag.retrieve(question, k=1, over=shelf) == found.evidence[:1]
    assert rag.answer(question, lambda prompt: prompt, over=shelf).evidence == found.evidence


async def test_a_search_that_fails_is_told_of_and_loses_nothing_else() -> None:
    rag, shelf = memorag(), Shelf(SHELF, fails_on="timepieces")
    question = QUESTIONS[0]
    recalled = rag.recall_clues([question])
    found = rag.find_evidence(recalled, over=shelf)[0]
    assert [one.chunk.text for one in found.evidence] == [SHELF[1]]
    assert found.failures
    assert all(failure.error == "ConnectionError: the shelf is locked" for failure in found.failures)
    awaited = (await rag.afind_evidence(recalled, over=shelf))[0]
    assert awaited.evidence == found.evidence
    assert [(one.query, one.error) for one in awaited.failures] == [
        (one.query, one.error) for one in found.failures
    ]
    page = str(rag.explain(question, over=shelf))
    assert "Searches that failed" in page
    assert "the shelf is locked" in page


def test_over_a_retriever_of_ones_own_k_may_be_more_than_the_chunks() -> None:
    rag = memorag()
    assert len(rag.chunks) == 1
    assert isinstance(rag.find_evidence(rag.recall_clues(QUESTIONS[:1]), k=5, over=Shelf(SHELF))[0], Findings)
    with pytest.raises(InputError, match="k is 0"):
        rag.retrieve(QUESTIONS[0], k=0, over=Shelf(SHELF))


@pytest.mark.parametrize("over", [object(), "store", 3])
def test_what_cannot_be_searched_is_refused(over: Any) -> None:
    with pytest.raises(InputError, match=type(over).__name__):
        memorag().retrieve(QUESTIONS[0], over=over)


def test_before_anything_is_memorized_there_is_nothing_to_ask() -> None:
    rag = MemoRAG(SentenceModel(), progress=False)
    with pytest.raises(NothingMemorizedError):
        rag.recall_clues(QUESTIONS)
    with pytest.raises(NothingMemorizedError):
        rag.find_evidence([])


# Choices


def test_what_can_be_chosen_on_opening_a_store_is_what_memorag_takes() -> None:
    taken = dict(inspect.signature(MemoRAG.__init__).parameters)
    del taken["self"], taken["model"]
    assert set(taken) == set(Choices.__annotations__)
    hints = get_type_hints(MemoRAG.__init__)
    assert {name: hints[name] for name in taken} == get_type_hints(Choices)
