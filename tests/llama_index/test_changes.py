"""Documents come and go by the names of LlamaIndex's indexes; what was memorized goes to disk and back."""

from __future__ import annotations

import asyncio
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
from llama_index.core.node_parser import TokenTextSplitter
from llama_index.core.schema import Document, IndexNode, NodeWithScore, TextNode

from llama_index_memorag import MemoRAGRetriever, MemoRAGSummaryRetriever
from llama_index_memorag.nodes import sources
from memorag_core import InputError, MemoRAG, NothingMemorizedError, StoreError
from memorag_core.store import Writer
from tests.core.at_once import THREADS, at_once
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


WELL = "The well is deep. " * 20


def cut_from(text: str, name: str) -> list[Any]:
    document = Document(text=text, id_=name)
    return list(TokenTextSplitter(chunk_size=32, chunk_overlap=0).get_nodes_from_documents([document]))


class Refusing(SentenceModel):
    refuse = False

    def memorize(self, *given: Any, **how: Any) -> Any:
        if self.refuse:
            raise RuntimeError("no memory left")
        return super().memorize(*given, **how)


class RefusingEmbedder(WordEmbedder):
    refuse = False

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        if self.refuse:
            raise RuntimeError("no embedder left")
        return super().embed_documents(texts)


@pytest.mark.parametrize("wrong", ["blank", "metadata", "no memory left", "no embedder left"])
def test_a_document_held_as_nodes_stays_where_its_update_fails(tmp_path: Path, wrong: str) -> None:
    model, embedder = Refusing(), RefusingEmbedder()
    with MemoRAG.open(tmp_path / "kept", model, embedder=embedder, progress=False) as memorag:
        retriever = MemoRAGRetriever(memorag)
        retriever.insert_nodes(cut_from(WELL, "well"))
        retriever.insert(BELA)
        before = (memorag.documents, memorag.chunks, memorag.memory)
        stored = {file.name: file.read_bytes() for file in (tmp_path / "kept").iterdir()}
        model.refuse, embedder.refuse = wrong == "no memory left", wrong == "no embedder left"
        with pytest.raises((InputError, RuntimeError)):
            retriever.update_ref_doc(
                Document(
                    text=" " if wrong == "blank" else "The well fell dry.",
                    id_="well",
                    metadata={"at": {1}} if wrong == "metadata" else {},
                )
            )
        assert (memorag.documents, memorag.chunks, memorag.memory) == before
        assert {file.name: file.read_bytes() for file in (tmp_path / "kept").iterdir()} == stored


def test_who_reads_while_a_document_held_as_nodes_is_updated_finds_the_old_or_the_new(
    memorag: MemoRAG,
) -> None:
    retriever, cut = MemoRAGRetriever(memorag), cut_from(WELL, "well")
    nodes, done = {node.node_id for node in cut}, Event()
    seen: list[set[str]] = []
    retriever.insert_nodes(cut)

    def read() -> None:
        while not done.is_set() or not seen:
            seen.append({*held(retriever)} & {"well", *nodes})

    reader = Thread(target=read)
    reader.start()
    try:
        for _ in range(10):
            retriever.update_ref_doc(Document(text="The well fell dry.", id_="well"))
            memorag.change(put=sources(cut), delete="well")
    finally:
        done.set()
        reader.join(60)
    assert not reader.is_alive()
    assert {frozenset(one) for one in seen} <= {frozenset(["well"]), frozenset(nodes)}


def test_an_update_of_a_document_held_as_nodes_is_one_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves: list[int] = []
    save = Writer.save

    def counted(self: Writer, *given: Any, **how: Any) -> None:
        saves.append(1)
        save(self, *given, **how)

    monkeypatch.setattr(Writer, "save", counted)
    with MemoRAG.open(tmp_path / "kept", SentenceModel(), progress=False) as memorag:
        retriever = MemoRAGRetriever(memorag)
        retriever.insert_nodes([*cut_from(WELL, "well"), BELA])
        before = len(saves)
        retriever.update_ref_doc(Document(text="The well fell dry.", id_="well"))
        assert len(saves) == before + 1
    assert [one.id for one in MemoRAG.load(tmp_path / "kept", SentenceModel()).documents] == ["bela", "well"]


