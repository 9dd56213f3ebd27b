"""What is loaded is what was saved."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memorag_core import Chunk, Document
from memorag_core.store import StoredCorpus, load_store, read_manifest, save_store
from tests.core.store.conftest import MODEL, corpus, same
from tests.rules import examples

_METADATA = st.dictionaries(
    st.text(max_size=4),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
        max_leaves=4,
    ),
    max_size=3,
)


@given(
    texts=st.lists(st.text(st.characters(), min_size=2, max_size=30), min_size=1, max_size=3),
    metadata=_METADATA,
    chunk_metadata=_METADATA,
)
@settings(max_examples=examples(40))
def test_what_is_loaded_is_what_was_saved_for_any_text_and_metadata(
    texts: list[str], metadata: dict[str, Any], chunk_metadata: dict[str, Any]
) -> None:
    documents = tuple(Document(text, id=f"d{n}", metadata=metadata) for n, text in enumerate(texts))
    chunks = tuple(Chunk(f"{d.id}:0-1", d.text[:1], d.id, 0, 1, chunk_metadata) for d in documents)
    corpus = StoredCorpus(documents, chunks, {"keys": torch.arange(3)}, {"tokens": 1}, MODEL)
    with tempfile.TemporaryDirectory() as folder:
        save_store(Path(folder) / "store", corpus)
        assert same(load_store(Path(folder) / "store", MODEL), corpus)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int8, torch.bool])
def test_tensors_of_any_kind_come_back_with_the_same_bits(tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = torch.randn(3, 5, 7).to(dtype)
    save_store(tmp_path / "store", replace(corpus(), tensors={"t": tensor, "u": tensor[1:2]}))
    loaded = load_store(tmp_path / "store", MODEL).tensors
    assert loaded["t"].dtype == dtype
    assert torch.equal(loaded["t"], tensor)
    assert torch.equal(loaded["u"], tensor[1:2])


def test_a_memory_of_numpy_arrays_comes_back_as_numpy_arrays(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    save_store(tmp_path / "store", replace(corpus(), tensors={"a": array}))
    loaded = load_store(tmp_path / "store", MODEL).tensors["a"]
    assert isinstance(loaded, np.ndarray)
    assert np.array_equal(loaded, array)


def test_a_memory_without_tensors_can_be_stored(tmp_path: Path) -> None:
    save_store(tmp_path / "store", replace(corpus(), tensors={}))
    assert load_store(tmp_path / "store", MODEL).tensors == {}


def test_a_slice_of_a_grown_buffer_is_saved_without_the_buffer(tmp_path: Path) -> None:
    buffer = torch.zeros(1, 1_000_000)
    save_store(tmp_path / "store", replace(corpus(), tensors={"keys": buffer[:, :10]}))
    assert sum(file.stat().st_size for file in (tmp_path / "store").iterdir()) < 10_000


def test_the_same_corpus_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_store(tmp_path / name, corpus())
    contents = [{file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in ("a", "b")]
    assert contents[0] == contents[1]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_who_may_read_one_file_of_a_store_may_read_all(saved: Path) -> None:
    assert len({stat.S_IMODE(file.stat().st_mode) for file in saved.glob("*.*")}) == 1


def test_the_text_of_a_chunk_is_stored_once(tmp_path: Path) -> None:
    save_store(tmp_path / "store", corpus("needle in a haystack"))
    held = [file.name for file in (tmp_path / "store").iterdir() if b"needle" in file.read_bytes()]
    assert len(held) == 1


def test_a_store_moved_to_another_place_still_opens(saved: Path, tmp_path: Path) -> None:
    shutil.move(saved, tmp_path / "elsewhere")
    assert same(load_store(tmp_path / "elsewhere", MODEL), corpus())


def test_the_manifest_can_be_read_alone(saved: Path) -> None:
    manifest = read_manifest(saved)
    assert manifest.fingerprint == MODEL
    assert manifest.settings == {"chunks": {"size": 400}}
    assert manifest.created_by.startswith("memorag-adapters ")
