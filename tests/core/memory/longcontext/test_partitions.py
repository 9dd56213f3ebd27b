"""Texts longer than the model: parts of its capacity, full parts stay, and no position overflows silently."""

from __future__ import annotations

import pytest

from memorag_core.errors import InputError
from memorag_core.memory.longcontext import LongContextModel, partitions
from memorag_core.memory.partitions import Cut
from memorag_core.prompts import PromptSet
from tests.core.doubles import asks
from tests.core.memory.longcontext.conftest import causal_model, text_model

SHORT = PromptSet.from_mapping(
    {"chat": False, "context": ">{context}", "tasks": dict.fromkeys(("span", "answer"), "?{question}")}
)


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
