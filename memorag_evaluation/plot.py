"""The picture of a comparison of ways to search: a panel for each set, a group of points for each way.

In: scores. Out: a PNG file. Knows nothing of how they were measured. matplotlib is imported when it is asked
for, and draws without a screen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from memorag_core.errors import InputError, MissingExtraError
from memorag_evaluation.retrieval import Asked, Column, WayScore

_WIDTH, _HEIGHT, _COLUMNS = 5.2, 3.6, 3
"""Inches of a panel, and panels in a row."""

_STYLES: Mapping[Asked, tuple[str, str, str]] = {
    "question": ("question alone", "o", "#4c566a"),
    "clues": ("with clues of the memory", "s", "#b5651d"),
    "oracle": ("with perfect clues, of a memory's weight", "^", "#3b7a57"),
    "ceiling": ("with perfect clues, as loud as the question", "D", "#1f5fa8"),
}
"""What each kind of point is called, its mark and its colour."""


def check_plotting() -> None:
    """Refuse before anything is measured what could not be drawn afterwards.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    _figure_class()


def draw_ways(path: Path, scores: Sequence[WayScore]) -> None:
    """Draw one measure of each set: the question alone, and what is gained over it, with intervals.

    What clues gain stands on the mean of the question alone over all questions, also where the memory was
    asked only some of them: the means over others could not be compared. The interval there is the gain's.

    Args:
        path: of the PNG file; its folder is made.
        scores: one measure and one kind of question for each set, every way of it.

    Raises:
        InputError: No scores.
        MissingExtraError: matplotlib is not installed.
    """
    if not scores:
        raise InputError("There are no scores to draw; measure at least one set.")
    panels: dict[tuple[str, str], list[WayScore]] = {}
    for score in scores:
        panels.setdefault((score.suite, score.measure), []).append(score)
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = _figure_class()(figsize=(_WIDTH * columns, _HEIGHT * rows + 0.5), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    handles: dict[str, Any] = {}
    for axis, ((suite, measure), own) in zip(axes, panels.items(), strict=False):
        handles |= _panel(axis, f"{suite}, {measure}", own)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=2, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=120)


def _panel(axis: Any, title: str, scores: Sequence[WayScore]) -> dict[str, Any]:
    """Draw one set; gives what the legend names."""
    handles: dict[str, Any] = {}
    asked = [one for one in _STYLES if any(one in score.columns for score in scores)]
    for place, name in enumerate(asked):
        label, mark, colour = _STYLES[name]
        found: list[tuple[float, Column]] = [
            (at + 0.16 * (place - (len(asked) - 1) / 2), score.columns[name])
            for at, score in enumerate(scores)
            if name in score.columns
        ]
        lifts = [column.gain or column.mean for _, column in found]
        heights = [_height(score, name) for score in scores if name in score.columns]
        handles[label] = axis.errorbar(
            [at for at, _ in found],
            heights,
            yerr=[  # a percentile interval may lie beside its mean by a rounding
                [max(0.0, lift.mean - lift.low) for lift in lifts],
                [max(0.0, lift.high - lift.mean) for lift in lifts],
            ],
            fmt=mark,
            color=colour,
            markersize=4,
            linewidth=1,
            capsize=2,
        )
    counts = {name: column.mean.values for score in scores for name, column in score.columns.items()}
    told = f"n = {counts['question']}" + (f", with clues {counts['clues']}" if "clues" in counts else "")
    axis.set_title(f"{title}\n{told}", fontsize=9)
    axis.set_xticks(range(len(scores)), [score.way.replace(" + ", "\n+ ") for score in scores], fontsize=8)
    axis.tick_params(axis="y", labelsize=8)
    axis.grid(axis="y", linewidth=0.4, alpha=0.6)
    return handles


def _height(score: WayScore, asked: Asked) -> float:
    gain = score.columns[asked].gain
    alone = score.columns["question"].mean.mean
    return alone if gain is None else alone + gain.mean


def _figure_class() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot", "Drawing a comparison") from error
    return Figure
