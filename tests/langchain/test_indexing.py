"""LangChain's indexing API over what was memorized: added, updated, deleted, and what that reads again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import InMemoryRecordManager, aindex, index
from langchain_core.vectorstores import InMemoryVectorStore

from langchain_memorag import MemoRAGRetriever
from memorag_core import Document as Source
from memorag_core import InputError, MemoRAG
from memorag_core.protocols import ShowProgress
from tests.core.at_once import THREADS, at_once
from tests.core.doubles import SentenceMemory, SentenceModel

FERRY = Document(page_content="The ferry leaves at seven.", metadata={"source": "island"})
LATER = Document(page_content="The ferry leaves at eight.", metadata={"source": "island"})
CLOCKS = Document(page_content="Anna Holt repairs every clock.", metadata={"source": "valley"})
TOWER = Document(page_content="The tower is of green granite.", metadata={"source": "island"})


class Reading(SentenceModel):
    """Counts how often it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0

    def memorize(
        self,
        text_or_documents: str | Sequence[Source],
        memory: SentenceMemory | None = None,
        *,
        progress: ShowProgress = None,
    ) -> SentenceMemory:
        self.read += 1
        return super().memorize(text_or_documents, memory, progress=progress)


@pytest.fixture
def model() -> Reading:
    return Reading()


@pytest.fixture
def retriever(model: Reading) -> MemoRAGRetriever:
    return MemoRAGRetriever(memorag=MemoRAG(model, progress=False))


@pytest.fixture
def records() -> InMemoryRecordManager:
    manager = InMemoryRecordManager("island")
    manager.create_schema()
    return manager


def run(
    documents: Sequence[Document], records: InMemoryRecordManager, where: Any, **how: Any
) -> dict[str, int]:
    done = index(documents, records, where, key_encoder="sha256", source_id_key="source", **how)
    return {name.removeprefix("num_"): count for name, count in done.items() if count}  # type: ignore[misc]


def texts(retriever: MemoRAGRetriever) -> set[str]:
    return {document.text for document in retriever.memorag.documents}


# The indexing API


@pytest.mark.parametrize("cleanup", ["full", "incremental", "scoped_full", None])
def test_documents_are_added_once(
    retriever: MemoRAGRetriever, records: InMemoryRecordManager, cleanup: Literal["full"] | None
) -> None:
    assert run([FERRY, CLOCKS, FERRY], records, retriever, cleanup=cleanup) == {"added": 2, "skipped": 1}
    assert run([FERRY, CLOCKS], records, retriever, cleanup=cleanup) == {"skipped": 2}
    assert texts(retriever) == {FERRY.page_content, CLOCKS.page_content}
    found = retriever.invoke("Who repairs clocks?")[0]
    assert found.page_content == CLOCKS.page_content
    assert found.metadata["source"] == "valley"


def test_full_cleanup_forgets_what_is_not_given_any_more(
    retriever: MemoRAGRetriever, records: InMemoryRecordManager
) -> None:
    run([FERRY, CLOCKS], records, retriever, cleanup="full")
    assert run([LATER, CLOCKS], records, retriever, cleanup="full") == {
        "added": 1,
        "deleted": 1,
        "skipped": 1,
    }
    assert texts(retriever) == {LATER.page_content, CLOCKS.page_content}
    assert run([], records, retriever, cleanup="full") == {"deleted": 2}
    assert retriever.memorag.documents == ()


def test_incremental_cleanup_forgets_what_its_source_does_not_say_any_more(
    retriever: MemoRAGRetriever, records: InMemoryRecordManager
) -> None:
    run([FERRY, TOWER, CLOCKS], records, retriever, cleanup="incremental")
    done = run([LATER], records, retriever, cleanup="incremental")
    assert done == {"added": 1, "deleted": 2}
    assert texts(retriever) == {LATER.page_content, CLOCKS.page_content}


async def test_the_async_api_does_the_same(
    retriever: MemoRAGRetriever, records: InMemoryRecordManager
) -> None:
    how: Any = {"cleanup": "full", "source_id_key": "source", "key_encoder": "sha256"}
    await aindex([FERRY, CLOCKS], records, retriever, **how)
    done = await aindex([LATER, CLOCKS], records, retriever, **how)
    assert (done["num_added"], done["num_deleted"], done["num_skipped"]) == (1, 1, 1)
    assert texts(retriever) == {LATER.page_content, CLOCKS.page_content}


def test_an_update_that_is_forced_reads_nothing_where_nothing_is_new(
    retriever: MemoRAGRetriever, records: InMemoryRecordManager, model: Reading
) -> None:
    run([FERRY, CLOCKS], records, retriever, cleanup="full")
    before = model.read
    assert run([FERRY, CLOCKS], records, retriever, cleanup="full", force_update=True) == {"updated": 2}
    assert model.read == before


def test_many_documents_are_read_in_one_go(
    retriever: MemoRAGRetriever, records: InMemoryRecordManager, model: Reading
) -> None:
    many = [Document(page_content=f"Fact {number}.", metadata={"source": "s"}) for number in range(50)]
    run(many, records, retriever, cleanup="full")
    assert model.read == 1
    run(many[:40], records, retriever, cleanup="full")  # ten are forgotten
    assert model.read == 2


