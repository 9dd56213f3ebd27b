"""Documents of any retriever, in the order that the clues of a memory give them."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda
from pydantic import ValidationError

from langchain_memorag import ClueCompressor
from memorag_core import InputError, MemoRAG, NothingMemorizedError, RetrievalSettings
from tests.core.doubles import SentenceModel, WordEmbedder
from tests.langchain.conftest import DOCUMENTS, QUESTION, remembering
from tests.langchain.watching import CustomEvents, Traces

FOUND = [Document(page_content=one.text, metadata={"page": one.metadata["page"]}) for one in DOCUMENTS]
MEMORAG = remembering(SentenceModel())


def texts(documents: Any) -> list[str]:
    return [document.page_content for document in documents]


async def test_what_a_clue_finds_comes_first(memorag: MemoRAG) -> None:
    compressor = ClueCompressor(memorag=memorag, annotate=True)
    ranked = compressor.compress_documents(FOUND, QUESTION)
    assert sorted(texts(ranked)) == sorted(texts(FOUND))
    assert ranked[0].page_content == DOCUMENTS[3].text
    assert ranked[0].metadata["page"] == 4
    assert ranked[0].metadata["rank"] == 1
    assert any("Anna Holt repairs" in clue for clue in ranked[0].metadata["clues"])
    assert await compressor.acompress_documents(FOUND, QUESTION) == ranked
    plain = ClueCompressor(memorag=memorag).compress_documents(FOUND, QUESTION)
    assert texts(plain) == texts(ranked)
    assert all(document in FOUND for document in plain)


def test_vectors_take_part_where_there_is_an_embedder() -> None:
    embedder = WordEmbedder()
    memorag = MemoRAG(SentenceModel(), embedder=embedder, progress=False).memorize(DOCUMENTS)
    embedder.encoded.clear()
    ranked = ClueCompressor(memorag=memorag, top_n=2).compress_documents(FOUND, QUESTION)
    assert len(ranked) == 2
    assert embedder.encoded == texts(FOUND)


def test_top_n_is_how_many_are_kept(memorag: MemoRAG) -> None:
    whole = ClueCompressor(memorag=memorag).compress_documents(FOUND, QUESTION)
    for most in (1, 2, 4, 9):
        assert ClueCompressor(memorag=memorag, top_n=most).compress_documents(FOUND, QUESTION) == whole[:most]


def test_settings_for_a_whole_corpus_do_not_matter(memorag: MemoRAG) -> None:
    plain = ClueCompressor(memorag=memorag).compress_documents(FOUND, QUESTION)
    for retrieval in (
        {"neighbours": 2},
        {"budget": 10},
        {"retriever_weights": {"graph": 1.0}},
        RetrievalSettings(k=1),
    ):
        compressor = ClueCompressor(memorag=memorag, retrieval_settings=retrieval)
        assert compressor.compress_documents(FOUND, QUESTION) == plain


def test_kinds_and_weights_reach_the_result(memorag: MemoRAG) -> None:
    without = ClueCompressor(
        memorag=memorag, clue_kinds=("span",), retrieval_settings={"clue_weights": {"span": 0}}
    )
    assert texts(without.compress_documents(FOUND, QUESTION)) == texts(FOUND)  # nothing tells them apart


def test_documents_that_came_in_are_not_changed(memorag: MemoRAG) -> None:
    before = copy.deepcopy(FOUND)
    ranked = ClueCompressor(memorag=memorag).compress_documents(FOUND, QUESTION)
    ranked[0].metadata.clear()
    assert before == FOUND


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(alphabet="ab 中文.\n", max_size=12), max_size=8))
def test_every_document_with_text_comes_back_once(given_texts: list[str]) -> None:
    documents = [Document(page_content=text, id=str(place)) for place, text in enumerate(given_texts)]
    ranked = ClueCompressor(memorag=MEMORAG, annotate=True).compress_documents(documents, QUESTION)
    assert sorted(document.id or "" for document in ranked) == [
        str(place) for place, text in enumerate(given_texts) if text.strip()
    ]
    assert [document.metadata["rank"] for document in ranked] == list(range(1, len(ranked) + 1))


def test_nothing_found_asks_nothing(model: SentenceModel) -> None:
    assert ClueCompressor(memorag=remembering(model)).compress_documents([], QUESTION) == []
    assert model.asked == 0


async def test_the_asking_is_seen(memorag: MemoRAG) -> None:
    compressor = ClueCompressor(memorag=memorag)
    for way in ("sync", "async"):
        trace, events = Traces(), CustomEvents("memorag_clue")
        if way == "sync":
            compressor.compress_documents(FOUND, QUESTION, [trace, events])
        else:
            await compressor.acompress_documents(FOUND, QUESTION, [trace, events])
        assert trace.root.name == "MemoRAGClues"
        assert events.data


def test_in_a_chain_the_asking_is_part_of_its_trace(memorag: MemoRAG) -> None:
    trace = Traces()
    compressor = ClueCompressor(memorag=memorag, top_n=1)
    step: Any = RunnableLambda(lambda question: compressor.compress_documents(FOUND, question))
    assert step.invoke(QUESTION, {"callbacks": [trace]})
    assert [run.name for run in trace.root.child_runs] == ["MemoRAGClues"]


def test_what_cannot_be_used_is_named(memorag: MemoRAG) -> None:
    with pytest.raises(ValidationError, match=r"expected a memorag_core\.MemoRAG"):
        ClueCompressor(memorag="book.txt")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        ClueCompressor(memorag=memorag, top_n=0)
    with pytest.raises(ValidationError, match="Extra inputs"):
        ClueCompressor(memorag=memorag, k=2)  # type: ignore[call-arg]
    with pytest.raises(InputError):
        ClueCompressor(memorag=memorag).compress_documents(FOUND, " ")
    with pytest.raises(NothingMemorizedError):
        ClueCompressor(memorag=MemoRAG(SentenceModel())).compress_documents(FOUND, QUESTION)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(ClueCompressor(memorag=memorag))