def test_updates_and_deletions_at_once_leave_one_document_or_none(retriever: MemoRAGRetriever) -> None:
    before = held(retriever)
    retriever.insert_nodes(cut_from(WELL, "well"))
    done = at_once(
        [
            partial(retriever.update_ref_doc, Document(text=f"The well fell dry {n} times.", id_="well"))
            for n in range(THREADS)
        ]
    )
    assert done == [None] * THREADS
    assert held(retriever) == [*before, "well"]
    done = at_once([partial(retriever.delete_ref_doc, "well")] * THREADS)
    assert done.count(None) == 1
    assert sum("no document with the id 'well'" in str(one) for one in done) == THREADS - 1
    assert held(retriever) == before


@pytest.mark.parametrize("way", ["insert", "insert_nodes", "update_ref_doc", "ainsert"])
async def test_what_is_inserted_at_once_is_all_there(retriever: MemoRAGRetriever, way: str) -> None:
    before = held(retriever)
    facts = [Document(text=f"Fact {number}.", id_=f"fact {number}") for number in range(THREADS)]
    if way == "ainsert":
        await asyncio.gather(*map(retriever.ainsert, facts))
    else:
        given: list[Any] = [[one] for one in facts] if way == "insert_nodes" else facts
        assert at_once([partial(getattr(retriever, way), one) for one in given]) == [None] * THREADS
    assert {*held(retriever)} == {*before, *(one.node_id for one in facts)}


def test_an_index_that_many_read_at_once_is_read_once() -> None:
    index, memorag = vector_index(), MemoRAG(SentenceModel(), progress=False)
    made = at_once([lambda: MemoRAGRetriever.from_defaults(index, memorag=memorag)] * THREADS)
    assert all(isinstance(one, MemoRAGRetriever) for one in made)
    assert len(memorag.documents) == len(index.docstore.docs)


# Metadata


def test_metadata_that_are_found_are_the_finders_own(retriever: MemoRAGRetriever) -> None:
    tags = ["mill"]
    retriever.insert(Document(text="Bela mends timepieces.", id_="bela", metadata={"deep": [tags]}))
    tags.append("mine")
    for _ in range(2):
        node = retriever.retrieve(QUESTION)[0].node
        source = node.source_node
        assert source is not None
        assert node.metadata["deep"] == source.metadata["deep"] == [["mill"]]
        node.metadata["deep"][0].append("yours")
        assert source.metadata["deep"] == [["mill"]]
        source.metadata["deep"][0].append("its")
    assert retriever.memorag.documents[-1].metadata["deep"] == [["mill"]]


def test_metadata_that_json_cannot_hold_are_refused_with_the_document_and_the_remedy(
    retriever: MemoRAGRetriever,
) -> None:
    before = retriever.memorag.documents
    wrong = Document(text="The well.", id_="well", metadata={"a": [datetime(2026, 1, 1)]})
    for change in (retriever.insert, retriever.update_ref_doc):
        with pytest.raises(InputError, match=r"document 'well' hold a datetime.* at 'a\[0\]'.*isoformat"):
            change(wrong)
    for value in (np.array([1]), float("nan"), Path("x")):
        with pytest.raises(InputError, match="metadata of document"):
            retriever.insert_nodes([TextNode(text="The well.", id_="n", metadata={"a": value})])
    assert retriever.memorag.documents is before


def test_what_cannot_be_changed_is_refused_and_nothing_changes(retriever: MemoRAGRetriever) -> None:
    before = retriever.memorag.documents
    with pytest.raises(InputError, match="nobody"):
        retriever.delete_ref_doc("nobody")
    nothing: list[Any] = [None, 5, ["clocks"]]  # None is the ref_doc_id of a node that was cut from nothing
    for one in nothing:
        with pytest.raises(InputError, match="expected its id, as text"):
            retriever.delete_ref_doc(one)
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
