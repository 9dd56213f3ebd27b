"""A store that version 0.1.0 wrote before its modules moved: it opens, answers as then, and goes on."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import pytest

from memorag_core import Document, MemoRAG
from memorag_core.memory.bundled import bundled_path
from memorag_core.store.manifest import canonical, digest_of
from memorag_core.types import CLUE_KINDS
from tests.core.retrieval.weighing import WeighedWords

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


# Of all weights that a store of version 0.1.0 has, and others than the usual ones.
WEIGHTS = {
    **{f"{kind}_weight": 0.5 + place for place, kind in enumerate(("question", *CLUE_KINDS))},
    "bm25_weight": 0.25,
    "dense_weight": 2.0,
    "lexical_weight": 0.75,
    "graph_weight": 3.0,
}


def test_weights_that_were_chosen_before_they_were_grouped_are_read_silently_and_rightly(store: Path) -> None:
    file = store / "memorag.json"
    saved = json.loads(file.read_text(encoding="utf-8"))
    saved["settings"]["retrieval"] |= WEIGHTS
    body = {name: value for name, value in saved.items() if name != "sha256"}
    file.write_bytes(canonical({**body, "sha256": digest_of(body)}))
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        rag = MemoRAG.load(store, device="cpu", progress=False, embedder=WeighedWords())
        rag.save(store)
        again = MemoRAG.load(store, device="cpu", progress=False, embedder=WeighedWords())
    for one in (rag.retrieval, again.retrieval):
        assert one.question_weight == WEIGHTS["question_weight"]
        assert one.clue_weights == {kind: WEIGHTS[f"{kind}_weight"] for kind in CLUE_KINDS}
        assert one.retriever_weights == {"bm25": 0.25, "dense": 2.0, "learned_sparse": 0.75, "graph": 3.0}
        assert (one.k, one.fan_out, one.expansion) == (4, 50, "separate")
