"""Keys and values in few bits: what comes back is near, and quantized again it is the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from memorag_core import InputError, StoreError
from memorag_core.store import StoredCorpus, load_store, read_manifest, save_store
from memorag_core.store.layout import Quantized
from memorag_core.store.quantizing import LEVELS, dequantize, quantize
from tests.core.store.conftest import MODEL, corpus, rewrite_manifest
from tests.rules import examples

Bits = Literal["int8", "int4"]
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def again(tensor: torch.Tensor, encoding: Bits) -> torch.Tensor:
    quantized = Quantized(encoding, str(tensor.dtype).removeprefix("torch."), tensor.shape[-1])
    return dequantize(*quantize(tensor, encoding, "keys"), quantized, "keys")


def cached(encoding: str = "float", seed: int = 0) -> StoredCorpus:
    """A corpus whose memory has keys and values [L, B, H, T, D] with a head size that is odd."""
    numbers = torch.from_numpy(np.random.default_rng(seed).normal(size=(2, 1, 2, 40, 7))).float()
    header = {"tokens": 40, "grows": {"0.keys": 3}, "kv": ["0.keys"]}
    return replace(corpus(), tensors={"0.keys": numbers, "ids": torch.arange(40)}, header=header)


@pytest.mark.parametrize("encoding", ["int8", "int4"])
@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
@settings(max_examples=examples(150), deadline=None)
def test_what_came_back_quantized_again_gives_the_same_bytes(
    encoding: Bits, dtype: torch.dtype, data: st.DataObject
) -> None:
    shape = (data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4)), data.draw(st.integers(1, 9)))
    spread = data.draw(st.sampled_from([1e-7, 1e-5, 1e-3, 1.0, 100.0, 60000.0]))
    numbers = data.draw(arrays.arrays(np.float32, shape, elements=st.floats(-1, 1, width=32)))
    tensor = (torch.from_numpy(numbers) * spread).to(dtype)
    first = quantize(tensor, encoding, "keys")
    second = quantize(again(tensor, encoding), encoding, "keys")
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


@pytest.mark.parametrize("encoding", ["int8", "int4"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_error_is_below_half_a_step_of_the_largest_number(encoding: Bits, dtype: torch.dtype) -> None:
    tensor = torch.randn(3, 5, 64, generator=torch.Generator().manual_seed(1)).to(dtype)
    largest = tensor.float().abs().amax(-1, keepdim=True)
    error = (again(tensor, encoding).float() - tensor.float()).abs() / largest
    rounding = 2**-8 if dtype == torch.bfloat16 else 2**-10
    assert error.max() <= 0.5 / LEVELS[encoding] + rounding


@pytest.mark.parametrize("encoding", ["int8", "int4"])
def test_zeros_and_vectors_of_no_numbers_come_back(encoding: Bits) -> None:
    assert torch.equal(again(torch.zeros(2, 3, 4), encoding), torch.zeros(2, 3, 4))
    assert again(torch.zeros(2, 0, 4), encoding).shape == (2, 0, 4)
    assert again(torch.zeros(2, 3, 0), encoding).shape == (2, 3, 0)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 70000.0])
def test_numbers_that_cannot_be_kept_are_refused_and_the_state_before_stays(
    tmp_path: Path, number: float
) -> None:
    save_store(tmp_path / "store", cached())
    wrong = torch.full((1, 1, 1, 3, 2), number)
    with pytest.raises(StoreError, match=r'0\.keys holds numbers up to .* Save it with kv="float"'):
        save_store(tmp_path / "store", replace(cached(), tensors={"0.keys": wrong}), kv="int8")
    assert torch.equal(load_store(tmp_path / "store", MODEL).tensors["0.keys"], cached().tensors["0.keys"])


def size_of(folder: Path) -> int:
    return sum(file.size for file in read_manifest(folder).files["memory"])


def test_keys_and_values_alone_are_quantized_and_come_back_in_their_type(tmp_path: Path) -> None:
    sizes = {}
    for kv in ("float", "int8", "int4"):
        big = replace(cached(), tensors={"0.keys": torch.randn(2, 1, 2, 4000, 64), "ids": torch.arange(40)})
        save_store(tmp_path / kv, big, kv=kv)
        sizes[kv] = size_of(tmp_path / kv)
        loaded = load_store(tmp_path / kv, MODEL).tensors
        assert loaded["0.keys"].dtype == torch.float32
        assert torch.equal(loaded["ids"], torch.arange(40))
        assert torch.allclose(loaded["0.keys"], big.tensors["0.keys"], atol=0.5)
    vectors = 2 * 2 * 4000
    assert sizes["float"] == pytest.approx(vectors * 64 * 4, rel=0.01)
    assert sizes["int8"] == pytest.approx(vectors * (64 + 2), rel=0.01)
    assert sizes["int4"] == pytest.approx(vectors * (32 + 2), rel=0.01)


def test_a_store_keeps_its_encoding_until_it_is_told_otherwise(tmp_path: Path) -> None:
    save_store(tmp_path / "store", cached(), kv="int8")
    save_store(tmp_path / "store", cached(seed=1))
    assert read_manifest(tmp_path / "store").kv == "int8"
    save_store(tmp_path / "store", cached(seed=1), kv="float")
    assert read_manifest(tmp_path / "store").kv == "float"
    loaded = load_store(tmp_path / "store", MODEL)
    assert torch.equal(loaded.tensors["0.keys"], cached(seed=1).tensors["0.keys"])


@pytest.mark.parametrize("kv", ["int8", "int4"])
def test_saving_what_was_loaded_from_a_quantized_store_writes_nothing(tmp_path: Path, kv: Bits) -> None:
    save_store(tmp_path / "store", cached(), kv=kv)
    before = (tmp_path / "store" / "memorag.json").read_bytes()
    save_store(tmp_path / "store", load_store(tmp_path / "store", MODEL))
    assert (tmp_path / "store" / "memorag.json").read_bytes() == before


def test_an_unknown_encoding_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    wrong: Any = "int2"
    with pytest.raises(InputError, match="expected one of float, int8, int4"):
        save_store(tmp_path / "store", cached(), kv=wrong)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "float32 or so"},
        {"dtype": "int64"},
        {"size": 10**12},
        {"size": -1},
        {"kv": "int4"},
    ],
    ids=str,
)
def test_a_manifest_that_lies_about_an_encoding_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    save_store(tmp_path / "store", cached(), kv="int8")
    rewrite_manifest(
        tmp_path / "store",
        lambda manifest: manifest["files"]["memory"][0]["tensors"]["0.keys"].update(change),
    )
    with pytest.raises(StoreError):
        load_store(tmp_path / "store", MODEL)
