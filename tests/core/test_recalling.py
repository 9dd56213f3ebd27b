"""Asking in one pass, held to the text, streamed, broken off, within a time: with models of every kind."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memorag_core import (
    Ask,
    BeaconModel,
    ClueKind,
    ClueSettings,
    Document,
    HostedModel,
    InputError,
    MemoRAG,
    NothingMemorizedError,
    Recollection,
)
from memorag_core.memory.bundled import bundled_path
from memorag_core.memory.grounding import Passages
from memorag_core.prompts import PromptSet
from tests.core.loopback import ChatServer, chat
from tests.core.memory.beacon.conftest import text_model as beacon_text_model
from tests.core.memory.longcontext.conftest import assert_close, snapshot, state, text_model

TEXT = (Path(__file__).parents[2] / "examples" / "parish.txt").read_text(encoding="utf-8")
QUESTIONS = (
    "Who covers houses?",
    "Who makes coffins?",
    "What does Barnaby Rudd keep?",
    "Who delivers babies?",
)
KINDS: tuple[ClueKind, ...] = ("span", "query", "answer")
TASKS = PromptSet.from_mapping(
    {"chat": False, "context": ">{context}", "tasks": {kind: f"?{{question}}{kind[0]}" for kind in KINDS}}
)
JOURNEY = "话说孙悟空保护唐僧西天取经,师徒四人一路上降妖伏魔。那八戒挑着担子,沙僧牵着白马。"
TEXTS = (
    "The keeper lit the lamp.  The storm\r\nbroke the mast, and 12.5 tons of oil were lost!",
    JOURNEY,
    "灯台守は嵐の夜も灯をともした。船は港に戻った。",
    "Смотритель зажёг лампу; буря сломала мачту — и всё.",
    "naïve café 👩‍👩‍👧 e\u0301tage\tand so on",
)

RANDOM: dict[str, Any] = {
    "beacon": beacon_text_model(capacity=None, seed=3),
    "beacon in parts": beacon_text_model(capacity=48, overlap=16, seed=4),
    "long context": text_model("llama", prompts=TASKS),
    "long context in parts": text_model("qwen2", positions=256, capacity=100, overlap=20, prompts=TASKS),
}


@pytest.fixture(scope="module")
def bundled() -> BeaconModel:
    return BeaconModel.from_pretrained(bundled_path(), device="cpu", dtype="float32")


def alike(found: Sequence[Recollection], expected: Sequence[Recollection]) -> None:
    """The same tokens, but for a last bit of their probabilities."""
    assert [one.part for one in found] == [one.part for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert (one.text, one.tokens, one.finished) == (other.text, other.tokens, other.finished)
        assert one.score == pytest.approx(other.score, abs=1e-4)
        assert (one.spans is None) == (other.spans is None)
        for span, same in zip(one.spans or (), other.spans or (), strict=True):
            assert (span.text, span.place) == (same.text, same.place)


# One pass


@pytest.mark.parametrize("kind", ["bundled", "beacon in parts", "long context in parts"])
@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chance=st.randoms(use_true_random=False))
def test_a_request_has_the_same_reply_in_any_company(bundled: BeaconModel, kind: str, chance: Any) -> None:
    model = bundled if kind == "bundled" else RANDOM[kind]
    memory = model.memorize(TEXT[:400] if kind != "bundled" else TEXT)
    passages = Passages.build([Document(TEXT[:400] if kind != "bundled" else TEXT)])
    kinds = KINDS if kind != "beacon in parts" else ("span", "answer")
    asks = [Ask(question, one) for question in QUESTIONS for one in kinds]
    chance.shuffle(asks)
    asks = asks[: chance.randint(2, 6)]
    how: dict[str, Any] = {"max_new_tokens": 6, "passages": chance.choice([None, passages])}
    together = model.recollect(asks, memory, **how)
    for ask, said in zip(asks, together, strict=True):
        (alone,) = model.recollect([ask], memory, **how)
        by_part = [sorted(replies, key=lambda one: one.part) for replies in (said, alone)]
        alike(*by_part)


def test_replies_of_one_run_end_at_limits_of_their_own(bundled: BeaconModel) -> None:
    memory = bundled.memorize(TEXT)
    said = bundled.recollect([Ask(QUESTIONS[0], kind) for kind in KINDS], memory)
    limits = [bundled.usage.longest_reply(kind) for kind in KINDS]
    assert len(set(limits)) > 1
    for (reply,), limit in zip(said, limits, strict=True):
        assert reply.tokens <= limit
        assert reply.finished or reply.tokens == limit


def test_all_kinds_of_all_questions_read_the_memory_once_for_each_token(bundled: BeaconModel) -> None:
    memory = bundled.memorize(TEXT)
    calls = [0]
    hook = bundled.model.model.layers[0].register_forward_pre_hook(
        lambda *_: calls.__setitem__(0, calls[0] + 1)
    )
    try:
        longest = 0
        for kind in KINDS:
            calls[0] = 0
            bundled.recollect([Ask(QUESTIONS[0], kind)], memory)
            longest = max(longest, calls[0])
        calls[0] = 0
        bundled.recollect([Ask(question, kind) for question in QUESTIONS[:1] for kind in KINDS], memory)
        assert calls[0] <= longest + 2  # prompts of other lengths may take another step
    finally:
        hook.remove()


# Held to the text


@pytest.mark.parametrize("kind", sorted(RANDOM))
@settings(deadline=None, max_examples=12)
@given(
    texts=st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3),
    asked=st.text(min_size=1).filter(str.strip),
)
def test_what_a_random_model_says_when_held_stands_in_the_text_it_was_asked_for(
    kind: str, texts: list[str], asked: str
) -> None:
    model = RANDOM[kind]
    rag = MemoRAG(model, progress=False)
    rag.memorize([Document(text, id=str(number)) for number, text in enumerate(texts)])
    passages = Passages.build(rag.documents)
    ((*said,),) = model.recollect([Ask(asked[:20], "span")], rag.memory, max_new_tokens=12, passages=passages)
    assert said
    for reply in said:
        assert reply.spans is not None
        for span in reply.spans:
            place = span.place
            assert span.text == texts[int(place.document_id)][place.start : place.end]
            assert span.text
            assert span.score <= 0
            held = model.parts_of(rag.memory, int(place.document_id), place.start, place.end)
            assert rag.memory.parts == 1 or reply.part in range(held.start - 1, held.stop + 1)


def test_held_spans_become_clues_with_their_places_and_free_ones_need_not_stand_anywhere(
    bundled: BeaconModel,
) -> None:
    def clues(grounded: bool) -> list[Any]:
        rag = MemoRAG(bundled, clues=ClueSettings(kinds=("span",), grounded=grounded), progress=False)
        rag.memorize(TEXT)
        return [clue for question in QUESTIONS for clue in rag.clues(question)]

    held = clues(True)
    assert held
    for clue in held:
        assert clue.text == TEXT[clue.place.start : clue.place.end]
        assert clue.support == 1
    free = clues(False)
    assert all(clue.place is None or clue.text in TEXT for clue in free)
    # Where the model said what stands there anyhow, it says the same when it is held.
    said_anyhow = {clue.text for clue in free if clue.text in TEXT}
    assert said_anyhow <= {clue.text for clue in held}


# Streams


def test_a_stream_gives_clues_and_what_it_heard_is_kept(bundled: BeaconModel) -> None:
    rag = MemoRAG(bundled, progress=False).memorize(TEXT)
    expected = MemoRAG(bundled, progress=False).memorize(TEXT).clues(QUESTIONS[2])
    assert expected
    with rag.stream_clues(QUESTIONS[2]) as stream:
        heard = list(stream)
    assert {clue.text for clue in expected} <= {clue.text for clue in heard}
    calls = [0]

    def count(*_: Any) -> None:
        calls[0] += 1

    hook = bundled.model.model.layers[0].register_forward_pre_hook(count)
    try:
        assert rag.clues(QUESTIONS[2]) == expected
    finally:
        hook.remove()
    assert calls == [0]
    assert list(stream) == []  # it has ended


def test_a_stream_gives_a_line_before_the_reply_is_complete() -> None:
    model = RANDOM["long context"]
    lines: list[tuple[str, bool]] = []

    class Listening:
        def said(self, ask: int, reply: Recollection) -> None:
            lines.append((reply.text, reply.finished))

        def goes_on(self) -> bool:
            return True

    memory = model.memorize(TEXT[:300])
    passages = Passages.build([Document(TEXT[:300])])
    ((reply,),) = model.recollect(
        [Ask("Who?", "span")], memory, max_new_tokens=400, passages=passages, watch=Listening()
    )
    assert lines[-1][0] == reply.text
    texts = [text for text, _ in lines]
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))


def test_a_stream_that_is_broken_off_leaves_nothing_behind() -> None:
    model = RANDOM["long context"]
    settings = ClueSettings(kinds=KINDS, max_new_tokens=2000, grounded=False)
    rag = MemoRAG(model, clues=settings, progress=False).memorize(TEXT[:200])
    before = snapshot(rag.memory)
    threads = threading.active_count()
    begun = time.perf_counter()
    with rag.stream_clues("Who?") as stream:
        assert threading.active_count() == threads + 1
    assert time.perf_counter() - begun < 5
    assert threading.active_count() == threads
    assert list(stream) == []
    assert rag._corpus is not None
    assert len(rag._asker.of(rag._corpus).clues) == 0
    assert_close(state(rag.memory), before, exactly=True)


def test_what_a_model_raises_is_raised_by_the_stream() -> None:
    class Broken(type(RANDOM["long context"])):  # type: ignore[misc]
        def recollect(self, *_: Any, **__: Any) -> Any:
            raise MemoryError("no room")

    model = Broken(RANDOM["long context"].model, RANDOM["long context"].tokens.tokenizer, prompts=TASKS)
    rag = MemoRAG(model, progress=False).memorize(TEXT[:100])
    with rag.stream_clues("Who?") as stream, pytest.raises(MemoryError, match="no room"):
        list(stream)
    with pytest.raises(NothingMemorizedError):
        MemoRAG(model, progress=False).stream_clues("Who?")
    with pytest.raises(InputError, match="question is ' '"):
        rag.stream_clues(" ")


def test_a_reply_of_a_server_is_streamed_as_it_comes_and_not_waited_for_when_the_stream_is_closed() -> None:
    server = ChatServer()
    try:
        rag = MemoRAG(HostedModel(chat(server)), progress=False).memorize(TEXT)
        with rag.stream_clues("Who makes coffins?") as stream:
            heard = list(stream)
        assert any("coffins" in clue.text for clue in heard)
        assert rag._corpus is not None
        assert len(rag._asker.of(rag._corpus).clues) == 1
        server.seconds = 0.5
        begun = time.perf_counter()
        rag.stream_clues("Who delivers babies?").close()
        assert time.perf_counter() - begun < 0.45
        assert len(rag._asker.of(rag._corpus).clues) == 1
    finally:
        server.close()


# Limits


def test_a_time_limit_ends_replies_and_what_it_cut_is_not_kept() -> None:
    model = RANDOM["long context"]
    rag = MemoRAG(model, clues=ClueSettings(kinds=KINDS, max_seconds=0.0), progress=False).memorize(
        TEXT[:200]
    )
    assert rag.clues("Who?") == ()
    assert rag._corpus is not None
    assert len(rag._asker.of(rag._corpus).clues) == 0
    explained = rag.explain("Who?", k=1)
    assert [reply.finished for said in explained.recall.replies.values() for reply in said] == [False] * 3
    server = ChatServer()
    server.seconds = 2.0
    try:
        hosted = MemoRAG(HostedModel(chat(server)), clues=ClueSettings(max_seconds=0.2), progress=False)
        begun = time.perf_counter()
        assert hosted.memorize(TEXT).clues("Who makes coffins?") == ()
        assert time.perf_counter() - begun < 1.5
    finally:
        server.close()


# What happened


def test_an_explanation_says_what_was_asked_said_dropped_and_found(bundled: BeaconModel) -> None:
    rag = MemoRAG(bundled, progress=False).memorize(TEXT)
    for question in QUESTIONS:
        found = rag.explain(question, k=2)
        assert found.recall.clues == rag.clues(question)
        assert found.evidence == rag.retrieve(question, k=2)
        assert set(found.recall.replies) == set(ClueSettings().kinds)
        generated = sum(reply.tokens for said in found.recall.replies.values() for reply in said)
        assert found.recall.tokens == generated > 0
        page = str(found)
        assert question in page
        assert all(" ".join(clue.text.split())[:30] in page for clue in found.recall.clues)
        assert all(gone.reason.split()[0] in page for gone in found.recall.dropped)
        assert json.loads(json.dumps(found.to_json()))["recall"]["question"] == question
