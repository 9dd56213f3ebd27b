"""A plan says before anything is read what it will take, agrees with what comes out, and refuses by name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memorag_core import MemoRAG
from memorag_core.errors import CheckpointError, InputError, MemoRAGError, UnsupportedModelError
from memorag_core.memory.beacon import BeaconModel
from memorag_core.memory.beacon.usage import Usage
from memorag_core.memory.bundled import bundled_path
from memorag_core.memory.longcontext import LongContextModel
from memorag_core.memory.longcontext.partitions import LongContextParts
from memorag_core.memory.planning.budget import MemoryBudgetError, available_memory, format_size, parse_size
from memorag_core.memory.planning.plan import MemoryPlan, check_plan
from memorag_core.memory.planning.planner import count_tokens, plan_memory
from tests.core.memory.beacon.conftest import (
    ASK_PROMPTS,
    beacon_model,
    random_ids,
    rewrite_config,
    small_tokenizer,
    write_checkpoint,
)
from tests.core.memory.beacon.test_costs import peak_of
from tests.core.memory.longcontext.conftest import FAMILIES, causal_model, save_model

LONG = 100_000
TEXT = "Mara Venn repairs timepieces in Orrin. The river floods in spring. " * 9


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_checkpoint(
        tmp_path,
        window=16,
        ratio=4,
        tokenizer=small_tokenizer(bos=True),
        usage={"capacity": 64, "overlap": 8, "prompts": ASK_PROMPTS},
    )
    return tmp_path


def numbers(plan: MemoryPlan) -> Any:
    return (
        plan.weights,
        [(row.ratio, row.memory, row.reading, row.asking, row.parts) for row in plan.rows],
    )


# What is planned


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "mistral", "llama"])
@pytest.mark.parametrize("tied", [False, True])
def test_the_plan_of_a_folder_is_that_of_the_loaded_model(family: str, tied: bool, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, family=family, tied=tied, window=16, ratio=4)
    model = BeaconModel.from_pretrained(tmp_path, device="cpu")
    before, after = (plan_memory(each, LONG, budget="1GB") for each in (tmp_path, model))
    assert numbers(before) == numbers(after)
    assert (before.kind, before.dtype, before.device) == (after.kind, after.dtype, after.device)
    assert before.weights == sum(parameter.nbytes for parameter in model.model.parameters())


def test_a_folder_without_beacon_weights_is_planned_with_them(folder: Path) -> None:
    from tests.core.memory.beacon.conftest import rewrite_weights

    whole = plan_memory(folder, LONG)
    rewrite_weights(folder, lambda tensors: [tensors.pop(name) for name in list(tensors) if "beacon" in name])
    assert plan_memory(folder, LONG).weights == whole.weights


def test_no_weights_are_read_for_a_plan(folder: Path) -> None:
    expected = numbers(plan_memory(folder, LONG))
    (folder / "model.safetensors").write_bytes(b"not read")
    assert numbers(plan_memory(folder, LONG)) == expected


def test_the_precision_is_that_of_loading(folder: Path) -> None:
    single, half = (plan_memory(folder, LONG, dtype=dtype) for dtype in ("auto", "bfloat16"))
    assert single.dtype == "float32"
    assert half.weights * 2 == single.weights
    assert [2 * row.memory for row in half.rows] == [row.memory for row in single.rows]
    assert plan_memory(folder, LONG, quantize="int8").weights < single.weights


def test_a_higher_ratio_takes_less_and_reads_more() -> None:
    plan = plan_memory(None, 1 << 20, budget="2GB")
    assert [row.ratio for row in plan.rows] == [2, 4, 8, 16, 32]
    for lower, higher in zip(plan.rows, plan.rows[1:], strict=False):
        assert lower.memory > higher.memory
        assert lower.needs > higher.needs
        assert lower.most_tokens < higher.most_tokens
        assert lower.slot_bytes == higher.slot_bytes
    assert plan.best is not None
    assert plan.best == next(row for row in plan.rows if row.needs <= 2_000_000_000)


@settings(max_examples=25, deadline=None)
@given(
    tokens=st.integers(1, 10**7), budget=st.integers(50_000_000, 10**11), ratio=st.sampled_from([2, 4, 16])
)
def test_a_text_fits_just_when_it_is_no_longer_than_the_longest_that_does(
    tokens: int, budget: int, ratio: int
) -> None:
    (row,) = plan_memory(BUNDLED, tokens, budget=budget, ratios=[ratio]).rows
    assert row.fits == (tokens <= row.most_tokens) == (row.needs <= budget)
    assert row.needs >= row.reading >= row.memory


BUNDLED = beacon_model(window=16, ratio=4, capacity=64, overlap=8)


def test_a_model_that_is_loaded_needs_its_weights_no_more() -> None:
    free = available_memory("cpu")
    plan = plan_memory(BUNDLED, 100)
    assert abs(plan.available - plan.weights - free) < 1 << 30


def test_the_tokens_of_a_text_are_those_that_its_memory_has(folder: Path) -> None:
    model = BeaconModel.from_pretrained(folder, device="cpu")
    memory = model.memorize(TEXT, progress=False)
    assert count_tokens(folder, TEXT) == memory.tokens
    (row,) = plan_memory(folder, memory.tokens, ratios=[4]).rows
    assert (row.memory, row.parts) == (memory.nbytes, memory.parts)


# Long-context models


@pytest.mark.parametrize(
    "family", sorted(FAMILIES.keys() - {"gpt2"})
)  # its config says what it does not heed
def test_a_long_context_model_is_planned_from_its_folder_as_when_it_is_loaded(
    family: str, tmp_path: Path
) -> None:
    save_model(tmp_path, family)
    model = LongContextModel.from_pretrained(tmp_path, device="cpu")
    before, after = (plan_memory(each, 300, budget="1GB", device="auto") for each in (tmp_path, model))
    assert before.kind == "long-context"
    assert numbers(before) == numbers(after)
    assert before.weights == sum(parameter.nbytes for parameter in model.model.parameters())


@settings(max_examples=20, deadline=None)
@given(tokens=st.integers(1, 400))
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_the_planned_bytes_of_a_long_context_memory_are_its_bytes(family: str, tokens: int) -> None:
    model = LongContextModel(causal_model(family), chunk=32)
    costs = model.costs()
    memory = model.feed(random_ids(1, min(tokens, model.capacity))).memory
    assert costs.memory(memory.tokens, 1) == memory.nbytes == model.nbytes(memory.tokens)
    assert costs.reading(tokens, 1) >= costs.memory(tokens, 1)
    assert costs.reading(tokens, 1) <= costs.reading(tokens + 7, 1)
    assert costs.appending(tokens, 1, before=memory.tokens) >= costs.memory(memory.tokens + tokens, 1)


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {}),
        ("qwen3", {"hidden_size": 128, "intermediate_size": 512}),
        ("mistral", {"sliding_window": 3000}),
        ("gemma2", {"sliding_window": 100}),
        ("llama", {"max_position_embeddings": 700}),
    ],
)
@pytest.mark.parametrize("tokens", [900, 6000])
def test_the_planned_peak_of_a_long_context_model_is_what_torch_allocates(
    family: str, changes: dict[str, Any], tokens: int
) -> None:
    shape = {"max_position_embeddings": 1 << 17, "intermediate_size": 256, "hidden_size": 64, "head_dim": 16}
    model = LongContextModel(causal_model(family, **{**shape, **changes}), chunk=1024)
    ids = random_ids(1, tokens)[0]

    def reading() -> None:
        LongContextParts(model._host, chunk=1024, cut=model._cut).read(None, ids.clone(), ())

    planned = model.costs().reading(tokens, 1)
    assert peak_of(reading) == pytest.approx(planned, rel=0.1)


def test_parts_of_a_long_context_memory_are_planned(tmp_path: Path) -> None:
    save_model(tmp_path, max_position_embeddings=512)
    model = LongContextModel.from_pretrained(tmp_path, device="cpu")
    memory = model.memorize(TEXT * 3, progress=False)
    (row,) = plan_memory(tmp_path, memory.tokens).rows
    assert (row.ratio, row.parts, row.memory) == (1, memory.parts, memory.nbytes)
    assert memory.parts > 1
    assert count_tokens(tmp_path, TEXT * 3) == memory.tokens


def test_a_long_context_memory_is_moved_as_a_value() -> None:
    model = LongContextModel(causal_model("gemma2"))
    memory = model.feed(random_ids(1, 40)).memory
    assert memory.on("cpu") is memory
    away = memory.on("meta")
    assert {entries.keys.device.type for entries in away.blocks[0].kept} == {"meta"}
    assert {entries.keys.device.type for entries in memory.blocks[0].kept} == {"cpu"}


# The refusal


def test_what_does_not_fit_is_refused_before_anything_is_read_with_remedies() -> None:
    model = beacon_model(window=16, ratio=2)
    plan = plan_memory(model, LONG)
    budget = (plan.rows[0].needs + plan.rows[2].needs) // 2
    check_plan(model, 100, budget=budget)
    with pytest.raises(MemoryBudgetError) as refused:
        check_plan(model, LONG, budget=budget)
    error = refused.value
    assert isinstance(error, MemoRAGError)
    assert isinstance(error, MemoryError)
    assert error.needed > error.available == budget
    said = str(error)
    assert f"need {format_size(error.needed)}" in said
    assert f"{format_size(budget)} are available" in said
    for remedy in ("higher ratio (ratio=", "several memories", "gist memory", "Nothing was read"):
        assert remedy in said


def test_large_weights_are_named_as_a_remedy() -> None:
    plan = plan_memory(BUNDLED, LONG, budget=BUNDLED.model.num_parameters() * 4)
    assert not plan.fits
    assert plan.best is None
    assert any("quantized weights" in remedy for remedy in plan.remedies())
    assert all(row.most_tokens == 0 for row in plan.rows)
    with pytest.raises(MemoryBudgetError, match="quantized"):
        plan.require()


def test_offloading_is_a_remedy_where_there_is_another_device(folder: Path) -> None:
    plan = plan_memory(folder, LONG, device="cuda", budget="1MB")
    assert any("RAM" in remedy and "offload" in remedy for remedy in plan.remedies())


def test_continuing_a_memory_counts_what_is_held_and_what_it_grows_to() -> None:
    model = beacon_model(window=16, ratio=4)
    memory = model.feed(random_ids(1, 1600)).memory
    weights = plan_memory(model, 1).weights
    needed = []
    for before in (None, memory):
        with pytest.raises(MemoryBudgetError) as refused:
            check_plan(model, 3200, before, budget=weights + 1)
        needed.append(refused.value.needed)
    assert needed[1] > needed[0]
    check_plan(model, 3200, memory, budget=needed[1])


def test_a_plan_is_required_at_a_ratio_or_at_any() -> None:
    plan = plan_memory(BUNDLED, LONG)
    between = (plan.rows[0].needs + plan.rows[-1].needs) // 2
    tight = plan_memory(BUNDLED, LONG, budget=between)
    tight.require()
    with pytest.raises(MemoryBudgetError, match="higher ratio"):
        tight.require(2)
    with pytest.raises(InputError, match="no ratio 3"):
        tight.require(3)


# How it is told


def test_a_report_shows_every_ratio_and_json_holds_the_same() -> None:
    plan = plan_memory(None, 1 << 20, budget="1GB")
    report = plan.report()
    for row in plan.rows:
        assert f"{row.slots:,}" in report
        assert format_size(row.needs) in report
    assert f"Fits at ratio {plan.best.ratio}" in report if plan.best else "Does not fit" in report
    told = json.loads(json.dumps(plan.to_json()))
    assert told["rows"][0]["memory"] == plan.rows[0].memory
    assert told["fits"] == plan.fits


@pytest.mark.parametrize(
    ("size", "expected"),
    [("16GB", 16 * 10**9), ("16 GiB", 16 << 30), ("1.5m", 1_500_000), (12, 12), ("80g", 80 * 10**9)],
)
def test_sizes_are_decimal_or_binary(size: str | int, expected: int) -> None:
    assert parse_size(size) == expected


@pytest.mark.parametrize("size", ["much", "-3GB", "16 GBs", ""])
def test_what_is_no_size_is_refused(size: str) -> None:
    with pytest.raises(InputError, match="16GB"):
        parse_size(size)


def test_the_memory_of_a_cpu_is_what_is_free() -> None:
    assert 0 < available_memory("cpu") < 1 << 50
    with pytest.raises(InputError, match="budget="):
        available_memory("meta")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_here_is_planned_with_a_budget_only(folder: Path) -> None:
    with pytest.raises(InputError, match="budget='16GB'"):
        plan_memory(folder, LONG, device="cuda")
    assert plan_memory(folder, LONG, device="cuda", budget="16GB").device == "cuda"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tokens": 0}, "tokens is 0"),
        ({"tokens": True}, "tokens is True"),
        ({"questions": 0}, "questions is 0"),
        ({"ratios": [1]}, r"\[1\]"),
        ({"ratios": [17]}, "2 to 16"),
        ({"ratios": []}, "2 to 16"),
        ({"budget": 0}, "budget is 0"),
        ({"device": "cpu"}, "Leave them out"),
        ({"model": 3}, "is a int"),
        ({"model": None, "quantize": "int2"}, "int2"),
    ],
)
def test_what_cannot_be_planned_is_refused(arguments: dict[str, Any], message: str) -> None:
    given = {"model": BUNDLED, "tokens": 10, **arguments}
    with pytest.raises(InputError, match=message):
        plan_memory(given.pop("model"), given.pop("tokens"), **given)


def test_damaged_and_unknown_checkpoints_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no folder"):
        plan_memory(tmp_path / "nowhere", 10)
    with pytest.raises(CheckpointError, match="hub"):
        plan_memory("nobody/nothing", 10)
    rewrite_config(folder, model_type="unheard-of")
    with pytest.raises(UnsupportedModelError, match="unheard-of"):
        plan_memory(folder, 10)
    (folder / "config.json").write_text("{}")
    with pytest.raises(UnsupportedModelError, match=r"config\.json"):
        plan_memory(folder, 10)


def test_ratios_of_a_long_context_model_and_tokens_without_a_tokenizer_are_refused(tmp_path: Path) -> None:
    model = LongContextModel(causal_model())
    with pytest.raises(InputError, match="keeps every token"):
        plan_memory(model, 10, ratios=[4])
    write_checkpoint(tmp_path)
    with pytest.raises(InputError, match="no tokenizer"):
        count_tokens(tmp_path, "words")


def test_memories_of_models_with_usage_are_asked_for_long_replies() -> None:
    short = beacon_model(
        usage=Usage(max_new_tokens=dict.fromkeys(("span", "query", "answer", "key_point"), 8))
    )
    long = beacon_model()
    plans = [plan_memory(model, 64, ratios=[4]).rows[0].asking for model in (short, long)]
    assert plans[0] < plans[1]


def test_the_command_line_loads_no_torch_before_it_plans() -> None:
    code = "import sys, memorag_core.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_text_that_does_not_fit_is_refused_before_anything_of_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = BeaconModel.from_pretrained(bundled_path(), device="cpu")
    rag = MemoRAG(model, progress=False).memorize("The lamp of Ellerby was lit at six.")
    before = rag.memory
    text = "The keeper climbed the stair again. " * 4000
    room = plan_memory(model, model.tokens_of(text, before)).rows[0].needs
    monkeypatch.setattr("memorag_core.memory.planning.plan.available_memory", lambda _: room // 4)
    with pytest.raises(MemoryBudgetError, match="ratio"):
        rag.memorize(text)
    assert rag.memory is before
    monkeypatch.setattr("memorag_core.memory.planning.plan.available_memory", lambda _: 2 * room)
    assert rag.memorize(text).memory.tokens > before.tokens


def test_tokens_are_counted_where_bytes_alone_do_not_tell_whether_a_text_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = BeaconModel.from_pretrained(bundled_path(), device="cpu")
    text = "The keeper climbed the stair again. " * 4000  # more than three bytes a token
    tight = int(plan_memory(model, model.tokens_of(text)).rows[0].needs * 1.3)
    monkeypatch.setattr("memorag_core.memory.planning.plan.available_memory", lambda _: tight)
    with pytest.raises(MemoryBudgetError):
        check_plan(model, len(text))
    assert MemoRAG(model, progress=False).memorize(text).memory.tokens == model.tokens_of(text)
