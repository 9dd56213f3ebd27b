"""Long texts in parts: every token is covered, full parts stay, and reading at once equals appending."""

from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memorag_core.errors import InputError
from memorag_core.memory.beacon import BeaconMemory, BeaconModel, partitions
from memorag_core.memory.beacon.host import Host
from memorag_core.memory.beacon.partitions import Cut, cut_back, read_parts, to_reread
from memorag_core.memory.beacon.schedule import Stream
from memorag_core.memory.partitions import alike
from memorag_core.memory.tokenized_text import DocumentSpan
from tests.core.memory.beacon.conftest import (
    assert_close,
    assert_same_memory,
    beacon_model,
    random_ids,
    snapshot,
    state,
)

WINDOW, RATIO = 8, 4
cuts = st.integers(1, 40).flatmap(
    lambda capacity: st.builds(Cut, st.just(capacity), st.integers(0, capacity - 1))
)


def read(
    model: BeaconModel,
    ids: torch.Tensor,
    cut: Cut,
    memory: BeaconMemory | None = None,
    *,
    head: tuple[int, ...] = (),
    told: list[int] | None = None,
) -> BeaconMemory:
    with torch.inference_mode():
        before = memory.tokens - len(head) if memory is not None else 0
        return read_parts(
            Host.of(model.model),
            memory,
            ids,
            (DocumentSpan(before, before + len(ids), (0,)),),
            stream=Stream(WINDOW, RATIO),
            cut=cut,
            head=head,
            progress=told.append if told is not None else None,
        )


@given(cut=cuts, total=st.integers(1, 300))
def test_parts_cover_every_token_and_overlap_as_asked(cut: Cut, total: int) -> None:
    spans = cut.spans(total)
    assert (spans[0][0], spans[-1][1], len(spans)) == (0, total, cut.parts(total))
    for one, other in pairwise(spans):
        assert one[1] - one[0] == cut.capacity
        assert one[1] - other[0] == cut.overlap
        assert one[1] < other[1]


@given(cut=cuts, total=st.integers(1, 300), more=st.integers(1, 100))
def test_what_was_read_stays_and_only_what_is_new_is_read(cut: Cut, total: int, more: int) -> None:
    before, after = cut.spans(total), cut.spans(total + more)
    growth = cut.growth(total, total + more)
    assert after[: len(before) - 1] == before[:-1]
    held = [*before[:-1], (before[-1][0], growth.rest[1] if growth.rest else before[-1][1])]
    assert [*held, *growth.whole, *((growth.last,) if growth.last else ())] == after
    assert growth.rest is None or growth.rest[0] == total
    assert all(end - start == cut.capacity for start, end in growth.whole)
    assert growth.last is None or growth.last[1] - growth.last[0] < cut.capacity
    read = [span for span in (growth.rest, *growth.whole, growth.last) if span]
    assert sum(end - start for start, end in read) == cut.to_read(total, total + more)


@given(cut=cuts, total=st.integers(1, 200), data=st.data())
def test_the_parts_that_hold_some_tokens_are_those_whose_spans_meet_them(
    cut: Cut, total: int, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, total - 1))
    end = data.draw(st.integers(start + 1, total))
    meet = [part for part, (first, last) in enumerate(cut.spans(total)) if first < end and start < last]
    assert list(cut.holding(start, end, total)) == meet


@given(
    first=st.integers(0, 5),
    rows=st.integers(1, 6),
    wanted=st.lists(st.none() | st.sets(st.integers(0, 11)), min_size=1, max_size=4),
)
def test_every_question_is_put_to_the_rows_it_wants_once(
    first: int, rows: int, wanted: list[set[int] | None]
) -> None:
    asked = [
        (question, first + row)
        for start, stop, questions in alike(range(first, first + rows), wanted)
        for row in range(start, stop)
        for question in questions
    ]
    expected = [
        (question, part)
        for question, parts in enumerate(wanted)
        for part in range(first, first + rows)
        if parts is None or part in parts
    ]
    assert sorted(asked) == sorted(expected)


@settings(max_examples=25)
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    capacity=st.integers(1, 3),
    overlap=st.integers(0, 7),
    head=st.integers(0, 3),
    rows=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_reading_at_once_equals_appending(
    lengths: list[int], capacity: int, overlap: int, head: int, rows: int, seed: int
) -> None:
    model = beacon_model(window=WINDOW, ratio=RATIO, seed=seed)
    opening = tuple(range(head))
    cut = Cut(capacity * WINDOW - head, min(overlap, capacity * WINDOW - head - 1))
    ids = random_ids(1, sum(lengths), seed=seed)[0]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(partitions, "BLOCK_ROWS", rows)
        patched.setattr(partitions, "READ_TOKENS_CPU", 2 * WINDOW)
        told: list[int] = []
        once = read(model, ids, cut, head=opening, told=told)
        assert sum(told) - cut.parts(len(ids)) * head == cut.to_read(0, len(ids))
        memory, at = None, 0
        for length in lengths:
            told.clear()
            before: list[torch.Tensor] = snapshot(memory) if memory is not None else []
            longer = read(model, ids[at : at + length], cut, memory, head=opening, told=told)
            if memory is not None:
                assert_close(state(memory), before, exactly=True)
                fresh = cut.parts(at + length) - cut.parts(at)
                assert sum(told) - fresh * head == cut.to_read(at, at + length)
            memory, at = longer, at + length
    assert memory is not None
    assert_same_memory(memory, once)
    assert once.tokens == head + len(ids)
    assert once.parts == cut.parts(len(ids))
    for row, (start, end) in enumerate(cut.spans(len(ids))):
        part = torch.cat((torch.tensor(opening, dtype=torch.long), ids[start:end]))
        assert_close(state(once.row(row)), state(model.feed(part).memory))


