"""Clues: what a memory says to several questions, merged over its parts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorag_core.clues import recall
from memorag_core.errors import InputError, MemoRAGError
from memorag_core.protocols import ShowProgress
from memorag_core.settings import ClueSettings
from memorag_core.types import Ask, Clue, ClueKind, Place, Recollection, Span
from tests.core.doubles import SentenceModel


@dataclass
class Scripted:
    """A memory model that has its recollections written down, by kind; it remembers how it was asked."""

    said: Mapping[ClueKind, Sequence[Recollection]]
    asked: list[tuple[tuple[Ask, ...], str | None, int | None]] = field(default_factory=list)
    fingerprint: Mapping[str, Any] = field(default_factory=dict)

    def memorize(self, text_or_documents: Any, memory: Any = None, *, progress: ShowProgress = None) -> Any:
        return None

    def recollect(
        self,
        asks: Sequence[Ask],
        memory: Any,
        *,
        language: str | None = None,
        max_new_tokens: int | None = None,
        passages: Any = None,
        watch: Any = None,
    ) -> tuple[tuple[Recollection, ...], ...]:
        self.asked.append((tuple(asks), language, max_new_tokens))
        return tuple(tuple(self.said.get(ask.kind, ())) for ask in asks)

    def pack(self, memory: Any) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        return {}, {}

    def unpack(self, tensors: Mapping[str, Any], header: Mapping[str, Any]) -> Any:
        return None


def generate_clues(question: str, memory: Any, **how: Any) -> tuple[Clue, ...]:
    return recall((question,), memory, **how)[0].clues


PARTS: Mapping[ClueKind, Sequence[Recollection]] = {
    "span": [
        Recollection("Ivo Tarn bakes bread.\nBread is sold at noon.", -2.0, part=0),
        Recollection("Mara Venn mends clocks in Orrin.", -0.1, part=1),
        Recollection("None", -0.01, part=2),
        Recollection("mara venn mends clocks", -0.5, part=3),
    ],
    "query": [Recollection("Who mends clocks in Orrin?", -0.3, part=1)],
    "answer": [
        Recollection("Ivo Tarn", -1.5, part=0),
        Recollection("Mara Venn", -0.2, part=1),
        Recollection("I don't know", -0.05, part=2),
    ],
}


def test_clues_of_all_parts_are_merged_by_score_in_the_order_of_the_kinds() -> None:
    clues = generate_clues("Who fixes watches?", None, model=Scripted(PARTS), settings=ClueSettings())
    assert clues == (
        Clue("Mara Venn mends clocks in Orrin.", "span", -0.1, 1),
        Clue("Ivo Tarn bakes bread.", "span", -2.0, 0),
        Clue("Bread is sold at noon.", "span", -2.0, 0),
        Clue("Who mends clocks in Orrin?", "query", -0.3, 1),
        Clue("Mara Venn", "answer", -0.2, 1),  # its words are in a span, but it is the memory's answer
    )


def test_no_more_clues_of_a_kind_are_kept_than_asked_for() -> None:
    clues = generate_clues(
        "Who fixes watches?",
        None,
        model=Scripted(PARTS),
        settings=ClueSettings(kinds=("answer", "span"), per_kind=1),
    )
    assert [clue.text for clue in clues] == ["Mara Venn", "Mara Venn mends clocks in Orrin."]


@given(
    order=st.permutations(PARTS["span"]),
    scores=st.lists(st.sampled_from([-1.0, -0.5, math.nan, -math.inf]), min_size=4, max_size=4),
)
def test_the_order_in_which_parts_come_in_does_not_matter(
    order: Sequence[Recollection], scores: list[float]
) -> None:
    scored = {said.part: scores[said.part] for said in order}

    def clues(said: Sequence[Recollection]) -> list[tuple[str, int]]:
        again = [Recollection(one.text, scored[one.part], one.part) for one in said]
        found = generate_clues(
            "Who?", None, model=Scripted({"span": again}), settings=ClueSettings(kinds=("span",))
        )
        return [(clue.text, clue.part) for clue in found]

    assert clues(order) == clues(PARTS["span"])


def test_the_model_is_asked_once_for_all_kinds_of_all_questions() -> None:
    model = Scripted(PARTS)
    settings = ClueSettings(kinds=("query", "span"), max_new_tokens=9, language="en")
    found = recall(["Who?", "Where?"], None, model=model, settings=settings)
    kinds: tuple[ClueKind, ...] = ("query", "span")
    asks = tuple(Ask(question, kind) for question in ("Who?", "Where?") for kind in kinds)
    assert model.asked == [(asks, "en", 9)]
    for one in found:
        alone = generate_clues(one.question, None, model=model, settings=settings)
        assert one.clues == alone
        assert one.replies == {kind: tuple(PARTS[kind]) for kind in kinds}


def test_what_becomes_no_clue_is_listed_with_its_reason() -> None:
    settings = ClueSettings(kinds=("span", "answer"), per_kind=1)
    said: Mapping[ClueKind, Sequence[Recollection]] = {
        "span": [Recollection("The ship sank.\nHere are the spans:\nA coffin rose.", -0.1, tokens=9)],
        "answer": [Recollection("the ship", -0.2, tokens=2), Recollection("I don't know", -0.3, 1, 4)],
    }
    (found,) = recall(["What sank?"], None, model=Scripted(said), settings=settings)
    assert [clue.text for clue in found.clues] == ["The ship sank.", "the ship"]
    reasons = {gone.text: gone.reason for gone in found.dropped}
    assert reasons["A coffin rose."] == "more than 1 of its kind"
    assert {"Here are the spans:", "I don't know"} < set(reasons)
    assert found.tokens == 15
    assert found.seconds > 0


def test_a_reply_that_was_held_to_the_corpus_is_taken_as_it_is() -> None:
    spans = (
        Span("1. Bread?", Place("a", 0, 9), -0.5),
        Span("Sure! Here they are:", Place("a", 9, 29), -0.1),
    )
    nothing = Span("the", Place("a", 40, 43), -0.1)
    held = Recollection("all of it", -0.2, 3, spans=(*spans, nothing), withheld="No.")
    (found,) = recall(["Bread?"], None, model=Scripted({"span": [held]}), settings=ClueSettings())
    by_score = spans[::-1]  # each line has a score of its own
    assert found.clues == tuple(Clue(one.text, "span", one.score, 3, one.place, 1.0) for one in by_score)
    assert [(gone.text, gone.reason) for gone in found.dropped] == [
        ("the", "no information"),
        ("No.", "the model hardly believes it"),
    ]


def test_no_questions_are_no_work() -> None:
    model = Scripted(PARTS)
    assert recall([], None, model=model, settings=ClueSettings()) == ()
    assert model.asked == []


def test_a_memory_that_says_nothing_gives_no_clues() -> None:
    assert generate_clues("Who?", None, model=Scripted({}), settings=ClueSettings()) == ()


def test_blank_questions_are_refused_but_key_points_can_do_without() -> None:
    model = Scripted({"key_point": [Recollection("The ship sank.")]})
    with pytest.raises(InputError, match=r"The question is ' '; expected words"):
        generate_clues(" ", None, model=model, settings=ClueSettings())
    with pytest.raises(InputError, match="expected several questions"):
        recall("Who?", None, model=model, settings=ClueSettings())
    clues = generate_clues("", None, model=model, settings=ClueSettings(kinds=("key_point",)))
    assert clues == (Clue("The ship sank.", "key_point"),)


def test_a_model_that_loses_a_question_is_found_out() -> None:
    class Forgetful(Scripted):
        def recollect(self, asks: Sequence[Ask], memory: Any, **how: Any) -> Any:
            return super().recollect(asks[:1], memory, **how)

    with pytest.raises(MemoRAGError, match=r"gave 1 recollections for 6 requests"):
        recall(["Who?", "Where?"], None, model=Forgetful(PARTS), settings=ClueSettings())


def test_a_memory_in_parts_gives_the_clue_of_the_part_that_remembers() -> None:
    model = SentenceModel(capacity=2)
    memory = model.memorize(
        "Bread is sold at noon. Ivo bakes it. Mara repairs timepieces. She lives in Orrin."
    )
    (first, *_) = generate_clues(
        "Who can fix a watch?", memory, model=model, settings=ClueSettings(per_kind=1)
    )
    assert first.text == "Mara repairs timepieces."
    assert first.part == 1
