"""``retrieval`` compares ways to search on sets of real texts, with the question, clues and perfect clues.

In: parsed options. Out: one table over all sets, a record, and a picture beside the record.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from memorag_core.errors import InputError
from memorag_core.retrieval import as_embedder, find_entities, sentence_transformer
from memorag_core.settings import ClueSettings, FusionMethod, RetrievalSettings, RetrieverName
from memorag_core.system.disk import taken
from memorag_evaluation.asking import ClueFile, Recalled, recall_clues
from memorag_evaluation.commands.options import KIND_FIELDS, Commands, common, load_model, show
from memorag_evaluation.datasets import Dataset, load_dataset
from memorag_evaluation.evidence import check
from memorag_evaluation.keeping import KeptEmbedder
from memorag_evaluation.passages import load_passages, names_passages
from memorag_evaluation.plot import check_plotting, draw_ways
from memorag_evaluation.record import table
from memorag_evaluation.retrieval import (
    ASKED,
    BETTER_PART,
    Comparison,
    WayDifference,
    WayScore,
    compare_ways,
)
from memorag_evaluation.suites import Suite, set_suite
from memorag_evaluation.ways import WAYS, WITHOUT_VECTORS, Way

SETS = (
    "fairytaleqa",
    "qmsum_val",
    "qmsum_train",
    "loogle_sample",
    "multihop_musique",
    "xquad_en",
    "cmrc2018_zh",
)

SHOWN_MEASURES = {
    "qmsum_train": ("coverage@5", "coverage@10"),
    "qmsum_val": ("coverage@5", "coverage@10"),
    "xquad_en": ("hit@1", "hit@5"),
    "cmrc2018_zh": ("hit@1", "hit@5"),
}
"""What is printed of a set, where it is not the usual: coverage, for evidence longer than the best chunks;
hits at 1, where nearly all are found at 5. The record has all."""

_SHOWN = {
    "hit": ("hit@1", "hit@5", "hit@10"),
    "passages": ("recall@2", "recall@5", "recall@10", "all_gold@5"),
}
_DRAWN = {"hit": "hit@5", "passages": "recall@5"}
"""The measure of a set in the picture, where ``SHOWN_MEASURES`` names no other."""

CLUE_LIMIT = 50
"""Questions of a set that the memory is asked, where nothing else is said."""

_CHOICES = ("graph_anchors", "rrf_constant", "fan_out", "fusion")
_WEIGHTS: tuple[RetrieverName, ...] = ("bm25", "dense", "graph")
"""The settings of retrieval that can be chosen, and the retrievers whose weights can be."""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "retrieval", help="ways to search: BM25, vectors, both, and a graph; with clues and with perfect ones"
    )
    common(parser, _retrieval)
    parser.add_argument(
        "--sets", nargs="+", metavar="NAME", default=list(SETS), help="of --data (%(default)s)"
    )
    parser.add_argument(
        "--encoder",
        metavar="NAME_OR_FOLDER",
        help="of sentence-transformers, for vectors (default: BM25 alone is measured)",
    )
    parser.add_argument(
        "--ways", nargs="+", choices=WAYS, help="to search (default: all, or without vectors)"
    )
    parser.add_argument("--limit", type=int, help="questions of each set, drawn by the seed (default: all)")
    parser.add_argument(
        "--clue-limit",
        type=_clue_limit,
        nargs="+",
        default=[],
        metavar="N",
        help=f"of them, questions that the memory is asked, 0 for none; of one set: SET=N ({CLUE_LIMIT})",
    )
    parser.add_argument("--clues", type=taken, metavar="FILE", help="of kept clues (default: beside --out)")
    parser.add_argument(
        "--vectors", type=taken, metavar="FOLDER", help="of kept vectors (default: beside --out)"
    )
    parser.add_argument("--no-plot", action="store_true", help="draw no picture beside --out")
    fusion = parser.add_argument_group("fusion (default: the pipeline's settings)")
    fusion.add_argument("--bm25-weight", type=float, metavar="W")
    fusion.add_argument("--dense-weight", type=float, metavar="W")
    fusion.add_argument("--graph-weight", type=float, metavar="W", help="in the ways with a graph (1)")
    fusion.add_argument("--graph-anchors", type=int, metavar="N")
    fusion.add_argument("--fusion", choices=get_args(FusionMethod))
    fusion.add_argument("--constant", type=float, dest="rrf_constant", help="of reciprocal rank fusion")
    fusion.add_argument("--fan-out", type=int, metavar="N", help="depth of each list")


def _retrieval(options: argparse.Namespace) -> dict[str, Any]:
    if options.data is None:
        raise InputError("Real texts are in a folder; say where: --data FOLDER.")
    draws = options.out is not None and not options.no_plot
    if draws:
        check_plotting()
    ways, limits, embedder = _ways(options), _limits(options), _embedder(options)
    settings = RetrievalSettings(
        retriever_weights={
            name: value for name in _WEIGHTS if (value := getattr(options, f"{name}_weight")) is not None
        },
        **{name: value for name in _CHOICES if (value := getattr(options, name)) is not None},
    )
    model = load_model(options, None, capacity="auto") if any(limits.values()) else None
    kept = ClueFile(options.clues or (options.out and options.out.with_suffix(".clues.jsonl")))
    entities = find_entities if any(way.endswith("graph") for way in ways) else None
    results: list[Comparison] = []
    suites: list[dict[str, Any]] = []
    for name in options.sets:
        dataset = _load(options.data / name).sample(options.limit, seed=options.seed)
        suite = set_suite(dataset, embedder=embedder, entities=entities)
        asked: Suite | None = None
        recalled: Recalled | None = None
        if model is not None and limits[name]:
            drawn = dataset.sample(limits[name], seed=options.seed)
            asked = suite.only({query.id for query in drawn.queries})
            recalled = check(asked, recall_clues(model, asked, kept=kept), ClueSettings())
        results.append(
            compare_ways(
                suite, settings=settings, ways=ways, asked=asked, recalled=recalled, seed=options.seed
            )
        )
        if embedder is not None:
            embedder.keep()
        suites.append(_about(suite, asked))
        show(f"{name}: measured")
    scores = [score for result in results for score in result.scores]
    differences = [one for result in results for one in result.differences]
    _print_scores(scores)
    _print_differences(differences)
    if draws:
        draw_ways(options.out.with_suffix(".png"), [score for score in scores if _is_drawn(score)])
    return {
        "device": "cpu" if model is None else str(model.model.device),
        "encoder": None if embedder is None else dict(embedder.fingerprint),
        "settings": settings,
        "suites": suites,
        "rows": [asdict(score) for score in scores],
        "differences": [asdict(one) for one in differences],
    }


def _ways(options: argparse.Namespace) -> tuple[Way, ...]:
    possible = WAYS if options.encoder is not None else WITHOUT_VECTORS
    if options.ways is None:
        return possible
    impossible = [way for way in options.ways if way not in possible]
    if impossible:
        raise InputError(
            f"'{impossible[0]}' searches vectors, and no encoder was named: give --encoder NAME_OR_FOLDER, "
            f"or the ways {', '.join(repr(way) for way in WITHOUT_VECTORS)}."
        )
    return tuple(way for way in WAYS if way in options.ways)


def _clue_limit(text: str) -> tuple[str | None, int]:
    """A number for all sets, or for one: asking takes long where the texts are."""
    name, equals, number = text.rpartition("=")
    return (name if equals else None), int(number)


def _limits(options: argparse.Namespace) -> dict[str, int]:
    """How many questions of each set the memory is asked."""
    given: dict[str | None, int] = dict(options.clue_limit)
    unknown = [name for name in given if name is not None and name not in options.sets]
    if unknown:
        raise InputError(
            f"--clue-limit names '{unknown[0]}', which is not among the sets: {', '.join(options.sets)}."
        )
    return {name: given.get(name, given.get(None, CLUE_LIMIT)) for name in options.sets}


def _embedder(options: argparse.Namespace) -> KeptEmbedder | None:
    if options.encoder is None:
        return None
    folder = options.vectors or (options.out and options.out.with_suffix(".vectors"))
    device = None if options.device == "auto" else options.device
    return KeptEmbedder(as_embedder(sentence_transformer(options.encoder, device=device)), folder)


def _load(folder: Path) -> Dataset:
    if names_passages(folder):
        return load_passages(folder)
    return load_dataset(folder, kind=KIND_FIELDS.get(folder.name))


def _about(suite: Suite, asked: Suite | None) -> dict[str, Any]:
    return {
        "name": suite.name,
        "documents": len(suite.documents),
        "chunks": sum(len(one.index.chunks) for one in suite.documents),
        "questions": sum(1 for _ in suite.cases),
        "asked": [case.id for _, case in asked.cases] if asked is not None else [],
        "skipped": suite.skipped,
    }


# --- telling ------------------------------------------------------------------------------------------------


def _print_scores(scores: Sequence[WayScore]) -> None:
    shown = [score for score in scores if score.kind == "all" and score.measure in _shown(score)]
    asked = [name for name in ASKED if any(name in score.columns for score in shown)]
    heads = ["set", "measure", "way", "words", "n"]
    for name in asked:
        heads += ["n asked"] if name == "clues" else []
        heads += [name if name == "question" else f"{name} - question"]
    lines = [list(_line(score, asked)) for score in shown]
    show("\n" + table(heads, lines))


def _line(score: WayScore, asked: Sequence[str]) -> Iterator[object]:
    yield from (score.suite, score.measure, score.way, round(score.words))
    yield score.columns["question"].mean.values
    for name, column in ((name, score.columns.get(name)) for name in ASKED if name in asked):
        if name == "question":
            yield column and column.mean
            continue
        if name == "clues":
            yield column and column.mean.values
        yield column and column.gain


def _print_differences(differences: Sequence[WayDifference]) -> None:
    wanted = [
        one
        for one in differences
        if one.asked == "question"
        and one.kind == "all"
        and one.measure in _shown(one)
        and (one.name.endswith(BETTER_PART) or " + graph - " in one.name)
    ]
    if wanted:
        lines = [[one.suite, one.measure, one.name, one.difference] for one in wanted]
        show("\n" + table(["set", "measure", "question only", "difference"], lines))


def _shown(one: WayScore | WayDifference) -> Sequence[str]:
    measure = "passages" if one.measure.startswith(("recall", "all_gold")) else "hit"
    return SHOWN_MEASURES.get(one.suite, _SHOWN[measure])


def _is_drawn(score: WayScore) -> bool:
    measure = "passages" if score.measure.startswith(("recall", "all_gold")) else "hit"
    return score.kind == "all" and score.measure == SHOWN_MEASURES.get(score.suite, (_DRAWN[measure],))[0]
