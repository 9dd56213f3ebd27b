"""``python -m memorag_core.evaluation recall|worlds|evidence``: measure a beacon model and write down how.

In: arguments. Out: a table, a JSON record beside it, and an exit status as the command line's. Knows what is
measured on what, and no more.

``recall`` asks for spans of held-out prose, ``worlds`` for the evidence of generated worlds, both of one
memory at growing lengths; ``evidence`` measures what clues find, on worlds and on real texts, and
``evidence --tune`` tries fusions on texts that are not reported.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from memorag_core import BeaconModel, ClueSettings, InputError, MemoRAGError, RetrievalSettings
from memorag_core.config import Expansion
from memorag_core.evaluation.asking import ClueFile, Recalled, recall_clues
from memorag_core.evaluation.datasets import load_dataset
from memorag_core.evaluation.evidence import (
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
from memorag_core.evaluation.metrics import Estimate
from memorag_core.evaluation.recall import (
    RecallScore,
    held_out_prose,
    prose_recall,
    score_recall,
    world_recall,
)
from memorag_core.evaluation.record import circumstances, table, write_record
from memorag_core.evaluation.suites import Suite, set_suite, world_suite
from memorag_core.evaluation.tuning import fusion_grid, tune
from memorag_core.evaluation.worlds import AskedWorld, draw_worlds
from memorag_core.models import bundled_path
from memorag_core.records import ClueKind
from memorag_core.training.worlds import Split

TUNING_SETS = ("xquad_en", "qmsum_train")
REPORTED_SETS = ("fairytaleqa", "loogle_sample", "qmsum_val")
KINDS: tuple[ClueKind, ...] = ("span", "query", "answer")
KIND_FIELDS = {"fairytaleqa": "explicit", "loogle_sample": "dependency"}
"""The field of a set's questions that says what sort of question it is."""
SHOWN = ("free - question", "checked - question", "grounded - free", "checked - free")
"""The differences that are printed; the record has all."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; returns the exit status.

    Args:
        arguments: What follows the module's name; None takes it from the process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    try:
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        started = time.perf_counter()
        record = options.run(options)
        command = ["python", "-m", "memorag_core.evaluation", *given]
        told = {
            "circumstances": circumstances(command, device=record.pop("device"), seed=options.seed),
            "seconds": round(time.perf_counter() - started, 1),
            "model": "bundled" if options.model == bundled_path() else str(options.model),
            **record,
        }
        if options.out is not None:
            write_record(options.out, told)
        about = told["circumstances"]
        sys.stdout.write(
            f"\n{about['date']}, {about['processor']}, {about['device']}, {about['threads']} threads, "
            f"{told['seconds']:.0f} s\n"
        )
    except (MemoRAGError, OSError) as error:
        sys.stderr.write(f"evaluation: {' '.join(str(error).split())}\n")
        return 2
    return 0


# --- recall and worlds --------------------------------------------------------------------------------------


def _recall(options: argparse.Namespace) -> dict[str, Any]:
    if options.data is None:
        raise InputError("Held-out prose is read from a folder; say where: --data FOLDER (with prose/).")
    rows: list[dict[str, Any]] = []
    prose, device = None, ""
    for ratio in options.ratios:
        model = _model(options, ratio, capacity=None)
        device = str(model.model.device)
        prose = prose if prose is not None else held_out_prose(options.data, model)
        for tokens in options.contexts:
            outcomes = prose_recall(
                model, prose, tokens=tokens, documents=options.documents, rows=options.rows, seed=options.seed
            )
            rows += _rows(score_recall(outcomes, seed=options.seed), ratio=ratio, context=tokens)
    _print_recall(rows)
    return {"device": device, "documents": options.documents, "rows": rows}


def _worlds(options: argparse.Namespace) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    device = ""
    for ratio in options.ratios:
        model = _model(options, ratio, capacity=None)
        device = str(model.model.device)
        for tokens in options.contexts:
            worlds = _draw(model, options, tokens, options.split)
            for reply in options.replies:
                outcomes = world_recall(model, worlds, reply=reply)
                scores = score_recall(outcomes, seed=options.seed)
                rows += _rows(scores, ratio=ratio, context=tokens, reply=reply)
    _print_recall(rows)
    return {"device": device, "documents": options.documents, "split": options.split, "rows": rows}


def _rows(scores: Sequence[RecallScore], **about: Any) -> list[dict[str, Any]]:
    return [{**about, **asdict(score)} for score in scores]


def _print_recall(rows: Sequence[dict[str, Any]]) -> None:
    named = [name for name in ("ratio", "context", "reply", "kind", "memory", "questions") if name in rows[0]]
    measured = [
        name
        for name in ("token_accuracy", "first_token", "exact_match", "f1")
        if any(row[name] is not None for row in rows)
    ]
    lines = [
        [*(row[name] for name in named), *(row[name] and Estimate(**row[name]) for name in measured)]
        for row in rows
    ]
    _print(table([*named, *measured], lines))


# --- evidence -----------------------------------------------------------------------------------------------


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
    model = _model(options, options.ratio, capacity=options.capacity)
    suites = []
    if options.worlds:
        drawn = _draw(model, options, options.world_tokens, split, count=options.worlds)
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
    _print(f"fusion: {fusion}\n")
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
    _print(table(["set", "kind", "questions", "measure", *variants, *pairs], lines))
    if told:
        spans = [[one.suite, one.spans, one.invented, one.share] for one in told]
        _print("\n" + table(["set", "free spans", "not in the text", "share"], spans))


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
    _print(f"gains over the question alone, best first\n\n{table(heads, lines)}")
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
    chosen: dict[str, Any] = {
        f"{kind}_weight": value
        for kind in ("question", "span", "query", "answer")
        if (value := getattr(options, f"{kind}_weight")) is not None
    }
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


# --- what all of them need ----------------------------------------------------------------------------------


def _model(
    options: argparse.Namespace, ratio: int | None, *, capacity: int | Literal["auto"] | None
) -> BeaconModel:
    return BeaconModel.from_pretrained(
        options.model, ratio=ratio, device=options.device, dtype=options.dtype, capacity=capacity
    )


def _draw(
    model: BeaconModel, options: argparse.Namespace, tokens: int, split: Split, *, count: int | None = None
) -> tuple[AskedWorld, ...]:
    if model.tokens is None:
        raise InputError(f"'{options.model}' has no tokenizer; put tokenizer.json into its folder.")
    encode = model.tokens.encode_text
    return draw_worlds(
        lambda text: len(encode(text)),
        count=count if count is not None else options.documents,
        tokens=tokens,
        split=split,
        seed=options.seed,
        per_kind=options.questions,
    )


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _capacity(text: str) -> int | Literal["auto"] | None:
    if text in ("auto", "none"):
        return "auto" if text == "auto" else None
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m memorag_core.evaluation", description=__doc__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    recall = commands.add_parser("recall", help="spans of held-out prose, by length and ratio")
    _common(recall, _recall)
    _lengths(recall, documents=20)
    recall.add_argument("--rows", type=int, default=12, help="spans asked of each document (%(default)s)")

    worlds = commands.add_parser("worlds", help="evidence of generated worlds, by length and ratio")
    _common(worlds, _worlds)
    _lengths(worlds, documents=12)
    worlds.add_argument("--split", choices=("dev", "test"), default="test")
    worlds.add_argument("--replies", nargs="+", choices=KINDS, default=["span", "answer"])
    worlds.add_argument("--questions", type=int, default=6, help="of each kind on a document (%(default)s)")

    evidence = commands.add_parser(
        "evidence", help="what clues find: free, held to the text, checked; beside the question alone"
    )
    _common(evidence, _evidence)
    evidence.add_argument("--ratio", type=int, help="raw tokens to a memory slot (default: the model's own)")
    evidence.add_argument(
        "--capacity",
        type=_capacity,
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
    evidence.add_argument("--clues", type=Path, metavar="FILE", help="of kept clues (default: beside --out)")
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
    return parser


def _common(parser: argparse.ArgumentParser, run: Any) -> None:
    parser.set_defaults(run=run)
    parser.add_argument("--model", default=bundled_path(), help="a checkpoint (default: the bundled model)")
    parser.add_argument("--data", type=Path, help="folder with prose/ and the sets")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON record")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, help="of torch (default: torch's own)")


def _lengths(parser: argparse.ArgumentParser, *, documents: int) -> None:
    parser.add_argument("--ratios", type=int, nargs="+", default=[4, 8])
    parser.add_argument(
        "--contexts", type=int, nargs="+", default=[256, 512, 1024, 2048, 4096], help="tokens"
    )
    parser.add_argument("--documents", type=int, default=documents, help="of each length (%(default)s)")


if __name__ == "__main__":
    sys.exit(main())
