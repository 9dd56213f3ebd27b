"""What asking costs: several kinds and questions in one pass beside one, held replies beside free ones.

    python benchmarks/clues.py --threads 2 --out clues.json

The memory has 16,384 slots of random numbers, all rows say as many tokens, and a row of the table times its
two sides in turn in one process. ``ratio`` is the shortest time over the shortest, ``median`` the median over
the turns. What a held reply is held to are passages of generated text; a memory of random numbers says what
stands nowhere, so the constraint has to look for another token at almost every step: the worst it can cost.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from memorag_core import BeaconModel, Document
from memorag_core.memory.beacon import BeaconMemory
from memorag_core.memory.beacon.generate import generate
from memorag_core.memory.beacon.host import Host
from memorag_core.memory.bundled import bundled_path
from memorag_core.memory.decoding import Replies
from memorag_core.memory.grounding import Passages, SpanConstraint, Vocabulary
from memorag_evaluation.record import circumstances, table, write_record
from memorag_evaluation.speed import Shape, Timing, random_memory, random_model, time_in_turn

HEADS = ("model", "asked", "beside", "ms", "ms beside", "ratio", "median")
PROMPT = 8  # tokens of each request

KINDS, QUESTIONS = 3, 8


def main() -> None:
    """Time every pair with both models, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=("bundled", "random"), default=["bundled", "random"])
    parser.add_argument("--model", type=Path, default=bundled_path(), help="a beacon checkpoint with text")
    parser.add_argument("--slots", type=int, default=16_384, help="of the memory (%(default)s)")
    parser.add_argument("--tokens", type=int, default=64, help="of each reply (%(default)s)")
    parser.add_argument("--characters", type=int, default=1_000_000, help="of the passages (%(default)s)")
    parser.add_argument("--layers", type=int, default=4, help="of the random model (%(default)s)")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, help="of torch (default: torch's own)")
    parser.add_argument("--out", type=Path, help="JSON record")
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    bundled = BeaconModel.from_pretrained(options.model, device="cpu")
    assert bundled.tokens is not None
    vocabulary = Vocabulary.of(bundled.tokens)
    shape = Shape(layers=options.layers, vocabulary=len(vocabulary.texts))
    models = {}
    if "bundled" in options.models:
        models["bundled"] = bundled
    if "random" in options.models:
        models[f"Qwen2 0.5B, {options.layers} layers"] = random_model(shape, window=2048, ratio=4)
    passages = Passages.build([generated(vocabulary, options.characters)])
    rows = []
    for name, model in models.items():
        asker = Asker(model, options.slots, options.tokens, passages, vocabulary)
        pairs: list[tuple[str, Callable[[], object], str, Callable[[], object]]] = [
            (f"{KINDS} kinds", asker.asks(KINDS), "1 kind", asker.asks(1)),
            (
                f"{QUESTIONS} questions, {KINDS} kinds",
                asker.asks(QUESTIONS * KINDS),
                "1 question, 1 kind",
                asker.asks(1),
            ),
            ("1 held", asker.asks(1, held=1), "1 free", asker.asks(1)),
            (f"{KINDS}, 1 held", asker.asks(KINDS, held=1), f"{KINDS} free", asker.asks(KINDS)),
            (
                f"{QUESTIONS * KINDS}, {QUESTIONS} held",
                asker.asks(QUESTIONS * KINDS, held=QUESTIONS),
                f"{QUESTIONS * KINDS} free",
                asker.asks(QUESTIONS * KINDS),
            ),
        ]
        for asked, one, beside, other in pairs:
            timing = time_in_turn(one, other, repeats=options.repeats)
            rows.append(line(name, asked, beside, timing))
    about = circumstances(["python", *sys.argv], device="cpu", seed=0)
    print(f"asking, {about['date']}, {about['processor']}, {about['threads']} threads\n")
    print(table(HEADS, [[row[head] for head in HEADS] for row in rows]))
    if options.out is not None:
        write_record(options.out, {"circumstances": about, "passages": passages.starts, "rows": rows})


def line(model: str, asked: str, beside: str, timing: Timing) -> dict[str, object]:
    """A row of the table, and what stands in the record beside it."""
    return {
        "model": model,
        "asked": asked,
        "beside": beside,
        "ms": round(1000 * timing.best, 1),
        "ms beside": round(1000 * timing.best_floor, 1),
        "ratio": round(timing.ratio, 3),
        "median": round(timing.median_ratio, 3),
        "timing": timing,
    }


class Asker:
    """Asks one memory, so many rows at once."""

    def __init__(
        self, model: BeaconModel, slots: int, tokens: int, passages: Passages, vocabulary: Vocabulary
    ) -> None:
        self._host = Host.of(model.model)
        self._memory: BeaconMemory = random_memory(model, slots=slots)
        self._tokens = tokens
        self._passages, self._vocabulary = passages, vocabulary

    def asks(self, rows: int, *, held: int = 0) -> Callable[[], object]:
        """What asks in so many rows, the first of which are held to the passages."""
        torch.manual_seed(0)
        prompts = [torch.randint(1, self._host.vocabulary, (1, PROMPT)) for _ in range(rows)]

        @torch.inference_mode()
        def asked() -> None:
            constraints = [
                SpanConstraint(self._passages, self._vocabulary, ()) if row < held else None
                for row in range(rows)
            ]
            limits = [self._tokens] * rows
            generate(self._host, self._memory.blocks[0], prompts, Replies(limits, constraints))

        return asked


def generated(vocabulary: Vocabulary, characters: int) -> Document:
    """Sentences of words that the model has tokens for, drawn by rank as in a language."""
    words = [
        text.decode().strip()
        for text in vocabulary.by_text
        if text[:1] == b" " and text.strip().isalpha() and text.isascii()
    ]
    draw = random.Random(0)
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    text: list[str] = []
    size = 0
    while size < characters:
        text.append(" ".join(draw.choices(words, weights, k=draw.randint(6, 18))).capitalize() + ".")
        size += len(text[-1]) + 1
    return Document(" ".join(text)[:characters])


if __name__ == "__main__":
    main()
