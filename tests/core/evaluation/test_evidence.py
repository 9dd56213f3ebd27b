from __future__ import annotations

from collections.abc import Sequence

import pytest

from memorag_core import Clue, ClueKind, RetrievalSettings
from memorag_core.evaluation.asking import Recalled
from memorag_core.evaluation.evidence import Fusion, compare, measure
from memorag_core.evaluation.suites import Suite
from memorag_core.evaluation.worlds import ONE_HOP
from tests.core.evaluation.conftest import true_clues


def means(suite: Suite, recalled: Recalled | None, fusion: Fusion, kinds: Sequence[str], name: str) -> float:
    values = [
        value[name]
        for value, (_, case) in zip(measure(suite, recalled, fusion), suite.cases, strict=True)
        if case.kind in kinds
    ]
    return sum(values) / len(values)


# measuring -----------------------------------------------------------------------------------------


def test_clues_of_a_perfect_memory_find_the_evidence_that_implicit_questions_miss(worlds: Suite) -> None:
    loud = Fusion(RetrievalSettings(question_weight=0.1, span_weight=1.0))
    assert means(worlds, None, loud, ONE_HOP, "recall@1") < 0.3
    assert means(worlds, true_clues(worlds), loud, ONE_HOP, "recall@1") > 0.9
    assert means(worlds, true_clues(worlds), loud, ["two_hop"], "recall@3") > 0.9


def test_a_question_with_two_pieces_of_evidence_is_half_answered_by_one(worlds: Suite) -> None:
    for values, (_, case) in zip(measure(worlds, None, Fusion()), worlds.cases, strict=True):
        assert values["recall@1"] <= values["recall@3"] <= 1
        if case.kind == "two_hop":
            assert values["recall@3"] in (0, 0.5, 1)


def test_real_texts_are_searched_in_their_own_document_by_covered_characters(real: Suite) -> None:
    assert [asked.document.id for asked in real.documents] == ["town"]
    assert [len(chunk.text.split()) for chunk in real.documents[0].index.chunks] == [200, 200, 51]
    alone = measure(real, None, Fusion())
    assert alone[1] == {f"{name}@{k}": 1.0 for k in real.ks for name in ("hit", "coverage")}
    found = measure(real, true_clues(real), Fusion())
    assert found[0]["hit@1"] == 1.0


def test_without_clues_or_kinds_every_fusion_is_the_question_alone(worlds: Suite) -> None:
    alone = measure(worlds, None, Fusion())
    nothing = dict.fromkeys(true_clues(worlds), ())
    assert measure(worlds, nothing, Fusion(RetrievalSettings(expansion="both"))) == alone
    assert measure(worlds, true_clues(worlds), Fusion(kinds=("answer",))) == alone


def test_a_fusion_uses_the_clues_of_its_kinds() -> None:
    kinds: tuple[ClueKind, ...] = ("span", "span", "answer", "query")
    clues = tuple(Clue(str(number), kind) for number, kind in enumerate(kinds))
    assert [clue.text for clue in Fusion(kinds=("span", "query")).chosen(clues)] == ["0", "1", "3"]
    assert Fusion().chosen(clues) == clues


# comparing -----------------------------------------------------------------------------------------


def test_gains_are_the_differences_of_the_means(worlds: Suite) -> None:
    fusion = Fusion()
    alone, found = measure(worlds, None, fusion), measure(worlds, true_clues(worlds), fusion)
    scores = compare(worlds, alone, found, alone)
    assert {score.kind for score in scores} >= {"one_hop", "two_hop", "explicit", "all", "trade"}
    for score in scores:
        assert score.emptied is not None
        assert score.gain.mean == pytest.approx(score.clues.mean - score.question.mean)
        assert score.over_emptied == score.gain
        assert score.questions == sum(
            score.kind in (case.kind, "all") or (score.kind == "one_hop" and case.kind in ONE_HOP)
            for _, case in worlds.cases
        )
    without = compare(worlds, alone, found)
    assert all(score.emptied is None and score.over_emptied is None for score in without)
