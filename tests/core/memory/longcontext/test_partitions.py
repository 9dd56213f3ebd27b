"""Texts longer than the model: parts of its capacity, full parts stay, and no position overflows silently."""

from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memorag_core.errors import InputError
from memorag_core.memory.longcontext import LongContextMemory, LongContextModel, partitions
from memorag_core.memory.longcontext.partitions import cut_back, read_parts, to_reread
from memorag_core.memory.partitions import Cut
from memorag_core.memory.tokenized_text import DocumentSpan
from memorag_core.prompts import PromptSet
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

SHORT = PromptSet.from_mapping(
    {"chat": False, "context": ">{context}", "tasks": dict.fromkeys(("span", "answer"), "?{question}")}
)


@settings(max_examples=25)
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    capacity=st.integers(2, 24),
    overlap=st.integers(0, 23),
    head=st.integers(0, 3),
    rows=st.integers(1, 4),
    chunk=st.integers(1, 70),
    family=st.sampled_from(["llama", "gemma2"]),
)
def test_reading_at_once_equals_appending_and_every_part_is_read_as_alone(
    lengths: list[int], capacity: int, overlap: int, head: int, rows: int, chunk: int, family: str
) -> None:
    model = LongContextModel(causal_model(family), chunk=chunk)
    cut = Cut(capacity, min(overlap, capacity - 1))
    ids = random_ids(1, sum(lengths), seed=sum(lengths))[0]
    opening = tuple(range(head))

    @torch.inference_mode()
    def read(some: torch.Tensor, memory: LongContextMemory | None, told: list[int]) -> LongContextMemory:
        before = memory.tokens - head if memory is not None else 0
        span = DocumentSpan(before, before + len(some), (0,))
        return read_parts(
            model._host, memory, some, (span,), cut=cut, head=opening, chunk=chunk, progress=told.append
        )

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(partitions, "BLOCK_ROWS", rows)
        told: list[int] = []
        once = read(ids, None, told)
        assert sum(told) - cut.parts(len(ids)) * head == cut.to_read(0, len(ids))
        memory, at = None, 0
        for length in lengths:
            before: list[torch.Tensor] = snapshot(memory) if memory is not None else []
            longer = read(ids[at : at + length], memory, [])
            if memory is not None:
                assert_close(state(memory), before, exactly=True)
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
    capacity=st.integers(2, 400),
    overlap=st.integers(0, 23),
    head=st.integers(0, 3),
    rows=st.integers(1, 4),
    family=st.sampled_from(["llama", "gemma2"]),
)
def test_cut_back_and_read_on_it_is_what_reading_the_result_afresh_gives(
    lengths: list[int], kept: int, capacity: int, overlap: int, head: int, rows: int, family: str
) -> None:
    kept = min(kept, len(lengths) - 1)
    model = LongContextModel(causal_model(family), chunk=16)
    cut = Cut(capacity, min(overlap, capacity - 1))
    opening = tuple(range(head))
    ids, other = random_ids(1, sum(lengths))[0], random_ids(1, 25, seed=5)[0]
    same = sum(lengths[:kept])

    @torch.inference_mode()
    def memorized(pieces: list[torch.Tensor], memory: LongContextMemory | None = None) -> LongContextMemory:
        before = memory.tokens - head if memory is not None else 0
        ends = [before, *(before + end for end in accumulate(map(len, pieces)))]
        spans = [DocumentSpan(start, end, (0,)) for start, end in pairwise(ends)]
        return read_parts(model._host, memory, torch.cat(pieces), spans, cut=cut, head=opening, chunk=16)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(partitions, "BLOCK_ROWS", rows)
        memory = memorized(list(ids.split(lengths)))
        before = snapshot(memory)
        told: list[int] = []
        with torch.inference_mode():
            cut_short = cut_back(
                model._host, memory, kept, cut=cut, head=opening, chunk=16, progress=told.append
            )
        assert sum(told) == to_reread(model._host, memory, kept, cut=cut, head=head)
        assert family == "gemma2" or not told
        stay = list(ids[:same].split(lengths[:kept]))
        assert_same_memory(cut_short, memorized(stay))
        assert_same_memory(memorized([other], cut_short), memorized([*stay, other]))
        assert_close(state(memory), before, exactly=True)


