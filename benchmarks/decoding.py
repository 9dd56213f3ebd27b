"""Decoding speed beside its floor: seconds for a token when the memory has 16,384 slots.

    python benchmarks/decoding.py --threads 4 --out decoding.json

One question, and eight questions side by side over one memory that none of them copies. The floor runs the
same matrix products and the same attention shapes and nothing else, in the same process, in turn with the
decoding. Reading the prompt is left out: a short and a long decoding are timed, and the difference counts.
``ratio`` is the shortest time over the floor's shortest, ``median`` the median over the turns.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from memorag_core import BeaconModel
from memorag_core.memory.beacon import BeaconMemory
from memorag_core.memory.beacon.generate import generate
from memorag_core.memory.beacon.host import Host
from memorag_core.memory.bundled import bundled_path
from memorag_core.memory.decoding import Replies
from memorag_evaluation.record import circumstances, table, write_record
from memorag_evaluation.speed import (
    Shape,
    Timing,
    decoding_floor,
    random_memory,
    random_model,
    time_in_turn,
)

HEADS = ("model", "ratio to 1", "slots", "rows", "ms/token", "floor ms/token", "ratio", "median")
PROMPT = 8  # tokens of each question


def main() -> None:
    """Time both models with one row and with several, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=("bundled", "random"), default=["bundled", "random"])
    parser.add_argument("--model", type=Path, default=bundled_path(), help="another folder for 'bundled'")
    parser.add_argument("--slots", type=int, default=16_384, help="of the memory (%(default)s)")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8], help="questions side by side")
    parser.add_argument("--tokens", type=int, default=64, help="decoded in a turn (%(default)s)")
    parser.add_argument("--ratio", type=int, default=4)
    parser.add_argument("--layers", type=int, default=4, help="of the random model (%(default)s)")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, help="of torch (default: torch's own)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="JSON record")
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    models = {}
    if "bundled" in options.models and (options.model / "model.safetensors").exists():
        models["bundled"] = BeaconModel.from_pretrained(
            options.model, ratio=options.ratio, device=options.device
        )
    if "random" in options.models:
        model = random_model(Shape(layers=options.layers), window=2048, ratio=options.ratio)
        model.model.to(options.device)
        models[f"Qwen2 0.5B, {options.layers} layers"] = model
    rows = [line(name, model, options, count) for name, model in models.items() for count in options.rows]
    about = circumstances(["python", *sys.argv], device=options.device, seed=0)
    print(f"decoding, {about['date']}, {about['processor']}, {options.device}, {about['threads']} threads\n")
    print(table(HEADS, [[row[head] for head in HEADS] for row in rows]))
    if options.out is not None:
        write_record(options.out, {"circumstances": about, "rows": rows})


def line(name: str, model: BeaconModel, options: argparse.Namespace, rows: int) -> dict[str, object]:
    """A row of the table, and what stands in the record beside it."""
    memory = random_memory(model, slots=options.slots)
    timing = decode(model, memory, rows=rows, tokens=options.tokens, repeats=options.repeats)
    return {
        "model": name,
        "ratio to 1": model.ratio,
        "slots": memory.slots,
        "rows": rows,
        "ms/token": round(1000 * timing.best / options.tokens, 3),
        "floor ms/token": round(1000 * timing.best_floor / options.tokens, 3),
        "ratio": round(timing.ratio, 3),
        "median": round(timing.median_ratio, 3),
        "timing": timing,
    }


@torch.inference_mode()
def decode(model: BeaconModel, memory: BeaconMemory, *, rows: int, tokens: int, repeats: int) -> Timing:
    """Time ``tokens`` steps of so many rows over one memory; each step is a token for every row."""
    host = Host.of(model.model)
    prompts = [torch.randint(1, host.vocabulary, (1, PROMPT), device=host.device) for _ in range(rows)]

    def asked(count: int) -> None:
        generate(host, memory.blocks[0], prompts, Replies.alike(rows, count))

    long = time_in_turn(
        lambda: asked(1 + tokens),
        decoding_floor(model, slots=memory.slots, rows=rows, tokens=tokens),
        repeats=repeats,
    )
    short = time_in_turn(lambda: asked(1), lambda: None, repeats=repeats)
    # The first token comes with the prompt; what it takes is the same in both.
    return Timing(tuple(seconds - short.best for seconds in long.seconds), long.floor)


if __name__ == "__main__":
    main()
