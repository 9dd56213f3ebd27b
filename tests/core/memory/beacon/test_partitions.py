"""Long texts in parts: full blocks stay where they are, and all parts can be fed and asked together."""

from __future__ import annotations

import pytest
import torch

from memorag_core.errors import InputError
from memorag_core.memory.beacon import BeaconMemory, BeaconModel, partitions
from memorag_core.memory.beacon.partitions import BeaconParts
from memorag_core.memory.beacon.schedule import Stream
from memorag_core.memory.partitions import Cut
from memorag_core.memory.tokenized_text import DocumentSpan
from tests.core.memory.beacon.conftest import assert_same_memory, beacon_model, random_ids

WINDOW, RATIO = 8, 4


@torch.inference_mode()
def read(
    model: BeaconModel,
    ids: torch.Tensor,
    cut: Cut,
    memory: BeaconMemory | None = None,
    told: list[int] | None = None,
) -> BeaconMemory:
    before = memory.tokens if memory is not None else 0
    progress = told.append if told is not None else None
    parts = BeaconParts(model._host, Stream(WINDOW, RATIO), cut=cut, progress=progress)
    return parts.read(memory, ids, (DocumentSpan(before, before + len(ids), (0,)),))


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
