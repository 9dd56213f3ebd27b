"""Who wants to know how far the work has come is told, with or without a terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from memorag_core import BeaconModel, Document, GistModel, MemoRAG
from memorag_core.system.progress import progress_bar
from tests.core.doubles import SentenceModel, WordEmbedder, write_beacon_checkpoint

Told = list[tuple[int, int, str]]


@pytest.fixture
def told() -> Told:
    return []


@pytest.fixture
def listener(told: Told) -> Callable[[int, int, str], object]:
    return lambda done, total, what: told.append((done, total, what))


def test_a_listener_hears_what_is_done_of_how_much(
    told: Told, listener: Callable[[int, int, str], object], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_bar(5, "sorting", unit="letter", shown=listener) as more:
        more(2)
        more(3)
    assert told == [(0, 5, "sorting"), (2, 5, "sorting"), (5, 5, "sorting")]
    assert capsys.readouterr().err == ""


def test_reading_and_encoding_are_told_from_the_beginning_to_the_end(
    tmp_path: Path, told: Told, listener: Callable[[int, int, str], object]
) -> None:
    model = BeaconModel.from_pretrained(write_beacon_checkpoint(tmp_path / "model"), device="cpu")
    MemoRAG(model, embedder=WordEmbedder(), progress=listener).memorize("The river floods in spring. " * 20)
    for what in ("memorizing", "encoding"):
        heard = [(done, total) for done, total, kind in told if kind == what]
        done, totals = [one for one, _ in heard], {total for _, total in heard}
        assert done[0] == 0
        assert done == sorted(done)
        assert totals == {done[-1]}
    assert {what for _, _, what in told} == {"memorizing", "encoding"}


def test_condensing_is_told(told: Told, listener: Callable[[int, int, str], object]) -> None:
    model = GistModel(lambda prompt: "The river floods.", SentenceModel(), block_tokens=64, gist_tokens=16)
    model.memorize([Document("The river floods in spring. " * 100, id="river")], progress=listener)
    heard = [(done, total) for done, total, what in told if what == "condensing"]
    assert heard[0][0] == 0
    assert heard[-1][0] == heard[-1][1] > 0


def test_what_a_listener_raises_ends_the_work_and_the_memory_stays_as_it_was(tmp_path: Path) -> None:
    def stop(done: int, total: int, what: str) -> None:
        if done and read:
            raise KeyboardInterrupt

    model = BeaconModel.from_pretrained(write_beacon_checkpoint(tmp_path / "model"), device="cpu")
    read: list[str] = []
    rag = MemoRAG(model, progress=stop).memorize("Mara Venn repairs timepieces.")
    read.append("first")
    before = rag.retrieve("Who repairs timepieces?")
    with pytest.raises(KeyboardInterrupt):
        rag.memorize("The river floods in spring.")
    assert len(rag.documents) == 1
    assert rag.retrieve("Who repairs timepieces?") == before
