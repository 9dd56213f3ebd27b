"""``recall`` asks for spans of held-out prose, ``worlds`` for the evidence of generated worlds.

In: parsed options. Out: a table and a record: what one memory gives back at growing lengths and ratios. Knows
no retrieval.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from memorag_core.errors import InputError
from memorag_evaluation.commands.options import KINDS, Commands, common, draw, lengths, load_model, show
from memorag_evaluation.metrics import Estimate
from memorag_evaluation.recall import (
    RecallScore,
    held_out_prose,
    prose_recall,
    score_recall,
    world_recall,
)
from memorag_evaluation.record import table


def add(commands: Commands) -> None:
    """Add both commands."""
    recall = commands.add_parser("recall", help="spans of held-out prose, by length and ratio")
    common(recall, _recall)
    lengths(recall, documents=20)
    recall.add_argument("--rows", type=int, default=12, help="spans asked of each document (%(default)s)")

    worlds = commands.add_parser("worlds", help="evidence of generated worlds, by length and ratio")
    common(worlds, _worlds)
    lengths(worlds, documents=12)
    worlds.add_argument("--split", choices=("dev", "test"), default="test")
    worlds.add_argument("--replies", nargs="+", choices=KINDS, default=["span", "answer"])
    worlds.add_argument("--questions", type=int, default=6, help="of each kind on a document (%(default)s)")


def _recall(options: argparse.Namespace) -> dict[str, Any]:
    if options.data is None:
        raise InputError("Held-out prose is read from a folder; say where: --data FOLDER (with prose/).")
    rows: list[dict[str, Any]] = []
    prose, device = None, ""
    for ratio in options.ratios:
        model = load_model(options, ratio, capacity=None)
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
        model = load_model(options, ratio, capacity=None)
        device = str(model.model.device)
        for tokens in options.contexts:
            worlds = draw(model, options, tokens, options.split)
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
    show(table([*named, *measured], lines))
