from __future__ import annotations

import importlib.util
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from memorag_core import BeaconModel, Document, InputError
from memorag_core.memory.beacon.generate import generate
from memorag_core.memory.beacon.host import Host
from memorag_core.memory.decoding import Replies
from memorag_evaluation.speed import (
    Shape,
    Timing,
    decoding_floor,
    random_memory,
    random_model,
    reading_floor,
    time_in_turn,
)
from tests.evaluation.conftest import WINDOW

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SMALL = Shape(hidden=32, layers=2, heads=4, kv_heads=2, ffn=48, vocabulary=50)


class Products(TorchFunctionMode):
    """Counts the multiplications of matrix products and of attention scores."""

    def __init__(self) -> None:
        super().__init__()
        self.counted: Counter[str] = Counter()

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: Any = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if function is F.linear:
            self.counted["linear"] += args[0].numel() * args[1].shape[0]
        elif function is F.scaled_dot_product_attention:
            self.counted["attention"] += args[0].numel() * args[1].shape[2]
        return function(*args, **(kwargs or {}))


@contextmanager
def products() -> Iterator[Counter[str]]:
    with Products() as mode:
        yield mode.counted


@pytest.mark.parametrize("tokens", [16, 40, 64])
def test_the_floor_multiplies_exactly_what_reading_multiplies(tokens: int) -> None:
    model = random_model(SMALL, window=16, ratio=4)
    floor = reading_floor(model, tokens)
    with products() as counted:
        model.feed(torch.arange(tokens)[None] % 50)
    with products() as least:
        floor()
    last = tokens % 16 or 16  # feeding gives logits of the last window, which memorizing does not
    counted["linear"] -= last * SMALL.hidden * SMALL.vocabulary
    assert least == counted
    assert set(least) == {"linear", "attention"}


@pytest.mark.parametrize("sentences", [2, 60])
def test_a_text_in_parts_has_the_floor_of_its_parts(model: BeaconModel, sentences: int) -> None:
    document = Document("Mara Venn repairs timepieces in Orrin. " * sentences)
    memory = model.memorize(document, progress=False)
    assert (memory.parts > 1) == (sentences > 2)
    floor = reading_floor(model, memory.tokens)
    with products() as counted:
        model.memorize(document, progress=False)
    with products() as least:
        floor()
    assert least == counted


@pytest.mark.parametrize("rows", [1, 3])
def test_the_floor_of_decoding_multiplies_the_same_matrices(rows: int) -> None:
    model = random_model(SMALL, window=64, ratio=4)
    memory = random_memory(model, slots=32)
    host = Host.of(model.model)
    prompts = [torch.full((1, 4), row + 1) for row in range(rows)]  # as long as the ratio: beacons fall alike
    floor = decoding_floor(model, slots=32, rows=rows, tokens=9)
    counts = []
    with torch.inference_mode():
        for tokens in (1, 10):
            with products() as counted:
                generate(host, memory.blocks[0], prompts, Replies.alike(rows, tokens))
            counts.append(counted["linear"])
    with products() as least:
        floor()
    assert least["linear"] == counts[1] - counts[0]


def test_a_random_memory_is_asked_like_one_that_was_read() -> None:
    model = random_model(SMALL, window=16, ratio=4)
    memory = random_memory(model, slots=12)
    read = model.feed(torch.arange(48)[None] % 50).memory
    assert (memory.stream, memory.slots, memory.parts) == (read.stream, 12, 1)
    assert model.greedy([[1, 2]], memory, max_new_tokens=3).shape == (1, 3)
    with pytest.raises(InputError, match="a multiple of the 4"):
        random_memory(model, slots=13)


def test_a_run_and_its_floor_are_timed_in_turn_after_one_of_each_that_does_not_count() -> None:
    seen: list[str] = []
    timing = time_in_turn(lambda: seen.append("run"), lambda: seen.append("floor"), repeats=3)
    assert seen == ["run", "floor", "run", "floor", "floor", "run", "run", "floor"]
    assert len(timing.seconds) == len(timing.floor) == 3


def test_the_ratio_is_of_the_shortest_times_and_the_median_of_the_turns() -> None:
    timing = Timing((2.0, 3.0, 8.0), (1.0, 2.0, 2.0))
    assert (timing.best, timing.best_floor, timing.ratio, timing.median_ratio) == (2.0, 1.0, 2.0, 2.0)


def benchmark(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("reading", ["--characters", "1500", "--tokens", "128", "--window", str(WINDOW), "--ratios", "4"]),
        ("decoding", ["--slots", "2048", "--tokens", "4", "--rows", "1", "2"]),
    ],
)
def test_a_benchmark_prints_its_ratios_and_writes_how_it_was_run(
    name: str,
    arguments: list[str],
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "record.json"
    arguments += ["--model", str(checkpoint), "--layers", "1", "--repeats", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", [f"benchmarks/{name}.py", *arguments])
    benchmark(name).main()
    record = json.loads(out.read_text(encoding="utf-8"))
    assert record["circumstances"]["command"] == " ".join(["python", *sys.argv])
    assert record["circumstances"]["threads"] == torch.get_num_threads()
    assert {row["model"] for row in record["rows"]} == {"bundled", "Qwen2 0.5B, 1 layers"}
    printed = capsys.readouterr().out
    assert f"{torch.get_num_threads()} threads" in printed
    assert printed.count("Qwen2 0.5B") == len(record["rows"]) / 2
