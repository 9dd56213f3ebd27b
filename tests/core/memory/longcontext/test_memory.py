"""The memory is a value: asking and continuing leave it as it is and copy nothing, in any thread."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from memorag_core.memory.longcontext import LongContextMemory, LongContextModel
from memorag_core.prompts import PromptSet
from tests.core.doubles import asks
from tests.core.memory.longcontext.conftest import (
    causal_model,
    random_ids,
    state,
    text_model,
)

THREADS = 16


def digest(memory: LongContextMemory) -> str:
    found = hashlib.sha256()
    for tensor in state(memory):
        found.update(tensor.numpy().tobytes())
    return found.hexdigest()


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_a_hundred_questions_leave_the_bytes_of_the_memory_and_of_the_process_as_they_were() -> None:
    prompts = PromptSet.from_mapping({"chat": False, "context": "{context}", "tasks": {"span": "{question}"}})
    model = text_model(
        positions=4096, chunk=256, prompts=prompts, shape={"head_dim": 64, "num_key_value_heads": 4}
    )
    memory = model.memorize("A text of some length, to be asked many times. " * 60)
    assert memory.nbytes > 16 << 20
    model.recollect(asks(["Warm?"] * 4, "span"), memory, max_new_tokens=4)  # what is held only once
    before = digest(memory)
    held = resident()
    for number in range(100):
        model.recollect(asks([f"What is number {number}?"], "span"), memory, max_new_tokens=4)
    grown = resident() - held
    assert digest(memory) == before
    assert grown < 2 << 20  # an eighth of one copy


def test_no_allocation_of_asking_is_as_large_as_the_memory() -> None:
    model = LongContextModel(causal_model("qwen2", max_position_embeddings=65_536, num_key_value_heads=1))
    memory = model.feed(random_ids(1, 20_000)).memory
    keys_of_a_layer = memory.nbytes // 2 // 3
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        model.greedy(random_ids(1, 3), memory, max_new_tokens=3)
    events = profile.events()
    assert events is not None
    largest = max(event.cpu_memory_usage for event in events)
    assert 0 < largest < keys_of_a_layer / 8


def test_appending_writes_into_the_room_that_is_there_and_moves_the_memory_seldom() -> None:
    model = LongContextModel(causal_model(), chunk=8)
    memory = model.feed(random_ids(1, 100)).memory
    places = set()
    for seed in range(100):
        memory = model.feed(random_ids(1, 1, seed=seed), memory).memory
        places.add(memory.blocks[0].kept[0].keys.untyped_storage().data_ptr())
    assert len(places) <= 5


def test_a_reading_that_fails_gives_the_room_back() -> None:
    model = LongContextModel(causal_model())
    memory = model.feed(random_ids(1, 30)).memory
    longer = model.feed(random_ids(1, 1), memory).memory  # moves to a larger room
    room = longer.blocks[0].rooms[0]
    assert room is not None
    model.model.lm_head.forward = None  # whatever fails in the middle of a run
    with pytest.raises(TypeError):
        model.feed(random_ids(1, 2), longer)
    assert room.claim(31, 33)


def test_layers_with_a_window_keep_what_the_next_token_sees_and_no_more() -> None:
    model = LongContextModel(causal_model("gemma3"))
    assert model.windows == (7, 7, 7, 7, 7, None, 7)
    memory = model.feed(random_ids(1, 100)).memory
    assert [entries.length for entries in memory.blocks[0].kept] == [6, 100]
    assert [tuple(entries.keys.shape) for entries in memory.blocks[0].kept] == [
        (6, 1, 2, 6, 8),
        (1, 1, 2, 100, 8),
    ]
    assert memory.nbytes == model.nbytes(100) == 2 * 2 * 8 * 4 * (6 * 6 + 100)
