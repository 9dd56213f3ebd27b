"""A passage that several questions find is one document for what fuses and what drops duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.language_models import FakeListChatModel
from langchain_core.load import dumps
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import InMemoryVectorStore

from langchain_memorag import ClueCompressor, MemoRAGRetriever, conversation_retriever
from memorag_core import Conversation, MemoRAG
from tests.core.doubles import SentenceModel
from tests.langchain.conftest import DOCUMENTS, QUESTION

QUESTIONS = (QUESTION, "When does the ferry leave?", "What does Oskar bake?", "Who repairs every clock?")
GIVEN = [Document(id=one.id, page_content=one.text, metadata=dict(one.metadata)) for one in DOCUMENTS]
BEST = "Anna Holt"


class InMemoryRetriever(BaseRetriever):
    """Gives what it was given."""

    found: list[Document]

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return self.found


@pytest.fixture
def retriever(memorag: MemoRAG) -> MemoRAGRetriever:
    return MemoRAGRetriever(memorag=memorag)


def store() -> InMemoryVectorStore:
    return InMemoryVectorStore.from_documents(GIVEN, DeterministicFakeEmbedding(size=32))


def classic(name: str) -> Any:
    """A retriever of LangChain's own, where it is installed."""
    return getattr(pytest.importorskip("langchain_classic.retrievers"), name)


def texts(documents: Sequence[Document]) -> list[str]:
    return [document.page_content for document in documents]


def fused(lists: Sequence[Sequence[Document]]) -> list[Document]:
    """Reciprocal rank fusion as LangChain's cookbook has it, with the whole document as the key."""
    scores: dict[str, float] = {}
    kept: dict[str, Document] = {}
    for documents in lists:
        for rank, document in enumerate(documents):
            key = dumps(document)
            kept[key] = document
            scores[key] = scores.get(key, 0.0) + 1 / (rank + 60)
    return [kept[key] for key in sorted(scores, key=lambda key: -scores[key])]


def unique(documents: Sequence[Document]) -> list[Document]:
    return [one for number, one in enumerate(documents) if one not in documents[:number]]


# Equality and serialized forms


def test_a_passage_is_the_same_document_for_every_question(retriever: MemoRAGRetriever) -> None:
    found = retriever.batch(list(QUESTIONS), k=4)
    assert sorted(texts(unique([document for one in found for document in one]))) == sorted(texts(GIVEN))
    assert sorted(texts(fused(found))) == sorted(texts(GIVEN))
    about_one = retriever.batch([QUESTION, "Who repairs every clock?", "What does Anna Holt repair?"])
    assert BEST in fused(about_one)[0].page_content


def test_annotated_documents_are_others_for_each_question(retriever: MemoRAGRetriever) -> None:
    found = retriever.batch(list(QUESTIONS), k=4, annotate=True)
    assert len(unique([document for one in found for document in one])) > len(GIVEN)


async def test_over_a_store_documents_are_the_store_s_own(memorag: MemoRAG) -> None:
    beneath = store()
    over = MemoRAGRetriever(memorag=memorag, base_retriever=beneath, k=4)
    for question in QUESTIONS:
        for document in (*over.invoke(question), *await over.ainvoke(question)):
            assert document in GIVEN
    alone = [beneath.similarity_search(question, k=4) for question in QUESTIONS]
    found = over.batch(list(QUESTIONS))
    assert len(fused([*alone, *found])) == len(unique([d for one in (*alone, *found) for d in one])) == 4


def test_documents_without_an_id_come_back_from_a_retriever_as_they_are(memorag: MemoRAG) -> None:
    nameless = [Document(page_content=one.page_content, metadata={"tags": ["a"]}) for one in GIVEN]

    class Marked(Document):
        """A user's own kind of document."""

    kept = [*nameless[:3], Marked(page_content=nameless[3].page_content, metadata={"tags": ["a"]})]
    beneath = InMemoryRetriever(found=kept)
    found = MemoRAGRetriever(memorag=memorag, base_retriever=beneath, k=4).invoke(QUESTION)
    assert all(document in kept for document in found)
    found[0].metadata["page"] = 7
    assert all("page" not in document.metadata for document in kept)


