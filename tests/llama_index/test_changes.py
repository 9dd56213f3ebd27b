"""Documents come and go by the names of LlamaIndex's indexes; what was memorized goes to disk and back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from llama_index.core.node_parser import TokenTextSplitter
from llama_index.core.schema import Document, IndexNode, NodeWithScore, TextNode

from llama_index_memorag import MemoRAGRetriever, MemoRAGSummaryRetriever
from memorag_core import InputError, MemoRAG, NothingMemorizedError, StoreError
from tests.core.doubles import SentenceModel, WordEmbedder
from tests.llama_index.conftest import QUESTION
from tests.llama_index.doubles import WordRetriever, vector_index

BELA = Document(text="Bela mends timepieces by the mill.", id_="bela", metadata={"page": 9})


@pytest.fixture
def retriever(memorag: MemoRAG) -> MemoRAGRetriever:
    return MemoRAGRetriever(memorag)


def held(retriever: MemoRAGRetriever) -> list[str]:
    return [document.id for document in retriever.memorag.documents]


def dumped(found: list[NodeWithScore]) -> list[dict[str, Any]]:
    return [one.model_dump() for one in found]


# Insert, update, delete


@pytest.mark.parametrize("is_async", [False, True])
async def test_documents_come_and_go(retriever: MemoRAGRetriever, is_async: bool) -> None:
    before = dumped(retriever.retrieve(QUESTION))
    await retriever.ainsert(BELA) if is_async else retriever.insert(BELA)
    best = retriever.retrieve(QUESTION)[0].node
    assert (best.ref_doc_id, best.metadata["page"]) == ("bela", 9)
    changed = Document(text="Bela cures horses.", id_="bela")
    await retriever.aupdate_ref_doc(changed) if is_async else retriever.update_ref_doc(changed)
    assert retriever.retrieve(QUESTION)[0].node.ref_doc_id == "clocks"
    assert retriever.retrieve("Who heals horses?")[0].node.get_content() == "Bela cures horses."
    await retriever.adelete_ref_doc("bela") if is_async else retriever.delete_ref_doc("bela")
    assert dumped(retriever.retrieve(QUESTION)) == before


@pytest.mark.parametrize("is_async", [False, True])
async def test_nodes_come_together_and_go_by_the_document_they_were_cut_from(
    retriever: MemoRAGRetriever, is_async: bool
) -> None:
    text = "Bela mends timepieces by the mill. " * 8
    cut = TokenTextSplitter(chunk_size=32, chunk_overlap=0).get_nodes_from_documents(
        [Document(text=text, id_="long")]
    )
    assert len(cut) > 1
    before = held(retriever)
    await retriever.ainsert_nodes(cut) if is_async else retriever.insert_nodes(cut)
    assert held(retriever) == [*before, *(node.node_id for node in cut)]
    assert retriever.retrieve(QUESTION)[0].node.ref_doc_id == "long"
    await retriever.adelete_ref_doc("long") if is_async else retriever.delete_ref_doc("long")
    assert held(retriever) == before


def test_update_inserts_what_is_not_there_and_replaces_nodes_by_their_document(
    retriever: MemoRAGRetriever,
) -> None:
    retriever.update_ref_doc(BELA)
    assert held(retriever)[-1] == "bela"
    cut = TokenTextSplitter(chunk_size=32, chunk_overlap=0).get_nodes_from_documents(
        [Document(text="The well is deep. " * 20, id_="well")]
    )
    retriever.insert_nodes(cut)
    retriever.update_ref_doc(Document(text="The well fell dry.", id_="well"))
    assert held(retriever)[-1] == "well"
    assert not {*held(retriever)} & {node.node_id for node in cut}


def test_what_cannot_be_changed_is_refused_and_nothing_changes(retriever: MemoRAGRetriever) -> None:
    before = retriever.memorag.documents
    with pytest.raises(InputError, match="nobody"):
        retriever.delete_ref_doc("nobody")
    with pytest.raises(InputError, match="clocks"):
        retriever.insert(Document(text="Another.", id_="clocks"))
    with pytest.raises(InputError, match="is empty"):
        retriever.update_ref_doc(Document(text=" ", id_="clocks"))
    with pytest.raises(InputError, match=r"Document\(text=...\)"):
        retriever.insert("a text")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="'nodes' is a Document"):
        retriever.insert_nodes(BELA)  # type: ignore[arg-type]
    assert retriever.memorag.documents == before


async def test_reading_leaves_the_event_loop_free() -> None:
    gate = Event()

    class Slow(SentenceModel):
        def memorize(self, *given: Any, **how: Any) -> Any:
            assert gate.wait(timeout=20)
            return super().memorize(*given, **how)

    retriever = MemoRAGRetriever(MemoRAG(Slow(), progress=False))
    reading = asyncio.create_task(retriever.ainsert(BELA))
    await asyncio.sleep(0.05)
    assert not reading.done()
    gate.set()  # the loop opens the gate: it cannot, when reading holds it up
    await reading
    assert held(retriever) == ["bela"]


def test_the_users_index_is_left_alone(memorag: MemoRAG) -> None:
    words = WordRetriever()
    retriever = MemoRAGRetriever(memorag, over=words)
    retriever.insert(BELA)
    assert "bela" in held(retriever)
    assert "bela" not in {node.node_id for node in words.nodes}


# Nodes that stand for objects


async def test_a_memorized_node_that_stands_for_an_object_leads_to_it(
    model: SentenceModel, tmp_path: Path
) -> None:
    inner = WordRetriever([TextNode(text="Who mends timepieces? Anna does.", id_="inner")])
    stands_for = IndexNode(text="Anna Holt repairs every clock.", index_id="people", id_="n1", obj=inner)
    retriever = MemoRAGRetriever.from_documents([stands_for], 1, memorag=MemoRAG(model))
    assert [one.node_id for one in retriever.retrieve(QUESTION)] == ["inner"]
    assert [one.node_id for one in await retriever.aretrieve(QUESTION)] == ["inner"]
    retriever.persist(tmp_path / "people")
    plain = MemoRAGRetriever.from_persist_dir(tmp_path / "people", 1, model=SentenceModel())
    (found,) = plain.retrieve(QUESTION)
    assert isinstance(found.node, IndexNode)
    assert found.node.index_id == "people"
    again = MemoRAGRetriever.from_persist_dir(
        tmp_path / "people", 1, model=SentenceModel(), object_map={"people": inner}
    )
    assert [one.node_id for one in again.retrieve(QUESTION)] == ["inner"]


# To disk and back


@pytest.mark.parametrize("kind", [MemoRAGRetriever, MemoRAGSummaryRetriever])
async def test_what_is_persisted_and_opened_retrieves_the_same(
    model: SentenceModel, tmp_path: Path, kind: type[MemoRAGRetriever]
) -> None:
    memorag = MemoRAG(model, embedder=WordEmbedder(), progress=False)
    retriever = kind.from_documents([BELA, Document(text="The mail comes at noon.")], 1, memorag=memorag)
    retriever.persist(tmp_path / "kept")
    again = kind.from_persist_dir(tmp_path / "kept", 1, model=SentenceModel(), embedder=WordEmbedder())
    assert type(again) is kind
    assert dumped(again.retrieve(QUESTION)) == dumped(retriever.retrieve(QUESTION))
    assert dumped(await again.aretrieve(QUESTION)) == dumped(retriever.retrieve(QUESTION))
    again.insert(Document(text="The tower leans.", id_="tower"))
    again.persist(str(tmp_path / "kept"))
    third = kind.from_persist_dir(str(tmp_path / "kept"), model=SentenceModel(), embedder=WordEmbedder())
    assert held(third) == held(again)


def test_an_opened_memory_can_search_an_index(retriever: MemoRAGRetriever, tmp_path: Path) -> None:
    retriever.persist(tmp_path / "kept")
    opened = MemoRAGRetriever.from_persist_dir(
        tmp_path / "kept", 2, model=SentenceModel(), over=vector_index()
    )
    assert len(opened.retrieve(QUESTION)) == 2


def test_what_cannot_be_opened_or_written_is_said(tmp_path: Path, retriever: MemoRAGRetriever) -> None:
    with pytest.raises(StoreError):
        MemoRAGRetriever.from_persist_dir(tmp_path / "nothing", model=SentenceModel())
    retriever.persist(tmp_path / "kept")
    with pytest.raises(StoreError):
        MemoRAGRetriever.from_persist_dir(tmp_path / "kept", model=SentenceModel(capacity=3))
    with pytest.raises(NothingMemorizedError):
        MemoRAGRetriever(MemoRAG(SentenceModel())).persist(tmp_path / "empty")
