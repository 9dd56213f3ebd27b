"""What is not what was saved is refused, with the reason."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memorag_core import Chunk, Document, StoreError
from memorag_core.store import load_store, read_manifest, save_store
from tests.core.store.conftest import MODEL, corpus, replace_content, rewrite_manifest, same


def test_a_changed_byte_anywhere_in_any_file_is_refused(saved: Path) -> None:
    files = [file for file in saved.iterdir() if file.suffix in {".json", ".jsonl", ".safetensors"}]
    assert len(files) == 6
    for file in files:
        content = file.read_bytes()
        for place in {*range(0, len(content), 7), len(content) - 1}:
            file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            with pytest.raises(StoreError):
                load_store(saved, MODEL)
        file.write_bytes(content)
    assert same(load_store(saved, MODEL), corpus())


@pytest.mark.parametrize(
    "damage", ["missing", "shortened", "longer", "empty", "link", "folder", "another store's"]
)
def test_a_file_that_is_not_the_one_that_was_saved_is_refused(
    saved: Path, tmp_path: Path, damage: str
) -> None:
    save_store(tmp_path / "other", corpus("Another text of another town."))
    for part in ("documents", "chunks", "memory", "vectors", "indexes"):
        broken = tmp_path / part
        shutil.copytree(saved, broken)
        file = broken / read_manifest(broken).files[part][0].name
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
            shutil.copy(tmp_path / "other" / read_manifest(tmp_path / "other").files[part][0].name, file)
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
    save_store(saved, replace(corpus(), fingerprint=as_tuple))
    assert load_store(saved, as_tuple).documents == corpus().documents


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_format_version_is_refused_by_name(saved: Path, version: object) -> None:
    rewrite_manifest(saved, lambda manifest: manifest.update(format_version=version))
    with pytest.raises(StoreError, match=r"format version .* reads version 1"):
        load_store(saved, MODEL)


@pytest.mark.parametrize(
    "name",
    ["../secret.jsonl", "/etc/passwd", "sub/documents-0123456789abcdef.jsonl", "..", "", "memorag.json"],
)
def test_a_path_out_of_the_folder_is_refused_and_not_opened(saved: Path, name: str) -> None:
    rewrite_manifest(saved, lambda manifest: manifest["files"]["documents"][0].update(name=name))
    with pytest.raises(StoreError, match="plain name"):
        load_store(saved, MODEL)


class _Trap:
    """What a hostile pickle would do when it is opened."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("opened-a-pickle",)


@pytest.mark.parametrize("part", ["memory", "vectors", "indexes"])
def test_a_pickle_in_place_of_tensors_is_refused_and_never_run(
    saved: Path, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    replace_content(saved, part, pickle.dumps(_Trap()))
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
    replace_content(saved, part, content)
    with pytest.raises(StoreError, match=message):
        load_store(saved, MODEL)


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest.pop("files"),
        lambda manifest: manifest["files"].pop("chunks"),
        lambda manifest: manifest.update(fingerprint=[]),
        lambda manifest: manifest["files"]["memory"][0].update(bytes="9"),
        lambda manifest: manifest.update(format="another program's"),
    ],
    ids=["no files", "no chunks", "no fingerprint", "size as text", "other format"],
)
def test_a_manifest_that_lacks_something_is_refused(
    saved: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    rewrite_manifest(saved, change)
    with pytest.raises(StoreError, match=r"memorag\.json"):
        load_store(saved, MODEL)


def test_a_place_without_a_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(StoreError, match="no saved memory"):
            load_store(place, MODEL)


def test_metadata_that_json_cannot_hold_is_refused_by_name_and_the_old_state_stays(saved: Path) -> None:
    for value in (object(), float("nan"), {1j: 2}):
        document = Document("One clock. Two doctors.", id="town", metadata={"value": value})
        with pytest.raises(StoreError, match="metadata of document 'town'"):
            save_store(saved, replace(corpus(), documents=(document,)))
    assert same(load_store(saved, MODEL), corpus())


def test_chunks_that_are_no_slices_of_their_document_are_refused(tmp_path: Path) -> None:
    stray = Chunk("x", "not in the text", "town", 0, 5)
    with pytest.raises(StoreError, match="Chunk 'x' is not the text"):
        save_store(tmp_path / "store", replace(corpus(), chunks=(stray,)))
    assert list((tmp_path / "store").glob("*.jsonl")) == []


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(StoreError, match=r"thesis\.txt"):
        save_store(tmp_path, corpus())
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(StoreError, match="is a file"):
        save_store(tmp_path / "thesis.txt", corpus())


def test_files_of_others_beside_a_store_stay_when_it_is_saved_again(saved: Path) -> None:
    (saved / "notes.txt").write_text("mine")
    save_store(saved, corpus("A new text, a new town."))
    assert (saved / "notes.txt").read_text() == "mine"
