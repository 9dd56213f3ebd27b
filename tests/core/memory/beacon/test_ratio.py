"""A ratio that adapts: the smallest at which the whole text fits one memory, and what happens beyond."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memorag_core import MemoRAG
from memorag_core.errors import InputError, StoreError
from memorag_core.memory.beacon import BeaconMemory, BeaconModel, BeaconSettings
from memorag_core.memory.beacon.ratio import Fit
from memorag_core.memory.beacon.schedule import Stream
from tests.core.memory.beacon.conftest import (
    ASK_PROMPTS,
    assert_same_memory,
    beacon_model,
    random_ids,
    rewrite_config,
    small_tokenizer,
    write_checkpoint,
)

WINDOW = 8
POSITIONS = 128
RESERVED = 64  # as the checkpoint's mix says
FITS = {2: 184, 4: 424, 8: 904}  # (128 - 8) * ratio + 8 - 64; of whole windows of 8, all of it
LENGTHS = {100: 2, 184: 2, 185: 4, 424: 4, 425: 8, 904: 8}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint with few positions that was trained with ratios 8, 2 and 4, in this order."""
    folder = tmp_path / "model"
    write_checkpoint(folder, tokenizer=small_tokenizer(), usage={"prompts": ASK_PROMPTS}, window=WINDOW)
    rewrite_config(
        folder,
        beacon_ratio=[8, 2, 4],
        beacon_ratio_mix=f"adapt-{RESERVED}",
        max_position_embeddings=POSITIONS,
    )
    return folder


def text(tokens: int) -> str:
    """A text of so many tokens: the tokenizer makes one of each byte."""
    return ("the keeper of the tower mends clocks and reads the river " * 200)[:tokens].replace("  ", " a")


def read(model: BeaconModel, tokens: int, memory: BeaconMemory | None = None) -> BeaconMemory:
    return model.memorize(text(tokens), memory, progress=False)


@given(
    positions=st.integers(64, 1 << 20),
    window=st.sampled_from([8, 1024, 2048]),
    ratios=st.sets(st.sampled_from([2, 4, 8, 16, 32]), min_size=1),
    reserved=st.integers(0, 4096),
    tokens=st.integers(1, 1 << 22),
)
def test_the_smallest_ratio_is_taken_at_which_text_request_and_reply_fit(
    positions: int, window: int, ratios: set[int], reserved: int, tokens: int
) -> None:
    try:
        fit = Fit(positions, window, tuple(ratios), reserved)
    except InputError:
        assert (positions - window) * min(ratios) < reserved
        return
    chosen = fit.ratio(tokens)
    fitting = [each for each in ratios if (positions - window) * each + window >= tokens + reserved]
    assert chosen == (min(fitting) if fitting else max(ratios))
    if fitting:
        after = Stream(window, chosen).after(tokens + reserved) if chosen <= window else None
        assert after is None or after.slots <= positions - window + window // chosen
    assert fit.whole_windows(chosen) % window == 0
    assert 0 <= fit.tokens(chosen) - fit.whole_windows(chosen) < window


def test_the_ratio_of_a_new_memory_follows_from_its_text(checkpoint: Path) -> None:
    choices: list[dict[str, Any]] = [{}, {"ratio": "adapt"}, {"ratio": "adapt", "capacity": None}]
    for options in choices:
        model = BeaconModel.from_pretrained(checkpoint, **options)
        assert model.adapts
        assert model.ratio == 2
        for tokens, ratio in LENGTHS.items():
            assert model.ratio_for(tokens) == ratio
            memory = read(model, tokens)
            assert (memory.tokens, memory.ratio, memory.parts) == (tokens, ratio, 1)
            longest = memory.slots + memory.stream.entries + RESERVED // ratio
            assert longest <= POSITIONS + WINDOW // ratio


def test_a_memory_at_an_adapted_ratio_is_the_memory_at_that_ratio(checkpoint: Path) -> None:
    model = BeaconModel.from_pretrained(checkpoint)
    for tokens, ratio in LENGTHS.items():
        fixed = BeaconModel.from_pretrained(checkpoint, ratio=ratio)
        assert not fixed.adapts
        assert fixed.ratio_for(tokens) == ratio
        assert_same_memory(read(model, tokens), read(fixed, tokens), exactly=True)


def test_a_text_longer_than_any_memory_is_read_into_parts_at_the_largest_ratio(checkpoint: Path) -> None:
    model = BeaconModel.from_pretrained(checkpoint)
    assert model.capacity == FITS[8]
    memory = read(model, FITS[8] + 1)
    assert (memory.ratio, memory.parts) == (8, 2)
    assert model.ratio_for(10**6) == 8
    assert memory.blocks[0].stream.tokens == FITS[8]


