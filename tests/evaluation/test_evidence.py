from __future__ import annotations

from collections.abc import Sequence

import pytest

from memorag_core import Clue, ClueKind, ClueSettings, RetrievalSettings
from memorag_evaluation.asking import Recalled
from memorag_evaluation.evidence import Fusion, check, compare, inventions, measure
from memorag_evaluation.suites import Suite
from memorag_evaluation.worlds import ONE_HOP
from tests.evaluation.conftest import TEXT, true_clues


def means(suite: Suite, recalled: Recalled | None, fusion: Fusion, kinds: Sequence[str], name: str) -> float:
    values = [
        value[name]
        for value, (_, case) in zip(measure(suite, recalled, fusion), suite.cases, strict=True)
        if case.kind in kinds
    ]
    return sum(values) / len(values)


# measuring -----------------------------------------------------------------------------------------


def test_clues_of_a_perfect_memory_find_the_evidence_that_implicit_questions_miss(worlds: Suite) -> None:
    loud = Fusion(RetrievalSettings(question_weight=0.1, clue_weights={"span": 1.0}))
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


# checking ------------------------------------------------------------------------------------------


def clues_of(suite: Suite, *clues: Clue) -> Recalled:
    return {(document, case.question): clues for document, case in suite.cases}


def test_checked_clues_stand_in_their_own_document_or_are_dropped(real: Suite) -> None:
    true, invented = Clue("Old Fenn keeps bees", "span"), Clue("Emperor Wilhelm besieged Vienna", "span")
    checked = check(real, clues_of(real, invented, true), ClueSettings(least_support=0.5))
    for (document, _), clues in checked.items():
        assert [clue.text for clue in clues] == [true.text]
        place = clues[0].place
        assert place is not None
        assert (place.document_id, TEXT[place.start : place.end]) == (document, true.text)
    kept = check(real, clues_of(real, invented, true), ClueSettings(least_support=0.0))
    assert [[clue.text for clue in clues] for clues in kept.values()] == [[true.text, invented.text]] * 2


def test_checking_the_clues_of_a_perfect_memory_changes_nothing_that_is_measured(worlds: Suite) -> None:
    loud = Fusion(RetrievalSettings(clue_weights={"span": 1.0}))
    true = true_clues(worlds)
    assert measure(worlds, check(worlds, true), loud) == measure(worlds, true, loud)


def test_spans_that_do_not_stand_in_the_text_are_counted_and_other_kinds_are_not_looked_at(
    real: Suite,
) -> None:
    first, second = ((document, case.question) for document, case in real.cases)
    found = inventions(
        real,
        {
            first: (Clue("Old Fenn\nkeeps bees", "span"), Clue("Wilhelm", "answer")),
            second: (Clue("Old Fenn keeps wasps", "span"), Clue("He sells honey", "span")),
        },
    )
    assert (found.suite, found.spans, found.invented) == ("town", 3, 1)
    assert found.share == pytest.approx(1 / 3)
    assert found.questions == {second}
    assert inventions(real, clues_of(real)).share is None


# comparing -----------------------------------------------------------------------------------------


def test_differences_are_those_of_the_means_of_what_was_measured(worlds: Suite) -> None:
    fusion = Fusion()
    alone, found = measure(worlds, None, fusion), measure(worlds, true_clues(worlds), fusion)
    scores = compare(worlds, {"question": alone, "free": alone, "checked": found})
    assert {score.kind for score in scores} >= {"one_hop", "two_hop", "explicit", "all", "trade"}
    for score in scores:
        assert set(score.differences) == {"free - question", "checked - question", "checked - free"}
        assert score.differences["free - question"].mean == 0
        assert score.differences["checked - free"] == score.differences["checked - question"]
        gain = score.means["checked"].mean - score.means["question"].mean
        assert score.differences["checked - question"].mean == pytest.approx(gain)
        assert score.questions == sum(
            score.kind in (case.kind, "all") or (score.kind == "one_hop" and case.kind in ONE_HOP)
            for _, case in worlds.cases
        )


def test_questions_with_invented_spans_are_a_kind_of_their_own(real: Suite) -> None:
    values = measure(real, None, Fusion())
    (document, case), _ = real.cases
    scores = compare(real, {"question": values}, invented={(document, case.question)})
    own = [score for score in scores if score.kind == "invented"]
    assert [score.measure for score in own] == list(values[0])
    assert all(score.questions == 1 for score in own)
    assert {score.measure: score.means["question"].mean for score in own} == values[0]
    assert all(score.kind != "invented" for score in compare(real, {"question": values}))
