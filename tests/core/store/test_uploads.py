"""Where files are not replaced at once, no upload that fails loses a store, or tells what is not so."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from memorag_core import Document, MemoRAG, StoreError
from memorag_core.store import compact, load_store, save_store
from memorag_core.store.layout import StoredCorpus
from tests.core.doubles import SentenceModel
from tests.core.store.conftest import MODEL, corpus, same
from tests.core.store.shelf import TROUBLES, Trouble, trouble_at

BEFORE, AFTER = corpus(), corpus("An altogether different text.", vectors=False, seed=1)
UPLOADS = 6
"""Of AFTER over BEFORE: documents, chunks, memory, index, the manifest before, the manifest."""


def state(address: str, cache: Path) -> StoredCorpus | None:
    """What a machine that was never here finds; None for nothing."""
    try:
        return load_store(address, MODEL, cache=cache)
    except StoreError as error:
        if "no saved memory" not in str(error):
            raise
        return None


@pytest.mark.parametrize("dead", [False, True])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("trouble", TROUBLES)
def test_an_upload_that_fails_at_any_step_leaves_the_state_before_or_after_and_says_which(
    trouble: Trouble, first: bool, dead: bool, tmp_path: Path
) -> None:
    done = 0
    for turn in range(1, UPLOADS + 2):
        address, here = f"shelf://{tmp_path}/store{turn}", tmp_path / f"here{turn}"
        if not first:
            save_store(address, BEFORE, cache=here)
        said = None
        with trouble_at(turn, trouble, dead=dead):
            try:
                save_store(address, AFTER, cache=here)
            except StoreError as error:
                said = str(error)
        found = state(address, tmp_path / f"elsewhere{turn}")
        is_before = found is None if first else found is not None and same(found, BEFORE)
        is_after = found is not None and same(found, AFTER)
        if said is None:
            assert is_after
        elif "is not known" in said:
            assert dead
            assert turn == UPLOADS
            assert is_before or is_after
        else:
            assert is_before
            assert "unchanged" in said
        done += said is None
        save_store(address, AFTER, cache=here)
        again = state(address, tmp_path / f"again{turn}")
        assert again is not None
        assert same(again, AFTER)
        left = {file.name for file in (tmp_path / f"store{turn}").iterdir()}
        assert "memorag.before.json" not in left
    # One upload more than there are; and where the last answer alone was lost, what arrived was looked at.
    assert done == 1 + (trouble == "answer lost" and not dead)


def test_a_reader_meets_a_whole_state_at_every_moment_of_an_upload(tmp_path: Path) -> None:
    """Between the two manifests one is always whole, whatever part of the other has arrived."""
    address, store = f"shelf://{tmp_path}/store", tmp_path / "store"
    save_store(address, BEFORE, cache=tmp_path / "here")
    before = (store / "memorag.json").read_bytes()
    save_store(address, AFTER, cache=tmp_path / "here")
    after = (store / "memorag.json").read_bytes()
    for part in (0, 1, 20, len(after) // 2, len(after) - 1):
        (store / "memorag.json").write_bytes(after)
        (store / "memorag.before.json").write_bytes(before[:part])
        assert same(load_store(address, MODEL, cache=tmp_path / "reader"), AFTER)
        (store / "memorag.before.json").write_bytes(before)
        (store / "memorag.json").write_bytes(after[:part])
        assert same(load_store(address, MODEL, cache=tmp_path / "reader"), BEFORE)
    (store / "memorag.before.json").unlink()
    with pytest.raises(StoreError, match="was changed after it was saved"):
        load_store(address, MODEL, cache=tmp_path / "reader")


def test_another_programs_or_a_newer_manifest_is_no_upload_that_broke_off(tmp_path: Path) -> None:
    address, store = f"shelf://{tmp_path}/store", tmp_path / "store"
    save_store(address, BEFORE, cache=tmp_path / "here")
    before = (store / "memorag.json").read_bytes()
    (store / "memorag.before.json").write_bytes(before)
    others: list[object] = [{"format": "another"}, [], json.loads(before) | {"format_version": 2}]
    for other in others:
        (store / "memorag.json").write_text(json.dumps(other))
        with pytest.raises(StoreError, match=r"memorag\.json"):
            load_store(address, MODEL, cache=tmp_path / "here")
        with pytest.raises(StoreError, match="saved over what cannot be read"):
            save_store(address, AFTER, cache=tmp_path / "here")
        assert json.loads((store / "memorag.json").read_text()) == other


def test_who_may_not_remove_leaves_no_older_state_to_be_read(tmp_path: Path) -> None:
    address, store = f"shelf://{tmp_path}/store", tmp_path / "store"
    with trouble_at(0, "half", may_remove=False):
        for one in (BEFORE, AFTER):
            save_store(address, one, cache=tmp_path / "here")
            manifest = (store / "memorag.json").read_bytes()
            assert (store / "memorag.before.json").read_bytes() == manifest
            (store / "memorag.json").write_bytes(manifest[:50])  # as a disk may damage it later
            assert same(load_store(address, MODEL, cache=tmp_path / "reader"), one)
            (store / "memorag.json").write_bytes(manifest)


@pytest.mark.parametrize("dead", [False, True])
@pytest.mark.parametrize("trouble", TROUBLES)
def test_an_open_store_goes_on_after_an_upload_that_failed(
    trouble: Trouble, dead: bool, tmp_path: Path
) -> None:
    address, wrong = f"shelf://{tmp_path}/store", 0
    with MemoRAG.open(address, SentenceModel(), cache=tmp_path / "here", progress=False) as rag:
        for number in range(8):
            document = Document(f"Sentence {number}.", id=str(number))
            with trouble_at(number, trouble, dead=dead):
                try:
                    rag.memorize(document)
                except StoreError:
                    wrong += 1
                    assert document not in rag.documents
            if document not in rag.documents:
                rag.memorize(document)  # also where the first time was done, and the answer was lost
            seen = MemoRAG.load(address, SentenceModel(), cache=tmp_path / "reader", progress=False)
            assert seen.documents == rag.documents
            assert seen.memory == rag.memory
    assert wrong >= 4
    assert len(rag.documents) == 8


def test_a_memory_that_was_saved_with_a_lost_answer_is_known_again(tmp_path: Path) -> None:
    unknown = 0
    for turn in range(1, 8):
        address = f"shelf://{tmp_path}/store{turn}"
        rag = MemoRAG(SentenceModel(), progress=False).memorize("One.")
        rag.save(address, cache=tmp_path / "here")
        rag.memorize("Two.")
        with trouble_at(turn, "answer lost", dead=True):
            try:
                rag.save(address, cache=tmp_path / "here")
            except StoreError as error:
                unknown += "is not known" in str(error)
        rag.delete("0")
        rag.save(address, cache=tmp_path / "here")
        found = MemoRAG.load(address, SentenceModel(), cache=tmp_path / "reader", progress=False)
        assert found.documents == rag.documents
    assert unknown == 1


def test_a_compaction_that_fails_at_any_step_keeps_what_is_stored(tmp_path: Path) -> None:
    many = replace(AFTER, documents=(*BEFORE.documents,), chunks=BEFORE.chunks)
    for trouble in TROUBLES:
        for turn in range(1, 8):
            name = f"{trouble}{turn}"
            address, here = f"shelf://{tmp_path}/{name}", tmp_path / "here" / name
            save_store(address, BEFORE, cache=here)
            save_store(address, many, cache=here)
            with trouble_at(turn, trouble), suppress(StoreError):
                compact(address, cache=here)
            assert same(load_store(address, MODEL, cache=tmp_path / "elsewhere" / name), many)
            compact(address, cache=here)
            assert same(load_store(address, MODEL, cache=tmp_path / "again" / name), many)
