"""A path is taken once, a folder that was made lasts, and what cannot be locked is not called full."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memorag_core import (
    BeaconModel,
    GistModel,
    InputError,
    LongContextModel,
    MemoRAG,
    StoreError,
    plan_memory,
)
from memorag_core.memory.beacon import save_checkpoint
from memorag_core.memory.gist.journal import Journal
from memorag_core.system.disk import lock_file, make_folder, taken, taken_in_unicode
from memorag_evaluation.keeping import KeptEmbedder
from tests.core.doubles import SentenceModel, WordEmbedder

NO_PLACES: list[Any] = ["", " ", "\t\n", "a\0b", b"store", None, 3]


def test_a_path_means_one_place_whatever_becomes_of_the_working_folder_and_of_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "one")
    monkeypatch.chdir(tmp_path / "one")
    found = [taken("store"), taken("../link/store"), taken(tmp_path / "one" / ".." / "one" / "store")]
    monkeypatch.chdir(tmp_path / "two")
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to(tmp_path / "two")
    assert found == [tmp_path / "one" / "store"] * 3


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert taken("~/store") == taken(Path("~/store")) == tmp_path / "store"
    assert taken("a~b").name == "a~b"
    with pytest.raises(InputError, match=r"home folder is not known.*\./~nobody-of-this-name"):
        taken("~nobody-of-this-name/store")


@pytest.mark.parametrize("path", NO_PLACES)
def test_what_names_no_place_is_refused_everywhere(path: Any) -> None:
    uses: list[Callable[[], object]] = [
        lambda: taken(path),
        lambda: Journal(path),
        lambda: BeaconModel.from_pretrained(path),
        lambda: LongContextModel.from_pretrained(path),
    ]
    if path is not None:  # nothing is a choice there
        uses.append(lambda: GistModel(lambda prompt: prompt, SentenceModel(), journal=path))
        uses.append(lambda: KeptEmbedder(WordEmbedder(), path))
    if isinstance(path, str):  # there a model can be given, too
        uses.append(lambda: plan_memory(path, 100))
    for use in uses:
        with pytest.raises(InputError, match="expected the name of a file or folder"):
            use()


def test_a_name_that_is_no_unicode_is_refused_before_anything_is_written_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "caf\udce9"  # a byte of Latin-1, as old disks have it
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system has no such names")
    monkeypatch.chdir(folder)
    for name in ("store", folder):
        with pytest.raises(InputError, match="which is not Unicode"):
            taken_in_unicode(name)
        with pytest.raises(InputError, match="which is not Unicode"):
            MemoRAG.open(name, SentenceModel())
    with pytest.raises(InputError, match=r"The model is .*, which is not Unicode"):
        BeaconModel.from_pretrained(folder)
    with pytest.raises(InputError, match="cache is 'here', which is not Unicode"):
        MemoRAG.load("memory://shelf", SentenceModel(), cache="here")
    with pytest.raises(InputError, match="half of a surrogate pair"):
        taken("a\ud800b")
    assert list(folder.iterdir()) == []
    text = folder / "caf\udce9.txt"
    text.write_text("The well is deep.")
    assert taken(text.name) == text  # a text may lie there


def test_a_working_folder_that_is_gone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    shutil.rmtree(tmp_path / "gone")
    with pytest.raises(InputError, match="working folder cannot be found"):
        taken("store")


def test_a_journal_stays_where_it_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    journal = Journal("gists")
    monkeypatch.chdir(tmp_path / "elsewhere")
    journal.read()
    journal.write("key", "gist", tokens=3, gist_tokens=1)
    assert Journal(tmp_path / "gists").read() == {"key": "gist"}
    assert list((tmp_path / "elsewhere").iterdir()) == []


def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files and folders that are synced from now on."""
    real, done = os.fsync, []

    def fsync(handle: int) -> None:
        done.append(Path(os.readlink(f"/proc/self/fd/{handle}")))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    return done


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs the names of open files")
def test_every_folder_that_is_made_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = synced(monkeypatch)
    make_folder(tmp_path / "a" / "b" / "c")
    assert done == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    done.clear()
    make_folder(tmp_path / "a" / "b" / "c")  # made by one who may have been killed before it was synced
    assert done == [tmp_path / "a" / "b"]
    done.clear()
    Journal(tmp_path / "x" / "y" / "gists").read()
    assert {tmp_path, tmp_path / "x", tmp_path / "x" / "y"} <= set(done)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO, errno.ESTALE, errno.EINVAL])
def test_a_file_system_without_locks_is_called_that_and_not_full(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(StoreError, match=r"cannot be locked.*network file systems") as found:
        lock_file(tmp_path / ".lock", 0, remedy="Go elsewhere.")
    with pytest.raises(StoreError, match=r"cannot be locked.*Give another path") as journal:
        Journal(tmp_path / "gists").read()
    for error in (found, journal):
        assert "pace" not in str(error.value)


def test_a_lock_is_for_one_holder_and_any_thread_lets_go(tmp_path: Path) -> None:
    release = lock_file(tmp_path / ".lock", 0, remedy="")
    with pytest.raises(TimeoutError):
        lock_file(tmp_path / ".lock", 0, remedy="")
    thread = threading.Thread(target=release)
    thread.start()
    thread.join()
    lock_file(tmp_path / ".lock", 0, remedy="")()


def test_a_checkpoint_is_written_where_its_path_leads_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    loaded = BeaconModel.from_pretrained(Path(__file__).parents[2] / "golden" / "qwen2_r4")
    save_checkpoint(loaded.model, "~/model", settings=loaded.settings)
    assert BeaconModel.from_pretrained("~/model").settings == loaded.settings
    with pytest.raises(InputError, match="expected the name"):
        save_checkpoint(loaded.model, "", settings=loaded.settings)
