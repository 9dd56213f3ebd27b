"""A store that version 0.1.0 wrote before its modules moved: it opens, answers as then, and goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from memorag_core import Document, MemoRAG
from memorag_core.memory.bundled import bundled_path

WRITTEN = Path(__file__).with_name("written_before")

pytestmark = pytest.mark.skipif(
    not any(bundled_path().glob("*.safetensors")), reason="the bundled model is not built"
)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return Path(shutil.copytree(WRITTEN / "store", tmp_path / "store"))


def test_a_store_written_before_finds_what_it_found_then(store: Path) -> None:
    rag = MemoRAG.load(store, device="cpu", progress=False)
    assert [document.id for document in rag.documents] == ["p0", "p1", "p2", "p3"]
    assert rag.documents[1].metadata == {"n": 1, "tags": ["a", "b"]}
    for row in json.loads((WRITTEN / "expected.json").read_text(encoding="utf-8")):
        assert [found.chunk.id for found in rag.retrieve(row["question"], k=3)] == row["found"]
        assert [clue.text for clue in rag.clues(row["question"])][:1] == row["clues"][:1]


def test_a_store_written_before_goes_on(store: Path) -> None:
    with MemoRAG.open(store, device="cpu", progress=False) as rag:
        rag.memorize(Document("Otters live below the mill.", id="otters"))
        rag.delete("p1")
    again = MemoRAG.load(store, device="cpu", progress=False)
    assert [document.id for document in again.documents] == ["p0", "p2", "p3", "otters"]
    assert again.retrieve("Where do otters live?", k=1)[0].chunk.document_id == "otters"
