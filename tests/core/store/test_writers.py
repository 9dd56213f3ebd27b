"""Writers that take turns: what one of them was told is saved stays, and what was refused changed nothing."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from memorag_core import ChunkSettings, Document, MemoRAG, StoreError
from memorag_core.store import Writer, compact, read_manifest, save_store
from tests.core.doubles import SentenceModel, WordEmbedder
from tests.core.store.conftest import corpus

ADDRESS = "memory://shelf/writers"
CHUNKS = ChunkSettings(size=60)


@pytest.fixture(autouse=True)
def empty_shelf() -> Iterator[None]:
    fsspec.filesystem("memory").store.clear()
    yield
    fsspec.filesystem("memory").store.clear()


def loaded(path: Path | str, cache: Path | None = None) -> MemoRAG:
    return MemoRAG.load(path, SentenceModel(), cache=cache, progress=False)


def opened(path: Path | str, cache: Path | None = None) -> MemoRAG:
    return MemoRAG.open(path, SentenceModel(), cache=cache, wait=0, progress=False)


def fresh(*names: str) -> MemoRAG:
    rag = MemoRAG(SentenceModel(), chunks=CHUNKS, progress=False)
    return rag.memorize([document(name) for name in names])


def document(name: str) -> Document:
    return Document(f"The sentence of {name}. And one more.", id=name)


def names(rag: MemoRAG) -> list[str]:
    return [one.id for one in rag.documents]


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


# Machines


def test_a_machine_that_opened_a_store_before_another_saved_there_is_refused(tmp_path: Path) -> None:
    a = opened(ADDRESS, tmp_path / "a")
    a.memorize(document("first"))
    b = opened(ADDRESS, tmp_path / "b")
    b.memorize(document("b's"))
    changes: list[Callable[[], object]] = [
        lambda: a.memorize(document("a's")),
        lambda: a.delete("first"),
        lambda: a.update(Document("Anew.", id="first")),
    ]
    for change in changes:
        with pytest.raises(StoreError, match=r"Another machine saved to .* load or open it again"):
            change()
        assert names(a) == ["first"]
        assert names(loaded(ADDRESS, tmp_path / "c")) == ["first", "b's"]
    a.close()
    with opened(ADDRESS, tmp_path / "a") as again:
        again.memorize(document("a's"))
    with pytest.raises(StoreError, match="Another machine"):
        b.memorize(document("b's second"))
    b.close()
    assert names(loaded(ADDRESS, tmp_path / "c")) == ["first", "b's", "a's"]


def test_a_compaction_by_another_machine_is_noticed_and_one_that_is_late_refused(tmp_path: Path) -> None:
    a = opened(ADDRESS, tmp_path / "a")
    a.memorize([document(f"n{number}") for number in range(40)])
    a.memorize(document("two"))
    late = Writer(ADDRESS, cache=tmp_path / "c")
    compact(ADDRESS, cache=tmp_path / "b")
    changes: list[Callable[[], object]] = [lambda: a.memorize(document("three")), late.compact]
    for change in changes:
        with pytest.raises(StoreError, match="Another machine"):
            change()
    assert len(names(loaded(ADDRESS, tmp_path / "b"))) == 41
    a.close()
    late.close()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("place", ["machines", "processes of one machine"])
def test_what_was_saved_stays_and_what_was_refused_changed_nothing(
    place: str, seed: int, tmp_path: Path
) -> None:
    """Writers that load and save, and, at an address, writers that hold it open, against the history."""
    chance = random.Random(seed)
    remote = place == "machines"
    path: Path | str = ADDRESS if remote else tmp_path / "store"
    caches = [tmp_path / name if remote else None for name in "abc"]
    history: list[str] = ["start"]
    fresh("start").save(path, cache=tmp_path / "x" if remote else None)
    writers = [loaded(path, cache) for cache in caches]
    stores = [opened(path, tmp_path / name) for name in ("d", "e")] if remote else []
    done = refused = 0

    def change(rag: MemoRAG, number: int) -> list[str]:
        """Forget the first document, or add one; the history after it."""
        if len(names(rag)) > 3 and chance.random() < 0.4:
            first = names(rag)[0]
            rag.delete(first)
            return [name for name in history if name != first]
        rag.memorize(document(f"n{number}"))
        return [*history, f"n{number}"]

    for number in range(40):
        turn = chance.randrange(len(writers) + len(stores))
        try:
            if turn < len(writers):
                after = change(writers[turn], number)
                writers[turn].save(path, cache=caches[turn])
            else:
                after = change(stores[turn - len(writers)], number)
            history = after
            done += 1
        except StoreError as error:
            if "Another" not in str(error):
                raise
            refused += 1
            if chance.random() < 0.8:  # as the error says
                if turn < len(writers):
                    writers[turn] = loaded(path, caches[turn])
                else:
                    stores[turn - len(writers)].close()
                    stores[turn - len(writers)] = opened(path, tmp_path / "de"[turn - len(writers)])
        if chance.random() < 0.1:
            compact(path, cache=tmp_path / "x" if remote else None)
        assert names(loaded(path, tmp_path / "reader" if remote else None)) == history
    for store in stores:
        store.close()
    assert done > 5
    assert refused > 5


# Folders


def test_of_two_who_loaded_a_memory_the_second_to_save_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store"
    fresh("start").save(path)
    a, b = loaded(path), loaded(path)
    a.memorize(document("a's")).save(path)
    a.memorize(document("a's second")).save(path)
    before = files(path)
    b.memorize(document("b's"))
    with pytest.raises(StoreError, match=r"Another process or machine saved to .* load or open it again"):
        b.save(path)
    assert files(path) == before
    b.save(tmp_path / "other")
    assert names(loaded(tmp_path / "other")) == ["start", "b's"]
    b.save(path, overwrite=True)
    assert names(loaded(path)) == ["start", "b's"]
    b.memorize(document("b's second")).save(path)
    with pytest.raises(StoreError, match="Another"):
        a.save(path)
    assert names(loaded(path)) == ["start", "b's", "b's second"]


def test_what_another_forgot_does_not_come_back(tmp_path: Path) -> None:
    path = tmp_path / "store"
    fresh("start", "secret").save(path)
    a, b = loaded(path), loaded(path)
    b.delete("secret").save(path)
    with pytest.raises(StoreError, match="Another"):
        a.memorize(document("a's")).save(path)  # though it has all that lies there
    assert names(loaded(path)) == ["start"]


def test_a_memory_that_was_made_anew_is_saved_over_what_is_part_of_it_and_nothing_else(
    tmp_path: Path,
) -> None:
    path = tmp_path / "store"
    fresh("one").save(path)
    fresh("one").save(path)  # a script that is run again
    fresh("two", "one").save(path)
    before = files(path)
    edited = MemoRAG(SentenceModel(), progress=False).memorize([document("one"), Document("Anew.", id="two")])
    tagged = MemoRAG(SentenceModel(), progress=False).memorize(
        [document("one"), Document(document("two").text, id="two", metadata={"page": 1})]
    )
    for other in (fresh("one"), fresh("three"), edited, tagged):
        with pytest.raises(StoreError, match=r"holds a memory with other documents.*overwrite=True"):
            other.save(path)
        assert files(path) == before
    edited.save(path, overwrite=True)
    assert loaded(path).documents == edited.documents


def test_a_memory_of_another_model_or_with_vectors_is_not_lost_either(tmp_path: Path) -> None:
    path = tmp_path / "store"
    fresh("one").save(path)
    before = files(path)
    other = MemoRAG(SentenceModel(capacity=3), chunks=CHUNKS, progress=False).memorize(document("one"))
    with pytest.raises(StoreError, match="of another model"):
        other.save(path)
    assert files(path) == before
    embedded = MemoRAG(SentenceModel(), embedder=WordEmbedder(), progress=False).memorize(document("one"))
    embedded.save(path)
    with pytest.raises(StoreError, match="with vectors"):
        fresh("one").save(path)
    assert "vectors" in read_manifest(path).files
    with opened(tmp_path / "empty"):
        pass
    other.save(tmp_path / "empty")  # made by another model, and nothing is in it


def test_a_store_that_was_open_can_be_saved_to_by_who_had_it_open(tmp_path: Path) -> None:
    with opened(tmp_path / "store") as rag:
        rag.memorize(document("one"))
        rag.memorize(document("two"))
        rag.delete("one")
    rag.save(tmp_path / "store")
    with opened(tmp_path / "store") as other:
        other.memorize(document("other's"))
    with pytest.raises(StoreError, match="Another"):
        rag.save(tmp_path / "store")
    assert names(loaded(tmp_path / "store")) == ["two", "other's"]


def test_a_folder_that_was_exchanged_under_an_open_store_is_left_as_it_is(tmp_path: Path) -> None:
    fresh("another").save(tmp_path / "another")
    with opened(tmp_path / "store") as rag:
        rag.memorize(document("one"))
        (tmp_path / "store").rename(tmp_path / "moved")
        (tmp_path / "another").rename(tmp_path / "store")
        before = files(tmp_path / "store")
        with pytest.raises(StoreError, match="Another process"):
            rag.memorize(document("two"))
        assert files(tmp_path / "store") == before
    assert names(loaded(tmp_path / "moved")) == ["one"]


def test_a_writer_whose_lock_file_was_removed_is_refused_what_it_did_not_read(tmp_path: Path) -> None:
    with opened(tmp_path / "store") as rag:
        rag.memorize(document("one"))
        (tmp_path / "store" / ".lock").unlink()
        loaded(tmp_path / "store").memorize(document("other's")).save(tmp_path / "store")
        with pytest.raises(StoreError, match="Another process"):
            rag.memorize(document("two"))
    assert names(loaded(tmp_path / "store")) == ["one", "other's"]


def test_a_failed_save_over_what_was_to_be_overwritten_is_no_leave_to_overwrite_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store"
    fresh("one").save(path)
    other = fresh("two")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="No space left"):
            other.save(path, overwrite=True)
    with pytest.raises(StoreError, match="other documents"):
        other.save(path)
    assert names(loaded(path)) == ["one"]


# Processes

_BESIDE = """
import sys
from memorag_core import Document, MemoRAG, StoreError
from tests.core.doubles import SentenceModel
name, path = sys.argv[1:]
for number in range(5):
    document = Document(f"The sentence of {name} {number}.", id=f"{name}{number}")
    while True:
        try:
            if number % 2:
                MemoRAG.load(path, SentenceModel(), progress=False).memorize(document).save(path)
            else:
                with MemoRAG.open(path, SentenceModel(), progress=False) as rag:
                    rag.memorize(document)
            break
        except StoreError as error:
            if "Another" not in str(error):
                raise
