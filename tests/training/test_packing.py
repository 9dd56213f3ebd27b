"""The packed pass has the numbers of the reading that goes window by window."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from memorag_core.errors import InputError
from memorag_core.memory.beacon import BeaconModel
from memorag_core.memory.beacon.layers import attach
from memorag_core.memory.beacon.settings import BeaconSettings
from memorag_training.loss import hidden_states
from memorag_training.packing import pack


def tiny(window: int, ratio: int) -> PreTrainedModel:
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=61,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        eos_token_id=0,
        bos_token_id=0,
        pad_token_id=1,
    )
    model: PreTrainedModel = LlamaForCausalLM(config).eval()
    attach(model, BeaconSettings(window=window, ratios=(ratio,)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model


@given(
    window=st.integers(2, 24), ratio=st.integers(2, 9), tokens=st.integers(2, 70), documents=st.integers(1, 3)
)
@settings(max_examples=25)
def test_every_place_attends_to_what_stands_before_it_and_to_nothing_else(
    window: int, ratio: int, tokens: int, documents: int
) -> None:
    ratio = min(ratio, window)
    packing = pack(documents, tokens, window=window, ratio=ratio)
    (block,) = packing.blocks
    slots = packing.memory.shape[1]
    kept = (tokens - 1) // window * window // ratio
    assert slots == kept
    assert sorted(block.target.tolist()) == list(range(packing.raw + packing.beacons))
    mask = block.mask[:, 0]
    positions = packing.positions[0][block.places]
    valid = torch.zeros(block.places.numel(), dtype=torch.bool)
    valid[block.source] = True
    valid = valid.view_as(block.places)
    for segment in range(len(block.places)):
        seen = mask[segment][valid[segment]]
        # Slots are seen from the first on, as many by every place of a window.
        assert (seen[:, :slots].sum(1) == seen[0, :slots].sum()).all()
        assert (seen[:, :slots].int().diff(dim=1) <= 0).all()
        own = positions[segment][valid[segment]]
        local = seen[:, slots:][:, valid[segment]]
        assert torch.equal(local, own[None] <= own[:, None])


@pytest.mark.parametrize("ratio", [2, 4, 5])
def test_questions_on_a_packed_document_see_what_a_memory_that_is_fed_sees(ratio: int) -> None:
    window, tokens = 20, 60
    model = tiny(window, ratio)
    generator = torch.Generator().manual_seed(3)
    document = torch.randint(2, 61, (2, tokens), generator=generator)
    questions = [torch.randint(2, 61, (length,), generator=generator) for length in (7, 13, 4)]
    rows = [(0, 7), (1, 13), (0, 4)]
    packing = pack(2, tokens, window=window, ratio=ratio, questions=rows)
    with torch.no_grad():
        hidden = hidden_states(model, torch.cat((document.reshape(-1), *questions))[None], packing)
        packed = model.lm_head(hidden[2 * tokens :]).split([7, 13, 4])
    reader = BeaconModel(model, BeaconSettings(window=window, ratios=(ratio,)), ratio=ratio)
    for (row, _), question, logits in zip(rows, questions, packed, strict=True):
        memory = reader.feed(document[row : row + 1]).memory
        fed = reader.feed(question[None], memory).logits[0]
        torch.testing.assert_close(logits, fed, atol=1e-4, rtol=1e-4)


def test_gaps_move_windows_and_slots_together() -> None:
    plain = pack(1, 12, window=4, ratio=2, questions=[(0, 3)])
    moved = pack(1, 12, window=4, ratio=2, questions=[(0, 3)], gaps=[0, 10, 0, 5])
    shift = moved.positions[0] - plain.positions[0]
    assert shift[:12].tolist() == [0] * 4 + [10] * 8
    assert shift[12:15].tolist() == [15] * 3
    stream = moved.positions[0][moved.memory[0]]
    assert (stream + moved.memory_shift).tolist() == [0, 1, 12, 13, 14, 15]


def test_questions_on_a_document_that_ends_inside_a_window_are_refused() -> None:
    with pytest.raises(InputError, match="whole windows"):
        pack(1, 10, window=4, ratio=2, questions=[(0, 3)])
