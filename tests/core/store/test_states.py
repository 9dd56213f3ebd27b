"""The state before a change, or the one after, and nothing else."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from memorag_core import StoreError
from memorag_core.store import load_store, read_manifest, save_store
from tests.core.store.conftest import MODEL, corpus, same

BEFORE, AFTER = corpus(), corpus("An altogether different text.", vectors=False, seed=1)


def test_saving_again_replaces_the_state_and_leaves_nothing_of_it(saved: Path) -> None:
    save_store(saved, AFTER)
    assert same(load_store(saved, MODEL), AFTER)
    assert {file.name for file in saved.iterdir()} - {".lock"} == {
        "memorag.json",
        *(file.name for file in read_manifest(saved).all_files),
    }


def test_a_mapped_memory_outlives_the_state_it_came_from(saved: Path) -> None:
    loaded = load_store(saved, MODEL)
    save_store(saved, AFTER)
    assert same(loaded, BEFORE)


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
        assert same(found, BEFORE) or same(found, AFTER)
        save_store(folder, AFTER)
        assert same(load_store(folder, MODEL), AFTER)
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
    assert same(load_store(tmp_path / "store", MODEL), BEFORE)


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
        assert same(found, BEFORE) or same(found, AFTER)

    actions = [lambda: save_store(saved, BEFORE), lambda: save_store(saved, AFTER), read, read]
    threads = [threading.Thread(target=repeat, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    read()
