"""The training loss and its gradients, against the golden models."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from memorag_core.errors import InputError
from memorag_core.memory.beacon.checkpoint import load_checkpoint
from memorag_core.memory.beacon.layers import beacon_parameters
from memorag_training.loss import Episode, Row, episode_loss, sequence_loss

GOLDEN = Path(__file__).parents[1] / "golden"
WITH_LOSS = [
    folder.name
    for folder in sorted(GOLDEN.iterdir())
    if "train_loss" in load_file(folder / "expected.safetensors")
]


def test_there_are_golden_models_with_a_loss() -> None:
    assert len(WITH_LOSS) == 2


@pytest.mark.parametrize("name", WITH_LOSS)
def test_loss_and_gradients_are_those_of_the_golden_models(name: str) -> None:
    checkpoint = load_checkpoint(GOLDEN / name, device="cpu")
    expected = load_file(GOLDEN / name / "expected.safetensors")
    parameters = dict(beacon_parameters(checkpoint.model))
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    ids = expected["context_ids"]
    settings = checkpoint.settings
    loss = sequence_loss(checkpoint.model, ids, ids, window=settings.window, ratio=settings.ratios[0])
    loss.backward()
    torch.testing.assert_close(loss.detach(), expected["train_loss"].reshape(()), atol=1e-5, rtol=0)
    gradients = {
        key.removeprefix("grad."): value for key, value in expected.items() if key.startswith("grad.")
    }
    assert gradients.keys() <= parameters.keys()
    for key, gradient in gradients.items():
        found = parameters[key].grad
        assert found is not None, key
        torch.testing.assert_close(found, gradient, atol=1e-5, rtol=1e-4, msg=key)


def test_a_recall_loss_reaches_the_document_through_the_memory() -> None:
    checkpoint = load_checkpoint(GOLDEN / "qwen2_r4", device="cpu")
    parameters = dict(beacon_parameters(checkpoint.model))
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    document = torch.randint(3, 199, (1, 64), generator=torch.Generator().manual_seed(0))
    row = Row(0, prompt=(5, 6, 7), target=tuple(document[0, 10:20].tolist()))
    losses = episode_loss(checkpoint.model, Episode(document, (row,)), window=32, ratio=4)
    losses.recall.backward()
    value = parameters["model.layers.0.self_attn.beacon_v_proj.weight"].grad
    assert value is not None
    assert value.abs().max() > 0
    assert losses.document == 0


def test_labels_of_another_shape_are_refused() -> None:
    checkpoint = load_checkpoint(GOLDEN / "qwen2_r4", device="cpu")
    ids = torch.zeros(1, 8, dtype=torch.long)
    with pytest.raises(InputError, match=r"the same \[B, T\]"):
        sequence_loss(checkpoint.model, ids, ids[:, 1:], window=32, ratio=4)


def placed(start: int, stop: int, *, heads: int = 1) -> float:
    """How improbable the slots of tokens ``start`` to ``stop`` are to the attention of a prompt's end."""
    checkpoint = load_checkpoint(GOLDEN / "qwen2_r4", device="cpu")
    ids = torch.randint(3, 199, (1, 64), generator=torch.Generator().manual_seed(0))
    row = Row(0, (5, 6, 7), (9,), start, stop)
    with torch.no_grad():
        losses = episode_loss(checkpoint.model, Episode(ids, (row,)), window=32, ratio=4, watched=(1, heads))
    return losses.placed.item()


def test_the_shares_of_attention_on_two_halves_of_a_document_add_up_to_one() -> None:
    first, second = placed(0, 24), placed(24, 64)
    assert min(first, second) > 0
    assert math.exp(-first) + math.exp(-second) == pytest.approx(1, abs=1e-5)
    assert placed(0, 64) == pytest.approx(0, abs=1e-5)


def test_a_reply_stands_in_every_slot_that_one_of_its_tokens_went_into() -> None:
    assert placed(25, 27) == placed(24, 28)
    assert placed(23, 29) == placed(20, 32)
    assert placed(25, 27, heads=2) != placed(25, 27)


def test_nobody_is_watched_where_no_reply_stands_in_the_document() -> None:
    assert placed(0, 0) == 0


def test_training_to_look_at_the_place_moves_the_attention_there() -> None:
    checkpoint = load_checkpoint(GOLDEN / "qwen2_r4", device="cpu")
    model = checkpoint.model.requires_grad_(True)
    ids = torch.randint(3, 199, (2, 64), generator=torch.Generator().manual_seed(0))
    rows = tuple(
        Row(document, tuple(ids[document, at : at + 3].tolist()), (9,), at, at + 4)
        for document in range(2)
        for at in range(0, 64, 16)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    seen = []
    for _ in range(40):
        losses = episode_loss(model, Episode(ids, rows), window=32, ratio=4, watched=(1, 2))
        losses.placed.backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(losses.placed.item())
    assert seen[0] > 2.5  # 32 slots, one of them right
    assert seen[-1] < 0.5
