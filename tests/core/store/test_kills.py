"""A writer killed at any moment of any change leaves the state before it, or the one after.

MEMORAG_KILLS says how often; 200 times by default.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tqdm import tqdm

from memorag_core import ChunkSettings, Document, MemoRAG
from memorag_core.store import compact, load_store, read_manifest, save_store
from tests.core.doubles import SentenceModel
from tests.core.store.conftest import MODEL, same
from tests.core.store.test_segments import grown

KILLS = int(os.environ.get("MEMORAG_KILLS", "200"))
STEPS = 12
"""Changes that a writer makes until it starts over."""

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


@pytest.fixture(autouse=True)
def no_lock_is_shared_with_the_dead() -> Iterator[None]:
    """Progress bars lock across forks; who is killed with that lock would stop this process too."""
    before = tqdm.get_lock()  # type: ignore[no-untyped-call]
    tqdm.set_lock(threading.RLock())
    yield
    tqdm.set_lock(before)


@dataclass
class Writer:
    """A process that makes changes one after the other and says when each begins."""

    pid: int
    said: int

    @classmethod
    def started(cls, change: Callable[[int], None], first: int) -> Writer:
        told, said = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(told)
                step = first
                while True:
                    os.write(said, bytes([step]))
                    change(step)
                    step = (step + 1) % STEPS
            except BaseException as error:
                os.write(said, b"\xff" + repr(error).encode())
            finally:
                os._exit(1)
        os.close(said)
        return cls(pid, told)

    def killed_after(self, seconds: float) -> int:
        """The change that was being made when it was killed."""
        begun = os.read(self.said, 1)
        time.sleep(seconds)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        with os.fdopen(self.said, "rb") as told:
            begun += told.read()
        assert b"\xff" not in begun, begun[begun.index(b"\xff") + 1 :]
        return begun[-1]


def survived(
    change: Callable[[int], None], state: Callable[[int], bool], kills: int, longest: float
) -> Iterator[int]:
    """Kill writers; ``state(n)`` says whether the store is as change n left it. Gives each step it was in."""
    moments, next_step = random.Random(7), 0
    for _ in range(kills):
        step = Writer.started(change, next_step).killed_after(moments.uniform(0, longest))
        after = state(step)
        assert after or state((step - 1) % STEPS)
        yield step
        next_step = (step + 1) % STEPS if after else step


def test_a_store_of_growing_tensors_survives_kills(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    sizes = [400, 404, 408, 408, 420, 300, 300, 310, 900, 904, 904, 400]
    compacted = {3, 6, 10}

    def change(step: int) -> None:
        if step in compacted:
            compact(folder)
        else:
            save_store(folder, grown(sizes[step]))

    save_store(folder, grown(sizes[-1]))
    found: dict[str, int] = {}
    for step in survived(
        change, lambda step: same(load_store(folder, MODEL), grown(sizes[step])), KILLS // 2, 0.04
    ):
        kind = "compact" if step in compacted else "save"
        found[kind] = found.get(kind, 0) + 1
    save_store(folder, grown(sizes[0]))
    named = {file.name for file in read_manifest(folder).all_files}
    assert {file.name for file in folder.iterdir()} == named | {".lock", "memorag.json"}
    if KILLS >= 40:
        assert set(found) == {"compact", "save"}


def test_a_store_that_is_open_survives_kills_of_append_update_and_delete(tmp_path: Path) -> None:
    folder, settings = tmp_path / "store", ChunkSettings(size=60)

    def text(name: str) -> str:
        return " ".join(f"The {name} of number {number} is kept in the tower." for number in range(40))

    def make(rag: MemoRAG, step: int) -> None:
        turn, kind = step // 3, step % 3
        if kind == 0:
            rag.memorize(Document(text(f"lamp {turn}"), id="new"))
        elif kind == 1:
            rag.update(Document(text(f"bell {turn}"), id="b"))
        else:
            rag.delete("new")

    first = [Document(text(name), id=name) for name in "abc"]
    with MemoRAG.open(folder, SentenceModel(), chunks=settings, progress=False) as rag:
        rag.memorize(first)
    rag = MemoRAG(SentenceModel(), chunks=settings, progress=False).memorize(first)
    states = []
    for turn in range(2):  # the second time round is what comes back every time
        for step in range(STEPS):
            make(rag, step)
            if turn:
                states.append((rag.documents, rag.chunks, rag.memory))
    with MemoRAG.open(folder, SentenceModel(), progress=False) as rag:
        rag.update(Document(text("bell 3"), id="b"))  # as the last change leaves it

    def changing() -> Callable[[int], None]:
        opened: list[MemoRAG] = []

        def change(step: int) -> None:
            if not opened:
                opened.append(MemoRAG.open(folder, SentenceModel(), progress=False))
            make(opened[0], step)

        return change

    def as_left_by(step: int) -> bool:
        loaded = MemoRAG.load(folder, SentenceModel(), progress=False)
        return (loaded.documents, loaded.chunks, loaded.memory) == states[step]

    kinds = {step % 3 for step in survived(changing(), as_left_by, KILLS - KILLS // 2, 0.12)}
    if KILLS >= 40:
        assert kinds == {0, 1, 2}
