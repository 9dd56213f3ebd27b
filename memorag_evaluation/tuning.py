"""Which fusion to choose: many are tried on clues that were asked for once.

In: suites that are not reported, the clues for their questions. Out: trials, best first. Knows no memory
model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import get_args

from tqdm import tqdm

from memorag_core.settings import Expansion
from memorag_core.types import ClueKind
from memorag_evaluation.asking import Recalled
from memorag_evaluation.evidence import Fusion, measure
from memorag_evaluation.suites import Suite
from memorag_evaluation.worlds import kind_groups


def fusion_grid(base: Fusion) -> tuple[Fusion, ...]:
    """The fusions that tuning tries: what clues ask, how loud, how they fade, how steeply ranks count."""
    expansions: tuple[Expansion, ...] = get_args(Expansion)
    kinds_used: tuple[tuple[ClueKind, ...], ...] = (
        ("span",),
        ("span", "answer"),
        ("span", "query", "answer"),
    )
    fusions = []
    for expansion, confidence, loudness, decay, constant, kinds in product(
        expansions, (0.0, 2.0, 4.0, 8.0), (0.1, 0.5, 1.0, 2.0), (0.0, 0.5, 1.0), (5.0, 60.0), kinds_used
    ):
        settings = replace(
            base.settings,
            rrf_constant=constant,
            question_weight=1.0,
            clue_weights={"span": loudness, "query": loudness, "answer": loudness},
            expansion=expansion,
            decay=decay,
            confidence=confidence,
        )
        fusions.append(replace(base, settings=settings, kinds=kinds))
    return tuple(fusions)


@dataclass(frozen=True, slots=True)
class Trial:
    """A fusion with what it gains over the question alone: mean differences by (suite, kind, measure)."""

    fusion: Fusion
    gains: Mapping[tuple[str, str, str], float]


def tune(
    suites: Sequence[Suite], recalled: Mapping[str, Recalled], fusions: Sequence[Fusion]
) -> tuple[Trial, ...]:
    """Try fusions on clues that were asked for before.

    Args:
        suites: sets that are not reported.
        recalled: the clues of each suite, by its name.
        fusions: what to try.

    Returns:
        The trials, best first: by the sum over the suites of the gains at 1 chunk and, for real texts, at 5,
        where a loss counts fivefold.
    """
    alone = {suite.name: measure(suite, None, Fusion()) for suite in suites}
    trials = []
    for fusion in tqdm(fusions, "fusions", disable=None):
        gains: dict[tuple[str, str, str], float] = {}
        for suite in suites:
            values = measure(suite, recalled[suite.name], fusion)
            kinds = [case.kind for _, case in suite.cases]
            for kind, wanted in kind_groups(kinds).items():
                places = [place for place, own in enumerate(kinds) if own in wanted]
                for name in values[0]:
                    found = sum(values[place][name] - alone[suite.name][place][name] for place in places)
                    gains[suite.name, kind, name] = found / len(places)
        trials.append(Trial(fusion, gains))
    return tuple(sorted(trials, key=_merit, reverse=True))


def _merit(trial: Trial) -> float:
    merit = 0.0
    for (_, kind, name), gain in trial.gains.items():
        if (kind, name) in (("one_hop", "recall@1"), ("two_hop", "recall@1"), ("all", "hit@1")):
            merit += gain
        elif (kind, name) == ("all", "hit@5"):
            merit += gain if gain >= 0 else 5 * gain
    return merit
