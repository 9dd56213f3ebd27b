"""Sixteen questions in one pass beside sixteen calls, through the LangChain retriever, bundled model.

    python benchmarks/batching.py --threads 2 --out batching.json

Each turn asks retrievers that were asked nothing before (clues are kept), loaded beforehand from one store,
with one model: ``invoke`` for one question after the other, and ``batch`` for all of them; ``ainvoke`` for
all at once, which the core gathers into a few passes, and ``abatch``. ``ratio`` is the shortest time of the
calls over the shortest of the batch, ``median`` the median over the turns. What comes back is compared too:
``same`` is whether all documents, their order and their clues are, ``off`` the largest difference of two
scores (a pass over several rows rounds otherwise than one over one row).
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from langchain_core.documents import Document

from langchain_memorag import MemoRAGRetriever
from memorag_core import BeaconModel, ChunkSettings, MemoRAG
from memorag_core.memory.bundled import bundled_path
from memorag_evaluation.record import circumstances, table, write_record
from memorag_evaluation.speed import time_in_turn

HEADS = ("asked", "questions", "calls ms", "batch ms", "ratio", "median", "same", "off")
TEXT = Path(__file__).parents[1] / "examples" / "parish.txt"

QUESTIONS = (
    "Whom should I ask about a leaking roof?",
    "Who is there for an expectant mother?",
    "Where can I have a hat made?",
    "When does the ferry cross the Wend?",
    "What became of the mill?",
    "How does one get out in winter?",
    "What does the vicar like?",
    "When does the choir meet?",
    "Who buries the dead?",
    "Was anyone here ever at sea?",
    "Who will play a game with me in the Plough?",
    "What may the children feed?",
    "Where were the stars watched?",
    "Who paid for the glass?",
    "On what day is the market?",
    "What does Maud Vane ride?",
)

Found = list[list[Document]]


def main() -> None:
    """Time both ways, sync and async, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text", type=Path, default=TEXT, help="what is memorized (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of torch (default: torch's own)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="JSON record")
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    model = BeaconModel.from_pretrained(bundled_path(), device=options.device)
    with tempfile.TemporaryDirectory() as folder:
        text = options.text.read_text(encoding="utf-8")
        MemoRAG(model, chunks=ChunkSettings(size=160), progress=False).memorize(text).save(folder)
        rows = [
            line(name, Path(folder), model, calls, batch, options.repeats)
            for name, calls, batch in (("sync", invoked, batched), ("async", ainvoked, abatched))
        ]
    about = circumstances(["python", *sys.argv], device=options.device, seed=0)
    print(f"batching, {about['date']}, {about['processor']}, {options.device}, {about['threads']} threads\n")
    print(table(HEADS, [[row[head] for head in HEADS] for row in rows]))
    if options.out is not None:
        write_record(options.out, {"circumstances": about, "rows": rows})


def line(
    name: str,
    folder: Path,
    model: BeaconModel,
    calls: Callable[[MemoRAGRetriever], Found],
    batch: Callable[[MemoRAGRetriever], Found],
    repeats: int,
) -> dict[str, object]:
    """A row of the table."""
    fresh = [MemoRAGRetriever(memorag=MemoRAG.load(folder, model), k=4) for _ in range(2 * (repeats + 1))]
    found: dict[str, Found] = {}

    def run() -> None:
        found["calls"] = calls(fresh.pop())

    def beside() -> None:
        found["batch"] = batch(fresh.pop())

    timing = time_in_turn(run, beside, repeats=repeats)
    return {
        "asked": name,
        "questions": len(QUESTIONS),
        "calls ms": timing.best * 1000,
        "batch ms": timing.best_floor * 1000,
        "ratio": timing.ratio,
        "median": timing.median_ratio,
        "same": _shown(found["calls"]) == _shown(found["batch"]),
        "off": f"{_off(found['calls'], found['batch']):.0e}",
        "turns": timing,
    }


def invoked(retriever: MemoRAGRetriever) -> Found:
    """One call after the other."""
    return [retriever.invoke(question) for question in QUESTIONS]


def batched(retriever: MemoRAGRetriever) -> Found:
    """One call for all."""
    return retriever.batch([*QUESTIONS])


def ainvoked(retriever: MemoRAGRetriever) -> Found:
    """Many calls at once on an event loop, each of which asks by itself."""

    async def ask() -> Found:
        return [*await asyncio.gather(*(retriever.ainvoke(question) for question in QUESTIONS))]

    return asyncio.run(ask())


def abatched(retriever: MemoRAGRetriever) -> Found:
    """One call for all on an event loop."""
    return asyncio.run(retriever.abatch([*QUESTIONS]))


def _shown(found: Found) -> list[list[tuple[object, ...]]]:
    return [[(one.id, one.metadata["clues"]) for one in documents] for documents in found]


def _off(calls: Found, batch: Found) -> float:
    pairs = zip(itertools.chain(*calls), itertools.chain(*batch), strict=True)
    return float(max(abs(one.metadata["score"] - other.metadata["score"]) for one, other in pairs))


if __name__ == "__main__":
    main()