"""

_FORKED = """
import faulthandler, os, sys
from memorag_core import Document, MemoRAG, StoreError
from memorag_core.store import Writer
from tests.core.doubles import SentenceModel

def refused(change):
    try:
        change()
    except StoreError as error:
        return "was forked from it" in str(error)
    return False

def opened(wait):
    return MemoRAG.open(path, SentenceModel(), wait=wait, progress=False)

path = sys.argv[1]
rag = opened(0)
rag.memorize(Document("Before.", id="before"))
writer, empty = rag._store, rag._stored(None)
for how in ("exits", "returns"):
    child = os.fork()
    if not child:
        faulthandler.dump_traceback_later(60, exit=True)
        right = [
            refused(lambda: rag.delete([document.id for document in rag.documents])),
            refused(lambda: writer.save(empty)),
            refused(writer.compact),
        ]
        rag.close()
        writer.close()
        right += [writer.closed]
        try:
            Writer(path, wait=0)
            right += [False]  # the parent has it open
        except StoreError as error:
            right += ["is open" in str(error)]
        if how == "exits":
            os._exit(0 if all(right) else 1)
        sys.exit(0 if all(right) else 1)  # with all that Python does at its end
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, how
    told = os.popen(f'"{sys.executable}" -c "{sys.argv[2]}" "{path}"').read()
    assert "is open" in told, told  # the child did not let go of the parent's lock
    rag.memorize(Document("The parent goes on.", id=how))
