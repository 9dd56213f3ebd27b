"""A store behind an address is what a folder is: the same states, the same refusals, and files kept here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import fsspec
import pytest

from memorag_core import Document, MemoRAG, MissingExtraError, StoreError
from memorag_core.store import compact, load_store, read_manifest, save_store
from tests.core.doubles import SentenceModel
from tests.core.store.conftest import MODEL, corpus, same
from tests.core.store.test_segments import grown

ADDRESS = "memory://shelf/notes"


@pytest.fixture(autouse=True)
def files() -> Iterator[Any]:
    """The file system of memory://, which is one for the whole process."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def lying(files: Any) -> dict[str, bytes]:
    return {Path(name).name: files.cat_file(name) for name in files.find("/shelf/notes")}


def cached(cache: Path) -> set[str]:
    return {file.name for file in cache.glob("*/*-*")}


@contextmanager
def broken_at(files: Any, step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the network break at the given upload; of a file half may have arrived."""
    done = 0

    def broken(name: str) -> None:
        real = getattr(files, name)

        def call(self: Any, one: str, other: Any, *rest: Any, **options: Any) -> Any:
            nonlocal done
            done += 1
            if done == step:
                if name == "put_file":
                    files.pipe_file(other, Path(one).read_bytes()[:-5])
                raise ConnectionResetError("the cable was pulled")
            return real(one, other, *rest, **options)

        patch.setattr(type(files), name, call)

    with monkeypatch.context() as patch:
        broken("put_file")
        broken("pipe_file")
        yield


def test_what_is_loaded_is_what_was_saved_also_on_another_machine(cache: Path, tmp_path: Path) -> None:
    save_store(ADDRESS, corpus(), cache=cache)
    for here in (cache, tmp_path / "another machine"):
        assert same(load_store(ADDRESS, MODEL, cache=here), corpus())
    assert read_manifest(ADDRESS).fingerprint == MODEL


def test_an_append_uploads_and_downloads_what_is_new(cache: Path, tmp_path: Path, files: Any) -> None:
    other = tmp_path / "another machine"
    save_store(ADDRESS, grown(3000), cache=cache)
    load_store(ADDRESS, MODEL, cache=other)
    before, here = lying(files), cached(other)
    save_store(ADDRESS, grown(3030), cache=cache)
    new = {name: content for name, content in lying(files).items() if name not in before}
    assert sum(map(len, new.values())) < 0.1 * sum(map(len, before.values()))
    assert before.keys() <= lying(files).keys()
    assert same(load_store(ADDRESS, MODEL, cache=other), grown(3030))
    assert cached(other) - here <= new.keys()


def test_appending_needs_no_download_of_what_lies_there(cache: Path, tmp_path: Path, files: Any) -> None:
    save_store(ADDRESS, grown(3000), cache=cache)
    save_store(ADDRESS, grown(3030), cache=tmp_path / "another machine")
    assert len(cached(tmp_path / "another machine")) <= 4
    assert same(load_store(ADDRESS, MODEL, cache=cache), grown(3030))


def test_a_broken_upload_leaves_the_state_before_and_can_be_repeated(
    cache: Path, files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken: list[str] = []
    for step in range(1, 9):
        files.store.clear()
        save_store(ADDRESS, grown(300), cache=cache)
        with broken_at(files, step, monkeypatch):
            try:
                save_store(ADDRESS, grown(900), cache=cache)
            except StoreError as error:
                broken.append(str(error))
        state = grown(300) if len(broken) == step else grown(900)
        assert same(load_store(ADDRESS, MODEL, cache=cache / "fresh" / str(step)), state)
        save_store(ADDRESS, grown(900), cache=cache)
        assert same(load_store(ADDRESS, MODEL, cache=cache / "again" / str(step)), grown(900))
    assert len(broken) == 6  # four files, the manifest before and the manifest
    assert all("the cable was pulled" in message for message in broken)


def test_nothing_is_removed_but_by_a_compaction(cache: Path, files: Any) -> None:
    save_store(ADDRESS, grown(300), cache=cache)
    first = lying(files).keys()
    save_store(ADDRESS, grown(900, seed=1), cache=cache)
    assert first <= lying(files).keys()
    compact(ADDRESS, cache=cache)
    assert len(lying(files)) == 5
    assert same(load_store(ADDRESS, MODEL, cache=cache), grown(900, seed=1))
    assert len(cached(cache)) == 4


def test_a_reader_that_has_an_old_manifest_finds_its_files(cache: Path) -> None:
    save_store(ADDRESS, grown(300), cache=cache)
    old = read_manifest(ADDRESS)
    save_store(ADDRESS, grown(900, seed=1), cache=cache)
    from memorag_core.store import place_of
    from memorag_core.store.reading import read_state

    assert same(read_state(place_of(ADDRESS, cache / "reader"), old, MODEL), grown(300))


def test_every_damage_there_and_here_is_refused_or_mended(cache: Path, files: Any) -> None:
    save_store(ADDRESS, corpus(), cache=cache)
    whole = lying(files)
    for name, content in whole.items():
        for number, wrong in enumerate((content[:-1], content[:-1] + bytes([content[-1] ^ 1]), b"")):
            files.pipe_file(f"/shelf/notes/{name}", wrong)
            with pytest.raises(StoreError):
                load_store(ADDRESS, MODEL, cache=cache / name / str(number))
        files.rm_file(f"/shelf/notes/{name}")
        with pytest.raises(StoreError, match=r"missing|no saved memory"):
            load_store(ADDRESS, MODEL, cache=cache / name / "missing")
        files.pipe_file(f"/shelf/notes/{name}", content)
    for file in cache.glob("*/*-*"):
        file.write_bytes(b"rubbish")  # in the cache: fetched again
    assert same(load_store(ADDRESS, MODEL, cache=cache), corpus())


def test_a_save_by_another_machine_meanwhile_is_noticed(
    cache: Path, tmp_path: Path, files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_store(ADDRESS, grown(300), cache=cache)
    real = files.put_file
    met: list[bool] = []

    def meanwhile(self: Any, *arguments: Any, **options: Any) -> Any:
        if not met:
            met.append(True)
            save_store(ADDRESS, grown(310), cache=tmp_path / "another machine")
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(type(files), "put_file", meanwhile)
        with pytest.raises(StoreError, match="Another machine saved"):
            save_store(ADDRESS, grown(900), cache=cache)
    assert same(load_store(ADDRESS, MODEL, cache=cache), grown(310))


def test_an_address_with_other_files_is_left_alone(cache: Path, files: Any) -> None:
    files.pipe_file("/shelf/notes/thesis.txt", b"years of work")
    with pytest.raises(StoreError, match=r"thesis\.txt"):
        save_store(ADDRESS, corpus(), cache=cache)
    assert lying(files) == {"thesis.txt": b"years of work"}


def test_an_address_without_a_store_or_of_no_known_kind_is_named(cache: Path) -> None:
    with pytest.raises(StoreError, match="no saved memory at 'memory://shelf/notes'"):
        load_store(ADDRESS, MODEL, cache=cache)
    with pytest.raises(StoreError, match=r"no saved memory|no memorag\.json"):
        compact(ADDRESS, cache=cache)
    with pytest.raises(StoreError, match="'smoke://signals' cannot be reached"):
        load_store("smoke://signals", MODEL, cache=cache)


def test_a_missing_package_is_named_with_its_extra(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "s3fs", None)
        loaded = import_module("fsspec.registry")._registry
        patch.delitem(loaded, "s3", raising=False)
        with pytest.raises(MissingExtraError, match=r"memorag-adapters\[remote\]"):
            load_store("s3://bucket/notes", MODEL, cache=cache)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "fsspec.core", None)
        with pytest.raises(MissingExtraError, match="fsspec"):
            load_store(ADDRESS, MODEL, cache=cache)


def test_files_are_kept_in_the_users_cache_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "users"))
    save_store(ADDRESS, corpus())
    load_store(ADDRESS, MODEL)
    assert len(cached(tmp_path / "users" / "memorag")) == 5


def test_an_open_store_works_behind_an_address(cache: Path) -> None:
    with MemoRAG.open(ADDRESS, SentenceModel(), cache=cache, progress=False) as rag:
        rag.memorize(Document("Maren repairs the town clock.", id="clock"))
        found = MemoRAG.load(ADDRESS, SentenceModel(), cache=cache / "reader", progress=False)
        assert found.documents == rag.documents
        with pytest.raises(StoreError, match="is open"):
            MemoRAG.open(ADDRESS, SentenceModel(), cache=cache, wait=0)
        rag.delete("clock")
        assert MemoRAG.load(ADDRESS, SentenceModel(), cache=cache / "reader").documents == ()
    rag = MemoRAG.load(ADDRESS, SentenceModel(), cache=cache).memorize("A text.")
    rag.save(ADDRESS, cache=cache)
    assert MemoRAG.load(ADDRESS, SentenceModel(), cache=cache).memory == rag.memory
