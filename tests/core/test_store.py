"""A saved corpus is the same again, or a refusal that says why; the state before a save, or the one after."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import shutil
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memorag_core import Chunk, Document, StoreError
from memorag_core import store as store_module
from memorag_core.store import StoredCorpus, load_store, read_manifest, save_store

MODEL = {"weights": "ab" * 32, "settings": {"ratio": 4, "window": 64}}


def _corpus(text: str = "One clock. Two doctors.", *, vectors: bool = True, seed: int = 0) -> StoredCorpus:
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
    )


def _same(left: StoredCorpus, right: StoredCorpus) -> bool:
    if (left.vectors is None) != (right.vectors is None) or left.tensors.keys() != right.tensors.keys():
        return False
    alike = all(torch.equal(left.tensors[name], right.tensors[name]) for name in left.tensors)
    if left.vectors is not None and right.vectors is not None:
        alike = alike and np.array_equal(left.vectors, right.vectors)
    return alike and replace(left, tensors={}, vectors=None) == replace(right, tensors={}, vectors=None)


def _rewrite_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest as somebody would who also sets its hash right."""
    manifest = json.loads((folder / "memorag.json").read_text())
    change(manifest)
    del manifest["sha256"]
    body = (json.dumps(manifest, ensure_ascii=False, indent=2) + "\n").encode()
    manifest["sha256"] = hashlib.sha256(body).hexdigest()
    (folder / "memorag.json").write_text(json.dumps(manifest, ensure_ascii=False, indent=2) + "\n")


def _replace_content(folder: Path, part: str, content: bytes) -> None:
    """Put other bytes into a file of the store, with name, size and hash set right."""
    digest = hashlib.sha256(content).hexdigest()

    def change(manifest: dict[str, Any]) -> None:
        row = manifest["files"][part]
        name = f"{part}-{digest[:16]}{Path(row['name']).suffix}"
        (folder / name).write_bytes(content)
        manifest["files"][part] = {"name": name, "bytes": len(content), "sha256": digest}

    _rewrite_manifest(folder, change)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_store(tmp_path / "store", _corpus())
    return tmp_path / "store"


# The same again

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
@settings(max_examples=40)
def test_what_is_loaded_is_what_was_saved_for_any_text_and_metadata(
    texts: list[str], metadata: dict[str, Any], chunk_metadata: dict[str, Any]
) -> None:
    documents = tuple(Document(text, id=f"d{n}", metadata=metadata) for n, text in enumerate(texts))
    chunks = tuple(Chunk(f"{d.id}:0-1", d.text[:1], d.id, 0, 1, chunk_metadata) for d in documents)
    corpus = StoredCorpus(documents, chunks, {"keys": torch.arange(3)}, {"tokens": 1}, MODEL)
    with tempfile.TemporaryDirectory() as folder:
        save_store(Path(folder) / "store", corpus)
        assert _same(load_store(Path(folder) / "store", MODEL), corpus)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int8, torch.bool])
