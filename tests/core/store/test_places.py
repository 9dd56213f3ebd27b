"""A store's place is taken once, and all ways to name it are one place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from memorag_core import Document, InputError, MemoRAG, StoreError
from memorag_core.store import StoreReader, Writer, compact, load_store, read_manifest, save_store
from tests.core.doubles import SentenceModel
from tests.core.store.conftest import MODEL, corpus, same
from tests.core.system.test_disk import NO_PLACES, synced


def rag(text: str, name: str) -> MemoRAG:
    return MemoRAG(SentenceModel(), progress=False).memorize(Document(text, id=name))


def texts(folder: Path | str) -> list[str]:
    return [one.text for one in MemoRAG.load(folder, SentenceModel(), progress=False).documents]


def test_an_open_store_stays_the_one_that_was_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        rag(f"What lies {name}.", name).save(tmp_path / name / "store")
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "link").symlink_to("here/store")
    for path in ("store", Path("store"), "../link"):
        with MemoRAG.open(path, SentenceModel(), progress=False) as opened:
            monkeypatch.chdir(tmp_path / "there")
            (tmp_path / "link").unlink()
            (tmp_path / "link").symlink_to("there/store")
            opened.memorize(f"Opened as {path}.")
        monkeypatch.chdir(tmp_path / "here")
        (tmp_path / "link").unlink()
        (tmp_path / "link").symlink_to("here/store")
    assert texts(tmp_path / "there" / "store") == ["What lies there."]
    assert len(texts(tmp_path / "here" / "store")) == 4


def test_a_cache_stays_where_it_was_and_an_address_of_files_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "store").mkdir()
    monkeypatch.chdir(tmp_path)
    with MemoRAG.open("file://store", SentenceModel(), cache="cache", progress=False) as opened:
        monkeypatch.chdir(tmp_path / "elsewhere")
        opened.memorize("One.")
    assert texts(tmp_path / "store") == ["One."]
    assert list((tmp_path / "elsewhere").iterdir()) == []
    with pytest.raises(InputError, match="cache is ''"):
        load_store("memory://shelf/notes", MODEL, cache="")


def test_an_address_of_files_makes_its_folders_as_a_path_does(tmp_path: Path) -> None:
    address = f"file://{tmp_path}/a/b"
    with pytest.raises(StoreError, match="no saved memory"):
        MemoRAG.load(address, SentenceModel(), cache=tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []  # who reads makes nothing
    with MemoRAG.open(address, SentenceModel(), cache=tmp_path / "cache", progress=False) as opened:
        opened.memorize("One.")
    assert texts(tmp_path / "a" / "b") == ["One."]


def test_a_tilde_is_the_home_folder_of_every_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    rag("One.", "1").save("~/store")
    with MemoRAG.open("~/store", SentenceModel()) as opened:
        opened.memorize("Two.")
    compact("~/store")
    assert texts("~/store") == texts(tmp_path / "store") == ["One.", "Two."]
    assert read_manifest("~/store") == read_manifest(tmp_path / "store")
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize("path", NO_PLACES)
def test_what_names_no_place_is_refused_by_every_entry(
    path: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_store(tmp_path, corpus())  # in the working folder, which is meant by none of these
    for use in (
        lambda: save_store(path, corpus()),
        lambda: load_store(path, MODEL),
        lambda: read_manifest(path),
        lambda: compact(path),
        lambda: Writer(path),
        lambda: MemoRAG.load(path, SentenceModel()),
        lambda: MemoRAG.open(path, SentenceModel()),
        lambda: rag("One.", "1").save(path),
    ):
        with pytest.raises(InputError, match="expected the name of a file or folder"):
            use()
    assert same(load_store(tmp_path, MODEL), corpus())


@pytest.mark.parametrize(
    "path", ["memory://", "memory:///", "memory:// ", "file://", "s3://", "memory://a\0"]
)
def test_an_address_without_a_name_is_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a name behind the protocol"):
        save_store(path, corpus(), cache=tmp_path)


def test_an_address_in_a_path_is_refused_for_it_would_be_a_folder_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="address as text: 's3://"):
        save_store(Path("s3://bucket/notes"), corpus())
    assert list(tmp_path.iterdir()) == []


def test_all_ways_to_name_a_place_are_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    one = rag("One.", "1")
    one.save("store")
    (tmp_path / "link").symlink_to("store")
    ways: list[str | Path] = ["store", "./store/", tmp_path / "store", "link", "~/store", "store/../store"]
    assert {StoreReader(path).place for path in ways} == {str(tmp_path / "store")}
    for number, path in enumerate(ways):
        one.memorize(f"Way {number}.")
        if number == 3:
            one.delete("1")  # so that it is no more than what lies there by its text alone
        one.save(path)  # it knows the state there by every name
    other = MemoRAG.load("link", SentenceModel()).memorize("Another's.")
    other.save("store")
    for path in ways:
        with pytest.raises(StoreError, match="Another process"):
            one.save(path)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs the names of open files")
def test_a_first_save_into_missing_folders_has_all_of_them_on_the_disk_before_its_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = synced(monkeypatch)
    real = os.replace

    def replace(source: Any, target: Any) -> None:
        if Path(target).name == "memorag.json":
            assert {tmp_path, tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / "c"} <= set(done)
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    save_store(tmp_path / "a" / "b" / "c", corpus())
    assert done[-1] == tmp_path / "a" / "b" / "c"
    assert same(load_store(tmp_path / "a" / "b" / "c", MODEL), corpus())
