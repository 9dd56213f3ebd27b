"""What keeping a memory saves and costs: loading beside reading, bytes beside the formula, bits beside clues.

    python benchmarks/storing.py --threads 4 --out storing.json

The text is Python's own documentation, as often as it takes, as documents of one topic each; the model is the
bundled one (``--model`` for another). Four tables:

- loading: seconds to read and index a text, to load what was saved of it, and to load it and get a first
  clue, in one process. The clue takes as long from a memory that was read: it is asked of the few parts that
  the question finds by itself (``max_parts=4``), and of all.
- size: bytes of the stored memory beside slots x bytes of a slot.
- bits: the memory as int8 and int4: its size beside the one as it is, and for a fixed set of questions the
  share of clues that are the same text, and of questions whose first clue is; on generated worlds the F1 of
  the clue that is nearest to a sentence that answers, and how much of the evidence is found.
- appending: seconds and bytes of saving a text that grew by one hundredth, beside saving it for the first
  time; ``read and save`` is another such append where the store is open, reading and indexing included.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from pydoc_data.topics import topics
from statistics import median
from typing import Any

import torch

from memorag_core import BeaconModel, ClueSettings, Document, MemoRAG
from memorag_core.memory.bundled import bundled_path
from memorag_core.store import ENCODINGS, Encoding, read_manifest
from memorag_evaluation.metrics import coverage, token_f1
from memorag_evaluation.record import circumstances, table, write_record
from memorag_evaluation.worlds import AskedWorld, draw_worlds

MEGABYTE = 1 << 20

ROUTED = 4
"""Parts that the first question is put to where it is not put to all."""

WORLDS = 8
"""Generated documents that are asked about."""

QUESTIONS = tuple(
    f"What does the documentation say about {subject}?"
    for subject in (
        "the with statement",
        "augmented assignment",
        "the import statement",
        "format specifications",
        "the assert statement",
        "slicings",
        "lambda expressions",
        "the debugger",
        "operator precedence",
        "string methods",
        "the try statement",
        "attribute access",
        "generator expressions",
        "integer literals",
        "the global statement",
        "metaclasses",
        "mutable sequences",
        "truth values",
        "boolean operations",
        "calls",
        "comparisons",
        "function definitions",
        "naming and binding",
        "dictionary displays",
    )
)


def main() -> None:
    """Run all four measurements and print their tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=bundled_path(), help="another model's folder")
    parser.add_argument("--tokens", type=int, nargs="+", default=[16_384, 65_536, 262_144])
    parser.add_argument("--quantized-tokens", type=int, default=65_536, help="for bits (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="of loading (%(default)s)")
    parser.add_argument("--threads", type=int, help="of torch (default: torch's own)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="JSON record")
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    model = BeaconModel.from_pretrained(options.model, device=options.device)
    MemoRAG(model, progress=False).memorize("Once, so that the libraries are loaded.").clues(
        "What is loaded?"
    )
    about = circumstances(["python", *sys.argv], device=options.device, seed=0)
    print(f"storing, {about['date']}, {about['processor']}, {options.device}, {about['threads']} threads")
    found: dict[str, list[dict[str, Any]]] = {"loading": [], "size": [], "bits": [], "appending": []}
    with tempfile.TemporaryDirectory() as work:
        for tokens in options.tokens:
            folder = Path(work) / str(tokens)
            rag, row = loading(model, tokens, folder, options.repeats)
            found["loading"].append(row)
            found["size"].append(size(rag, folder))
            found["appending"].append(appending(rag, tokens, folder))
            if tokens == options.quantized_tokens:
                found["bits"] += bits(rag, model, Path(work))
    for name, rows in found.items():
        if rows:
            print(f"\n{name}\n{table(list(rows[0]), [list(row.values()) for row in rows])}")
    if options.out is not None:
        write_record(options.out, {"circumstances": about, **found})


def documents(start: int = 0) -> Iterator[Document]:
    """Topics one after the other, each round with a number of its own."""
    names = sorted(topics)
    for number in count(start):
        turn, place = divmod(number, len(names))
        name = names[place]
        yield Document(f"{name}, edition {turn + 1}\n\n{topics[name]}", id=f"{name} {turn}")


def some(model: BeaconModel, tokens: int, start: int = 0) -> list[Document]:
    """Documents of so many tokens and no more than one document beyond."""
    chosen: list[Document] = []
    for document in documents(start):
        if tokens <= 0:
            return chosen
        read = model.tokens_of(document)
        if read > tokens:  # the last one in part
            kept = int(len(document.text) * tokens / read)
            document = Document(re.sub(r"\s\S*$", "", document.text[:kept]) or "end", id=document.id)
        chosen.append(document)
        tokens -= read
    return chosen


def loading(model: BeaconModel, tokens: int, folder: Path, repeats: int) -> tuple[MemoRAG, dict[str, Any]]:
    """Read and save a text; load it and ask for a first clue."""
    texts = some(model, tokens)
    begun = time.perf_counter()
    rag = MemoRAG(model, progress=False).memorize(texts)
    read = time.perf_counter() - begun
    rag.save(folder)
    settings = {"all": ClueSettings(("span",)), "routed": ClueSettings(("span",), max_parts=ROUTED)}
    loads: list[float] = []
    asked: dict[str, list[float]] = {name: [] for name in settings}
    for _ in range(repeats):
        for name, clues in settings.items():
            begun = time.perf_counter()
            again = MemoRAG.load(folder, model, clues=clues, progress=False)
            loads.append(time.perf_counter() - begun)
            again.clues(QUESTIONS[0])
            asked[name].append(time.perf_counter() - begun)
            del again
    load, routed, clue = median(loads), median(asked["routed"]), median(asked["all"])
    row = {
        "tokens": rag.memory.tokens,
        "parts": rag.memory.parts,
        "read s": read,
        "load s": load,
        "read / load": read / load,
        f"load, clue of {ROUTED} parts s": routed,
        "read / that": read / routed,
        "load, clue of all parts s": clue,
        "reading too / that": (read + clue - load) / clue,
    }
    print(row, file=sys.stderr, flush=True)
    return rag, row


def size(rag: MemoRAG, folder: Path) -> dict[str, Any]:
    """Bytes of the stored memory beside those of its slots."""
    slots = sum(block.slots.length * block.rows for block in rag.memory.blocks)
    slot = rag.memory.blocks[0].slots.entry_bytes
    tail = sum(block.tail.nbytes for block in rag.memory.blocks)
    stored = stored_bytes(folder)
    return {
        "tokens": rag.memory.tokens,
        "slots": slots,
        "bytes of a slot": slot,
        "slots MB": slots * slot / MEGABYTE,
        "memory MB": stored["memory"] / MEGABYTE,
        "stored / slots": stored["memory"] / (slots * slot),
        "open window MB": tail / MEGABYTE,
        "documents MB": stored["documents"] / MEGABYTE,
        "chunks MB": stored["chunks"] / MEGABYTE,
    }


def stored_bytes(folder: Path) -> dict[str, int]:
    """Bytes of each part of a store."""
    return {part: sum(file.size for file in files) for part, files in read_manifest(folder).files.items()}


def bits(rag: MemoRAG, model: BeaconModel, work: Path) -> list[dict[str, Any]]:
    """What each encoding takes, and what its memory says beside the one as it is."""
    rows: list[dict[str, Any]] = []
    worlds = draw_worlds(model.tokens_of, count=WORLDS, tokens=1_800, split="test", seed=0, per_kind=2)
    readings = [MemoRAG(model, progress=False).memorize(world.document) for world in worlds]
    for kv in ENCODINGS:
        begun = time.perf_counter()
        rag.save(work / kv, kv=kv)
        saved = time.perf_counter()
        other = MemoRAG.load(work / kv, model, progress=False)
        loaded = time.perf_counter()
        pairs = [(said(rag, question), said(other, question)) for question in QUESTIONS]
        stored = stored_bytes(work / kv)["memory"]
        row = {
            "kv": kv,
            "tokens": rag.memory.tokens,
            "memory MB": stored / MEGABYTE,
            "of float": stored / (rows[0]["memory MB"] * MEGABYTE) if rows else 1.0,
            "save s": saved - begun,
            "load s": loaded - saved,
            "questions": len(QUESTIONS),
            "same clues": share((len({*a} & {*b}), len({*a} | {*b})) for a, b in pairs),
            "same first": share((int(a[:1] == b[:1]), 1) for a, b in pairs),
        }
        rows.append(row | on_worlds(worlds, readings, work / f"{kv} worlds", kv))
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def on_worlds(
    worlds: Sequence[AskedWorld], readings: Sequence[MemoRAG], work: Path, kv: Encoding
) -> dict[str, Any]:
    """How near clues come to the sentences that answer, and how much of the evidence is found with them."""
    recalled, found = [], []
    for number, (world, rag) in enumerate(zip(worlds, readings, strict=True)):
        rag.save(work / str(number), kv=kv)
        other = MemoRAG.load(work / str(number), rag.model, progress=False)
        evidence = other.retrieve_batch([asked.question for asked in world.questions])
        for asked, pieces in zip(world.questions, evidence, strict=True):
            clues = [clue.text for clue in other.clues(asked.question) if clue.kind == "span"]
            facts = [world.document.text[fact.start : fact.end] for fact in asked.evidence]
            recalled.append(max((token_f1(clue, fact) for clue in clues for fact in facts), default=0.0))
            gold = [(fact.start, fact.end) for fact in asked.evidence]
            found.append(coverage(gold, [(piece.chunk.start, piece.chunk.end) for piece in pieces]))
    return {
        "asked of worlds": len(found),
        "clue F1": sum(recalled) / len(recalled),
        "evidence recall": sum(found) / len(found),
    }


def said(rag: MemoRAG, question: str) -> list[tuple[str, str]]:
    """The clues for a question, best first."""
    return [(clue.kind, clue.text) for clue in rag.clues(question)]


def share(counts: Iterator[tuple[int, int]]) -> float:
    """All firsts of all seconds."""
    found = list(counts)
    return sum(some for some, _ in found) / max(1, sum(most for _, most in found))


def appending(rag: MemoRAG, tokens: int, folder: Path) -> dict[str, Any]:
    """What it costs to save one hundredth more."""
    fresh = folder.with_name(f"{folder.name} fresh")
    begun = time.perf_counter()
    rag.save(fresh)
    first = time.perf_counter() - begun
    before = {file.name for file in fresh.iterdir()}
    more = some(rag.model, tokens // 100, start=len(rag.documents))  # type: ignore[arg-type]
    longer = MemoRAG.load(fresh, rag.model, progress=False).memorize(more)
    begun = time.perf_counter()
    longer.save(fresh)
    seconds = time.perf_counter() - begun
    written = sum(file.stat().st_size for file in fresh.iterdir() if file.name not in before)
    written += (fresh / "memorag.json").stat().st_size
    whole = sum(stored_bytes(folder).values())
    with MemoRAG.open(fresh, rag.model, progress=False) as opened:
        again = some(rag.model, tokens // 100, start=len(longer.documents))  # type: ignore[arg-type]
        begun = time.perf_counter()
        opened.memorize(again)
        both = time.perf_counter() - begun
    return {
        "tokens": tokens,
        "appended": longer.memory.tokens - rag.memory.tokens,
        "first save s": first,
        "append save s": seconds,
        "read and save s": both,
        "first MB": whole / MEGABYTE,
        "append MB": written / MEGABYTE,
        "append / first": written / whole,
    }


if __name__ == "__main__":
    main()
