from __future__ import annotations

import sys
from pathlib import Path

import pytest

from memorag_core import InputError, MissingExtraError
from memorag_evaluation.metrics import Estimate
from memorag_evaluation.plot import check_plotting, draw_ways
from memorag_evaluation.retrieval import Asked, Column, WayScore
from memorag_evaluation.ways import WAYS, Way


def score(suite: str, way: Way, *asked: Asked) -> WayScore:
    estimate = Estimate(0.5, 0.4, 0.6, 20, 3)
    return WayScore(suite, "all", "hit@5", way, 1000.0, {name: Column(estimate, estimate) for name in asked})


def test_the_picture_is_a_png_with_a_panel_for_each_set(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "deep" / "ways.png"
    scores = [score(suite, way, "question", "clues", "ceiling") for suite in "abcd" for way in WAYS]
    draw_ways(path, scores)
    drawn = path.read_bytes()
    assert drawn.startswith(b"\x89PNG\r\n\x1a\n")
    draw_ways(path, [score("a", "bm25", "question")])
    width, height = (int.from_bytes(path.read_bytes()[at : at + 4]) for at in (16, 20))
    wide, high = (int.from_bytes(drawn[at : at + 4]) for at in (16, 20))
    assert (wide, high) > (2 * width, 1.5 * height)


def test_nothing_to_draw_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no scores to draw"):
        draw_ways(tmp_path / "ways.png", [])


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"memorag-adapters\[plot\]"):
        check_plotting()
