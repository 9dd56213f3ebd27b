"""Costs are the arithmetic of reading: what is planned comes out, and no shorter text needs more."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile

from memorag_core.memory.beacon import BeaconMemory, BeaconModel
from memorag_core.memory.beacon.costs import BeaconCosts
from memorag_core.memory.beacon.generate import generate
from memorag_core.memory.beacon.partitions import BeaconParts
from memorag_core.memory.beacon.prefill import empty_block, read
from memorag_core.memory.beacon.schedule import Stream
from memorag_core.memory.beacon.usage import Usage
from memorag_core.memory.decoding import Replies
from memorag_core.memory.footprint import REQUEST
from memorag_core.memory.tokenizer import Tokens
from memorag_core.prompts import PromptSet
from tests.core.memory.beacon.conftest import (
    ASK_PROMPTS,
    assert_same_memory,
    beacon_model,
    random_ids,
    small_tokenizer,
)
from tests.rules import examples

WORDS = "the rower ties the green boat to the pier and reads a letter from her brother "


@cache
def shaped(window: int = 8, capacity: int | None = None, overlap: int = 0) -> BeaconModel:
    return beacon_model(window=window, ratio=2, capacity=capacity, overlap=overlap)


def costs_of(model: BeaconModel, **changes: Any) -> BeaconCosts:
    return model.costs(on_cpu=True, **changes)


def read_tokens(model: BeaconModel, tokens: int, ratio: int) -> BeaconMemory:
    stream = Stream(model.window, ratio)
    cut = model._cut
    ids = random_ids(1, tokens)[0]
    with torch.inference_mode():
        return BeaconParts(model._host, stream, cut=cut).read(None, ids, ())


def peak_of(run: Callable[[], object]) -> int:
    """The most bytes that torch held of what it allocated during a run."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled, torch.inference_mode():
        run()
    assert profiled.profiler is not None
    results: Any = profiled.profiler.kineto_results
    events = [event for event in results.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


@settings(max_examples=examples(60), deadline=None)
@given(window=st.sampled_from([8, 12]), ratio=st.integers(2, 8), tokens=st.integers(1, 60))
def test_the_planned_bytes_of_a_memory_are_its_bytes(window: int, ratio: int, tokens: int) -> None:
    model = shaped(window)
    costs = costs_of(model)
    memory = read_tokens(model, tokens, ratio)
    stream = Stream(window, ratio, tokens)
    assert costs.memory(tokens, ratio) == memory.nbytes
    assert costs.slots(tokens, ratio) == memory.slots == stream.slots
    assert costs.memory(tokens, ratio) == costs.entry * (stream.slots + stream.entries)
    assert costs.parts(tokens, ratio) == 1


@settings(max_examples=examples(40), deadline=None)
@given(
    capacity=st.sampled_from([16, 24]),
    overlap=st.integers(0, 9),
    ratio=st.sampled_from([2, 3, 8]),
    tokens=st.integers(1, 150),
)
def test_the_planned_bytes_of_parts_are_their_bytes(
    capacity: int, overlap: int, ratio: int, tokens: int
) -> None:
    model = shaped(8, capacity, overlap)
    costs = costs_of(model)
    memory = read_tokens(model, tokens, ratio)
    assert costs.parts(tokens, ratio) == memory.parts
    assert costs.memory(tokens, ratio) == memory.nbytes
    assert costs.slots(tokens, ratio) == sum(block.rows * block.stream.slots for block in memory.blocks)


def test_what_stands_before_a_text_and_what_fills_windows_is_planned_too() -> None:
    tokenizer = small_tokenizer(bos=True)
    model = beacon_model(
        vocabulary=len(tokenizer),
        tokens=Tokens(tokenizer),
        usage=Usage(capacity=64, overlap=16, pad_windows=True, prompts=PromptSet.from_mapping(ASK_PROMPTS)),
        capacity=64,
        overlap=16,
    )
    memory = model.memorize([WORDS, WORDS * 4], progress=False)
    costs = costs_of(model)
    assert costs.head == len(model._opening) > 0
    assert costs.parts(memory.tokens, model.ratio) == memory.parts > 1
    assert costs.memory(memory.tokens, model.ratio) == memory.nbytes


@settings(max_examples=examples(60), deadline=None)
@given(
    ratio=st.integers(2, 16),
    tokens=st.integers(1, 50_000),
    more=st.integers(1, 9_000),
    parts=st.booleans(),
    on_cpu=st.booleans(),
    fused=st.booleans(),
)
def test_more_tokens_never_need_less_and_reading_holds_the_memory(
    ratio: int, tokens: int, more: int, parts: bool, on_cpu: bool, fused: bool
) -> None:
    model = shaped(16, 64, 8) if parts else shaped(16)
    costs = model.costs(on_cpu=on_cpu, fused=fused)
    assert costs.reading(tokens, ratio) <= costs.reading(tokens + more, ratio)
    assert costs.reading(tokens, ratio) > costs.memory(tokens, ratio)
    assert costs.asking(tokens, ratio, questions=1) > costs.memory(tokens, ratio)
    assert costs.asking(tokens, ratio, questions=1) <= costs.asking(tokens, ratio, questions=9)
    assert costs.appending(more, ratio, before=tokens) >= costs.memory(tokens + more, ratio)
    assert costs.appending(tokens, ratio, before=0) == costs.reading(tokens, ratio)


@pytest.mark.parametrize(
    ("family", "shape"),
    [
        ("qwen2", {"hidden": 64, "heads": 4, "kv_heads": 2, "head_dim": 16}),
        ("llama", {"hidden": 32, "heads": 8, "kv_heads": 8, "head_dim": 16, "layers": 3}),
        ("mistral", {"hidden": 32, "heads": 4, "kv_heads": 1, "head_dim": 32}),
    ],
)
@pytest.mark.parametrize("tokens", [1024, 5000, 16_384])
def test_the_planned_peak_is_what_torch_allocates(family: str, shape: dict[str, Any], tokens: int) -> None:
    model = beacon_model(family, window=512, ratio=4, **shape)
    host, stream = model._host, Stream(512, 4)

    def reading() -> None:
        ids = random_ids(1, tokens)
        read(host, empty_block(host, stream, rows=1), torch.cat((ids[:, :0], ids), dim=1))

    planned = costs_of(model).reading(tokens, 4)
    assert peak_of(reading) == pytest.approx(planned, rel=0.07)


def test_scores_are_planned_where_no_kernel_does_without_them() -> None:
    model = beacon_model(window=512, ratio=4, hidden=32, heads=4, kv_heads=2, head_dim=16)
    host, stream = model._host, Stream(512, 4)

    def reading() -> None:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            read(host, empty_block(host, stream, rows=1), random_ids(1, 16_384))

    planned = costs_of(model, fused=False).reading(16_384, 4)
    assert peak_of(reading) == pytest.approx(planned, rel=0.1)
    assert planned > 3 * costs_of(model).reading(16_384, 4)


def test_asking_stays_below_its_plan() -> None:
    model = beacon_model(window=512, ratio=4, hidden=64, heads=4, kv_heads=2, head_dim=16)
    costs = costs_of(model)
    block = read_tokens(model, 8192, 4).blocks[0]
    prompts = [random_ids(1, REQUEST, seed=seed) for seed in range(4)]
    replies = Replies.alike(len(prompts) * block.rows, costs.reply)
    found = peak_of(lambda: generate(model._host, block, prompts, replies))
    planned = costs.asking(8192, 4, questions=4) - costs.memory(8192, 4)
    assert 0.5 * planned < found <= planned


def test_appending_holds_the_old_memory_and_the_larger_room() -> None:
    model = shaped(8)
    costs = costs_of(model)
    memory = read_tokens(model, 800, 4)
    grown = model.feed(random_ids(1, 8), memory).memory
    room = grown.blocks[0].room
    assert room is not None
    held = memory.nbytes + room.store.nbytes
    assert costs.appending(8, 4, before=800) >= held
    assert costs.appending(8, 4, before=800) > costs.reading(808, 4)


def test_the_planned_peak_of_appending_is_what_torch_allocates_beside_the_memory() -> None:
    model = beacon_model(window=512, ratio=4, hidden=64, heads=4, kv_heads=2, head_dim=16)
    block = read_tokens(model, 16_384, 4).blocks[0]
    held = block.slots.nbytes + block.tail.nbytes
    found = held + peak_of(lambda: read(model._host, block, random_ids(1, 4096)))
    assert found == pytest.approx(costs_of(model).appending(4096, 4, before=16_384), rel=0.07)


def test_a_memory_is_moved_as_a_value_and_asked_where_it_was_moved_back_to() -> None:
    model = shaped(8)
    memory = model.feed(random_ids(2, 21)).memory
    assert memory.on("cpu") is memory
    assert memory.blocks[0].on(model.model.device) is memory.blocks[0]
    away = memory.on("meta")  # a device that holds nothing
    assert away.blocks[0].slots.keys.device.type == "meta"
    assert away.stream == memory.stream
    assert memory.blocks[0].slots.keys.device.type == "cpu"
    back = memory.on(torch.device("cpu")).on("cpu")
    assert_same_memory(back, memory, exactly=True)
