"""An interrupt at any line of any change leaves memory and store alike, and the next change works."""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

import pytest

from memorag_core import MemoRAG
from tests.core.store.faulting import FIRST, NEXT, OPEN_CHANGES, holds, loaded, opened
from tests.core.store.moments import CORE, Moment, first_and_last, interrupted, moments

CLOSE = ("memorag.py", "store/writing.py", "store/folder.py")
"""Modules at whose lines the change comes about; of the others the quick test takes some."""
EVERY = 25
SECONDS = 20


def test_the_modules_that_are_looked_at_closely_are_there() -> None:
    assert all((CORE / module).is_file() for module in CLOSE)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template") / "store"
    with opened(folder) as rag:
        for document in FIRST:
            rag.memorize(document)
    return folder


@contextmanager
def not_for_ever() -> Iterator[None]:
    def hangs(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"hung for {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def judged(folder: Path, name: str, at: Moment, expected: tuple[object, object]) -> str:
    """Interrupt a change; what came of it: the state, or what is wrong."""
    with not_for_ever():
        rag = opened(folder)
        error = interrupted(lambda: OPEN_CHANGES[name](rag), at)
        if not isinstance(error, KeyboardInterrupt):
            return f"wrong: ended with {error!r}"
        memory, disk = holds(rag), holds(loaded(folder))
        if disk not in expected:
            return "wrong: mixture"
        if memory != disk:
            return "wrong: memory and store differ"
        rag.memorize(NEXT)
        rag.close()
        if loaded(folder).documents != (*disk[0], NEXT):
            return "wrong: lost by the next change"
        with opened(folder) as again:
            again.delete(NEXT.id)
        return "after" if disk == expected[1] else "before"


def count(template: Path, tmp_path: Path, name: str, *, every: int) -> Counter[str]:
    def changed(folder: Path) -> tuple[list[Moment], object]:
        shutil.copytree(template, folder)
        with opened(folder) as rag:
            return moments(lambda: OPEN_CHANGES[name](rag)), holds(rag)

    before = holds(loaded(template))
    changed(tmp_path / "first")  # what is found out once in a process is found out then
    found, after = changed(tmp_path / "clean")
    chosen = [
        one
        for number, one in enumerate(first_and_last(found))
        if number % every == 0 or (one.time == 1 and one.module.startswith(CLOSE))
    ]
    results: Counter[str] = Counter()
    for number, at in enumerate(chosen):
        folder = tmp_path / str(number)
        shutil.copytree(template, folder)
        result = judged(folder, name, at, (before, after))
        results[f"{result} at {at}" if "wrong" in result else result] += 1
        shutil.rmtree(folder)
    return results


def test_a_change_that_is_interrupted_is_made_or_not_made_in_memory_and_store(
    template: Path, tmp_path: Path
) -> None:
    results = count(template, tmp_path, "upsert", every=EVERY)
    assert results.keys() == {"before", "after"}
    assert results["before"] > 50
    assert results["after"] > 10


def test_a_save_that_is_interrupted_keeps_nobody_from_the_next_one(template: Path, tmp_path: Path) -> None:
    def changed(folder: Path) -> MemoRAG:
        shutil.copytree(template, folder)
        return loaded(folder).memorize(NEXT)

    for name in ("first", "clean"):
        rag = changed(tmp_path / name)
        found = moments(partial(rag.save, tmp_path / name))
    chosen = [
        one
        for number, one in enumerate(first_and_last(found))
        if number % EVERY == 0 or (one.time == 1 and one.module == "memorag.py")
    ]
    for number, at in enumerate(chosen):
        folder = tmp_path / str(number)
        rag = changed(folder)
        with not_for_ever():
            assert isinstance(interrupted(partial(rag.save, folder), at), KeyboardInterrupt)
            assert holds(loaded(folder)) in (holds(rag), holds(loaded(template)))
            rag.delete(FIRST[0].id)
            rag.save(folder, wait=0)
            assert holds(loaded(folder)) == holds(rag)


@pytest.mark.exhaustive
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", OPEN_CHANGES)
def test_no_line_at_all_is_an_exception(template: Path, tmp_path: Path, name: str) -> None:
    results = count(template, tmp_path, name, every=1)
    assert results.keys() == {"before", "after"}