def test_tensors_of_any_kind_come_back_with_the_same_bits(tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = torch.randn(3, 5, 7).to(dtype)
    save_store(tmp_path / "store", replace(_corpus(), tensors={"t": tensor, "u": tensor[1:2]}))
    loaded = load_store(tmp_path / "store", MODEL).tensors
    assert loaded["t"].dtype == dtype
    assert torch.equal(loaded["t"], tensor)
    assert torch.equal(loaded["u"], tensor[1:2])


def test_a_memory_of_numpy_arrays_comes_back_as_numpy_arrays(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    save_store(tmp_path / "store", replace(_corpus(), tensors={"a": array}))
    loaded = load_store(tmp_path / "store", MODEL).tensors["a"]
    assert isinstance(loaded, np.ndarray)
    assert np.array_equal(loaded, array)


def test_a_memory_without_tensors_can_be_stored(tmp_path: Path) -> None:
    save_store(tmp_path / "store", replace(_corpus(), tensors={}))
    assert load_store(tmp_path / "store", MODEL).tensors == {}


def test_a_slice_of_a_grown_buffer_is_saved_without_the_buffer(tmp_path: Path) -> None:
    buffer = torch.zeros(1, 1_000_000)
    save_store(tmp_path / "store", replace(_corpus(), tensors={"keys": buffer[:, :10]}))
    assert sum(file.stat().st_size for file in (tmp_path / "store").iterdir()) < 10_000


def test_the_same_corpus_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_store(tmp_path / name, _corpus())
    contents = [{file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in ("a", "b")]
    assert contents[0] == contents[1]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_who_may_read_one_file_of_a_store_may_read_all(saved: Path) -> None:
    assert len({stat.S_IMODE(file.stat().st_mode) for file in saved.glob("*.*")}) == 1


def test_the_text_of_a_chunk_is_stored_once(tmp_path: Path) -> None:
    save_store(tmp_path / "store", _corpus("needle in a haystack"))
    held = [file.name for file in (tmp_path / "store").iterdir() if b"needle" in file.read_bytes()]
    assert len(held) == 1


def test_a_store_moved_to_another_place_still_opens(saved: Path, tmp_path: Path) -> None:
    shutil.move(saved, tmp_path / "elsewhere")
    assert _same(load_store(tmp_path / "elsewhere", MODEL), _corpus())


def test_the_manifest_can_be_read_alone(saved: Path) -> None:
    manifest = read_manifest(saved)
    assert manifest.fingerprint == MODEL
    assert manifest.settings == {"chunks": {"size": 400}}
    assert manifest.created_by.startswith("memorag-adapters ")


# A refusal that says why


def test_a_changed_byte_anywhere_in_any_file_is_refused(saved: Path) -> None:
    files = [file for file in saved.iterdir() if file.suffix in {".json", ".jsonl", ".safetensors"}]
    assert len(files) == 5
    for file in files:
        content = file.read_bytes()
        for place in {*range(0, len(content), 7), len(content) - 1}:
            file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            with pytest.raises(StoreError):
                load_store(saved, MODEL)
        file.write_bytes(content)
    assert _same(load_store(saved, MODEL), _corpus())


@pytest.mark.parametrize(
    "damage", ["missing", "shortened", "longer", "empty", "link", "folder", "another store's"]
)
def test_a_file_that_is_not_the_one_that_was_saved_is_refused(
    saved: Path, tmp_path: Path, damage: str
) -> None:
    save_store(tmp_path / "other", _corpus("Another text of another town."))
    for part in ("documents", "chunks", "memory", "vectors"):
        broken = tmp_path / part
        shutil.copytree(saved, broken)
        file = broken / read_manifest(broken).files[part].name
        content = file.read_bytes()
        file.unlink()
        if damage == "shortened":
            file.write_bytes(content[:-1])
        elif damage == "longer":
            file.write_bytes(content + b"\n")
        elif damage == "empty":
            file.write_bytes(b"")
        elif damage == "link":
            file.symlink_to(saved / file.name)
        elif damage == "folder":
            file.mkdir()
        elif damage == "another store's":
            shutil.copy(tmp_path / "other" / read_manifest(tmp_path / "other").files[part].name, file)
            if file.read_bytes() == content:  # chunks may be alike
                continue
        with pytest.raises(StoreError, match=file.name):
            load_store(broken, MODEL)


def test_another_model_is_refused_with_what_differs(saved: Path) -> None:
    other = {"weights": "cd" * 32, "settings": {"ratio": 8, "window": 64}, "tokenizer": "x"}
    with pytest.raises(StoreError) as refusal:
        load_store(saved, other)
    message = str(refusal.value)
    assert "settings.ratio is 8 in the model and 4 in the store" in message
    assert 'tokenizer is "x" in the model and missing in the store' in message
    assert "weights" in message
    assert "window" not in message


def test_a_fingerprint_is_compared_as_json_not_as_python(saved: Path) -> None:
    as_tuple = {"weights": "ab" * 32, "settings": {"ratio": 4, "window": 64}, "kinds": ("span",)}
    save_store(saved, replace(_corpus(), fingerprint=as_tuple))
    assert load_store(saved, as_tuple).documents == _corpus().documents


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_format_version_is_refused_by_name(saved: Path, version: object) -> None:
    _rewrite_manifest(saved, lambda manifest: manifest.update(format_version=version))
    with pytest.raises(StoreError, match=r"format version .* reads version 1"):
        load_store(saved, MODEL)


@pytest.mark.parametrize(
    "name",
    ["../secret.jsonl", "/etc/passwd", "sub/documents-0123456789abcdef.jsonl", "..", "", "memorag.json"],
)
def test_a_path_out_of_the_folder_is_refused_and_not_opened(saved: Path, name: str) -> None:
    _rewrite_manifest(saved, lambda manifest: manifest["files"]["documents"].update(name=name))
    with pytest.raises(StoreError, match="plain name"):
        load_store(saved, MODEL)


class _Trap:
    """What a hostile pickle would do when it is opened."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("opened-a-pickle",)


@pytest.mark.parametrize("part", ["memory", "vectors"])
def test_a_pickle_in_place_of_tensors_is_refused_and_never_run(
    saved: Path, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _replace_content(saved, part, pickle.dumps(_Trap()))
    with pytest.raises(StoreError, match="not a safetensors file"):
        load_store(saved, MODEL)
    assert not (tmp_path / "opened-a-pickle").exists()


@pytest.mark.parametrize(
    ("part", "content", "message"),
    [
        ("memory", (2**62).to_bytes(8, "little") + b"{}", "not a safetensors file"),
        ("documents", b"[" * 100_000 + b"\n", "not the JSON"),
        ("documents", b'{"id": 1, "text": "a", "metadata": {}}\n', "no document"),
        ("documents", b'{"id": "a", "text": "a"}\n', "no document"),
        ("chunks", b'{"id": "a", "document": "nowhere", "start": 0, "end": 1}\n', "no chunk"),
        ("chunks", b'{"id": "a", "document": "town", "start": -5, "end": 1}\n', "from -5 to 1"),
        ("chunks", b'{"id": "a", "document": "town", "start": 0, "end": 999}\n', "from 0 to 999"),
        ("chunks", b'{"id": "a", "document": "town", "start": 0, "end": 1}\n', "2 vectors for 1 chunks"),
        ("chunks", b"[]\n", "not the JSON"),
    ],
)
def test_content_that_nobody_would_have_saved_is_refused_even_with_the_right_hash(
    saved: Path, part: str, content: bytes, message: str
) -> None:
    _replace_content(saved, part, content)
    with pytest.raises(StoreError, match=message):
        load_store(saved, MODEL)


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest.pop("files"),
        lambda manifest: manifest["files"].pop("chunks"),
        lambda manifest: manifest.update(fingerprint=[]),
        lambda manifest: manifest["files"]["memory"].update(bytes="9"),
        lambda manifest: manifest.update(format="another program's"),
    ],
    ids=["no files", "no chunks", "no fingerprint", "size as text", "other format"],
)
def test_a_manifest_that_lacks_something_is_refused(
    saved: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    _rewrite_manifest(saved, change)
    with pytest.raises(StoreError, match=r"memorag\.json"):
        load_store(saved, MODEL)


def test_a_place_without_a_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(StoreError, match="no saved memory"):
            load_store(place, MODEL)


@given(data=st.data())
@settings(max_examples=100)
def test_any_mutation_of_a_store_loads_as_the_original_or_is_refused(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "store"
        save_store(folder, _corpus())
        files = sorted(file for file in folder.iterdir() if file.stat().st_size)
        file = data.draw(st.sampled_from(files))
        content = bytearray(file.read_bytes())
        start = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(start, len(content)))
        content[start:end] = data.draw(st.binary(max_size=12))
        if data.draw(st.booleans()):
            file = data.draw(st.sampled_from(files))
        file.write_bytes(content)
        with suppress(StoreError):
            assert _same(load_store(folder, MODEL), _corpus())


def test_metadata_that_json_cannot_hold_is_refused_by_name_and_the_old_state_stays(saved: Path) -> None:
    for value in (object(), float("nan"), {1j: 2}):
        document = Document("One clock. Two doctors.", id="town", metadata={"value": value})
        with pytest.raises(StoreError, match="metadata of document 'town'"):
            save_store(saved, replace(_corpus(), documents=(document,)))
    assert _same(load_store(saved, MODEL), _corpus())


def test_chunks_that_are_no_slices_of_their_document_are_refused(tmp_path: Path) -> None:
    stray = Chunk("x", "not in the text", "town", 0, 5)
    with pytest.raises(StoreError, match="Chunk 'x' is not the text"):
        save_store(tmp_path / "store", replace(_corpus(), chunks=(stray,)))
    assert list((tmp_path / "store").glob("*.jsonl")) == []


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(StoreError, match=r"thesis\.txt"):
        save_store(tmp_path, _corpus())
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(StoreError, match="is a file"):
        save_store(tmp_path / "thesis.txt", _corpus())


def test_files_of_others_beside_a_store_stay_when_it_is_saved_again(saved: Path) -> None:
    (saved / "notes.txt").write_text("mine")
    save_store(saved, _corpus("A new text, a new town."))
    assert (saved / "notes.txt").read_text() == "mine"


# The state before or the state after

BEFORE, AFTER = _corpus(), _corpus("An altogether different text.", vectors=False, seed=1)


def test_saving_again_replaces_the_state_and_leaves_nothing_of_it(saved: Path) -> None:
    save_store(saved, AFTER)
    assert _same(load_store(saved, MODEL), AFTER)
    assert {file.name for file in saved.iterdir()} - {".lock"} == {
        "memorag.json",
        *(file.name for file in read_manifest(saved).files.values()),
    }


def test_a_mapped_memory_outlives_the_state_it_came_from(saved: Path) -> None:
    loaded = load_store(saved, MODEL)
    save_store(saved, AFTER)
    assert _same(loaded, BEFORE)


@contextmanager
def _failing_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the disk refuse at the given step of a save."""
    done = 0

    def failing(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            nonlocal done
            done += 1
            if done == step:
                raise OSError(28, "No space left on device")
            return real(*args)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing(os.replace))
        patch.setattr(os, "fsync", failing(os.fsync))
        yield


def test_a_disk_that_refuses_at_any_step_leaves_the_state_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals: list[str] = []
    for step in range(1, 30):
        folder = tmp_path / str(step)
        save_store(folder, BEFORE)
        with _failing_at(step, monkeypatch):
            try:
                save_store(folder, AFTER)
            except StoreError as error:
                refusals.append(str(error))
        found = load_store(folder, MODEL)
        assert _same(found, BEFORE) or _same(found, AFTER)
        save_store(folder, AFTER)
        assert _same(load_store(folder, MODEL), AFTER)
    assert len(refusals) > 5
    assert all("No space left" in refusal for refusal in refusals)


def test_a_first_save_that_fails_leaves_no_store_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _failing_at(3, monkeypatch), pytest.raises(StoreError, match="No space left"):
        save_store(tmp_path / "store", BEFORE)
    with pytest.raises(StoreError, match="no saved memory"):
        load_store(tmp_path / "store", MODEL)
    save_store(tmp_path / "store", BEFORE)
    assert _same(load_store(tmp_path / "store", MODEL), BEFORE)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_writer_killed_at_any_moment_leaves_one_of_the_two_states(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    save_store(folder, BEFORE)
    moments = random.Random(7)
    for _ in range(25):
        writer = os.fork()
        if writer == 0:
            try:
                while True:
                    save_store(folder, AFTER)
                    save_store(folder, BEFORE)
            finally:
                os._exit(1)
        time.sleep(moments.uniform(0.001, 0.03))
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
        found = load_store(folder, MODEL)
        assert _same(found, BEFORE) or _same(found, AFTER)
    save_store(folder, AFTER)
    assert len(list(folder.iterdir())) == 5  # three files, the manifest, the lock: what the dead left is gone


def test_readers_and_writers_at_once_never_see_a_mixture(saved: Path) -> None:
    failures: list[BaseException] = []

    def repeat(action: Callable[[], None]) -> None:
        try:
            for _ in range(15):
                action()
        except BaseException as error:
            failures.append(error)

    def read() -> None:
        found = load_store(saved, MODEL)
        assert _same(found, BEFORE) or _same(found, AFTER)

    actions = [lambda: save_store(saved, BEFORE), lambda: save_store(saved, AFTER), read, read]
    threads = [threading.Thread(target=repeat, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    read()


def test_a_second_writer_that_waited_too_long_says_so(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from filelock import FileLock

    monkeypatch.setattr(store_module, "LOCK_SECONDS", 0.05)
    with FileLock(saved / ".lock"), pytest.raises(StoreError, match="Another process has been saving"):
        save_store(saved, AFTER)
    assert _same(load_store(saved, MODEL), BEFORE)