rag.close()
print([document.id for document in opened(0).documents])
"""

_TRY = """
import sys
from memorag_core import StoreError
from memorag_core.store import Writer
try:
    Writer(sys.argv[1], wait=0)
except StoreError as error:
    print(error)
"""


def test_processes_that_load_and_save_or_open_the_same_store_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store"
    fresh("start").save(path)
    command = [sys.executable, "-c", _BESIDE]
    processes = [subprocess.Popen([*command, name, str(path)]) for name in "abc"]
    assert [process.wait(300) for process in processes] == [0, 0, 0]
    expected = [f"{name}{number}" for name in "abc" for number in range(5)]
    assert sorted(names(loaded(path))) == [*expected, "start"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_is_refused_and_its_parent_goes_on_with_its_lock(tmp_path: Path) -> None:
    program = [sys.executable, "-c", _FORKED, str(tmp_path / "store"), _TRY.replace('"', "'")]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""
    assert done.stdout == "['before', 'exits', 'returns']\n"


def test_two_memories_of_one_process_do_not_open_one_store(tmp_path: Path) -> None:
    save_store(tmp_path / "store", corpus())
    with Writer(tmp_path / "store"):
        (tmp_path / "link").symlink_to("store")
        for path in (tmp_path / "store", tmp_path / "link"):
            attempts: list[Callable[[], object]] = [
                lambda path=path: Writer(path, wait=0),  # type: ignore[misc]
                lambda path=path: compact(path, wait=0),  # type: ignore[misc]
            ]
            for attempt in attempts:
                with pytest.raises(StoreError, match="is open, in another process or another MemoRAG"):
                    attempt()