def test_a_text_with_white_space_at_its_ends_is_found_as_other_retrievers_have_it() -> None:
    given = [Document(id=str(n), page_content=f"\n {one.page_content}\n") for n, one in enumerate(GIVEN)]
    ours = MemoRAGRetriever.from_documents(given, memorag=MemoRAG(SentenceModel(), progress=False))
    found = ours.invoke(QUESTION)
    assert sorted(texts(found)) == sorted(texts(given))
    for document in found:
        text = next(one.page_content for one in given if one.id == document.metadata["document_id"])
        assert document.page_content == text[document.metadata["start"] : document.metadata["end"]]


def test_a_found_document_s_metadata_are_a_copy_in_all_depths() -> None:
    given = Document(page_content="Only one line.", metadata={"tags": ["a"], "more": {"b": [1]}})
    retriever = MemoRAGRetriever.from_documents([given], memorag=MemoRAG(SentenceModel(), progress=False))
    found = retriever.invoke("line?")[0]
    found.metadata["tags"].append("changed")
    found.metadata["more"]["b"].clear()
    again = retriever.invoke("line?")[0]
    assert (again.metadata["tags"], again.metadata["more"]) == (["a"], {"b": [1]})


def test_compressed_documents_are_the_same_for_every_question(memorag: MemoRAG) -> None:
    compressor = ClueCompressor(memorag=memorag)
    lists = [compressor.compress_documents(GIVEN, question) for question in QUESTIONS]
    assert len(unique([document for one in lists for document in one])) == len(GIVEN)


def test_turns_are_the_same_documents_for_every_question() -> None:
    conversation = Conversation(MemoRAG(SentenceModel(), progress=False))
    for place in ("Oslo", "Bergen", "Graz"):
        conversation.add("user", f"Mara Venn lives in {place} now.")
    retriever = conversation_retriever(conversation, k=3)
    lists = [retriever.invoke(one) for one in ("Where does Mara Venn live?", "Who lives in Oslo now?")]
    assert len(fused(lists)) == len(unique([*lists[0], *lists[1]])) == 3


# LangChain's own


@pytest.mark.parametrize("key", [None, "page"])
async def test_an_ensemble_knows_passages_again(retriever: MemoRAGRetriever, key: str | None) -> None:
    others = [store().as_retriever(search_kwargs={"k": 4}), retriever.bind(k=2)]
    ensemble = classic("EnsembleRetriever")(retrievers=[retriever, *others], id_key=key)
    for question in QUESTIONS:
        found = ensemble.invoke(question)
        assert sorted(texts(found)) == sorted(texts(GIVEN))
        assert texts(await ensemble.ainvoke(question)) == texts(found)
    assert BEST in ensemble.invoke(QUESTION)[0].page_content


async def test_several_queries_give_each_passage_once(memorag: MemoRAG, retriever: MemoRAGRetriever) -> None:
    def multi(beneath: Any) -> Any:
        llm = FakeListChatModel(responses=["\n".join(QUESTIONS[1:])])
        return classic("MultiQueryRetriever").from_llm(retriever=beneath, llm=llm, include_original=True)

    found = multi(retriever).invoke(QUESTION)
    assert sorted(texts(found)) == sorted(texts(GIVEN))
    assert await multi(retriever).ainvoke(QUESTION) == found
    merged = classic("MergerRetriever")(retrievers=[retriever, MemoRAGRetriever(memorag=memorag, k=3)])
    assert sorted(texts(multi(merged).invoke(QUESTION))) == sorted(texts(GIVEN))
    ranked = classic("ContextualCompressionRetriever")(
        base_retriever=store().as_retriever(), base_compressor=ClueCompressor(memorag=memorag)
    )
    assert sorted(texts(multi(ranked).invoke(QUESTION))) == sorted(texts(GIVEN))


# Identity over time


def test_ids_and_documents_are_the_same_after_saving(memorag: MemoRAG, tmp_path: Any) -> None:
    memorag.save(tmp_path / "kept")
    again = MemoRAGRetriever.load(tmp_path / "kept", model=SentenceModel())
    for question in QUESTIONS:
        assert again.invoke(question) == MemoRAGRetriever(memorag=memorag).invoke(question)