def test_a_text_longer_than_the_model_is_read_in_parts_and_asked_together() -> None:
    model = text_model("llama", positions=128, prompts=SHORT)
    assert (model.positions, model.capacity, model.overlap) == (128, 96, 12)
    text = "".join(chr(97 + place * 7 % 26) for place in range(300))
    memory = model.memorize(text)
    assert (memory.parts, memory.tokens, memory.row_tokens) == (4, 301, 96)
    together = model.recollect(asks(["what", "and who"], "span"), memory, max_new_tokens=8)
    spans = Cut(95, 12).spans(300)
    for question, said in zip(["what", "and who"], together, strict=True):
        assert sorted(found.part for found in said) == [0, 1, 2, 3]
        assert [found.score for found in said] == sorted((found.score for found in said), reverse=True)
        for found in said:
            part = text[slice(*spans[found.part])]
            ((alone,),) = model.recollect(asks([question], "span"), model.memorize(part), max_new_tokens=8)
            assert found.text == alone.text
            assert found.score == pytest.approx(alone.score, abs=1e-4)


def test_appending_leaves_full_parts_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "BLOCK_ROWS", 2)
    model = text_model("llama", positions=64, prompts=SHORT)
    memory = model.memorize("x" * 400)
    longer = model.memorize("y" * 3, memory)
    assert len(memory.blocks) > 3
    assert longer.blocks[:-2] == memory.blocks[: len(longer.blocks) - 2]


def test_a_memory_that_feed_made_is_not_cut_into_parts() -> None:
    model = text_model("llama", positions=128, prompts=SHORT)
    with pytest.raises(InputError, match=r"feed\(\)"):
        model.memorize("abc", model.feed([1, 2, 3]).memory)


def test_a_position_that_the_model_does_not_have_is_never_read() -> None:
    model = text_model("llama", positions=128, prompts=SHORT)
    memory = model.memorize("z" * 95)  # a full part of 96, and room for 32
    with pytest.raises(InputError, match="made for 128"):
        model.recollect(asks(["?" * 40], "span"), memory)
    with pytest.raises(InputError, match="made for 128"):
        model.recollect(asks(["?"], "span"), memory, max_new_tokens=32)
    assert model.recollect(asks(["?"], "span"), memory, max_new_tokens=31)
    ((found,),) = model.recollect(asks(["?"], "span"), memory)  # the usual limit is cut to the room
    assert found.finished or found.tokens == 31
    with pytest.raises(InputError, match="made for 128"):
        model.feed([5] * 33, memory)
    with pytest.raises(InputError, match="made for 128"):
        model.feed([5] * 129)
    with pytest.raises(InputError, match="made for 128"):
        model.greedy([5] * 32, memory, max_new_tokens=2)
    assert model.greedy([5] * 32, memory, max_new_tokens=1).shape == (1, 1)
    assert model.feed([5] * 128).memory.tokens == 128


@pytest.mark.parametrize("capacity", [0, -5, 128, 500, 1, None, 64.0, True])
def test_a_capacity_that_the_model_does_not_have_is_refused(capacity: object) -> None:
    with pytest.raises(InputError, match="capacity"):
        text_model("llama", positions=128, prompts=SHORT, capacity=capacity)


@pytest.mark.parametrize("overlap", [-1, 49, 50, None, 1.0])
def test_an_overlap_that_leaves_nothing_new_is_refused(overlap: object) -> None:
    with pytest.raises(InputError, match="overlap"):
        text_model("llama", positions=128, prompts=SHORT, capacity=50, overlap=overlap)


@pytest.mark.parametrize("chunk", [0, -1, 2.0, True, None])
def test_a_chunk_without_tokens_is_refused(chunk: object) -> None:
    with pytest.raises(InputError, match="chunk"):
        LongContextModel(causal_model(), chunk=chunk)  # type: ignore[arg-type]


def test_yarn_reaches_as_far_as_its_factor_says() -> None:
    assert LongContextModel(causal_model("llama with yarn", max_position_embeddings=128)).positions == 512
    assert LongContextModel(causal_model("llama with yarn", max_position_embeddings=512)).positions == 512