# Directly


async def test_a_document_whose_id_is_there_takes_its_place(retriever: MemoRAGRetriever) -> None:
    assert retriever.add_documents([FERRY.model_copy(update={"id": "ferry"}), CLOCKS]) == ["ferry", "0"]
    later = LATER.model_copy(update={"id": "ferry"})
    assert retriever.upsert([later, TOWER]) == {"succeeded": ["ferry", "1"], "failed": []}
    assert texts(retriever) == {LATER.page_content, CLOCKS.page_content, TOWER.page_content}
    assert await retriever.aadd_documents([FERRY.model_copy(update={"id": "ferry"})]) == ["ferry"]
    assert FERRY.page_content in texts(retriever)


def test_of_several_documents_with_one_id_the_last_stays(retriever: MemoRAGRetriever) -> None:
    same = [one.model_copy(update={"id": "x"}) for one in (FERRY, CLOCKS)]
    assert retriever.add_documents(same) == ["x", "x"]
    assert texts(retriever) == {CLOCKS.page_content}


def test_an_edit_reads_at_most_twice_whatever_it_holds(retriever: MemoRAGRetriever, model: Reading) -> None:
    retriever.add_documents([Document(page_content=f"Fact {n}.", id=str(n)) for n in range(20)])
    model.read = 0
    mixed = [Document(page_content=f"Fact {n}, corrected.", id=str(n)) for n in range(10, 30)]
    retriever.add_documents(mixed)
    assert model.read <= 2
    model.read = 0
    retriever.delete([str(n) for n in range(15)])
    assert model.read == 1


async def test_documents_are_got_and_deleted_by_id(retriever: MemoRAGRetriever) -> None:
    retriever.add_documents([FERRY, CLOCKS])
    assert [one.page_content for one in retriever.get(["1", "nobody"])] == [CLOCKS.page_content]
    assert retriever.get(["1"])[0].metadata == CLOCKS.metadata
    assert await retriever.aget(["0"]) == retriever.get(["0"])
    gone = retriever.delete(["1", "nobody", "1"])
    assert gone == {"succeeded": ["1"], "num_deleted": 1, "failed": [], "num_failed": 0}
    assert (await retriever.adelete(["nobody"]))["num_deleted"] == 0
    assert retriever.delete([]) == {"succeeded": [], "num_deleted": 0, "failed": [], "num_failed": 0}
    assert texts(retriever) == {FERRY.page_content}
    wrong: list[Any] = [[["0"]], [{}], [0], [None]]
    for ids in wrong:
        for use in (retriever.delete, retriever.get):
            with pytest.raises(InputError, match="among the ids"):
                use(ids)


def test_what_cannot_be_done_is_refused_and_nothing_changes(retriever: MemoRAGRetriever) -> None:
    retriever.add_documents([FERRY])
    with pytest.raises(ValueError, match="no ids"):
        retriever.delete()
    with pytest.raises(InputError, match="expected a list"):
        retriever.delete("0")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Plain texts go to from_texts"):
        retriever.add_documents(["a text"])  # type: ignore[list-item]
    with pytest.raises(InputError, match="empty"):
        retriever.add_documents([CLOCKS, Document(page_content=" ")])
    for call in (retriever.upsert, retriever.delete, retriever.get):
        with pytest.raises(TypeError, match="namespace"):
            call([], namespace="x")
    assert texts(retriever) == {FERRY.page_content}


# At once


ADDING: dict[str, Any] = {
    "add_documents": lambda retriever, one: retriever.add_documents([one]),
    "upsert": lambda retriever, one: retriever.upsert([one])["succeeded"],
    "from_documents": lambda retriever, one: MemoRAGRetriever.from_documents(
        [one], memorag=retriever.memorag
    ),
    "from_texts": lambda retriever, one: MemoRAGRetriever.from_texts(
        [one.page_content], memorag=retriever.memorag
    ),
}


@pytest.mark.parametrize("way", ADDING)
def test_documents_without_an_id_that_are_added_at_once_are_all_there(
    retriever: MemoRAGRetriever, way: str
) -> None:
    retriever.add_documents([FERRY])

    def add(thread: int) -> list[Any]:
        one = [Document(page_content=f"Fact {thread}-{number}.") for number in range(5)]
        return [ADDING[way](retriever, document) for document in one]

    done = at_once([partial(add, thread) for thread in range(THREADS)])
    assert not [one for one in done if isinstance(one, Exception)]
    held = {one.id: one.text for one in retriever.memorag.documents}
    assert held["0"] == FERRY.page_content
    assert {*held.values()} == {FERRY.page_content} | {
        f"Fact {a}-{b}." for a in range(THREADS) for b in range(5)
    }
    if way in ("add_documents", "upsert"):
        for thread, given in enumerate(done):
            assert [held[name] for (name,) in given] == [f"Fact {thread}-{number}." for number in range(5)]


