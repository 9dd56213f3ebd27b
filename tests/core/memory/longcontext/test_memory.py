"""The memory is a value: asking and continuing leave it as it is and copy nothing, in any thread."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from memorag_core.errors import InputError, NothingMemorizedError
from memorag_core.memory.longcontext import LongContextMemory, LongContextModel
from memorag_core.prompts import PromptSet
from memorag_core.protocols import Memory, MemoryModel
from tests.core.doubles import asks
from tests.core.memory.longcontext.conftest import (
    assert_close,
    assert_same_memory,
    causal_model,
    random_ids,
    snapshot,
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


def test_it_has_the_shape_of_a_memory_model() -> None:
    model = text_model()
    assert isinstance(model, MemoryModel)
    assert isinstance(model.memorize("abc"), Memory)


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


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_many_threads_ask_and_continue_one_memory_as_one_does(family: str) -> None:
    model = LongContextModel(causal_model(family), chunk=16)
    memory = model.feed(random_ids(1, 203)).memory
    before = snapshot(memory)
    prompts = [random_ids(1, 1 + seed % 13, seed=seed) for seed in range(2 * THREADS)]

    def work(prompt: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        longer = model.feed(prompt, memory).memory
        return model.greedy(prompt, memory, max_new_tokens=12), snapshot(longer)

    expected = [work(prompt) for prompt in prompts]
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(work, prompts))
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one[0], other[0])
        assert_close(one[1], other[1])
    assert_close(state(memory), before, exactly=True)


@pytest.mark.parametrize("family", ["llama", "mistral with a sliding window", "gemma2"])
def test_one_memory_can_be_continued_in_two_ways(family: str) -> None:
    model = LongContextModel(causal_model(family))
    start = model.feed(random_ids(1, 40)).memory
    before = snapshot(start)
    one = model.feed(random_ids(1, 20, seed=1), start).memory
    held = snapshot(one)
    other = model.feed(random_ids(1, 9, seed=2), start).memory
    assert_close(state(start), before, exactly=True)
    assert_close(state(one), held, exactly=True)
    whole = torch.cat((random_ids(1, 40), random_ids(1, 9, seed=2)), dim=1)
    assert_same_memory(other, model.feed(whole).memory)


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


def test_rows_can_be_taken_apart() -> None:
    model = LongContextModel(causal_model("gemma2"))
    ids = random_ids(3, 30)
    memory = model.feed(ids).memory
    assert memory.parts == 3
    prompt = random_ids(3, 4, seed=1)
    together = model.greedy(prompt, memory, max_new_tokens=6)
    for row in range(3):
        assert_same_memory(memory.row(row), model.feed(ids[row]).memory)
        assert torch.equal(model.greedy(prompt[row], memory.row(row), max_new_tokens=6)[0], together[row])
    with pytest.raises(InputError, match="Row 3"):
        memory.row(3)
    with pytest.raises(InputError, match="one or more"):
        LongContextMemory((), 0)


@pytest.mark.parametrize("ids", [[], [[]], [[[1]]], [1.5], [True], ["a"], [-1], [61], [[1, 2], [3]], None])
def test_ids_that_cannot_be_read_are_refused(ids: object) -> None:
    model = LongContextModel(causal_model())
    with pytest.raises(InputError):
        model.feed(ids)  # type: ignore[arg-type]


def test_what_cannot_be_asked_is_refused() -> None:
    model = text_model()
    memory = model.memorize("abc")
    with pytest.raises(NothingMemorizedError):
        model.recollect(asks(["?"], "span"), None)
    with pytest.raises(InputError, match="kind of clue"):
        model.recollect(asks(["?"], "poem"), memory)
    with pytest.raises(InputError, match="expected a list of requests"):
        model.recollect("what?", memory)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="question is"):
        model.recollect(asks([" "], "span"), memory)
    for count in (0, True, 1.5):
        with pytest.raises(InputError, match="max_new_tokens"):
            model.recollect(asks(["?"], "span"), memory, max_new_tokens=count)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="rows"):
        model.feed(random_ids(2, 3), memory)
    for text in ("", " ", [], [""], 5, None):
        with pytest.raises(InputError):
            model.memorize(text)  # type: ignore[arg-type]
    assert model.recollect(asks([], "span"), memory) == ()
    assert model.recollect(asks([""], "key_point"), memory, max_new_tokens=2)


def test_without_a_tokenizer_there_are_token_ids_only() -> None:
    model = LongContextModel(causal_model())
    memory = model.feed([1, 2, 3]).memory
    with pytest.raises(InputError, match="without a tokenizer"):
        model.memorize("abc")
    with pytest.raises(InputError, match="without a tokenizer"):
        model.recollect(asks(["?"], "span"), memory)
