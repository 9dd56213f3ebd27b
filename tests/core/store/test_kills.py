"""A writer killed at any moment of any change leaves the state before it, or the one after.

MEMORAG_KILLS says how often; 200 times by default.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from memorag_core import ChunkSettings, Document, MemoRAG
from memorag_core.store import compact, load_store, read_manifest, save_store
from tests.core.doubles import SentenceModel
from tests.core.store.conftest import MODEL, corpus, same
from tests.core.store.killing import needs_fork_server, survived
from tests.core.store.test_segments import grown

KILLS = int(os.environ.get("MEMORAG_KILLS", "200"))
STEPS = 12
"""Changes that a writer makes until it starts over."""
SIZES = (400, 404, 408, 408, 420, 300, 300, 310, 900, 904, 904, 400)
COMPACTED = frozenset({3, 6, 10})

pytestmark = needs_fork_server


def saving(folder: Path) -> Callable[[int], None]:
    """Growing, shrinking and compacting a store of tensors."""

    def change(step: int) -> None:
        if step in COMPACTED:
            compact(folder)
        else:
            save_store(folder, grown(SIZES[step]))

    return change


def editing(folder: Path) -> Callable[[int], None]:
    """Appending, updating and deleting documents of a store that is open."""
    rag = MemoRAG.open(folder, SentenceModel(), progress=False)
    return partial(edit, rag)


def edit(rag: MemoRAG, step: int) -> None:
    turn, kind = step // 3, step % 3
    if kind == 0:
        rag.memorize(Document(text(f"lamp {turn}"), id="new"))
    elif kind == 1:
        rag.update(Document(text(f"bell {turn}"), id="b"))
    else:
        rag.delete("new")


def text(name: str) -> str:
    return " ".join(f"The {name} of number {number} is kept in the tower." for number in range(40))


def replacing(folder: Path) -> Callable[[int], None]:
    """Saving one of two corpora in place of the other."""
    return lambda step: save_store(folder, TWO[step])


TWO = corpus(), corpus("An altogether different text.", vectors=False, seed=1)


def files(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def named(folder: Path) -> set[str]:
    return {file.name for file in read_manifest(folder).all_files} | {".lock", "memorag.json"}


def test_a_store_of_growing_tensors_survives_kills(tmp_path: Path) -> None:
    folder = tmp_path / "store"

    def as_left_by(step: int) -> bool:
        return same(load_store(folder, MODEL), grown(SIZES[step]))

    save_store(folder, grown(SIZES[-1]))
    found = set(survived(partial(saving, folder), as_left_by, steps=STEPS, kills=KILLS // 2, longest=0.02))
    save_store(folder, grown(SIZES[0]))
    assert files(folder) == named(folder)
    if KILLS >= 40:
        assert found & COMPACTED
        assert found - COMPACTED


def test_a_store_that_is_open_survives_kills_of_append_update_and_delete(tmp_path: Path) -> None:
    folder, settings = tmp_path / "store", ChunkSettings(size=60)
    first = [Document(text(name), id=name) for name in "abc"]
    with MemoRAG.open(folder, SentenceModel(), chunks=settings, progress=False) as rag:
        rag.memorize(first)
    rag = MemoRAG(SentenceModel(), chunks=settings, progress=False).memorize(first)
    states = []
    for turn in range(2):  # the second time round is what comes back every time
        for step in range(STEPS):
            edit(rag, step)
            if turn:
                states.append((rag.documents, rag.chunks, rag.memory))
    with MemoRAG.open(folder, SentenceModel(), progress=False) as rag:
        rag.update(Document(text("bell 3"), id="b"))  # as the last change leaves it

    def as_left_by(step: int) -> bool:
        loaded = MemoRAG.load(folder, SentenceModel(), progress=False)
        return (loaded.documents, loaded.chunks, loaded.memory) == states[step]

    changes = survived(
        partial(editing, folder), as_left_by, steps=STEPS, kills=KILLS - KILLS // 2, longest=0.05
    )
    kinds = {step % 3 for step in changes}
    if KILLS >= 40:
        assert kinds == {0, 1, 2}


def test_a_store_that_is_replaced_survives_kills(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    save_store(folder, TWO[1])

    def as_left_by(step: int) -> bool:
        return same(load_store(folder, MODEL), TWO[step])

    kills = max(KILLS // 8, 1)
    changes = survived(partial(replacing, folder), as_left_by, steps=2, kills=kills, longest=0.01)
    assert len(list(changes)) == kills
    save_store(folder, TWO[1])
    assert files(folder) == named(folder)  # what the dead left is gone
