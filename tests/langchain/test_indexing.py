"""LangChain's indexing API over what was memorized: added, updated, deleted, and what that reads again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pytest
from langchain_core.documents import Document
from langchain_core.indexing import InMemoryRecordManager, aindex, index

from langchain_memorag import MemoRAGRetriever
from memorag_core import Document as Source
from memorag_core import InputError, MemoRAG
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
        progress: bool | None = None,
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


def test_nothing_is_read_for_nothing(retriever: MemoRAGRetriever, model: Reading) -> None:
    assert retriever.add_documents([]) == []
    assert model.read == 0
