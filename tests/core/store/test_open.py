"""A store that is open: one writer, saved before it is seen, any number of readers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memorag_core import ChunkSettings, Document, InputError, MemoRAG, NothingMemorizedError, StoreError
from memorag_core.store import Writer, compact, load_store, read_manifest, save_store
from tests.core.doubles import SentenceModel, WordEmbedder
from tests.core.store.conftest import MODEL, corpus, same

DOCUMENTS = [
    Document("Maren repairs the town clock. She keeps her tools in a tin.", id="clock"),
    Document("Doctor Ilse heals the miners. Her lamp burns all night.", id="doctor"),
]


def opened(path: Path, **settings: Any) -> MemoRAG:
    return MemoRAG.open(path, SentenceModel(), progress=False, **settings)


def loaded(path: Path) -> MemoRAG:
    return MemoRAG.load(path, SentenceModel(), progress=False)


def test_opening_makes_a_store_and_every_change_is_on_the_disk_when_it_is_done(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    with opened(path, chunks=ChunkSettings(size=40)) as rag:
        assert loaded(path).documents == ()
        with pytest.raises(NothingMemorizedError):
            loaded(path).clues("Who repairs the clock?")
        changes: list[Callable[[], MemoRAG]] = [
            lambda: rag.memorize(DOCUMENTS[0]),
            lambda: rag.memorize(DOCUMENTS[1]),
            lambda: rag.update(Document("Maren left the town.", id="clock")),
            lambda: rag.delete("doctor"),
            lambda: rag.delete("clock"),
            lambda: rag.memorize("All over again."),
        ]
        for change in changes:
            change()
            found = loaded(path)
            assert (found.documents, found.chunks, found.memory) == (rag.documents, rag.chunks, rag.memory)
    with opened(path) as rag:
        assert rag.documents == (Document("All over again.", id="0"),)
        assert read_manifest(path).settings["chunks"] == {"size": 40, "overlap": 0}


def test_what_cannot_be_saved_is_not_seen_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path / "notes") as rag:
        rag.memorize(DOCUMENTS[0])
        before = rag.documents, rag.chunks, rag.memory

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            changes: list[Callable[[], MemoRAG]] = [
                lambda: rag.memorize(DOCUMENTS[1]),
                lambda: rag.update(Document("Gone.", id="clock")),
                lambda: rag.delete("clock"),
            ]
            for change in changes:
                with pytest.raises(StoreError, match="No space left"):
                    change()
                assert (rag.documents, rag.chunks, rag.memory) == before
        with pytest.raises(InputError, match="metadata of document 'odd'"):
            rag.memorize(Document("A text.", id="odd", metadata={"value": object()}))
        assert loaded(tmp_path / "notes").documents == rag.documents == before[0]
        rag.memorize(DOCUMENTS[1])
    assert loaded(tmp_path / "notes").documents == tuple(DOCUMENTS)


def test_who_closed_a_store_can_ask_but_not_change_it(tmp_path: Path) -> None:
    with opened(tmp_path / "notes") as rag:
        rag.memorize(DOCUMENTS)
    rag.close()
    assert rag.clues("Who repairs the clock?")
    with pytest.raises(StoreError, match="was closed"):
        rag.memorize("More.")
    assert rag.documents == tuple(DOCUMENTS)


def test_vectors_and_order_are_kept_over_openings(tmp_path: Path) -> None:
    embedder = WordEmbedder()
    with opened(tmp_path / "notes", embedder=embedder, order="changing_last") as rag:
        rag.memorize(DOCUMENTS)
        rag.update(Document("Maren repairs no clock.", id="clock"))
    encoded = len(embedder.encoded)
    with opened(tmp_path / "notes", embedder=embedder) as rag:
        assert len(embedder.encoded) <= encoded + 1  # the first chunk, to know the embedder again
        rag.memorize("A third one.")
        assert [row.changes for row in rag.table()] == [0, 1, 0]
        rag.update(Document("Ilse is gone.", id="doctor"))
        assert rag.documents[0].id == "0"


def test_a_second_opening_and_a_save_are_refused_at_once_or_after_waiting(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    with opened(path) as rag:
        rag.memorize(DOCUMENTS[0])
        for attempt in (
            lambda: opened(path, wait=0),
            lambda: loaded(path).save(path, wait=0),
            lambda: compact(path, wait=0),
        ):
            begun = time.monotonic()
            with pytest.raises(StoreError, match=r"is open, .* waited 0 seconds"):
                attempt()
            assert time.monotonic() - begun < 1
        begun = time.monotonic()
        with pytest.raises(StoreError, match=r"waited 0\.3 seconds"):
            opened(path, wait=0.3)
        assert time.monotonic() - begun >= 0.3
        assert loaded(path).documents == rag.documents
    with opened(path, wait=0) as rag:
        assert rag.documents == (DOCUMENTS[0],)


def test_a_store_that_another_process_has_open_is_refused_until_that_is_gone(
    tmp_path: Path,
) -> None:
    save_store(tmp_path / "store", corpus())
    program = (
        "import sys\nfrom memorag_core.store import Writer\n"
        f"writer = Writer({str(tmp_path / 'store')!r})\nprint('open', flush=True)\nsys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "open\n"
    with pytest.raises(StoreError, match="in another process"):
        save_store(tmp_path / "store", corpus("A new text."), wait=0)
    assert same(load_store(tmp_path / "store", MODEL), corpus())
    other.kill()
    other.communicate()
    save_store(tmp_path / "store", corpus("A new text."), wait=5)
    assert same(load_store(tmp_path / "store", MODEL), corpus("A new text."))


def test_a_store_that_another_thread_closed_is_free(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "store")
    closing = threading.Thread(target=writer.close)
    closing.start()
    closing.join()
    assert writer.closed
    Writer(tmp_path / "store", wait=0).close()


def test_who_waits_long_enough_gets_the_store(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "store")
    threading.Timer(0.2, writer.close).start()
    with opened(tmp_path / "store", wait=30) as rag:
        rag.memorize("Patience.")
    assert loaded(tmp_path / "store").documents[0].text == "Patience."


@pytest.mark.parametrize("wait", [-1, float("nan"), float("inf"), "5", True])
def test_a_wait_that_is_no_time_is_refused(tmp_path: Path, wait: Any) -> None:
    with pytest.raises(InputError, match="expected seconds, 0 or more"):
        save_store(tmp_path / "store", corpus(), wait=wait)


def test_opening_what_another_model_made_or_what_is_damaged_lets_go_of_the_store(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    with opened(path) as rag:
        rag.memorize(DOCUMENTS)
    with pytest.raises(StoreError, match=r"settings\.capacity is 3"):
        MemoRAG.open(path, SentenceModel(capacity=3))
    file = next(path.glob("documents-*"))
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    with pytest.raises(StoreError, match="documents-"):
        opened(path)
    file.write_bytes(content)
    with opened(path, wait=0) as rag:
        assert rag.documents == tuple(DOCUMENTS)


@pytest.mark.parametrize(
    ("name", "value"), [("order", "random"), ("changes", [1]), ("changes", {"a": "b"}), ("chunks", 7)]
)
def test_saved_settings_that_nobody_saved_are_refused(tmp_path: Path, name: str, value: object) -> None:
    from tests.core.store.conftest import rewrite_manifest

    with opened(tmp_path / "notes") as rag:
        rag.memorize(DOCUMENTS)
    rewrite_manifest(tmp_path / "notes", lambda manifest: manifest["settings"].update({name: value}))
    with pytest.raises(StoreError, match="saved"):
        loaded(tmp_path / "notes")


def test_readers_find_whole_states_while_a_writer_works(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    done = threading.Event()
    wrong: list[object] = []

    def read() -> None:
        while not done.is_set():
            try:
                found = loaded(path)
                texts = [document.text for document in found.documents]
                expected = SentenceModel().memorize(found.documents) if texts else None
                if found.memory != expected:
                    wrong.append(texts)
            except Exception as error:
                wrong.append(error)

    with opened(path) as rag:
        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        try:
            for number in range(25):
                rag.memorize(Document(f"Sentence {number} is here. And one more.", id=str(number)))
                if number % 3 == 2:
                    rag.delete(str(number - 1))
        finally:
            done.set()
            for reader in readers:
                reader.join()
    assert wrong == []


def test_a_store_that_is_gone_is_called_that(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    with opened(path) as rag:
        rag.memorize(DOCUMENTS[0])
        path.rename(tmp_path / "moved")
        with pytest.raises(StoreError, match="is gone"):
            rag.memorize(DOCUMENTS[1])
        assert rag.documents == tuple(DOCUMENTS[:1])
        rag.save(tmp_path / "another")
    assert not path.exists()
    assert loaded(tmp_path / "another").documents == loaded(tmp_path / "moved").documents