async def test_tasks_that_add_at_once_lose_nothing(retriever: MemoRAGRetriever) -> None:
    facts = [Document(page_content=f"Fact {number}.") for number in range(THREADS)]
    ids = await asyncio.gather(*(retriever.aadd_documents([one]) for one in facts))
    held = {one.id: one.text for one in retriever.memorag.documents}
    assert [held[name] for (name,) in ids] == [one.page_content for one in facts]


def test_who_deletes_what_another_deletes_is_told_that_it_was_gone(retriever: MemoRAGRetriever) -> None:
    retriever.add_documents([FERRY])
    done = at_once([lambda: retriever.delete(["0", "nobody"])] * THREADS)
    assert sorted(one["num_deleted"] for one in done) == [0] * (THREADS - 1) + [1]
    assert retriever.memorag.documents == ()


def test_an_update_and_a_deletion_at_once_are_both_done(retriever: MemoRAGRetriever) -> None:
    retriever.add_documents([one.model_copy(update={"id": str(n)}) for n, one in enumerate((FERRY, CLOCKS))])
    later = LATER.model_copy(update={"id": "0"})
    done = at_once([lambda: retriever.add_documents([later]), lambda: retriever.delete(["0"])] * 4)
    assert not [one for one in done if isinstance(one, Exception)]
    assert texts(retriever) - {LATER.page_content} == {CLOCKS.page_content}


# Metadata


def test_metadata_that_are_found_are_the_finders_own(retriever: MemoRAGRetriever) -> None:
    tags = ["ferry"]
    retriever.add_documents([Document(page_content="The ferry leaves.", id="f", metadata={"deep": [tags]})])
    tags.append("mine")
    for _ in range(2):
        for one in (retriever.invoke("When does the ferry leave?", k=1)[0], retriever.get(["f"])[0]):
            assert one.metadata["deep"] == [["ferry"]]
            one.metadata["deep"][0].append("yours")
            one.metadata["more"] = 1
    assert retriever.memorag.documents[0].metadata == {"deep": [["ferry"]]}


def test_an_edited_document_that_is_added_again_is_saved(tmp_path: Path) -> None:
    with MemoRAG.open(tmp_path / "store", SentenceModel(), progress=False) as memorag:
        retriever = MemoRAGRetriever(memorag=memorag)
        document = Document(page_content="The ferry leaves.", id="f", metadata={"tags": ["a"]})
        retriever.add_documents([document])
        document.metadata["tags"].append("b")
        retriever.add_documents([document])
        (found,) = retriever.get(["f"])
        found.metadata["tags"].append("c")
        retriever.add_documents([found])
        (kept,) = MemoRAG.load(tmp_path / "store", SentenceModel()).documents
    assert kept.metadata == {"tags": ["a", "b", "c"]}


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        (datetime(2026, 1, 1), "isoformat"),
        (Path("a.txt"), "str"),
        (UUID(int=1), "str"),
        (np.array([1.0]), "tolist"),
        (np.float32(1), "item"),
        (float("nan"), "None"),
        ({"a"}, "list"),
    ],
    ids=map(str, range(7)),
)
def test_metadata_that_json_cannot_hold_are_refused_with_the_document_and_the_remedy(
    retriever: MemoRAGRetriever, model: Reading, value: Any, remedy: str
) -> None:
    named = Document(page_content="The ferry leaves.", id="f", metadata={"a": [value]})
    nameless = Document(page_content="The ferry leaves.", metadata={"a": [value]})
    for put in (retriever.add_documents, retriever.upsert):
        with pytest.raises(InputError, match=rf"metadata of document 'f' .* at 'a\[0\]'.*{remedy}"):
            put([CLOCKS, named])
        with pytest.raises(InputError, match=rf"document 1, 'The ferry leaves\.', .*{remedy}"):
            put([CLOCKS, nameless])
    with pytest.raises(InputError, match="document 0, 'The ferry leaves"):
        MemoRAGRetriever.from_texts(["The ferry leaves."], [nameless.metadata], memorag=retriever.memorag)
    with pytest.raises(InputError, match="a NoneType among the metadatas"):
        MemoRAGRetriever.from_texts(["x"], [None], memorag=retriever.memorag)  # type: ignore[list-item]
    assert (texts(retriever), model.read) == (set(), 0)


def test_what_a_store_beneath_holds_is_not_what_is_handed_out(memorag: MemoRAG) -> None:
    at = datetime(2026, 1, 1)
    documents = [Document(page_content="Anna repairs clocks.", metadata={"tags": ["a"], "at": at})]
    store = InMemoryVectorStore.from_documents(documents, DeterministicFakeEmbedding(size=8))
    retriever = MemoRAGRetriever(memorag=memorag, base_retriever=store, k=1)
    for _ in range(2):
        (found,) = retriever.invoke("Who repairs clocks?")
        assert (found.metadata["tags"], found.metadata["at"]) == (["a"], at)
        found.metadata["tags"].append("b")


def test_nothing_is_read_for_nothing(retriever: MemoRAGRetriever, model: Reading) -> None:
    assert retriever.add_documents([]) == []
    assert model.read == 0