@settings(max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 60), min_size=2, max_size=6),
    kept=st.integers(1, 5),
    capacity=st.none() | st.integers(1, 3),
    overlap=st.integers(0, 7),
    head=st.integers(0, 3),
    ratio=st.sampled_from([3, 4]),
    rows=st.integers(1, 4),
)
def test_cut_back_and_read_on_it_is_what_reading_the_result_afresh_gives(
    lengths: list[int], kept: int, capacity: int | None, overlap: int, head: int, ratio: int, rows: int
) -> None:
    kept = min(kept, len(lengths) - 1)
    model = beacon_model(window=WINDOW, ratio=ratio)
    opening = tuple(range(head))
    cut = None
    if capacity is not None:
        cut = Cut(capacity * WINDOW - head, min(overlap, capacity * WINDOW - head - 1))
    ids, other = random_ids(1, sum(lengths))[0], random_ids(1, 25, seed=5)[0]
    same = sum(lengths[:kept])

    @torch.inference_mode()
    def memorized(pieces: list[torch.Tensor], memory: BeaconMemory | None = None) -> BeaconMemory:
        before = memory.tokens - head if memory is not None else 0
        ends = [before, *(before + end for end in accumulate(map(len, pieces)))]
        spans = [DocumentSpan(start, end, (0,)) for start, end in pairwise(ends)]
        start = Stream(WINDOW, ratio)
        return read_parts(
            Host.of(model.model), memory, torch.cat(pieces), spans, stream=start, cut=cut, head=opening
        )

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(partitions, "BLOCK_ROWS", rows)
        memory = memorized(list(ids.split(lengths)))
        before = snapshot(memory)
        told: list[int] = []
        with torch.inference_mode():
            cut_short = cut_back(
                Host.of(model.model), memory, kept, cut=cut, head=opening, progress=told.append
            )
        assert sum(told) == to_reread(memory, kept, cut=cut, head=head) < WINDOW
        assert_same_memory(cut_short, memorized(list(ids[:same].split(lengths[:kept]))))
        assert_same_memory(
            memorized([other], cut_short), memorized([*ids[:same].split(lengths[:kept]), other])
        )
        assert_close(state(memory), before, exactly=True)
        assert cut_short.text is not None
        assert len(cut_short.text.documents) == kept


def test_appending_leaves_full_blocks_where_they_are_and_reads_only_what_is_new() -> None:
    model = beacon_model(window=WINDOW, ratio=RATIO)
    cut = Cut(16, 4)
    ids = random_ids(1, 4000)[0]
    memory = read(model, ids[:3990], cut)
    told: list[int] = []
    longer = read(model, ids[3990:], cut, memory, told=told)
    assert [block.rows for block in memory.blocks] == [128, 128, 76, 1]
    assert all(new is old for new, old in zip(longer.blocks[:2], memory.blocks[:2], strict=True))
    assert sum(told) == 10 + 4 * (longer.parts - memory.parts)


def test_a_memory_that_feed_made_is_not_cut_into_parts() -> None:
    model = beacon_model(window=WINDOW, ratio=RATIO)
    with pytest.raises(InputError, match=r"feed\(\)"):
        read(model, random_ids(1, 5)[0], Cut(16, 0), model.feed(random_ids(1, 5)).memory)


def test_all_parts_can_be_fed_and_decoded_as_rows_of_one_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "BLOCK_ROWS", 2)
    model = beacon_model(window=WINDOW, ratio=RATIO)
    memory = read(model, random_ids(1, 80)[0], Cut(16, 0))
    assert (memory.parts, len(memory.blocks)) == (5, 3)
    prompt = random_ids(5, 6, seed=1)
    fed = model.feed(prompt, memory)
    decoded = model.greedy(prompt, memory, max_new_tokens=4)
    for row in range(5):
        alone = model.feed(prompt[row], memory.row(row))
        assert torch.allclose(fed.logits[row], alone.logits[0], atol=1e-4)
        assert_same_memory(BeaconMemory.stack([fed.memory.row(row)]), alone.memory)
        assert torch.equal(decoded[row], model.greedy(prompt[row], memory.row(row), max_new_tokens=4)[0])


def test_a_last_part_that_is_shorter_is_asked_with_the_others_and_fed_alone() -> None:
    model = beacon_model(window=WINDOW, ratio=RATIO)
    memory = read(model, random_ids(1, 70)[0], Cut(16, 0))
    assert [memory.row(row).tokens for row in range(5)] == [16, 16, 16, 16, 6]
    prompt = random_ids(5, 6, seed=1)
    decoded = model.greedy(prompt, memory, max_new_tokens=4)
    for row in range(5):
        assert torch.equal(decoded[row], model.greedy(prompt[row], memory.row(row), max_new_tokens=4)[0])
    with pytest.raises(InputError, match="shorter"):
        model.feed(prompt, memory)
    with pytest.raises(InputError, match="different places"):
        BeaconMemory.stack([memory.row(0), memory.row(4)])
