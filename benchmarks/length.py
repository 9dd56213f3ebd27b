"""Reading one very long stream: seconds and memory from 64K to a million tokens, beside the arithmetic.

    python benchmarks/length.py --ratio 32 --threads 4 --out length.json

The bundled model reads one stream without parts, so that every window attends to all slots before it. A token
costs the products of the layers, which are the same everywhere, and its attention, which grows with the
slots; ``predicted`` is the multiplications of a stretch over those of the first one, ``measured`` its seconds
over the seconds of the first one. Attention runs at another speed than the products, so the two differ by a
factor that settles as attention comes to dominate. ``planned MB`` is the most that the plan (docs/plan.md)
says of reading so far, stretch by stretch, and ``peak MB`` how much the process grew.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

import torch

from memorag_core import BeaconModel
from memorag_core.memory.beacon import BeaconMemory
from memorag_core.memory.beacon.schedule import Stream, steps
from memorag_core.memory.bundled import bundled_path
from memorag_evaluation.record import circumstances, table, write_record

HEADS = (
    "tokens",
    "slots",
    "us/token",
    "tokens/s",
    "measured",
    "predicted",
    "memory MB",
    "planned MB",
    "peak MB",
)
MEGABYTE = 1 << 20


def main() -> None:
    """Read stretch by stretch and print a line for each that doubles the length."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=bundled_path(), help="another beacon checkpoint")
    parser.add_argument("--tokens", type=int, default=1 << 20, help="to read (%(default)s)")
    parser.add_argument("--stretch", type=int, default=1 << 16, help="timed at once (%(default)s)")
    parser.add_argument("--ratio", type=int, default=32)
    parser.add_argument("--threads", type=int, help="of torch (default: torch's own)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="JSON record")
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    model = BeaconModel.from_pretrained(
        options.model, ratio=options.ratio, device=options.device, capacity=None
    )
    rows = read(model, options.tokens, options.stretch)
    about = circumstances(["python", *sys.argv], device=options.device, seed=0)
    print(
        f"one stream, {about['date']}, {about['processor']}, {options.device}, {about['threads']} threads\n"
    )
    print(table(HEADS, [[row[head] for head in HEADS] for row in rows]))
    if options.out is not None:
        write_record(options.out, {"circumstances": about, "ratio": model.ratio, "rows": rows})


def read(model: BeaconModel, tokens: int, stretch: int) -> list[dict[str, object]]:
    """Read so many tokens; a row for each doubling of the first stretch, and for the whole."""
    text = real_ids(model, stretch)
    memory: BeaconMemory | None = None
    costs = model.footprint().costs
    first_seconds = first_cost = 0.0
    planned = 0
    resident = resident_peak()
    rows: list[dict[str, object]] = []
    reported = stretch
    for end in range(stretch, tokens + 1, stretch):
        before = Stream(model.window, model.ratio, end - stretch)
        cost = multiplications(model, before, stretch)
        planned = max(planned, costs.appending(stretch, model.ratio, before=before.tokens))
        started = time.perf_counter()
        memory = model.feed(text, memory).memory
        seconds = time.perf_counter() - started
        first_seconds, first_cost = first_seconds or seconds, first_cost or cost
        if end < reported and end + stretch <= tokens:
            continue
        reported = end * 2
        rows.append(
            {
                "tokens": end,
                "slots": memory.slots,
                "us/token": round(1e6 * seconds / stretch, 1),
                "tokens/s": round(stretch / seconds),
                "measured": round(seconds / first_seconds, 2),
                "predicted": round(cost / first_cost, 2),
                "memory MB": round(memory.nbytes / MEGABYTE, 1),
                "planned MB": round(planned / MEGABYTE, 1),
                "peak MB": round((resident_peak() - resident) / MEGABYTE, 1),
            }
        )
    return rows


def multiplications(model: BeaconModel, before: Stream, tokens: int) -> float:
    """Of the products and the attention of the next tokens, output head left out."""
    config = model.model.config
    size = config.head_dim or config.hidden_size // config.num_attention_heads
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    products = config.hidden_size * (2 * heads * size + 2 * kv_heads * size + 3 * config.intermediate_size)
    total = 0
    for step in steps(before, tokens):
        entries = step.raw + step.beacons
        seen = step.before.slots + step.before.entries + entries
        total += entries * (products + 2 * heads * size * seen)
    return float(total * config.num_hidden_layers)


def real_ids(model: BeaconModel, count: int) -> torch.Tensor:
    """Ids of Python's own documentation, as often as it takes."""
    from pydoc_data.topics import topics

    if model.tokens is None:
        return torch.randint(0, model.model.config.vocab_size, (1, count))
    ids = model.tokens.encode_text("\n\n".join(topics[name] for name in sorted(topics)))
    whole = torch.as_tensor(ids, dtype=torch.long)
    return whole.repeat(count // len(whole) + 1)[None, :count]


def resident_peak() -> int:
    """Most bytes that the process has held so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main()
