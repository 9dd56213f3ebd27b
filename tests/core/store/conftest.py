"""Corpora for a store, and hands that change what lies there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from memorag_core import Chunk, Document
from memorag_core.store import StoredCorpus, StoredIndex, save_store

MODEL = {"weights": "ab" * 32, "settings": {"ratio": 4, "window": 64}}


def corpus(text: str = "One clock. Two doctors.", *, vectors: bool = True, seed: int = 0) -> StoredCorpus:
    document = Document(text=text, id="town", metadata={"page": 3, "tags": ["a", None, 1.5]})
    half = len(text) // 2
    chunks = tuple(
        Chunk(f"town:{start}-{end}", text[start:end], "town", start, end, document.metadata)
        for start, end in ((0, half), (half, len(text)))
    )
    random_numbers = np.random.default_rng(seed)
    return StoredCorpus(
        documents=(document,),
        chunks=chunks,
        tensors={"keys": torch.from_numpy(random_numbers.normal(size=(2, 3, 4))).to(torch.bfloat16)},
        header={"tokens": len(text), "parts": [1, 2]},
        fingerprint=MODEL,
        settings={"chunks": {"size": 400}},
        vectors=random_numbers.normal(size=(2, 5)).astype(np.float32) if vectors else None,
        indexes={
            "places": StoredIndex({"starts": np.arange(half, dtype=np.int32)}, {"format": 1, "size": half})
        },
    )


def same(left: StoredCorpus, right: StoredCorpus) -> bool:
    if (left.vectors is None) != (right.vectors is None) or left.tensors.keys() != right.tensors.keys():
        return False
    alike = all(torch.equal(left.tensors[name], right.tensors[name]) for name in left.tensors)
    if left.vectors is not None and right.vectors is not None:
        alike = alike and np.array_equal(left.vectors, right.vectors)
    if left.indexes.keys() != right.indexes.keys():
        return False
    for name, index in left.indexes.items():
        other = right.indexes[name]
        alike = alike and (index.header, index.arrays.keys()) == (other.header, other.arrays.keys())
        alike = alike and all(
            np.array_equal(array, other.arrays[one]) and array.dtype == other.arrays[one].dtype
            for one, array in index.arrays.items()
        )
    rest, others = (replace(one, tensors={}, vectors=None, indexes={}) for one in (left, right))
    return alike and rest == others


def rewrite_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest as somebody would who also sets its hash right."""
    manifest = json.loads((folder / "memorag.json").read_text())
    change(manifest)
    manifest.pop("sha256", None)
    body = (json.dumps(manifest, ensure_ascii=False, indent=2) + "\n").encode()
    manifest["sha256"] = hashlib.sha256(body).hexdigest()
    (folder / "memorag.json").write_text(json.dumps(manifest, ensure_ascii=False, indent=2) + "\n")


def replace_content(folder: Path, part: str, content: bytes) -> None:
    """Put other bytes into the first file of a part, with name, size and hash set right."""
    digest = hashlib.sha256(content).hexdigest()

    def change(manifest: dict[str, Any]) -> None:
        row = manifest["files"][part][0]
        row |= {
            "name": f"{part}-{digest[:16]}{Path(row['name']).suffix}",
            "bytes": len(content),
            "sha256": digest,
        }
        if "rows" in row:
            row["rows"] = [0, content.count(b"\n")]
        (folder / row["name"]).write_bytes(content)

    rewrite_manifest(folder, change)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_store(tmp_path / "store", corpus())
    return tmp_path / "store"
