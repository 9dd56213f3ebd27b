"""What save, open and load do with every kind of folder that this product makes, and others make."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from memorag_core import BeaconModel, MemoRAG, StoreError
from memorag_core.memory.beacon import BeaconSettings, save_checkpoint
from memorag_core.memory.beacon.initialize import attach_fresh
from memorag_core.memory.bundled import bundled_path
from memorag_core.memory.gist.journal import Journal
from memorag_core.store import Writer, compact, load_store, place_of, save_store
from memorag_evaluation.keeping import KeptEmbedder
from memorag_evaluation.record import write_record
from memorag_training.trainer import _save, _State
from tests.core.doubles import SentenceModel, WordEmbedder
from tests.core.memory.beacon.conftest import ASK_PROMPTS, beacon_model, small_tokenizer, write_checkpoint
from tests.core.memory.longcontext.conftest import save_model
from tests.core.store.conftest import MODEL, corpus, rewrite_manifest

ADDRESS = "memory://shelf/kinds"


def checkpoint(folder: Path, usage_file: str) -> None:
    usage = {"capacity": 64, "prompts": ASK_PROMPTS}
    write_checkpoint(folder, tokenizer=small_tokenizer(), usage=usage, usage_file=usage_file)


def bundled_copy(folder: Path) -> None:
    folder.mkdir()
    for file in bundled_path().iterdir():
        if file.is_file() and file.stat().st_size < 1 << 20:
            shutil.copyfile(file, folder / file.name)


def attached(folder: Path) -> None:
    base = folder.with_name("base")
    save_model(base, tie_word_embeddings=False)
    attach_fresh(base, folder, settings=BeaconSettings(window=32, ratios=(4,)))


def training_run(folder: Path) -> None:
    _save(folder, _State(), beacon_model().model, [])


def journal(folder: Path) -> None:
    kept = Journal(folder / "gists")
    kept.read()
    kept.write("key", "gist", tokens=3, gist_tokens=1)


def evaluation(folder: Path) -> None:
    write_record(folder / "record.json", {"recall": 0.5})
    kept = KeptEmbedder(WordEmbedder(), folder / "vectors")
    kept.embed_documents(["a text"])
    kept.keep()


def cache_that_wrote(folder: Path) -> None:
    cache_of(folder, lambda cache: save_store(ADDRESS, corpus(), cache=cache))


def cache_that_read(folder: Path) -> None:
    save_store(ADDRESS, corpus(), cache=folder.with_name("other"))
    cache_of(folder, lambda cache: load_store(ADDRESS, MODEL, cache=cache))


def cache_that_only_fetched(folder: Path) -> None:
    save_store(ADDRESS, corpus(), cache=folder.with_name("other"))

    def fetch(cache: Path) -> None:
        place = place_of(ADDRESS, cache)
        with Writer(ADDRESS, cache=folder.with_name("other")) as writer:
            manifest = writer.manifest()
        assert manifest is not None
        place.fetch(manifest.all_files[0])

    cache_of(folder, fetch)


def cache_of(folder: Path, use: Callable[[Path], Any]) -> None:
    use(folder.with_name("cache"))
    (made,) = folder.with_name("cache").iterdir()
    made.rename(folder)


def a_newer_store(folder: Path) -> None:
    save_store(folder, corpus())
    rewrite_manifest(folder, lambda manifest: manifest.update(format_version=2))


def another_programs(folder: Path) -> None:
    folder.mkdir()
    (folder / "memorag.json").write_text(json.dumps({"format": "another", "notes": "years of work"}))


def a_damaged_store(folder: Path) -> None:
    save_store(folder, corpus())
    manifest = folder / "memorag.json"
    manifest.write_bytes(manifest.read_bytes()[:-30])


def a_store_whose_manifest_is_a_link(folder: Path) -> None:
    save_store(folder, corpus())
    (folder / "memorag.json").rename(folder.with_name("real.json"))
    (folder / "memorag.json").symlink_to(folder.with_name("real.json"))


def a_folder_of_stores(folder: Path) -> None:
    save_store(folder / "one", corpus())


REFUSED: dict[str, Callable[[Path], None]] = {
    "checkpoint": lambda folder: checkpoint(folder, "memorag-usage.json"),
    "checkpoint of earlier releases": lambda folder: checkpoint(folder, "memorag.json"),
    "bundled checkpoint": bundled_copy,
    "attached checkpoint": attached,
    "long-context checkpoint": lambda folder: void(save_model(folder)),
    "training run": training_run,
    "journal of gists": journal,
    "evaluation": evaluation,
    "cache that wrote": cache_that_wrote,
    "cache that read": cache_that_read,
    "cache that only fetched": cache_that_only_fetched,
    "newer store": a_newer_store,
    "another program's": another_programs,
    "damaged store": a_damaged_store,
    "manifest that is a link": a_store_whose_manifest_is_a_link,
    "folder of stores": a_folder_of_stores,
}


def void(_: object) -> None:
    """For what gives back something that nobody needs here."""


@pytest.fixture(autouse=True)
def empty_shelf() -> None:
    fsspec.filesystem("memory").store.clear()


def content(folder: Path) -> dict[str, bytes | None]:
    return {
        str(file.relative_to(folder)): file.read_bytes() if file.is_file() else None
        for file in folder.rglob("*")
    }


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_store_that_this_release_reads_is_refused_and_left_as_it_is(
    kind: str, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    REFUSED[kind](folder)
    before = content(folder)
    rag = MemoRAG(SentenceModel(), progress=False).memorize("One clock.")
    for use in (
        lambda: rag.save(folder),
        lambda: rag.save(folder, overwrite=True),
        lambda: save_store(folder, corpus()),
        lambda: MemoRAG.open(folder, SentenceModel()),
        lambda: MemoRAG.load(folder, SentenceModel()),
        lambda: load_store(folder, MODEL),
        lambda: compact(folder),
        lambda: Writer(folder),
    ):
        with pytest.raises(StoreError) as refused:
            use()
        assert str(folder) in str(refused.value)
        assert content(folder) == before


@pytest.mark.parametrize("left", ["nothing", "what a killed first save leaves", "no folder"])
def test_where_nothing_is_or_a_first_save_was_killed_there_is_room_for_a_store(
    left: str, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    if left == "nothing":
        folder.mkdir()
    elif left != "no folder":
        save_store(folder, corpus())
        (folder / "memorag.json").unlink()
        (folder / ".unfinished").mkdir()
    with pytest.raises(StoreError, match="no saved memory"):
        MemoRAG.load(folder, SentenceModel())
    rag = MemoRAG(SentenceModel(), progress=False).memorize("One clock.")
    rag.save(folder)
    with MemoRAG.open(folder, SentenceModel(), progress=False) as opened:
        assert opened.documents == rag.documents
    assert not any(file.name.startswith("vectors-") for file in folder.iterdir())


def test_a_checkpoint_and_a_store_in_one_folder_do_not_share_a_file(tmp_path: Path) -> None:
    rag = MemoRAG(SentenceModel(), progress=False).memorize("One clock.")
    rag.save(tmp_path)
    stored = content(tmp_path)
    checkpoint(tmp_path, "memorag-usage.json")
    assert content(tmp_path).items() >= stored.items()
    model = BeaconModel.from_pretrained(tmp_path)
    files = content(tmp_path)
    rag.memorize("Two doctors.").save(tmp_path)
    assert {name: files[name] for name in files.keys() - stored.keys()}.items() <= content(tmp_path).items()
    save_checkpoint(model.model, tmp_path, settings=model.settings)
    assert MemoRAG.load(tmp_path, SentenceModel(), progress=False).documents == rag.documents


def test_a_newer_or_foreign_manifest_behind_an_address_is_left_as_it_is(tmp_path: Path) -> None:
    files = fsspec.filesystem("memory")
    for kind in ("newer store", "another program's", "damaged store"):
        folder = tmp_path / kind
        REFUSED[kind](folder)
        for name, held in content(folder).items():
            if held is not None:
                files.pipe_file(f"/shelf/{kind}/{name}", held)
        before = {name: files.cat_file(name) for name in files.find(f"/shelf/{kind}")}
        for use in (
            lambda address: save_store(address, corpus(), cache=tmp_path / "cache"),
            lambda address: MemoRAG.open(address, SentenceModel(), cache=tmp_path / "cache"),
            lambda address: load_store(address, MODEL, cache=tmp_path / "cache"),
            lambda address: compact(address, cache=tmp_path / "cache"),
        ):
            with pytest.raises(StoreError, match=r"memorag\.json"):
                use(f"memory://shelf/{kind}")
            assert {name: files.cat_file(name) for name in files.find(f"/shelf/{kind}")} == before
