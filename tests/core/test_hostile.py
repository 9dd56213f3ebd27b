"""Whatever stands in a header, a config or a row: it is taken, or refused by the project's error, at once."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memorag_core import (
    BeaconModel,
    CheckpointError,
    Document,
    InputError,
    MemoRAG,
    MemoRAGError,
    RetrievalSettings,
    StoreError,
    UnsupportedModelError,
)
from memorag_core.memory.longcontext import LongContextModel
from memorag_core.store.layout import MANIFEST
from memorag_core.store.manifest import canonical, digest_of
from tests.core.doubles import SentenceModel, WordEmbedder, write_beacon_checkpoint
from tests.core.hostile import changed
from tests.core.memory.gist.conftest import gist_model, hosted
from tests.core.memory.longcontext.conftest import save_model, text_model
from tests.core.store.conftest import replace_content
from tests.rules import examples

SECONDS = 5.0
"""What no refusal takes, on the slowest machine; what counts to 10^9 takes minutes."""

DOCUMENTS = [Document("Maren repairs the clock. " * 12, id="a"), Document("Ilse is a doctor. " * 9, id="b")]

Model = Any


@contextmanager
def at_once(*errors: type[MemoRAGError]) -> Iterator[None]:
    """Whatever this raises but these errors is a fault, and so is waiting."""
    begun = time.process_time()
    with suppress(*errors):
        yield
    assert time.process_time() - begun < SECONDS


@cache
def checkpoint() -> Path:
    import tempfile

    return write_beacon_checkpoint(Path(tempfile.mkdtemp()))


MODELS: dict[str, Callable[[], Model]] = {
    "beacon": cache(lambda: BeaconModel.from_pretrained(checkpoint())),
    "longcontext": cache(lambda: text_model(capacity=400, overlap=8)),
    "hosted": cache(hosted),
    "gist": cache(lambda: gist_model(inner=hosted())),
}


@cache
def packed(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    model = MODELS[name]()
    tensors, header = model.pack(model.memorize(DOCUMENTS))
    return dict(tensors), json.loads(json.dumps(header))


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=examples(150))
@given(data=st.data())
def test_a_header_of_a_memory_is_taken_or_refused(name: str, data: st.DataObject) -> None:
    tensors, header = packed(name)
    MODELS[name]().unpack(tensors, header)
    other = data.draw(changed(header))
    with at_once(StoreError):
        MODELS[name]().unpack(tensors, other)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=examples(80))
@given(data=st.data())
def test_a_tensor_of_a_memory_is_taken_or_refused(name: str, data: st.DataObject) -> None:
    tensors, header = packed(name)
    one = data.draw(st.sampled_from(sorted(tensors)))
    kind = data.draw(st.sampled_from(["float32", "int64", "int32", "uint8", "bool"]))
    shape = data.draw(st.sampled_from([(), (0,), (1,), (3,), (2, 2), tuple(tensors[one].shape)]))
    value = data.draw(st.sampled_from([0, 1, -1, 2**31 - 1, -(2**31)]))
    array = np.full(shape, value, dtype=np.int64).astype(kind)
    other = torch.from_numpy(array) if isinstance(tensors[one], torch.Tensor) else array
    with at_once(StoreError):
        MODELS[name]().unpack({**tensors, one: other}, header)


@cache
def store() -> Path:
    import tempfile

    folder = Path(tempfile.mkdtemp()) / "store"
    rag = MemoRAG(
        SentenceModel(),
        embedder=WordEmbedder(8),
        retrieval=RetrievalSettings(retriever_weights={"graph": 1.0}),
        progress=False,
    )
    rag.memorize(DOCUMENTS).update(Document("Ilse is no doctor.", id="b"))
    rag.save(folder)
    return folder


def manifest_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
    found.pop("sha256")
    return found


@settings(max_examples=examples(150), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_manifest_with_the_right_hash_is_taken_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    folder = tmp_path / "store"
    shutil.copytree(store(), folder, dirs_exist_ok=True)
    other = data.draw(changed(manifest_of(folder)))
    (folder / MANIFEST).write_bytes(canonical({**other, "sha256": digest_of(other)}))
    with at_once(StoreError, InputError):  # the second where a choice that was not saved has to be made
        MemoRAG.load(folder, SentenceModel(), embedder=WordEmbedder(8), progress=False)


ROW = '{"id": "a", "text": "One clock.", "metadata": %s}\n'


@pytest.mark.parametrize(
    ("part", "content"),
    [
        ("documents", ROW % '{"x": NaN}'),
        ("documents", ROW % '{"x": -Infinity}'),
        ("documents", ROW % '{"x": [1e999]}'),
        ("documents", ROW % "{}" + ROW % "{}"),
        ("documents", ROW % ('{"x":' + "[" * 50_000 + "]" * 50_000 + "}")),
        ("documents", '{"id": "a", "text": "half \\ud800 pair", "metadata": {}}\n'),
        ("documents", '{"id": "a", "text": null, "metadata": {}}\n'),
        ("chunks", '{"id": "a", "document": "a", "start": 0, "end": 5, "metadata": {"x": NaN}}\n'),
        ("chunks", '{"id": "a", "document": "a", "start": 0, "end": 1e9}\n'),
        ("chunks", '{"id": "a", "document": "a", "start": 0, "end": 5}\n' * 2),
        ("chunks", '{"id": "a", "document": ["a"], "start": 0, "end": 5}\n'),
    ],
)
def test_a_row_that_nobody_would_have_saved_is_refused(tmp_path: Path, part: str, content: str) -> None:
    shutil.copytree(store(), tmp_path / "store")
    replace_content(tmp_path / "store", part, content.encode())
    with at_once(), pytest.raises(StoreError, match="Restore the folder"):
        MemoRAG.load(tmp_path / "store", SentenceModel(), embedder=WordEmbedder(8), progress=False)


JSON_FILES = ("config.json", "memorag-usage.json", "memorag.json", "generation_config.json")


@settings(max_examples=examples(150), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_json_of_a_checkpoint_is_taken_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    folder = tmp_path / "model"
    shutil.copytree(checkpoint(), folder, dirs_exist_ok=True)
    (folder / "generation_config.json").write_text('{"eos_token_id": [1, 2]}')
    file = folder / data.draw(st.sampled_from([name for name in JSON_FILES if (folder / name).exists()]))
    file.write_text(json.dumps(data.draw(changed(json.loads(file.read_text())))))
    with at_once(CheckpointError, UnsupportedModelError):
        BeaconModel.from_pretrained(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"beacon_param": None},
        {"beacon_param": 3},
        {"beacon_param": [["q"]]},
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": -1},
        {"num_hidden_layers": "2"},
        {"num_hidden_layers": None},
        {"rope_parameters": [1]},
        {"eos_token_id": {"a": 1}},
        {"eos_token_id": "</s>"},
        {"rms_norm_eps": float("nan")},
        {"beacon_window": 10**30},
        {"beacon_window": True},
        {"beacon_ratio_mix": "adapt-" + "9" * 5000},
    ],
)
def test_a_config_that_describes_no_model_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    shutil.copytree(checkpoint(), tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with at_once(), pytest.raises((CheckpointError, UnsupportedModelError), match=r"expected|supported|JSON"):
        BeaconModel.from_pretrained(tmp_path / "model")


@pytest.mark.parametrize("layers", [10**9, -1, "x", None])
def test_a_plain_model_of_more_layers_than_there_can_be_is_refused(tmp_path: Path, layers: object) -> None:
    save_model(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"num_hidden_layers": layers}))
    with at_once(), pytest.raises((CheckpointError, UnsupportedModelError)):
        LongContextModel.from_pretrained(tmp_path)


def test_a_stored_document_without_chunks_is_cut_at_the_next_change(tmp_path: Path) -> None:
    rag = MemoRAG(SentenceModel(), progress=False).memorize(DOCUMENTS)
    rag.save(tmp_path)
    last = rag.chunks[-1]
    row = json.dumps({"id": last.id, "document": "b", "start": last.start, "end": last.end})
    replace_content(tmp_path, "chunks", f"{row}\n".encode())
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    manifest["files"]["chunks"][0]["rows"] = [0, 1]
    del manifest["files"]["indexes"], manifest["sha256"]
    manifest["indexes"] = {}
    (tmp_path / MANIFEST).write_bytes(canonical({**manifest, "sha256": digest_of(manifest)}))
    loaded = MemoRAG.load(tmp_path, SentenceModel(), progress=False)
    assert {one.document_id for one in loaded.chunks} == {"b"}
    loaded.memorize("Bread is sold out.")
    assert {one.document_id for one in loaded.chunks} == {"a", "b", "0"}
    assert loaded.retrieve("Who repairs the clock?", k=1)[0].chunk.document_id == "a"
