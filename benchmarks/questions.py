"""Asking with questions of 10 to 10,000 words: seconds over those of the shortest, in one run.

    python benchmarks/questions.py --threads 1 --out questions.json

The bundled model has read some documents. A question is so many words, the last of them a short question; it
is put to the memory and searched whole. ``limited s`` are the seconds with ``max_seconds`` of a half.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from memorag_core import BeaconModel, ClueSettings, Document, MemoRAG
from memorag_core.memory.bundled import bundled_path
from memorag_evaluation.record import circumstances, table, write_record

WORDS = (10, 100, 1_000, 10_000)
HEADS = ("words", "seconds", "of the shortest", "recall s", "search s", "limited s")


def main() -> None:
    """Ask and print a line for each length."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=bundled_path(), help="another beacon checkpoint")
    parser.add_argument("--words", type=int, nargs="+", default=WORDS)
    parser.add_argument("--threads", type=int, help="of torch (default: torch's own)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON record")
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    model = BeaconModel.from_pretrained(options.model, device=options.device)
    rows = measure(model, options.words, options.repeats)
    about = circumstances(["python", *sys.argv], device=options.device, seed=0)
    print(f"{about['date']}, {about['processor']}, {options.device}, {about['threads']} threads\n")
    print(table(HEADS, [[row[head] for head in HEADS] for row in rows]))
    if options.out is not None:
        write_record(options.out, {"circumstances": about, "rows": rows})


def measure(model: BeaconModel, words: list[int], repeats: int) -> list[dict[str, object]]:
    """A row for each length: the best of some repeats."""
    documents = [
        Document(f"{name} keeps the key number {number}.", name) for number, name in enumerate(NAMES)
    ]
    rag = MemoRAG(model, clues=ClueSettings(language="en"), progress=False).memorize(documents)
    limited = MemoRAG(model, clues=ClueSettings(language="en", max_seconds=0.5), progress=False)
    limited.memorize(documents)
    rows: list[dict[str, object]] = []
    first = 0.0
    for count in words:
        question = question_of(count)
        recall, whole = min((asked(rag, question) for _ in range(repeats)), key=lambda seconds: seconds[1])
        first = first or whole
        rows.append(
            {
                "words": count,
                "seconds": round(whole, 3),
                "of the shortest": round(whole / first, 1),
                "recall s": round(recall, 3),
                "search s": round(whole - recall, 3),
                "limited s": round(min(asked(limited, question)[1] for _ in range(repeats)), 3),
            }
        )
    return rows


def asked(rag: MemoRAG, question: str) -> tuple[float, float]:
    """Seconds of asking the memory, and of all."""
    begun = time.perf_counter()
    seconds = rag.explain(question, k=1).recall.seconds
    return seconds, time.perf_counter() - begun


NAMES = [
    f"{first} {last}" for first in ("Tamsin", "Maud", "Ivo", "Edith") for last in ("Oakley", "Vane", "Hart")
]


def question_of(words: int) -> str:
    """So many words, the last of them a question."""
    end = "Which key does Maud Vane keep?"
    said = [f"word{number % 997}" for number in range(max(0, words - len(end.split())))]
    return " ".join((*said, end))


if __name__ == "__main__":
    main()
