"""Reading speed beside its floor: tokens a second of ``memorize``, and of its matrix products alone.

    python benchmarks/reading.py --threads 4 --out reading.json

Two models are read with: the bundled one over a long text, which it takes in parts, several rows at once; and
a random one of the shape of Qwen2 0.5B (2 layers) over one long stream, window by window, at ratios 4 and 8.
The floor runs the same matrix products and the same attention shapes and nothing else, in the same process,
in turn with the reading. ``ratio`` is the shortest time over the floor's shortest, ``median`` the median over
the turns.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from memorag_core import BeaconModel
from memorag_core.memory.bundled import bundled_path
from memorag_evaluation.record import circumstances, table, write_record
from memorag_evaluation.speed import Shape, Timing, random_model, reading_floor, time_in_turn

HEADS = ("model", "ratio to 1", "tokens", "parts", "tokens/s", "floor tokens/s", "ratio", "median")


def main() -> None:
    """Time both models and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=("bundled", "random"), default=["bundled", "random"])
    parser.add_argument("--model", type=Path, default=bundled_path(), help="another folder for 'bundled'")
    parser.add_argument("--text", type=Path, help="text to read (default: Python's own documentation)")
    parser.add_argument("--characters", type=int, default=200_000, help="of the text (%(default)s)")
    parser.add_argument("--tokens", type=int, default=16_384, help="for the random model (%(default)s)")
    parser.add_argument("--ratios", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--window", type=int, default=2048, help="of the random model (%(default)s)")
    parser.add_argument("--layers", type=int, default=2, help="of the random model (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, help="of torch (default: torch's own)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="JSON record")
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    rows = []
    if "bundled" in options.models and (options.model / "model.safetensors").exists():
        rows.append(bundled(options))
    if "random" in options.models:
        rows.extend(random_shape(options, ratio) for ratio in options.ratios)
    about = circumstances(["python", *sys.argv], device=options.device, seed=0)
    print(f"reading, {about['date']}, {about['processor']}, {options.device}, {about['threads']} threads\n")
    print(table(HEADS, [[row[head] for head in HEADS] for row in rows]))
    if options.out is not None:
        write_record(options.out, {"circumstances": about, "rows": rows})


def bundled(options: argparse.Namespace) -> dict[str, object]:
    """The bundled model over a real text: tokenizing is in its time, not in the floor's."""
    model = BeaconModel.from_pretrained(options.model, device=options.device)
    text = options.text.read_text(encoding="utf-8") if options.text else documentation()
    text = text[: options.characters]
    memory = model.memorize(text, progress=False)
    timing = time_in_turn(
        lambda: model.memorize(text, progress=False),
        reading_floor(model, memory.tokens),
        repeats=options.repeats,
    )
    return line("bundled", model, memory.tokens, memory.parts, timing)


def random_shape(options: argparse.Namespace, ratio: int) -> dict[str, object]:
    """The random model over token ids, as one stream."""
    model = random_model(Shape(layers=options.layers), window=options.window, ratio=ratio)
    model.model.to(options.device)
    ids = torch.randint(0, 4096, (1, options.tokens), generator=torch.Generator().manual_seed(0))
    timing = time_in_turn(
        lambda: model.feed(ids), reading_floor(model, options.tokens), repeats=options.repeats
    )
    return line(f"Qwen2 0.5B, {options.layers} layers", model, options.tokens, 1, timing)


def line(name: str, model: BeaconModel, tokens: int, parts: int, timing: Timing) -> dict[str, object]:
    """A row of the table, and what stands in the record beside it."""
    return {
        "model": name,
        "ratio to 1": model.ratio,
        "tokens": tokens,
        "parts": parts,
        "tokens/s": round(tokens / timing.best),
        "floor tokens/s": round(tokens / timing.best_floor),
        "ratio": round(timing.ratio, 3),
        "median": round(timing.median_ratio, 3),
        "window": model.window,
        "timing": timing,
    }


def documentation() -> str:
    """The Python language reference that comes with every Python, some 465,000 characters."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


if __name__ == "__main__":
    main()
