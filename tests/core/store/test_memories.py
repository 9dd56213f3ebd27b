"""Real memories in a store: they come back bit by bit, and what they grow by is what is written."""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memorag_core import Document, MemoRAG, StoreError
from memorag_core.store import compact, read_manifest
from memorag_core.store.layout import Part
from tests.core.doubles import write_beacon_checkpoint
from tests.core.store.conftest import rewrite_manifest
from tests.core.test_corpus import MODELS, SETTINGS, WORDS, assert_same, texts


def stored(folder: Path, *parts: Part) -> int:
    """Bytes of some parts of a store; of all when none is named."""
    return sum(
        file.size
        for part, files in read_manifest(folder).files.items()
        for file in files
        if part in (parts or (part,))
    )


def long_text(words: int, seed: int = 0) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


@pytest.mark.parametrize("kind", MODELS)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_after_any_edits_of_an_open_store_it_loads_as_what_a_fresh_reading_gives(
    kind: str, data: st.DataObject
) -> None:
    model: Any = MODELS[kind]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store"
        with MemoRAG.open(path, model, chunks=SETTINGS, progress=False) as rag:
            rag.memorize([Document(data.draw(texts), id=name) for name in "abc"])
            for step in range(data.draw(st.integers(1, 3))):
                ids = [document.id for document in rag.documents]
                edit = data.draw(st.sampled_from(["add", "update", "delete", "reopen"]))
                if edit == "add":
                    rag.memorize(Document(data.draw(texts), id=f"new {step}"))
                elif edit == "update":
                    rag.update(Document(data.draw(texts), id=data.draw(st.sampled_from(ids))))
                elif edit == "delete" and len(ids) > 1:
                    rag.delete(data.draw(st.sampled_from(ids)))
        if data.draw(st.booleans()):
            compact(path)
        loaded = MemoRAG.load(path, model, progress=False)
        assert_same(loaded, MemoRAG(model, chunks=SETTINGS, progress=False).memorize(rag.documents))
        more = Document("the keeper of the lamp", id="last")  # a memory that was loaded goes on
        assert_same(
            loaded.memorize(more),
            MemoRAG(model, chunks=SETTINGS, progress=False).memorize([*rag.documents, more]),
        )


@pytest.mark.parametrize("kind", MODELS)
def test_an_append_of_a_hundredth_writes_about_a_hundredth(kind: str, tmp_path: Path) -> None:
    model: Any = MODELS[kind]
    words = 150 if kind == "long context with windows" else 1200
    if kind.startswith("long context") and kind != "long context in parts":
        words = 150  # one row, of as many tokens as the model has positions
    rag = MemoRAG(model, progress=False).memorize(Document(long_text(words), id="a"))
    rag.save(tmp_path / "store")
    before = {file.name for file in (tmp_path / "store").iterdir()}
    rag.memorize(Document(long_text(words // 100 or 1, seed=1), id="b"))
    rag.save(tmp_path / "store")
    written = sum(file.stat().st_size for file in (tmp_path / "store").glob("*-*") if file.name not in before)
    tensors, header = rag.model.pack(rag.memory)
    rewritten = sum(tensor.nbytes for name, tensor in tensors.items() if name not in header["grows"])
    # A part that has become full is written once more, as a row of its block.
    part = max(tensor[:, :1].nbytes for tensor in tensors.values() if tensor.ndim == 5)
    assert written < 0.05 * stored(tmp_path / "store") + rewritten + 6 * part * (rag.memory.parts > 1) + 6000


@pytest.mark.parametrize("kind", ["beacon", "beacon in parts", "long context"])
@pytest.mark.parametrize("kv", ["int8", "int4"])
def test_a_quantized_memory_is_smaller_answers_and_does_not_wear_out(
    kind: str, kv: Any, tmp_path: Path
) -> None:
    model: Any = MODELS[kind]
    rag = MemoRAG(model, progress=False).memorize(long_text(120))
    rag.save(tmp_path / "float")
    rag.save(tmp_path / kv, kv=kv)
    sizes = [stored(tmp_path / name, "memory") for name in ("float", kv)]
    assert sizes[1] < 0.6 * sizes[0]
    loaded = MemoRAG.load(tmp_path / kv, model, progress=False)
    assert isinstance(loaded.clues("Where is the lamp?", kinds=("span",)), tuple)
    manifest = (tmp_path / kv / "memorag.json").read_bytes()
    loaded.save(tmp_path / kv)
    assert (tmp_path / kv / "memorag.json").read_bytes() == manifest
    for name, tensor in model.pack(loaded.memory)[0].items():
        original = model.pack(rag.memory)[0][name]
        assert tensor.dtype == original.dtype
        assert torch.allclose(tensor.float(), original.float(), atol=float(original.abs().max()) / 10)


def test_another_ratio_other_weights_and_another_tokenizer_are_refused_by_name(tmp_path: Path) -> None:
    checkpoint = write_beacon_checkpoint(tmp_path / "model")
    MemoRAG(checkpoint, ratio=4, progress=False).memorize(long_text(60)).save(tmp_path / "store")
    assert MemoRAG.load(tmp_path / "store", checkpoint, progress=False).documents
    with pytest.raises(StoreError, match="ratio is 8 in the model and 4 in the store"):
        MemoRAG.load(tmp_path / "store", checkpoint, ratio=8)
    other = write_beacon_checkpoint(tmp_path / "other", seed=1)
    with pytest.raises(StoreError, match="weights is"):
        MemoRAG.load(tmp_path / "store", other)
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (checkpoint / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(StoreError, match="tokenizer is"):
        MemoRAG.load(tmp_path / "store", checkpoint)


@pytest.mark.parametrize("kind", ["beacon in parts", "long context in parts"])
def test_a_manifest_of_any_values_opens_a_memory_or_is_refused(kind: str, tmp_path: Path) -> None:
    """Who sets the hash right can change the header and the settings; the rest is held by hashes."""
    model: Any = MODELS[kind]
    MemoRAG(model, chunks=SETTINGS, progress=False).memorize(
        [Document(long_text(60), id="a"), Document(long_text(30, 1), id="b")]
    ).save(tmp_path / "store")
    original = (tmp_path / "store" / "memorag.json").read_bytes()
    chance = random.Random(3)
    odd: list[Any] = [None, -1, 0, 1, 7, 10**30, 0.5, True, "", "int4", [], {}, [[1]], {"a": 1}, [1, 2, 3]]

    def change(manifest: dict[str, Any]) -> None:
        holder: Any = manifest[chance.choice(["memory", "settings"])]
        while holder:
            key = chance.choice(sorted(holder)) if isinstance(holder, dict) else chance.randrange(len(holder))
            if isinstance(holder[key], dict | list) and chance.random() < 0.7:
                holder = holder[key]
                continue
            holder[key] = chance.choice(odd)
            return

    refused = 0
    for _ in range(300):
        rewrite_manifest(tmp_path / "store", change)
        try:
            MemoRAG.load(tmp_path / "store", model, progress=False)
        except StoreError:
            refused += 1
        (tmp_path / "store" / "memorag.json").write_bytes(original)
    assert refused > 100
