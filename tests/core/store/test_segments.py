"""A save writes what is new, files stay few, and a compaction folds them without a change."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memorag_core import Chunk, Document, StoreError
from memorag_core.cli import main
from memorag_core.store import (
    ENCODINGS,
    Encoding,
    StoredCorpus,
    compact,
    load_store,
    read_manifest,
    save_store,
)
from tests.core.store.conftest import MODEL, corpus, same
from tests.rules import examples

ENTRIES = torch.randn(2, 3, 2, 4096, 4, generator=torch.Generator().manual_seed(0))


def grown(entries: int, *, seed: int = 0, rows: int = 1, documents: int | None = None) -> StoredCorpus:
    """A corpus that grows by entries, and by rows of its keys, as a memory of parts does."""
    count = documents if documents is not None else entries
    given = tuple(Document(f"text {seed} {number}", id=str(number)) for number in range(count))
    chunks = tuple(Chunk(f"{one.id}:0-4", one.text[:4], one.id, 0, 4, one.metadata) for one in given)
    keys = ENTRIES[:, :1, :, :entries] if rows == 1 else ENTRIES[:, :rows, :, :64]
    tensors = {
        "0.keys": keys + seed,
        "ids": torch.arange(entries) + seed,
        "tail": torch.full((2, 1, 2, entries % 7 + 1, 4), float(entries)),
    }
    header = {"grows": {"0.keys": 3 if rows == 1 else 1, "ids": 0}, "kv": ["0.keys"], "tokens": entries}
    vectors = np.random.default_rng(seed).normal(size=(4096, 3)).astype(np.float32)[:count]
    return StoredCorpus(given, chunks, tensors, header, MODEL, vectors=vectors)


def written(folder: Path, before: set[str]) -> int:
    """Bytes of the files that were not there."""
    return sum(file.stat().st_size for file in folder.glob("*-*") if file.name not in before)


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.glob("*-*")}


@pytest.mark.parametrize("kv", ENCODINGS)
def test_an_append_writes_what_was_appended(tmp_path: Path, kv: Encoding) -> None:
    save_store(tmp_path / "store", grown(3000), kv=kv)
    before = names(tmp_path / "store")
    all_of_it = written(tmp_path / "store", set())
    save_store(tmp_path / "store", grown(3030))
    assert before < names(tmp_path / "store")
    assert written(tmp_path / "store", before) < 0.02 * all_of_it + 8 * 1024  # headers of four files
    loaded = load_store(tmp_path / "store", MODEL)
    save_store(tmp_path / "fresh", grown(3030), kv=kv)
    assert same(loaded, load_store(tmp_path / "fresh", MODEL))


def test_rows_that_are_added_to_a_block_are_written_alone(tmp_path: Path) -> None:
    save_store(tmp_path / "store", grown(64, rows=2))
    kept = read_manifest(tmp_path / "store").files["memory"]
    after = grown(64, rows=3, seed=0)
    save_store(tmp_path / "store", after)
    found = read_manifest(tmp_path / "store").files["memory"]
    assert found[0].name == kept[0].name or len(found) == 1
    assert same(load_store(tmp_path / "store", MODEL), after)


def test_saving_the_same_again_writes_nothing(tmp_path: Path) -> None:
    save_store(tmp_path / "store", grown(100))
    before = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "store").glob("*-*")}
    save_store(tmp_path / "store", grown(100))
    assert {file.name: file.stat().st_mtime_ns for file in (tmp_path / "store").glob("*-*")} == before


def test_many_small_appends_leave_few_files_and_write_each_byte_few_times(tmp_path: Path) -> None:
    folder, total = tmp_path / "store", 0
    for entries in range(20, 2020, 20):
        before = names(folder) if folder.exists() else set()
        save_store(folder, grown(entries, documents=1))
        files = read_manifest(folder).files["memory"]
        assert len(files) <= math.log2(entries / 10) + 1
        total += sum(file.stat().st_size for file in folder.glob("memory-*") if file.name not in before)
    final = sum(file.size for file in read_manifest(folder).files["memory"])
    assert total < final * (math.log2(100) + 1)
    assert same(load_store(folder, MODEL), grown(2000, documents=1))


def test_equal_rows_and_tensors_at_two_places_are_two_files(tmp_path: Path) -> None:
    def repeated(times: int) -> StoredCorpus:
        again = {"keys": torch.zeros(1, 2, 1, 4096 * times, 4), "ids": torch.zeros(4096 * times)}
        return replace(corpus(), tensors=again, header={"grows": {"keys": 3, "ids": 0}})

    for times in (5, 6, 7, 8):  # the third piece of a kind is as large as one before
        save_store(tmp_path / "store", repeated(times))
        assert same(load_store(tmp_path / "store", MODEL), repeated(times))


def test_a_file_of_which_little_is_used_is_not_kept(tmp_path: Path) -> None:
    def two(first: float) -> StoredCorpus:
        tensors = {"a": torch.full((100_000,), first), "b": torch.ones(1000)}
        return replace(corpus(), tensors=tensors, header={"grows": {"a": 0, "b": 0}})

    save_store(tmp_path / "store", two(1.0))
    save_store(tmp_path / "store", two(2.0))
    assert len(read_manifest(tmp_path / "store").files["memory"]) == 1
    assert sum(file.size for file in read_manifest(tmp_path / "store").files["memory"]) < 410_000


def test_a_damaged_or_missing_file_is_written_again_by_the_next_save(tmp_path: Path) -> None:
    for missing in (True, False):
        for part in ("documents", "chunks", "vectors", "memory"):
            save_store(tmp_path / "store", grown(1000))
            file = next((tmp_path / "store").glob(f"{part}-*"))
            content = file.read_bytes()
            file.unlink()
            if not missing:
                file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            with pytest.raises(StoreError):
                load_store(tmp_path / "store", MODEL)
            save_store(tmp_path / "store", grown(1010))
            assert same(load_store(tmp_path / "store", MODEL), grown(1010))


def test_a_damaged_manifest_is_not_saved_over_for_it_can_be_restored(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    save_store(folder, grown(100))
    manifest = (folder / "memorag.json").read_bytes()
    for damage in (b"{}", b"", manifest[:-9], manifest.replace(b'"kv": "float"', b'"kv": "int8"')):
        (folder / "memorag.json").write_bytes(damage)
        with pytest.raises(StoreError, match="saved over what cannot be read"):
            save_store(folder, grown(200))
    (folder / "memorag.json").write_bytes(manifest)
    assert same(load_store(folder, MODEL), grown(100))


def test_a_store_of_another_model_is_written_over_and_shares_nothing(tmp_path: Path) -> None:
    save_store(tmp_path / "store", grown(100))
    other = replace(grown(100), fingerprint={"weights": "other"})
    save_store(tmp_path / "store", other)
    assert same(load_store(tmp_path / "store", other.fingerprint), other)
    with pytest.raises(StoreError, match="another model"):
        load_store(tmp_path / "store", MODEL)


@given(data=st.data())
@settings(max_examples=examples(40), deadline=None)
def test_after_any_changes_and_compactions_the_store_holds_the_last_state(data: st.DataObject) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "store"
        state = grown(data.draw(st.integers(0, 60)))
        save_store(folder, state)
        for _ in range(data.draw(st.integers(1, 6))):
            change = data.draw(st.sampled_from(["grow", "shrink", "other", "rows", "empty", "compact"]))
            if change == "compact":
                compact(folder)
            elif change == "rows":
                state = grown(data.draw(st.integers(64, 90)), rows=data.draw(st.integers(2, 3)))
            elif change == "empty":
                state = StoredCorpus((), (), {}, {}, MODEL)
            else:
                state = grown(data.draw(st.integers(0, 300)), seed=int(change == "other"))
            if change != "compact":
                save_store(folder, state, kv="float" if data.draw(st.booleans()) else None)
            assert same(load_store(folder, MODEL), state)


@pytest.mark.parametrize("kv", ENCODINGS)
def test_a_compaction_folds_all_segments_and_keeps_what_they_hold(tmp_path: Path, kv: Encoding) -> None:
    folder = tmp_path / "store"
    for entries in (2000, 2500, 2600):
        save_store(folder, grown(entries), kv=kv)
    before = load_store(folder, MODEL)
    assert max(len(files) for files in read_manifest(folder).files.values()) > 1
    compact(folder)
    assert {part: len(files) for part, files in read_manifest(folder).files.items()} == {
        "documents": 1,
        "chunks": 1,
        "memory": 1,
        "vectors": 1,
    }
    assert len(names(folder)) == 4
    assert same(load_store(folder, MODEL), before)
    kept = names(folder)
    save_store(folder, grown(2610))  # appending goes on from what was folded
    assert kept < names(folder)
    assert read_manifest(folder).kv == kv


def test_the_command_line_compacts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for entries in (2000, 2500):
        save_store(tmp_path / "store", grown(entries))
    assert main(["compact", str(tmp_path / "store")]) == 0
    assert len(names(tmp_path / "store")) == 4
    assert same(load_store(tmp_path / "store", MODEL), grown(2500))
    assert main(["compact", str(tmp_path / "nowhere"), "--wait", "0"]) == 2
    assert "no saved memory" in capsys.readouterr().err


def test_a_tensor_of_one_segment_is_a_view_of_its_file(tmp_path: Path) -> None:
    def resident() -> int:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
        pytest.skip("the system does not say how much memory is its own")

    big = replace(corpus(), tensors={"keys": torch.ones(1, 1, 1, 1 << 22, 4)})
    save_store(tmp_path / "store", big)
    del big
    before = resident()
    loaded = load_store(tmp_path / "store", MODEL)
    assert loaded.tensors["keys"].sum() == 1 << 24
    assert resident() - before < 1 << 24  # of 64 MB


def test_compacting_what_is_no_store_or_damaged_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no saved memory"):
        compact(tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []
    save_store(tmp_path / "store", grown(100))
    file = next((tmp_path / "store").glob("memory-*"))
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    manifest = (tmp_path / "store" / "memorag.json").read_bytes()
    with pytest.raises(StoreError, match="damaged"):
        compact(tmp_path / "store")
    assert (tmp_path / "store" / "memorag.json").read_bytes() == manifest
    assert file.exists()


def test_a_header_that_names_an_axis_that_there_is_not_is_refused(tmp_path: Path) -> None:
    wrong = replace(corpus(), header={"grows": {"keys": 9}})
    with pytest.raises(StoreError, match="grow on axis 9"):
        save_store(tmp_path / "store", wrong)
