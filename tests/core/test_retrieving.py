"""What can be chosen for retrieval, chosen at the front door: kept through changes, on disk and in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memorag_core import (
    ChunkSettings,
    Document,
    Evidence,
    InputError,
    MemoRAG,
    RetrievalSettings,
    StoreError,
    VectorSettings,
    flag_embedder,
    flag_reranker,
)
from memorag_core.retrieval.tokenization import sudachi_is_installed
from memorag_core.store import load_store, save_store
from tests.core.doubles import SentenceModel
from tests.core.retrieval.encoders.tiny_encoders import write_encoder, write_reranker
from tests.core.retrieval.weighing import BothAtOnce

TOWN = Document(
    "The market opens at seven. Bread is sold out by nine. "
    "Mara Venn repairs timepieces in Orrin. She learned it from her aunt. "
    "The river floods every other spring. Boats are kept in barns then.",
    id="town",
)
SEA = Document("The lighthouse of Pell burns oil. Its keeper, Mara Venn, fixes nets in winter.", id="sea")
WHO = "Which person would mend a broken clock?"
EVERYTHING = RetrievalSettings(
    retriever_weights={"learned_sparse": 0.5, "graph": 0.5}, fusion="relative_score", k=3
)
HNSW = VectorSettings(kind="hnsw")


def memorag(**options: Any) -> MemoRAG:
    return MemoRAG(SentenceModel(), chunks=ChunkSettings(size=60), progress=False, **options)


def retrievers(evidence: Sequence[Evidence]) -> set[str]:
    return {hit.retriever for piece in evidence for hit in piece.hits}


def longest(query: str, passages: Sequence[str]) -> list[int]:
    return [len(passage) for passage in passages]


def test_a_reranker_orders_what_every_way_of_asking_finds() -> None:
    rag = memorag(reranker=longest).memorize([TOWN, SEA])
    found = rag.retrieve(WHO, k=2)
    read = [piece for piece in memorag().memorize([TOWN, SEA]).retrieve(WHO, k=7) if piece.hits]
    best = sorted(read, key=lambda piece: -len(piece.chunk.text))[:2]
    assert [piece.chunk for piece in found] == [piece.chunk for piece in best]
    assert [piece.hits[-1].retriever for piece in found] == ["reranker"] * 2
    assert rag.retrieve_batch([WHO], k=2) == (found,)
    assert rag.explain(WHO, k=2).evidence == found
    assert rag.answer(WHO, k=2).evidence == found


def test_everything_takes_part_where_it_is_weighed_and_nothing_where_it_is_not() -> None:
    full = memorag(embedder=BothAtOnce(), retrieval=EVERYTHING).memorize([TOWN, SEA])
    assert retrievers(full.retrieve(WHO)) == {"bm25", "dense", "lexical", "graph"}
    plain = memorag(embedder=BothAtOnce()).memorize([TOWN, SEA])
    assert retrievers(plain.retrieve(WHO)) == {"bm25", "dense"}


@pytest.mark.parametrize("vectors", [None, HNSW])
def test_what_is_loaded_finds_what_was_saved_and_changes_alike(
    tmp_path: Path, vectors: VectorSettings | None
) -> None:
    saved = memorag(embedder=BothAtOnce(), retrieval=EVERYTHING, vectors=vectors).memorize([TOWN, SEA])
    saved.save(tmp_path / "store")
    embedder = BothAtOnce()
    loaded = MemoRAG.load(tmp_path / "store", SentenceModel(), embedder=embedder)
    assert loaded.retrieve(WHO) == saved.retrieve(WHO)
    assert embedder.passes == []
    for rag in (saved, loaded):
        rag.update(Document("The lighthouse of Pell is dark. Mara Venn left it.", id="sea")).delete("town")
        rag.memorize("Ott mends clocks too. He lives by the sea.")
    assert loaded.retrieve(WHO) == saved.retrieve(WHO)
    assert embedder.passes == [1, 1]


def test_a_store_that_is_open_keeps_the_index_of_every_change(tmp_path: Path) -> None:
    options: dict[str, Any] = {"chunks": ChunkSettings(size=60), "retrieval": EVERYTHING, "vectors": HNSW}
    with MemoRAG.open(tmp_path / "store", SentenceModel(), embedder=BothAtOnce(), **options) as rag:
        rag.memorize([TOWN, SEA]).delete("sea")
        found = rag.retrieve(WHO)
    assert set(load_store(tmp_path / "store", SentenceModel().fingerprint).indexes) == {
        "passages",
        "dense",
        "lexical",
        "graph",
    }
    with MemoRAG.open(tmp_path / "store", SentenceModel(), embedder=BothAtOnce()) as rag:
        assert rag.retrieve(WHO) == found


def test_settings_can_ask_for_more_on_loading_and_for_less(tmp_path: Path) -> None:
    memorag(embedder=BothAtOnce()).memorize([TOWN, SEA]).save(tmp_path / "store")
    more = MemoRAG.load(tmp_path / "store", SentenceModel(), embedder=BothAtOnce(), retrieval=EVERYTHING)
    assert retrievers(more.retrieve(WHO)) == {"bm25", "dense", "lexical", "graph"}
    more.save(tmp_path / "store")
    less = MemoRAG.load(
        tmp_path / "store", SentenceModel(), embedder=BothAtOnce(), retrieval=RetrievalSettings(k=3)
    )
    assert retrievers(less.retrieve(WHO)) == {"bm25", "dense"}


def test_a_finder_of_ones_own_joins_chunks_and_has_to_come_back(tmp_path: Path) -> None:
    def people(text: str) -> list[str]:
        return ["Mara Venn"] if "Mara Venn" in text else []

    settings = RetrievalSettings(retriever_weights={"graph": 1}, graph_anchors=1, k=5)
    rag = memorag(retrieval=settings, entities=people).memorize([TOWN, SEA])
    found = rag.retrieve("Who repairs timepieces?", clues=[])
    (keeper,) = (piece for piece in found if "keeper" in piece.chunk.text)  # in the other document
    assert retrievers([keeper]) == {"graph"}
    rag.save(tmp_path / "store")
    with pytest.raises(InputError, match="finder of your own"):
        MemoRAG.load(tmp_path / "store", SentenceModel())
    loaded = MemoRAG.load(tmp_path / "store", SentenceModel(), entities=people)
    assert loaded.retrieve("Who repairs timepieces?", clues=[]) == found


def test_evidence_is_shaped_as_the_settings_say() -> None:
    shape = RetrievalSettings(k=2, neighbours=1, order="document", budget=40)
    words = memorag(retrieval=shape, count_tokens=lambda text: len(text.split())).memorize([TOWN, SEA])
    found = words.retrieve(WHO)
    assert sum(len(piece.chunk.text.split()) for piece in found) <= 40
    assert "neighbour" in retrievers(found)
    places = [words.chunks.index(piece.chunk) for piece in found]
    assert places == sorted(places)
    with pytest.raises(InputError, match="budget is 9, but the best chunk takes"):
        memorag(retrieval=RetrievalSettings(budget=9)).memorize([TOWN, SEA]).retrieve(WHO)  # characters


def test_any_embedder_comes_in_and_what_is_none_is_refused() -> None:
    by_function = memorag(embedder=lambda texts: [[float(len(text)), 1.0] for text in texts])
    assert "dense" in retrievers(by_function.memorize(TOWN).retrieve(WHO))
    with pytest.raises(InputError, match="The embedder is the name 'bge-m3'"):
        memorag(embedder="bge-m3")
    with pytest.raises(InputError, match="The re-ranker is the name 'bge'"):
        memorag(reranker="bge")
    with pytest.raises(InputError, match="Token weights were asked for, and no embedder was given"):
        memorag(retrieval=EVERYTHING)
    with pytest.raises(InputError, match="tokenization is 'words'"):
        memorag(tokenization="words")


@pytest.mark.skipif(not sudachi_is_installed(), reason="needs Sudachi")
def test_the_tokenization_is_kept_with_the_store_unless_another_is_given(tmp_path: Path) -> None:
    text = "港は冬に凍る。船は納屋にある。時計を直した人がいる。"
    rag = MemoRAG(SentenceModel(), chunks=ChunkSettings(size=10), tokenization="japanese").memorize(text)
    found = rag.retrieve("誰が直すか", clues=[], k=1)
    assert "直した" in found[0].chunk.text
    rag.save(tmp_path / "store")
    loaded = MemoRAG.load(tmp_path / "store", SentenceModel())
    assert loaded.retrieve("誰が直すか", clues=[], k=1) == found
    other = MemoRAG.load(tmp_path / "store", SentenceModel(), tokenization="grams")
    assert other.retrieve("誰が直すか", clues=[], k=1)[0].hits != found[0].hits


def test_a_tokenization_that_is_unknown_to_this_release_can_be_given(tmp_path: Path) -> None:
    memorag().memorize(TOWN).save(tmp_path / "old")
    stored = load_store(tmp_path / "old", SentenceModel().fingerprint)
    save_store(tmp_path / "new", replace(stored, settings={**stored.settings, "tokenization": "runes"}))
    with pytest.raises(StoreError, match=r"saved tokenization is 'runes'.*tokenization='grams'"):
        MemoRAG.load(tmp_path / "new", SentenceModel())
    assert MemoRAG.load(tmp_path / "new", SentenceModel(), tokenization="grams").retrieve(WHO)


def test_flagembedding_takes_part_with_both_its_outputs_and_its_reranker(tmp_path: Path) -> None:
    pytest.importorskip("FlagEmbedding")
    folder = write_encoder(tmp_path / "m3")
    scorer = flag_reranker(write_reranker(tmp_path / "reranker"), device="cpu")
    text = "The captain mends the lantern. A clock is where the harbour is. Tea is on the mountain."
    settings = RetrievalSettings(retriever_weights={"learned_sparse": 1}, k=2)
    rag = MemoRAG(
        SentenceModel(),
        chunks=ChunkSettings(size=40),
        embedder=flag_embedder(folder, device="cpu"),
        reranker=scorer,
        retrieval=settings,
    ).memorize(text)
    found = rag.retrieve("who mends the lantern")
    assert retrievers(found) == {"bm25", "dense", "lexical", "reranker"}
    rag.save(tmp_path / "store")
    embedder = flag_embedder(folder, device="cpu")
    loaded = MemoRAG.load(tmp_path / "store", SentenceModel(), embedder=embedder, reranker=scorer)
    assert loaded.retrieve("who mends the lantern") == found
    shorter = flag_embedder(folder, device="cpu", max_tokens=20)
    with pytest.raises(StoreError, match=r"lexical weights were made by .*'max_tokens': 20"):
        MemoRAG.load(tmp_path / "store", SentenceModel(), embedder=shorter)
