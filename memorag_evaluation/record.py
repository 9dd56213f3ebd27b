"""How measurements are told: a table to read, and JSON with everything needed to make them again.

In: rows of values, and how they came about. Out: text, a file. Knows nothing of what was measured.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from memorag_core import __version__
from memorag_evaluation.metrics import Estimate


def circumstances(command: Sequence[str], *, device: str, seed: int) -> dict[str, Any]:
    """What a number depends on beside the code: command, device, threads, versions, seed, date.

    Args:
        command: program and arguments.
        device: where the model computed.
        seed: of all that was drawn.
    """
    named = torch.cuda.get_device_name(device) if device.startswith("cuda") else processor()
    return {
        "command": " ".join(command),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "device": device,
        "processor": named,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "seed": seed,
        "versions": {
            "memorag-adapters": __version__,
            "python": platform.python_version(),
            **{name: _version(name) for name in ("torch", "transformers", "bm25s")},
        },
    }


def processor() -> str:
    """The name of this machine's processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns side by side, numbers to the right; None is a dash, an estimate its mean and interval."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    right = [all(not isinstance(row[place], str) for row in rows) for place in range(len(heads))]
    lines = [heads, ["-" * width for width in widths], *cells]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record as JSON; the file is replaced as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.unfinished")
    beside.write_text(
        json.dumps(record, indent=1, default=_plain, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    os.replace(beside, path)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, Estimate):
        return str(value)
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
