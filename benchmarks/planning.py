"""The plan against what reading really takes: peak memory of a process, measured beside the planned one.

    python benchmarks/planning.py --threads 1 --out planning.json

Every case is a process of its own: it loads a model, reads a short text so that code and the libraries' own
buffers are there, notes what it holds, and reads so many tokens. ``measured`` is how much more the process
then held at its most, by the kernel's high-water mark (Linux), ``planned`` what ``plan_memory`` says of
reading beside the weights.

The C library keeps freed blocks below 32 MB for later, more or less of them as they happen to lie, which says
little of what reading needs. So ``measured`` is taken with MALLOC_MMAP_THRESHOLD_=131072, where what is freed
goes back at once; ``as is`` is the same without it.

Three models: the bundled one, which reads long texts into parts, and two of random weights that read one
stream, of the shapes of Qwen2 0.5B and of a Mistral, with few layers. Their plan is made from the config
alone, as the plan of a model that is not loaded.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from memorag_evaluation.record import circumstances, table, write_record

HEADS = (
    "model",
    "tokens",
    "ratio",
    "parts",
    "memory MB",
    "planned MB",
    "measured MB",
    "measured/planned",
    "as is MB",
)
MEGABYTE = 1 << 20

SHORT = 4096
"""Tokens that are read before anything is measured."""

SHAPES: dict[str, dict[str, Any]] = {
    "qwen2": {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 2,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "vocab_size": 8192,
    },
    "mistral": {
        "hidden_size": 512,
        "intermediate_size": 1792,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "vocab_size": 8192,
        "sliding_window": None,
    },
}
"""Shapes of random models: those of Qwen2 0.5B and of a sixteenth of Mistral 7B, by few layers."""

CASES: dict[str, tuple[int, tuple[int, ...]]] = {
    "bundled": (4, (4_096, 16_384, 65_536, 262_144, 1_048_576)),
    "qwen2": (4, (4_096, 8_192, 16_384, 24_576, 32_768)),
    "mistral": (8, (4_096, 8_192, 16_384, 24_576, 32_768)),
}
"""Model -> its ratio, and the lengths that it reads."""


def main() -> None:
    """Run every case in a process of its own and print a line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=sorted(CASES), default=list(CASES))
    parser.add_argument("--tokens", type=int, nargs="+", help="other lengths")
    parser.add_argument("--ratio", type=int, help="another ratio")
    parser.add_argument("--threads", type=int, default=1, help="of torch (%(default)s)")
    parser.add_argument("--out", type=Path, help="JSON record")
    parser.add_argument("--case", nargs=4, help=argparse.SUPPRESS)  # of a process: name folder tokens ratio
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.case is not None:
        name, folder, tokens, ratio = options.case
        print(json.dumps(measure(name, Path(folder), int(tokens), int(ratio))))
        return
    rows = []
    with tempfile.TemporaryDirectory() as work:
        for name in options.models:
            ratio, lengths = CASES[name]
            folder = write_model(name, Path(work) / name)
            for tokens in options.tokens or lengths:
                case = [name, str(folder), str(tokens), str(options.ratio or ratio)]
                command = [sys.executable, __file__, "--threads", str(options.threads), "--case", *case]
                row = run(command, {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"})
                row["as is MB"] = run(command, dict(os.environ))["measured MB"]
                rows.append(row)
                print(row, file=sys.stderr, flush=True)
    about = circumstances(["python", *sys.argv], device="cpu", seed=0)
    print(f"peak while reading, {about['date']}, {about['processor']}, {options.threads} threads\n")
    print(table(HEADS, [[row[head] for head in HEADS] for row in rows]))
    if options.out is not None:
        write_record(options.out, {"circumstances": about, "rows": rows})


def run(command: list[str], environment: dict[str, str]) -> dict[str, object]:
    """Run a case in a process of its own; what it printed last."""
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    row: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return row


def write_model(name: str, folder: Path) -> Path:
    """A checkpoint of random weights in a shape; the bundled model lies where it lies."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from memorag_core.memory.beacon import BeaconSettings, save_checkpoint
    from memorag_core.memory.beacon.layers import attach
    from memorag_core.memory.bundled import bundled_path

    if name == "bundled":
        return bundled_path()
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        name, **SHAPES[name], max_position_embeddings=1 << 20, eos_token_id=2, bos_token_id=1, pad_token_id=0
    )
    model = AutoModelForCausalLM.from_config(config)
    settings = BeaconSettings(window=2048, ratios=(2, 4, 8))
    attach(model, settings)
    save_checkpoint(model, folder, settings=settings)
    return folder


def measure(name: str, folder: Path, tokens: int, ratio: int) -> dict[str, object]:
    """Read so many tokens, as ``memorize`` does; what was planned and what it took."""
    from memorag_core.memory.beacon import BeaconModel
    from memorag_core.memory.beacon.host import Host
    from memorag_core.memory.beacon.partitions import BeaconParts
    from memorag_core.memory.beacon.prefill import empty_block, read
    from memorag_core.memory.beacon.schedule import Stream
    from memorag_core.memory.partitions import Cut
    from memorag_core.memory.planning.planner import plan_memory

    (planned,) = plan_memory(folder, tokens, device="cpu", ratios=(ratio,)).rows
    model = BeaconModel.from_pretrained(folder, ratio=ratio, device="cpu")
    host = Host.of(model.model)
    stream = Stream(model.window, ratio)
    cut = Cut(model.usage.capacity, model.usage.overlap) if model.usage.capacity is not None else None

    def reading(count: int) -> int:
        ids = torch.randint(0, host.vocabulary, (count,))
        if cut is not None:
            return BeaconParts(host, stream, cut=cut).read(None, ids, ()).nbytes
        ids = torch.cat((ids[:0], ids))  # behind an opening, as in a text
        done = read(host, empty_block(host, stream, rows=1), ids[None]).block
        return done.slots.nbytes + done.tail.nbytes

    with torch.inference_mode():
        reading(SHORT)
        trim()
        before = resident("VmRSS")
        reset_peak()
        nbytes = reading(tokens)
        peak = resident("VmHWM") - before
    assert nbytes == planned.memory, f"a memory of {nbytes} bytes, planned {planned.memory}"
    return {
        "model": name,
        "tokens": tokens,
        "ratio": ratio,
        "parts": planned.parts,
        "memory MB": round(planned.memory / MEGABYTE, 1),
        "planned MB": round(planned.reading / MEGABYTE, 1),
        "measured MB": round(peak / MEGABYTE, 1),
        "measured/planned": round(peak / planned.reading, 3),
    }


def resident(field: str) -> int:
    """Bytes that the process holds in memory: ``VmRSS`` now, ``VmHWM`` at most."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}; this benchmark runs on Linux.")


def trim() -> None:
    """Give the kernel back what the allocator keeps of the first window, as far as it can (glibc)."""
    trimming = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trimming is not None:
        trimming(0)


def reset_peak() -> None:
    """Let the high-water mark begin anew."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


if __name__ == "__main__":
    main()
