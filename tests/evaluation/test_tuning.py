from __future__ import annotations

import pytest

from memorag_core import RetrievalSettings
from memorag_evaluation.evidence import Fusion, measure
from memorag_evaluation.suites import Suite
from memorag_evaluation.tuning import fusion_grid, tune
from memorag_evaluation.worlds import ONE_HOP
from tests.evaluation.conftest import true_clues


def test_tuning_ranks_fusions_by_what_they_gain_over_the_question(worlds: Suite, real: Suite) -> None:
    quiet = Fusion(RetrievalSettings(clue_weights={"span": 0.0}))
    loud = Fusion(RetrievalSettings(question_weight=0.1, clue_weights={"span": 1.0}))
    recalled = {"worlds": true_clues(worlds), "town": true_clues(real)}
    best, worst = tune([worlds, real], recalled, [quiet, loud])
    assert (best.fusion, worst.fusion) == (loud, quiet)
    assert set(worst.gains.values()) == {0.0}
    alone, found = measure(worlds, None, loud), measure(worlds, true_clues(worlds), loud)
    gains = [
        after["recall@1"] - before["recall@1"]
        for before, after, (_, case) in zip(alone, found, worlds.cases, strict=True)
        if case.kind in ONE_HOP
    ]
    assert best.gains["worlds", "one_hop", "recall@1"] == pytest.approx(sum(gains) / len(gains))


def test_the_grid_holds_different_fusions_that_say_what_they_are() -> None:
    grid = fusion_grid(Fusion())
    assert len(set(grid)) == len(grid) == len({str(fusion) for fusion in grid}) > 100
