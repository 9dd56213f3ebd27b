"""A memory is a value: whoever continues or asks it, it never changes, and growing it costs what is new."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
import torch

from memorag_core.errors import InputError
from memorag_core.memory.beacon import BeaconMemory
from memorag_core.memory.beacon.cache import KeyValues, Room
from memorag_core.protocols import Memory
from tests.core.memory.beacon.conftest import (
    assert_close,
    assert_same_memory,
    beacon_model,
    random_ids,
    snapshot,
    state,
)

THREADS = 16


def test_a_memory_says_how_large_it_is() -> None:
    memory = beacon_model(window=8, ratio=4).feed(random_ids(3, 21)).memory
    assert isinstance(memory, Memory)
    assert (memory.tokens, memory.parts, memory.slots, memory.ratio) == (21, 3, 4, 4)
    assert (memory.stream.filled, memory.stream.since_beacon, memory.stream.entries) == (5, 1, 6)
    assert (
        memory.nbytes == 2 * 2 * 3 * 2 * (4 + 6) * 8 * 4
    )  # keys and values, L, B, H, slots and entries, D, float32
    with pytest.raises(FrozenInstanceError):
        memory.tokens = 1  # type: ignore[misc]


def test_growing_a_memory_moves_its_slots_seldom() -> None:
    model = beacon_model(window=8, ratio=4)
    ids = random_ids(1, 4000)
    memory = model.feed(ids[:, :800]).memory
    places = set()
    for at in range(800, 4000, 20):
        memory = model.feed(ids[:, at : at + 20], memory).memory
        places.add(memory.blocks[0].slots.keys.data_ptr())
    assert len(places) <= 9  # 1000 slots out of 200, a quarter more each time
    assert_same_memory(memory, model.feed(ids).memory)


def test_what_is_fed_inside_a_window_shares_the_slots() -> None:
    model = beacon_model(window=8, ratio=4)
    memory = model.feed(random_ids(1, 800)).memory
    forks = [model.feed(random_ids(1, 5, seed=seed), memory).memory for seed in range(4)]
    assert {fork.blocks[0].slots.keys.data_ptr() for fork in forks} == {
        memory.blocks[0].slots.keys.data_ptr()
    }


def test_a_failed_continuation_leaves_the_memory_and_its_room_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = beacon_model()
    memory = model.feed(random_ids(1, 100)).memory
    before = snapshot(memory)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(model.model.model.layers[1].mlp, "forward", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model.feed(random_ids(1, 4), memory)
    assert_close(state(memory), before, exactly=True)
    assert_same_memory(
        model.feed(random_ids(1, 4), memory).memory,
        model.feed(torch.cat((random_ids(1, 100), random_ids(1, 4)), 1)).memory,
    )


def test_room_is_claimed_by_one_at_a_time_and_only_behind_its_end() -> None:
    room = Room(KeyValues(torch.zeros(1, 1, 1, 10, 2), torch.zeros(1, 1, 1, 10, 2)), 4)
    assert not room.claim(3, 5)
    assert not room.claim(4, 11)
    assert room.claim(4, 8)
    assert not room.claim(4, 8)
    room.release(6)
    assert not room.claim(4, 8)
    assert room.claim(6, 8)


def test_rows_are_taken_out_and_stacked_without_a_copy() -> None:
    model = beacon_model()
    memory = model.feed(random_ids(3, 21)).memory
    rows = [memory.row(index) for index in range(3)]
    assert [row.parts for row in rows] == [1, 1, 1]
    storage = memory.blocks[0].slots.keys.untyped_storage().data_ptr()
    assert {row.blocks[0].slots.keys.untyped_storage().data_ptr() for row in rows} == {storage}
    stacked = BeaconMemory.stack(rows)
    assert_same_memory(stacked, memory, exactly=True)
    ids = random_ids(3, 9, seed=4)
    assert_same_memory(model.feed(ids, stacked).memory, model.feed(ids, memory).memory)
    assert torch.equal(
        model.greedy(ids, stacked, max_new_tokens=5), model.greedy(ids, memory, max_new_tokens=5)
    )


def test_memories_that_do_not_fit_are_not_stacked() -> None:
    model = beacon_model()
    memory = model.feed(random_ids(2, 10)).memory
    with pytest.raises(InputError, match="different places"):
        BeaconMemory.stack([memory, model.feed(random_ids(2, 11)).memory])
    with pytest.raises(InputError, match="one or more"):
        BeaconMemory.stack([])
