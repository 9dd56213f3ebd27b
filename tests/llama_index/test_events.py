"""What can be watched: clues as they come, what they found, in spans; and nothing secret among it."""

from __future__ import annotations

import asyncio
import copy
import pickle
from typing import Any

import pytest
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.instrumentation import get_dispatcher, root_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.events.retrieval import RetrievalEndEvent, RetrievalStartEvent
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler

from llama_index_memorag import (
    ClueEndEvent,
    ClueLineEvent,
    ClueStartEvent,
    EvidenceEvent,
    MemoRAGRetriever,
    MemoRAGSummaryRetriever,
)
from memorag_core import MemoRAG
from tests.core.doubles import SentenceModel
from tests.llama_index.conftest import QUESTION, remembering
from tests.llama_index.doubles import Ear, WordRetriever, how, listening

OURS = (ClueStartEvent, ClueLineEvent, ClueEndEvent, EvidenceEvent)


@pytest.mark.parametrize("is_async", [False, True])
async def test_events_tell_the_story_of_a_question_in_order(memorag: MemoRAG, is_async: bool) -> None:
    retriever = MemoRAGRetriever(memorag, 2)
    with listening() as ear:
        found = await retriever.aretrieve(QUESTION) if is_async else retriever.retrieve(QUESTION)
    kinds = [type(event) for event in ear.events]
    assert kinds[0] is RetrievalStartEvent
    assert kinds[-1] is RetrievalEndEvent
    story = [kind for kind in kinds if kind in OURS]
    assert story[0] is ClueStartEvent
    assert story[-2:] == [ClueEndEvent, EvidenceEvent]
    assert {*story[1:-2]} == {ClueLineEvent}
    recalled = memorag.recall_clues([QUESTION])[0]
    (end,) = ear.of(ClueEndEvent)
    assert (end.question, tuple(end.clues), end.tokens) == (QUESTION, recalled.clues, recalled.tokens)
    assert end.tokens > 0
    assert end.dropped == len(recalled.dropped)
    assert end.seconds > 0
    lines = [(line.clue, line.kind) for line in ear.of(ClueLineEvent)]
    assert {(clue.text, clue.kind) for clue in recalled.clues} <= {*lines}
    (evidence,) = ear.of(EvidenceEvent)
    assert list(evidence.found) == [one.node.node_id for one in found]
    assert list(evidence.found.values()) == [how(one).clues for one in found]


@pytest.mark.parametrize("is_async", [False, True])
async def test_events_stand_in_the_span_they_happened_in(memorag: MemoRAG, is_async: bool) -> None:
    spans = SimpleSpanHandler()
    root_dispatcher.add_span_handler(spans)
    try:
        with listening() as ear:
            retriever = MemoRAGRetriever(memorag, 2)
            _ = await retriever.aretrieve(QUESTION) if is_async else retriever.retrieve(QUESTION)
    finally:
        root_dispatcher.span_handlers.remove(spans)
    parents = {span.id_: span.parent_id for span in spans.completed_spans}
    inside = {event.span_id for kind in OURS[:3] for event in ear.of(kind)}
    (asking,) = inside
    assert asking is not None
    assert "recall_clues" in asking
    retrieving = parents[asking]
    assert retrieving is not None
    assert "retrieve" in retrieving
    assert ear.of(EvidenceEvent)[0].span_id == retrieving
    assert "retrieve" in str(parents[retrieving])


async def test_at_once_each_questions_events_stay_in_its_own_span(memorag: MemoRAG) -> None:
    questions = [f"Who mends timepieces in house {number}?" for number in range(12)]
    retriever = MemoRAGRetriever(memorag, 1)
    with listening() as ear:
        await asyncio.gather(*(retriever.aretrieve(question) for question in questions))
    places: dict[str, set[str]] = {}
    for event in ear.events:
        if type(event) in OURS[:3]:
            places.setdefault(event.question, set()).add(str(event.span_id))
    assert set(places) == set(questions)
    assert len({place for own in places.values() for place in own}) == len(questions)


def test_every_event_can_be_written_as_json_and_says_its_name(memorag: MemoRAG) -> None:
    with listening() as ear:
        MemoRAGRetriever(memorag, 2).retrieve(QUESTION)
    for event in ear.events:
        if type(event) in OURS:
            assert event.model_dump()["class_name"] == type(event).__name__
            assert QUESTION in event.model_dump_json()


def test_a_handler_of_this_package_hears_this_package(memorag: MemoRAG) -> None:
    ear = Ear()
    own = get_dispatcher("llama_index_memorag")
    own.add_event_handler(ear)
    try:
        MemoRAGRetriever(memorag, 2).retrieve(QUESTION)
    finally:
        own.event_handlers.remove(ear)
    assert {type(event) for event in ear.events} == set(OURS)


def test_kept_clues_are_told_of_again_and_cost_no_tokens(memorag: MemoRAG) -> None:
    retriever = MemoRAGRetriever(memorag)
    ends: list[ClueEndEvent] = []
    for _ in range(2):
        with listening() as ear:
            retriever.retrieve(QUESTION)
        ends += ear.of(ClueEndEvent)
        assert ear.of(ClueLineEvent)
    assert ends[0].clues == ends[1].clues
    assert ends[0].tokens > ends[1].tokens == 0


def test_the_callback_manager_hears_of_the_retrieval(memorag: MemoRAG) -> None:
    debug = LlamaDebugHandler(print_trace_on_end=False)
    MemoRAGRetriever(memorag, 1, callback_manager=CallbackManager([debug])).retrieve(QUESTION)
    (pair,) = debug.get_event_pairs(CBEventType.RETRIEVE)
    assert len(pair) == 2


# Secrets


class KeyedModel(SentenceModel):
    """Holds a key, as a hosted model does."""

    api_key = "sk-secret-123"

    def __init__(self) -> None:
        super().__init__()
        self.secret = self.api_key

    def __repr__(self) -> str:
        return f"KeyedModel(api_key={self.secret!r})"


def test_a_models_key_is_in_no_event_span_repr_or_metadata() -> None:
    retriever = MemoRAGRetriever(remembering(KeyedModel()), 2)
    spans = SimpleSpanHandler()
    root_dispatcher.add_span_handler(spans)
    try:
        with listening() as ear:
            found = retriever.retrieve(QUESTION)
    finally:
        root_dispatcher.span_handlers.remove(spans)
    seen: list[Any] = [retriever, *found, *ear.events, *spans.completed_spans]
    text = "".join(f"{one!r}{one}" for one in seen)
    text += "".join(one.model_dump_json() for one in [*found, *ear.events])
    assert "sk-secret" not in text


@pytest.mark.parametrize("over", [None, WordRetriever()])
@pytest.mark.parametrize("kind", [MemoRAGRetriever, MemoRAGSummaryRetriever])
def test_a_retriever_is_not_pickled_and_its_copies_share_the_memory(
    kind: type[MemoRAGRetriever], over: Any
) -> None:
    retriever = kind(remembering(KeyedModel()), over=over)
    with pytest.raises(TypeError, match=r"cannot be pickled.*memorag\.save\(path\)") as caught:
        pickle.dumps(retriever)
    assert "sk-secret" not in str(caught.value)
    for copied in (copy.copy(retriever), copy.deepcopy({"its": retriever})["its"]):
        assert type(copied) is kind
        assert copied.memorag is retriever.memorag
        assert copied.retrieve(QUESTION) == retriever.retrieve(QUESTION)
