"""``evidence`` measures what clues find, on worlds and on real texts; ``--tune`` tries fusions.

In: parsed options. Out: a table and a record. Fusions are tried on texts that are not reported.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, get_args

from memorag_core.errors import InputError
from memorag_core.memory.beacon import BeaconModel
from memorag_core.settings import ClueSettings, Expansion, RetrievalSettings
from memorag_core.system.disk import taken
from memorag_evaluation.asking import ClueFile, Recalled, recall_clues
from memorag_evaluation.commands.options import (
    KIND_FIELDS,
    KINDS,
    Commands,
    capacity,
    common,
    draw,
    load_model,
    show,
)
from memorag_evaluation.datasets import load_dataset
from memorag_evaluation.evidence import (
    VARIANTS,
    EvidenceScore,
    Fusion,
    Inventions,
    Values,
    Variant,
    check,
    compare,
    inventions,
    measure,
)
from memorag_evaluation.record import table
from memorag_evaluation.suites import Suite, set_suite, world_suite
from memorag_evaluation.tuning import fusion_grid, tune
from memorag_training.worlds import Split

TUNING_SETS = ("xquad_en", "qmsum_train")
REPORTED_SETS = ("fairytaleqa", "loogle_sample", "qmsum_val")
SHOWN = ("free - question", "checked - question", "grounded - free", "checked - free")
"""The differences that are printed; the record has all."""


def add(commands: Commands) -> None:
    """Add the command."""
    evidence = commands.add_parser(
        "evidence", help="what clues find: free, held to the text, checked; beside the question alone"
    )
    common(evidence, _evidence)
    evidence.add_argument("--ratio", type=int, help="raw tokens to a memory slot (default: the model's own)")
    evidence.add_argument(
        "--capacity",
        type=capacity,
        default="auto",
        help="tokens of a part, auto for the model's own, or none",
    )
    evidence.add_argument(
        "--sets", nargs="*", metavar="NAME", help="of --data (default: those that are reported)"
    )
    evidence.add_argument("--documents", nargs="+", metavar="ID", help="measure on these documents only")
    evidence.add_argument("--limit", type=int, help="questions of each set, drawn by the seed (default: all)")
    evidence.add_argument("--worlds", type=int, default=20, help="generated worlds, 0 for none (%(default)s)")
    evidence.add_argument("--world-tokens", type=int, default=2048, help="length of a world (%(default)s)")
    evidence.add_argument("--questions", type=int, default=8, help="of each kind on a world (%(default)s)")
    evidence.add_argument("--clues", type=taken, metavar="FILE", help="of kept clues (default: beside --out)")
    evidence.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    evidence.add_argument("--per-kind", type=int, default=3, help="clues kept of each kind (%(default)s)")
    evidence.add_argument(
        "--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="ways to search (all)"
    )
    evidence.add_argument("--least-support", type=float, help="what checked clues are dropped below")
    evidence.add_argument("--tune", action="store_true", help="try fusions on texts that are not reported")
    fusion = evidence.add_argument_group("fusion (default: the pipeline's settings)")
    fusion.add_argument("--expansion", choices=get_args(Expansion), help="what a clue asks")
    fusion.add_argument(
        "--confidence", type=float, help="the power of how sure the memory was of a clue; 0 leaves it out"
    )
    fusion.add_argument(
        "--support", type=float, help="the power of the support of checked clues; 0 leaves it out"
    )
    fusion.add_argument("--decay", type=float, help="what each further clue weighs of the one before")
    fusion.add_argument("--constant", type=float, help="of reciprocal rank fusion")
    for kind in ("question", "span", "query", "answer"):
        fusion.add_argument(f"--{kind}-weight", type=float, metavar="W")


def _evidence(options: argparse.Namespace) -> dict[str, Any]:
    sets = options.sets if options.sets is not None else (TUNING_SETS if options.tune else REPORTED_SETS)
    split: Split = "dev" if options.tune else "test"
    if options.tune and set(sets) & set(REPORTED_SETS):
        raise InputError(
            f"{', '.join(REPORTED_SETS)} are reported, so nothing is tuned on them. Leave --sets out, or "
            "name others."
        )
    if options.data is None and sets:
        raise InputError("Real texts are in a folder; say where: --data FOLDER, or --sets for worlds alone.")
    model = load_model(options, options.ratio, capacity=options.capacity)
    suites = []
    if options.worlds:
        drawn = draw(model, options, options.world_tokens, split, count=options.worlds)
        suites.append(world_suite(drawn, name=f"worlds ({split})"))
    for name in sets:
        wanted = set(options.documents or ()) or None
        dataset = load_dataset(options.data / name, documents=wanted, kind=KIND_FIELDS.get(name))
        suites.append(set_suite(dataset.sample(options.limit, seed=options.seed)))
    if not suites:
        raise InputError("There is nothing to measure on; give --worlds a number, or name --sets.")
    kept = ClueFile(options.clues or (options.out and options.out.with_suffix(".clues.jsonl")))
    about = {
        "device": str(model.model.device),
        "ratio": model.ratio,
        "capacity": model.capacity,
        "clue_settings": _clue_settings(options),
        "suites": [_about(suite) for suite in suites],
    }
    if options.tune:
        recalled = {suite.name: _recalled(model, suite, options, kept, ["checked"]) for suite in suites}
        return about | _tuned(options, suites, {name: one["checked"] for name, one in recalled.items()})
    fusion = _fusion(options)
    rows: list[EvidenceScore] = []
    told: list[Inventions] = []
    for suite in suites:
        found = _recalled(model, suite, options, kept, options.variants)
        values: dict[Variant, Values] = {
            variant: measure(suite, found.get(variant), fusion) for variant in options.variants
        }
        invented = inventions(suite, found["free"]) if "free" in found else None
        told += [invented] if invented else []
        rows += compare(suite, values, invented=invented.questions if invented else (), seed=options.seed)
    show(f"fusion: {fusion}\n")
    _print_evidence(rows, told)
    return about | {
        "fusion": fusion,
        "rows": [asdict(row) for row in rows],
        "free_spans": [
            {"suite": one.suite, "spans": one.spans, "invented": one.invented, "share": one.share}
            for one in told
        ],
    }


def _recalled(
    model: BeaconModel, suite: Suite, options: argparse.Namespace, kept: ClueFile, variants: Sequence[Variant]
) -> dict[Variant, Recalled]:
    """The clues of each variant but the question alone."""
    settings = _clue_settings(options)
    found: dict[Variant, Recalled] = {}
    if "free" in variants:
        free = replace(settings, grounded=False)
        found["free"] = recall_clues(model, suite, settings=free, kept=kept)
    if {"grounded", "checked"} & {*variants}:
        found["grounded"] = recall_clues(model, suite, settings=settings, kept=kept)
    if "checked" in variants:
        found["checked"] = check(suite, found["grounded"], settings)
    if "emptied" in variants:
        found["emptied"] = recall_clues(model, suite, memory="emptied", settings=settings, kept=kept)
    return found


def _print_evidence(rows: Sequence[EvidenceScore], told: Sequence[Inventions]) -> None:
    shown = [row for row in rows if not row.measure.startswith("coverage")]
    variants, pairs = list(shown[0].means), [pair for pair in SHOWN if pair in shown[0].differences]
    lines = [
        [
            row.suite,
            row.kind,
            row.questions,
            row.measure,
            *(row.means[variant].mean for variant in variants),
            *(row.differences[pair] for pair in pairs),
        ]
        for row in shown
    ]
    show(table(["set", "kind", "questions", "measure", *variants, *pairs], lines))
    if told:
        spans = [[one.suite, one.spans, one.invented, one.share] for one in told]
        show("\n" + table(["set", "free spans", "not in the text", "share"], spans))


def _tuned(
    options: argparse.Namespace, suites: Sequence[Suite], recalled: dict[str, Recalled]
) -> dict[str, Any]:
    trials = tune(suites, recalled, (_fusion(options), *fusion_grid(_fusion(options))))
    columns = [
        (suite, kind, name)
        for suite, kind, name in trials[0].gains
        if (kind in ("one_hop", "two_hop") and name == "recall@1")
        or (kind == "all" and name in ("hit@1", "hit@5", "recall@1"))
    ]
    heads = ["fusion", *(f"{suite} {kind} {name}" for suite, kind, name in columns)]
    lines = [[str(trial.fusion), *(trial.gains[column] for column in columns)] for trial in trials[:20]]
    show(f"gains over the question alone, best first\n\n{table(heads, lines)}")
    return {
        "trials": [
            {
                "fusion": trial.fusion,
                "gains": [
                    {"suite": suite, "kind": kind, "measure": name, "gain": gain}
                    for (suite, kind, name), gain in trial.gains.items()
                ],
            }
            for trial in trials
        ]
    }


def _about(suite: Suite) -> dict[str, Any]:
    return {
        "name": suite.name,
        "documents": [asked.document.id for asked in suite.documents],
        "chunks": sum(len(asked.index.chunks) for asked in suite.documents),
        "questions": sum(1 for _ in suite.cases),
        "skipped": suite.skipped,
    }


def _clue_settings(options: argparse.Namespace) -> ClueSettings:
    settings = ClueSettings(kinds=tuple(options.kinds), per_kind=options.per_kind)
    least = options.least_support
    return settings if least is None else replace(settings, least_support=least)


def _fusion(options: argparse.Namespace) -> Fusion:
    weights = {
        kind: value
        for kind in ("question", "span", "query", "answer")
        if (value := getattr(options, f"{kind}_weight")) is not None
    }
    chosen: dict[str, Any] = {"question_weight": weights.pop("question")} if "question" in weights else {}
    chosen["clue_weights"] = weights
    if options.constant is not None:
        chosen["rrf_constant"] = options.constant
    if options.expansion is not None:
        chosen["expansion"] = options.expansion
    for name in ("decay", "confidence", "support"):
        if (value := getattr(options, name)) is not None:
            chosen[name] = value
    return Fusion(
        settings=RetrievalSettings(**chosen),
        kinds=tuple(options.kinds),
    )
