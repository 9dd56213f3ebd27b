"""Asking: many prompts over one memory in one run give what each gives alone, and copy nothing."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memorag_core.memory.beacon import BeaconModel, attention
from memorag_core.memory.beacon.generate import SPEAKERS, Asking, generate
from memorag_core.memory.beacon.host import Host
from memorag_core.memory.decoding import Generated, Replies
from tests.core.memory.beacon.conftest import assert_close, beacon_model, random_ids, snapshot, state

THREADS = 16


def ask(
    model: BeaconModel, context: torch.Tensor, prompts: list[torch.Tensor], count: int, stop: set[int]
) -> list[Generated]:
    with torch.inference_mode():
        (block,) = model.feed(context).memory.blocks
        return generate(
            Host.of(model.model), block, prompts, Replies.alike(len(prompts) * block.rows, count), stop=stop
        )


@dataclass(frozen=True, slots=True)
class Alone:
    """A reply got token by token, and how far the best token was ahead each time."""

    reply: Generated
    leads: list[float]


def alone(
    model: BeaconModel, context: torch.Tensor, prompt: torch.Tensor, count: int, stop: set[int]
) -> list[Alone]:
    """The same by feeding token by token, with the scores of plain log-probabilities."""
    replies = []
    for row in range(len(context)):
        step = model.feed(prompt[row], model.feed(context[row]).memory)
        ids: list[int] = []
        scores: list[float] = []
        leads: list[float] = []
        finished = False
        while len(scores) < count and not finished:
            logits = step.logits[0, -1]
            token = int(logits.argmax())
            best, second = logits.topk(2).values.tolist()
            leads.append(best - second)
            scores.append(float(logits.log_softmax(-1)[token]))
            finished = token in stop
            if not finished:
                ids.append(token)
                step = model.feed([token], step.memory)
        replies.append(Alone(Generated(tuple(ids), sum(scores) / len(scores), finished), leads))
    return replies


@settings(max_examples=25)
@given(
    window=st.integers(4, 20),
    ratio=st.integers(2, 8),
    context=st.integers(1, 60),
    rows=st.integers(1, 3),
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    stops=st.integers(0, 12),
    seed=st.integers(0, 99),
)
def test_prompts_of_any_lengths_asked_together_are_answered_as_alone(
    window: int, ratio: int, context: int, rows: int, lengths: list[int], stops: int, seed: int
) -> None:
    model = beacon_model(window=max(window, ratio), ratio=ratio, seed=seed)
    read = random_ids(rows, context, seed=seed)
    prompts = [random_ids(rows, length, seed=seed + length) for length in lengths]
    stop = set(random.Random(seed).sample(range(61), stops))
    found = ask(model, read, prompts, 15, stop)
    expected = [reply for prompt in prompts for reply in alone(model, read, prompt, 15, stop)]
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        if one.ids != other.reply.ids:  # as good as equal where two tokens are as good as equal
            assert min(other.leads) < 1e-3
            continue
        assert one.finished == other.reply.finished
        assert one.score == pytest.approx(other.reply.score, abs=1e-3)


def test_attention_in_many_small_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = beacon_model()
    context, prompts = random_ids(2, 50), [random_ids(2, 11, seed=1), random_ids(2, 30, seed=2)]
    expected = ask(model, context, prompts, 10, set())
    monkeypatch.setattr(attention, "SCORE_LIMIT", 1)
    monkeypatch.setattr(attention, "MASK_LIMIT", 1)
    monkeypatch.setattr(attention, "QUERY_ROWS", 3)
    found = ask(model, context, prompts, 10, set())
    assert [reply.ids for reply in found] == [reply.ids for reply in expected]


def test_asking_leaves_the_memory_as_it_was_and_holds_no_copy_of_it() -> None:
    model = beacon_model(window=8, ratio=4)
    memory = model.feed(random_ids(1, 405)).memory
    before = snapshot(memory)
    (block,) = memory.blocks
    with torch.inference_mode():
        asking = Asking(Host.of(model.model), block, lanes=3, columns=4)
        asking.feed([random_ids(1, length) for length in (3, 9, 30)])
    held = [value.keys.untyped_storage() for value in (asking._block.slots, asking._own, asking._window)]
    assert held[0].data_ptr() == block.slots.keys.untyped_storage().data_ptr()
    assert sum(storage.nbytes() for storage in held[1:]) < 3 * 110 * block.slots.entry_bytes
    assert asking.stream.slots == block.stream.slots + 2  # a window closed, among the asker's own columns
    assert_close(state(memory), before, exactly=True)


def test_no_allocation_of_asking_is_as_large_as_the_memory() -> None:
    model = beacon_model(window=128, ratio=2, heads=1, kv_heads=1, head_dim=16)
    memory = model.feed(random_ids(1, 12_000)).memory
    keys_of_a_layer = memory.nbytes // 2 // model.model.config.num_hidden_layers
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True, record_shapes=False
    ) as profile:
        model.greedy(random_ids(1, 1), memory, max_new_tokens=2)
        model.feed(random_ids(1, 1), memory)
    events = profile.events()
    assert events is not None
    largest = max(event.cpu_memory_usage for event in events)
    assert 0 < largest < keys_of_a_layer / 4  # the scores of one token against all slots, and nothing larger


def test_many_threads_ask_one_memory_as_one_does() -> None:
    model = beacon_model(window=8, ratio=4)
    memory = model.feed(random_ids(1, 203)).memory
    before = snapshot(memory)
    prompts = [random_ids(1, 1 + seed % 13, seed=seed) for seed in range(2 * THREADS)]
    expected = [model.greedy(prompt, memory, max_new_tokens=12) for prompt in prompts]
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda prompt: model.greedy(prompt, memory, max_new_tokens=12), prompts))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert_close(state(memory), before, exactly=True)


def test_rows_that_ended_are_dropped_from_the_run() -> None:
    model = beacon_model()
    with torch.inference_mode():
        (block,) = model.feed(random_ids(4, 30)).memory.blocks
        asking = Asking(Host.of(model.model), block, lanes=3, columns=4)
        whole = Asking(Host.of(model.model), block, lanes=3, columns=4)
        prompts = [random_ids(4, length, seed=length) for length in (3, 5, 3)]
        asking.feed(prompts)
        whole.feed(prompts)
        asking.keep([1, 2, 9, 11])  # two rows of the first lane, none of the second, two of the third
        ids = random_ids(1, 12)[0]
        for _ in range(9):
            found, expected = asking.feed_one(ids[[1, 2, 9, 11]]), whole.feed_one(ids)
            assert torch.allclose(found, expected[[1, 2, 9, 11]], atol=1e-4)
    assert len(asking._lanes) == 2


def test_a_prompt_may_begin_the_stream() -> None:
    model = beacon_model()
    prompt = random_ids(2, 21)
    fed = model.feed(prompt)
    first = fed.logits[:, -1].argmax(-1)
    decoded = model.greedy(prompt, max_new_tokens=6)
    assert torch.equal(decoded[:, 0], first)
    assert torch.equal(decoded[:, 1:], model.greedy(first[:, None], fed.memory, max_new_tokens=5))


def test_a_reply_knows_how_probable_it_was_that_there_is_one() -> None:
    model = beacon_model()
    context, prompt = random_ids(2, 40, seed=1), random_ids(2, 5, seed=2)
    nothing = 7
    with torch.inference_mode():
        (block,) = model.feed(context).memory.blocks
        replies = generate(
            Host.of(model.model), block, [prompt], Replies.alike(block.rows, 3), nothing=nothing
        )
    logits = model.feed(prompt, model.feed(context).memory).logits[:, -1]
    expected = torch.log1p(-logits.softmax(-1)[:, nothing])
    assert_close([torch.tensor([reply.something for reply in replies])], [expected])
    assert all(reply.something < 0 for reply in replies)


def test_parts_that_know_nothing_are_silent_and_the_surest_few_speak() -> None:
    model = beacon_model()
    context, prompt = random_ids(9, 40, seed=1), random_ids(1, 5, seed=2).expand(9, -1)
    with torch.inference_mode():
        (block,) = model.feed(context).memory.blocks
        host = Host.of(model.model)
        free = generate(host, block, [prompt], Replies.alike(block.rows, 3))
        replies = generate(host, block, [prompt], Replies.alike(block.rows, 3), nothing=7)
    order = sorted(range(9), key=lambda row: -replies[row].something)
    for place, row in enumerate(order):
        if place >= SPEAKERS:
            assert replies[row].ids == ()
        elif free[row].ids[0] != 7:
            assert replies[row].ids == free[row].ids
    assert all(7 not in reply.ids[:1] for reply in replies)