def test_where_nothing_may_be_cut_a_text_that_does_not_fit_is_refused_before_it_is_read(
    checkpoint: Path,
) -> None:
    model = BeaconModel.from_pretrained(checkpoint, capacity=None)
    with pytest.raises(
        InputError, match=r"905 tokens; at ratio 8, the largest, .* hold 904.*capacity='auto'"
    ):
        read(model, FITS[8] + 1)
    short = read(model, 150)
    with pytest.raises(InputError, match=r"at ratio 2, the ratio of the memory .* hold 184.*anew"):
        read(model, 150, short)


def test_appending_keeps_the_ratio_and_adds_parts_of_what_fits_at_it(checkpoint: Path) -> None:
    model = BeaconModel.from_pretrained(checkpoint, overlap=0)
    memory = read(model, 150)
    grown = read(model, 300, memory)
    assert (memory.ratio, grown.ratio) == (2, 2)
    assert grown.parts == 3  # 150 + 2 between + 300 tokens, 184 to a part
    assert max(block.stream.tokens for block in grown.blocks) == FITS[2]
    assert model.ratio_for(452) == 8
    at_once = BeaconModel.from_pretrained(checkpoint, ratio=2, capacity=FITS[2], overlap=0)
    assert_same_memory(grown, read(at_once, 300, read(at_once, 150)))


def test_a_capacity_bounds_what_a_part_holds_and_so_the_ratio(checkpoint: Path) -> None:
    model = BeaconModel.from_pretrained(checkpoint, ratio="adapt", capacity=200, overlap=0)
    assert model.capacity == 200
    assert [model.ratio_for(tokens) for tokens in (100, 184, 185, 10_000)] == [2, 2, 4, 4]
    memory = read(model, 400)
    assert (memory.ratio, memory.parts) == (4, 2)
    assert BeaconModel.from_pretrained(checkpoint, ratio="adapt", capacity=8_000).capacity == FITS[8]


def test_token_ids_that_are_fed_are_read_at_the_smallest_ratio(checkpoint: Path) -> None:
    model = BeaconModel.from_pretrained(checkpoint)
    memory = model.feed(random_ids(1, 300)).memory
    assert memory.ratio == 2
    assert model.feed(random_ids(1, 300), memory).memory.ratio == 2


def test_a_packed_memory_brings_its_ratio_and_its_parts(checkpoint: Path) -> None:
    model = BeaconModel.from_pretrained(checkpoint, overlap=0)
    for tokens in (150, 300, 1000):
        memory = read(model, tokens)
        tensors, header = model.pack(memory)
        again = BeaconModel.from_pretrained(checkpoint, overlap=0)
        loaded = again.unpack(tensors, json.loads(json.dumps(header)))
        assert loaded.ratio == model.ratio_for(tokens)
        assert_same_memory(loaded, memory, exactly=True)
        assert_same_memory(read(again, 100, loaded), read(model, 100, memory))
        with pytest.raises(StoreError):
            again.unpack(tensors, {**header, "ratio": "many"})


def test_what_was_memorized_at_an_adapted_ratio_is_saved_and_loaded(checkpoint: Path, tmp_path: Path) -> None:
    rewrite_config(checkpoint, beacon_ratio_mix="step-random", max_position_embeddings=700)  # keeps 1,024
    adapt: Any = "adapt"
    rag = MemoRAG(checkpoint, ratio=adapt, device="cpu", progress=False).memorize(text(2000))
    assert rag.memory.ratio == 8
    assert rag.model.fingerprint["ratio"] == "adapt"
    rag.save(tmp_path / "store")
    loaded = MemoRAG.load(tmp_path / "store", checkpoint, device="cpu", progress=False)  # as it was saved
    assert isinstance(loaded.model, BeaconModel)
    assert loaded.model.adapts
    assert_same_memory(loaded.memory, rag.memory, exactly=True)
    assert loaded.memorize(text(900)).memory.ratio == 8
    with pytest.raises(StoreError, match="ratio"):
        MemoRAG.load(tmp_path / "store", checkpoint, ratio=8, device="cpu", progress=False)


def test_only_models_with_room_for_a_window_can_adapt() -> None:
    model = beacon_model(window=8)
    with pytest.raises(InputError, match=r"1000 positions do not hold a window of 1024 tokens"):
        Fit(1000, 1024, (2,), 1024)
    assert not model.adapts
    assert BeaconSettings().reserved == 1024
    made = BeaconModel(model.model, model.settings, ratio="adapt")
    assert (made.adapts, made.ratio) == (True, 4)
    model.model.config.max_position_embeddings = 64
    with pytest.raises(InputError, match=r"cannot adapt to the text. Give a ratio"):
        BeaconModel(model.model, model.settings, ratio="adapt")
    assert torch.equal(
        made.feed(random_ids(1, 30)).logits, model.feed(random_ids(1, 30)).logits
    )  # the same ratio
