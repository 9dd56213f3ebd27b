from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, replace
from itertools import pairwise
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import memorag_core
from memorag_core.errors import InputError
from memorag_core.retrieval import EvidenceIndex, find_entities
from memorag_core.retrieval.bm25 import BM25Index
from memorag_core.retrieval.dense import DenseIndex
from memorag_core.retrieval.ranking import NEIGHBOUR
from memorag_core.retrieval.tokenization import sudachi_is_installed
from memorag_core.settings import Expansion, FusionMethod, RetrievalSettings, RetrieverName
from memorag_core.types import CLUE_KINDS, Clue, Evidence, Hit
from tests.core.retrieval.conftest import HashedWords, chunks_of, corpora, sentences, weighed
from tests.core.retrieval.weighing import BothAtOnce, WeighedWords

EXPANSIONS: tuple[Expansion, ...] = ("separate", "append", "both")
TOWN = [
    "Mara Venn repairs timepieces in Orrin.",
    "The harbour of Orrin freezes in winter.",
    "Tobias Reed sells broken clocks.",
    "A lantern hangs over the gate.",
    "Letters arrive by boat on Mondays.",
]

questions = sentences.filter(str.strip)
clue_lists = st.lists(st.builds(Clue, sentences, st.sampled_from(CLUE_KINDS), st.floats(-3, 0)), max_size=4)
expansions = st.sampled_from(EXPANSIONS)
embedders = st.sampled_from([None, HashedWords()])


def ordinals(index: EvidenceIndex, evidence: tuple[Evidence, ...]) -> list[int]:
    return [index.chunks.index(piece.chunk) for piece in evidence]


@given(st.data(), corpora, questions, clue_lists, expansions, embedders, st.sampled_from([0.0, 1.0, 8.0]))
def test_exactly_k_different_chunks_come_out_ranked_from_one_and_the_same_every_time(
    data: st.DataObject,
    texts: list[str],
    question: str,
    clues: list[Clue],
    expansion: Expansion,
    embedder: HashedWords | None,
    confidence: float,
) -> None:
    k = data.draw(st.integers(1, len(texts)))
    settings = RetrievalSettings(expansion=expansion, confidence=confidence)
    index = EvidenceIndex.build(chunks_of([f"{text} {n}" for n, text in enumerate(texts)]), embedder)
    found = index.retrieve(question, clues, k=k, settings=settings)
    assert len({piece.chunk.id for piece in found}) == len(found) == k
    assert [piece.rank for piece in found] == list(range(1, k + 1))
    assert [piece.score for piece in found] == sorted((piece.score for piece in found), reverse=True)
    assert found == index.retrieve(question, clues, k=k, settings=settings)
    for before, after in pairwise(found):
        if before.score == after.score > 0:
            assert before.chunk.start < after.chunk.start


@given(st.lists(st.tuples(questions, clue_lists), max_size=4), corpora, expansions, embedders)
def test_many_requests_at_once_give_what_each_gives_alone(
    requests: list[tuple[str, list[Clue]]],
    texts: list[str],
    expansion: Expansion,
    embedder: HashedWords | None,
) -> None:
    index = EvidenceIndex.build(chunks_of(texts), embedder)
    settings = RetrievalSettings(expansion=expansion)
    together = index.retrieve_batch(requests, k=1, settings=settings)
    assert together == tuple(
        index.retrieve(question, clues, k=1, settings=settings) for question, clues in requests
    )


@given(corpora, questions)
def test_the_question_alone_gives_the_order_of_bm25_and_then_the_rest_of_the_corpus(
    texts: list[str], question: str
) -> None:
    chunks = chunks_of([f"{text} {n}" for n, text in enumerate(texts)])
    index = EvidenceIndex.build(chunks)
    (ranking,) = BM25Index.build(chunks).search([question], len(chunks))
    first = [ordinal for ordinal, _ in ranking]
    rest = [ordinal for ordinal in range(len(chunks)) if ordinal not in first]
    found = index.retrieve(question, k=len(chunks))
    assert ordinals(index, found) == first + rest
    assert [bool(piece.hits) for piece in found] == [True] * len(first) + [False] * len(rest)


@given(st.data(), corpora, questions, clue_lists, expansions, st.booleans())
def test_only_the_order_within_a_kind_matters_and_none_without_decay(
    data: st.DataObject,
    texts: list[str],
    question: str,
    clues: list[Clue],
    expansion: Expansion,
    decays: bool,
) -> None:
    index = EvidenceIndex.build(chunks_of(texts), HashedWords())
    shuffled = data.draw(st.permutations(clues))
    if decays:  # the kinds mixed otherwise, each in its own order
        left = {kind: iter([clue for clue in clues if clue.kind == kind]) for kind in CLUE_KINDS}
        shuffled = [next(left[clue.kind]) for clue in shuffled]
    settings = RetrievalSettings(expansion=expansion, decay=0.5 if decays else 1.0)
    once, again = (index.retrieve(question, some, k=1, settings=settings) for some in (clues, shuffled))
    assert [(p.chunk, p.score) for p in once] == [(p.chunk, p.score) for p in again]


@given(st.data(), questions, st.lists(sentences.filter(str.strip), max_size=3))
def test_chunks_in_another_order_score_the_same_where_no_scores_tie(
    data: st.DataObject, question: str, clue_texts: list[str]
) -> None:
    clues = [Clue(text, "span") for text in clue_texts]
    texts = ["lantern harbour 灯笼", "clock clock mends", "фонарь", "港口 lantern lantern lantern", "!"]
    order = data.draw(st.permutations(range(len(texts))))
    here = EvidenceIndex.build(chunks_of(texts))
    there = EvidenceIndex.build(chunks_of([texts[place] for place in order]))
    scores = here.bm25.search([question, *clue_texts], len(texts))
    if any(len({score for _, score in ranking}) < len(ranking) for ranking in scores):
        return  # equal scores are ranked by place, which is what was changed
    by_text = [
        {piece.chunk.text: piece.score for piece in index.retrieve(question, clues, k=len(texts))}
        for index in (here, there)
    ]
    assert by_text[0] == by_text[1]


@given(questions, clue_lists, expansions, embedders)
def test_clues_of_weight_zero_and_blank_clues_are_as_if_absent(
    question: str, clues: list[Clue], expansion: Expansion, embedder: HashedWords | None
) -> None:
    index = EvidenceIndex.build(chunks_of(TOWN), embedder)
    settings = RetrievalSettings(clue_weights={"span": 0}, expansion=expansion)
    kept = [clue for clue in clues if clue.kind != "span"]
    blank = Clue(" \n", "answer")
    assert index.retrieve(question, [blank, *clues, blank], k=5, settings=settings) == index.retrieve(
        question, kept, k=5, settings=settings
    )


def test_the_fused_score_is_the_formula_by_hand_and_every_hit_says_where_it_comes_from() -> None:
    index = EvidenceIndex.build(chunks_of(TOWN))
    settings = RetrievalSettings(
        question_weight=1.0, clue_weights={"span": 0.5}, rrf_constant=60, confidence=0
    )
    clue = Clue("Mara Venn repairs timepieces", "span", -0.1)
    # The question finds chunk 2 alone (broken, clock); the clue finds chunk 0 alone.
    first, second = index.retrieve("Who is asked about the broken clock?", [clue], k=2, settings=settings)
    assert (first.chunk.text, second.chunk.text) == (TOWN[2], TOWN[0])
    assert first.score == pytest.approx(1 / 61)
    assert second.score == pytest.approx(0.5 / 61)
    assert [(hit.retriever, hit.kind, hit.query, hit.rank) for hit in second.hits] == [
        ("bm25", "span", clue.text, 1)
    ]
    assert (first.clues, second.clues) == ((), (clue.text,))


def test_a_clue_finds_what_the_question_cannot() -> None:
    index = EvidenceIndex.build(chunks_of(TOWN))
    clues = [Clue("Mara Venn repairs timepieces", "span"), Clue("Who repairs timepieces?", "query")]
    question = "Who would mend it?"
    assert index.retrieve(question, k=1)[0].hits == ()
    assert index.retrieve(question, clues, k=1)[0].chunk.text == TOWN[0]


def test_a_clue_after_its_question_is_asked_as_one_query_and_named_by_its_own_text() -> None:
    index = EvidenceIndex.build(chunks_of(TOWN), HashedWords())
    question, clue = "Who sells broken clocks?", Clue("harbour of Orrin", "span")
    best = index.retrieve(question, [clue], k=1, settings=RetrievalSettings(expansion="append"))[0]
    joined = [hit for hit in best.hits if hit.kind == "span"]
    assert {hit.retriever for hit in joined} == {"bm25+question", "dense+question"}
    assert {hit.query for hit in joined} == {clue.text}
    ranking = index.bm25.search([f"{question}\n{clue.text}"], 5)[0]
    assert [hit.score for hit in joined if hit.retriever == "bm25+question"] == [ranking[0][1]]


def test_both_expansions_together_share_the_weight_of_the_clue() -> None:
    index = EvidenceIndex.build(chunks_of(TOWN))
    settings = RetrievalSettings(question_weight=0, clue_weights={"span": 0.5}, rrf_constant=60, confidence=0)
    clue = [Clue("Mara Venn repairs timepieces", "span")]
    scores = [
        index.retrieve("lantern?", clue, k=1, settings=replace(settings, expansion=expansion))[0].score
        for expansion in EXPANSIONS
    ]
    assert scores == pytest.approx([0.5 / 61] * 3)


def test_each_further_clue_of_a_kind_weighs_less_by_the_decay() -> None:
    index = EvidenceIndex.build(chunks_of(["lantern", "harbour", "clock"]))
    settings = RetrievalSettings(
        question_weight=0, clue_weights={"span": 1, "query": 1}, decay=0.25, rrf_constant=0
    )
    clues = [Clue(text, "span") for text in ("clock", "harbour", "lantern")] + [Clue("harbour", "query")]
    found = index.retrieve("?", clues, k=3, settings=settings)
    assert [(piece.chunk.text, piece.score) for piece in found] == [
        ("harbour", 1.25),
        ("clock", 1.0),
        ("lantern", 0.0625),
    ]


def test_with_confidence_a_clue_weighs_as_much_as_the_memory_believed_it() -> None:
    index = EvidenceIndex.build(chunks_of(TOWN))
    settings = RetrievalSettings(
        question_weight=0, clue_weights={"span": 0.5}, rrf_constant=60, confidence=1.0
    )

    def score(log_probability: float) -> float:
        clue = Clue("Mara Venn repairs timepieces", "span", log_probability)
        return index.retrieve("?!", [clue], k=1, settings=settings)[0].score

    assert score(0.0) == pytest.approx(0.5 / 61)
    assert score(math.log(0.25)) == pytest.approx(0.25 * 0.5 / 61)
    assert score(0.7) == score(0.0)  # no belief above certainty
    assert score(-math.inf) == 0.0
    with pytest.raises(InputError, match="'Mara Venn repairs timepieces' has a score that is not a number"):
        score(math.nan)


def test_a_question_that_weighs_nothing_still_orders_what_is_filled_in() -> None:
    index = EvidenceIndex.build(chunks_of(TOWN))
    settings = RetrievalSettings(question_weight=0)
    clues = [Clue("Letters arrive", "span")]
    found = index.retrieve("Does a lantern hang at the harbour of Orrin?", clues, k=5, settings=settings)
    (ranking,) = index.bm25.search(["Does a lantern hang at the harbour of Orrin?"], 5)
    assert ordinals(index, found)[:1] == [4]
    assert ordinals(index, found)[1 : 1 + len(ranking)] == [ordinal for ordinal, _ in ranking]
    assert all(piece.score == 0 and piece.hits == () for piece in found[1:])


def test_a_narrow_fan_out_reads_less_of_each_list_but_never_less_than_k() -> None:
    index = EvidenceIndex.build(chunks_of([f"lantern {'word ' * n}" for n in range(9)]))
    shallow = RetrievalSettings(fan_out=2)
    clues = [Clue("lantern", "span")]
    assert all(len(piece.hits) == 2 for piece in index.retrieve("lantern", clues, k=5, settings=shallow))


def test_both_retrievers_rank_when_an_embedder_is_given() -> None:
    index = EvidenceIndex.build(chunks_of(TOWN), HashedWords())
    hits = index.retrieve("lantern gate", k=1)[0].hits
    assert [hit.retriever for hit in hits] == ["bm25", "dense"]


def test_a_batch_encodes_each_text_once() -> None:
    embedder = HashedWords()
    index = EvidenceIndex.build(chunks_of(TOWN), embedder)
    clue = Clue("harbour of Orrin", "span")
    index.retrieve_batch([("lantern", [clue]), ("lantern", [clue, clue]), ("boat", [clue])], k=1)
    assert embedder.queries == 3


def test_the_same_index_comes_from_kept_vectors_without_encoding() -> None:
    embedder = HashedWords()
    built = EvidenceIndex.build(chunks_of(TOWN), embedder)
    assert built.vectors is not None
    again = EvidenceIndex.build(chunks_of(TOWN), embedder, vectors=built.vectors)
    assert len(embedder.calls) == 1
    assert again.vectors is not None
    assert np.array_equal(again.vectors, built.vectors)
    assert again.retrieve("harbour", k=5) == built.retrieve("harbour", k=5)
    assert EvidenceIndex.build(chunks_of(TOWN)).vectors is None


def test_chinese_questions_and_clues_find_chinese_chunks() -> None:
    texts = ["王师傅在城南修理钟表。", "港口冬天结冰。", "信件星期一到达。"]
    index = EvidenceIndex.build(chunks_of(texts))
    assert index.retrieve("谁会修钟？", k=3)[0].chunk.text == texts[0]
    clues = [Clue("港口冬天结冰", "span")]
    settings = RetrievalSettings(question_weight=0.1, clue_weights={"span": 0.5})
    assert index.retrieve("谁会修钟？", clues, k=3, settings=settings)[0].chunk.text == texts[1]


def test_threads_that_share_an_index_get_what_one_thread_gets() -> None:
    index = EvidenceIndex.build(chunks_of(TOWN * 20), HashedWords())
    asked = [f"{word} of Orrin" for word in ("harbour", "lantern", "letters", "clocks")] * 10
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(index.retrieve, asked)) == [index.retrieve(question) for question in asked]


def test_an_index_cannot_be_changed() -> None:
    index = EvidenceIndex.build(chunks_of(TOWN))
    with pytest.raises(FrozenInstanceError):
        index.chunks = ()  # type: ignore[misc]


@pytest.mark.parametrize("k", [0, -1, 6, True, 2.0, "3"])
def test_k_that_cannot_be_says_how_many_chunks_there_are(k: object) -> None:
    index = EvidenceIndex.build(chunks_of(TOWN))
    with pytest.raises(InputError, match=rf"k is {k!r}, but the corpus has 5 chunks"):
        index.retrieve("lantern", k=cast(int, k))
    with pytest.raises(InputError, match=rf"k is {k!r}, but the corpus has 5 chunks"):
        index.check_k(cast(int, k))  # without any question


def test_the_default_k_is_held_to_the_number_of_chunks_too() -> None:
    with pytest.raises(InputError, match="k is 4, but the corpus has 1 chunk:"):
        EvidenceIndex.build(chunks_of(["a lantern"])).retrieve("lantern")


@pytest.mark.parametrize("question", ["", " \n", None])
def test_an_empty_question_is_a_clear_error_also_within_a_batch(question: object) -> None:
    index = EvidenceIndex.build(chunks_of(TOWN))
    with pytest.raises(InputError, match=r"Question 2 of 2 is .*; expected a text that is not empty"):
        index.retrieve_batch([("lantern", ()), (cast(str, question), ())], k=1)


def test_wrong_arguments_are_clear_errors() -> None:
    chunks = chunks_of(TOWN)
    index = EvidenceIndex.build(chunks)
    with pytest.raises(InputError, match="without the embedder"):
        EvidenceIndex.build(chunks, vectors=np.eye(5, dtype=np.float32))
    with pytest.raises(InputError, match="dense index is of 4 chunks, but 5 chunks"):
        EvidenceIndex.build(chunks, HashedWords(4), vectors=np.eye(4, dtype=np.float32))
    with pytest.raises(InputError, match="bm25 index is of 5 chunks, but 4 chunks"):
        EvidenceIndex(chunks[:4], index.bm25)
    with pytest.raises(InputError, match="no chunks"):
        EvidenceIndex.build(())


def test_no_requests_give_no_evidence_and_still_have_their_k_checked() -> None:
    index = EvidenceIndex.build(chunks_of(TOWN))
    assert index.retrieve_batch([]) == ()
    with pytest.raises(InputError, match="k is 6, but the corpus has 5 chunks"):
        index.retrieve_batch([], k=6)
    index.check_k(5)


def test_old_names_of_the_parts_still_give_them_and_warn() -> None:
    with pytest.warns(DeprecationWarning, match=r"build\(lexical=\.\.\.\) is deprecated; use learned_sparse"):
        index = EvidenceIndex.build(chunks_of(TOWN), BothAtOnce(), lexical=True)
    with pytest.warns(DeprecationWarning, match=r"sparse is deprecated; use EvidenceIndex\.bm25"):
        assert index.sparse is index.bm25
    with pytest.warns(DeprecationWarning, match=r"use EvidenceIndex\.learned_sparse"):
        assert index.lexical is index.learned_sparse is not None


def test_the_old_name_of_the_encoder_still_gives_it_and_warns() -> None:
    with pytest.warns(DeprecationWarning, match=r"LexicalEncoder is deprecated; use .*LearnedSparseEncoder"):
        assert memorag_core.LexicalEncoder is memorag_core.LearnedSparseEncoder


def test_parts_built_apart_make_an_index() -> None:
    chunks = chunks_of(TOWN)
    vectors = np.eye(5, dtype=np.float32)
    index = EvidenceIndex(chunks, BM25Index.build(chunks), DenseIndex.from_vectors(vectors, HashedWords(5)))
    assert len(index.retrieve("lantern", k=5)) == 5


# With a re-ranker


def shortest(query: str, passages: Sequence[str]) -> list[float]:
    return [-float(len(passage)) for passage in passages]


@given(
    st.data(), corpora, questions, clue_lists, st.integers(1, 12), st.sampled_from(["rrf", "relative_score"])
)
def test_a_reranker_orders_what_was_found_and_exactly_k_come_out(
    data: st.DataObject,
    texts: list[str],
    question: str,
    clues: list[Clue],
    depth: int,
    fusion: FusionMethod,
) -> None:
    k = data.draw(st.integers(1, len(texts)))
    settings = RetrievalSettings(rerank_depth=depth, fusion=fusion)
    index = EvidenceIndex.build(chunks_of([f"{text} {n}" for n, text in enumerate(texts)]))
    before = index.retrieve(question, clues, k=min(max(k, depth), len(texts)), settings=settings)
    found = index.retrieve(question, clues, k=k, settings=settings, reranker=shortest)
    assert len({piece.chunk.id for piece in found}) == len(found) == k
    read = before[: max(k, sum(bool(piece.hits) for piece in before))]
    assert [piece.chunk for piece in found] == [
        piece.chunk for piece in sorted(read, key=lambda piece: len(piece.chunk.text))[:k]
    ]
    for rank, piece in enumerate(found, start=1):
        assert piece.rank == rank
        assert piece.hits[-1] == Hit("reranker", question, "question", rank, piece.score)
        assert piece.hits[:-1] == next(one.hits for one in before if one.chunk == piece.chunk)


def test_a_reranker_is_asked_with_the_question_alone_and_no_deeper_than_it_should() -> None:
    asked: list[tuple[str, int]] = []

    def reranker(query: str, passages: Sequence[str]) -> list[float]:
        asked.append((query, len(passages)))
        return [1.0] * len(passages)

    index = EvidenceIndex.build(chunks_of([f"lantern {'word ' * n}" for n in range(30)]))
    settings = RetrievalSettings(rerank_depth=7)
    clues = [Clue("lantern word", "span")]
    plain = index.retrieve("lantern?", clues, k=3, settings=settings)
    found = index.retrieve("lantern?", clues, k=3, settings=settings, reranker=reranker)
    assert asked == [("lantern?", 7)]
    assert [piece.chunk for piece in found] == [piece.chunk for piece in plain]  # equal scores: as it was
    index.retrieve("lantern?", clues, k=9, settings=settings, reranker=reranker)
    assert asked[-1] == ("lantern?", 9)


# With token weights of the embedder


@pytest.mark.parametrize("kind", [WeighedWords, BothAtOnce])
def test_token_weights_rank_beside_the_others_and_take_one_pass_where_they_can(
    kind: type[WeighedWords],
) -> None:
    embedder = kind()
    index = EvidenceIndex.build(chunks_of(TOWN), embedder, learned_sparse=True, batch_size=4)
    settings = RetrievalSettings(retriever_weights={"learned_sparse": 0.5}, rrf_constant=0)
    best = index.retrieve("lantern gate", k=1, settings=settings)[0]
    assert [(hit.retriever, hit.rank) for hit in best.hits] == [("bm25", 1), ("dense", 1), ("lexical", 1)]
    assert best.score == 2.5
    if isinstance(embedder, BothAtOnce):
        assert (embedder.passes, embedder.calls, embedder.weighed) == ([4, 1], [], [])
    else:
        assert (embedder.calls, embedder.weighed) == ([4, 1], [4, 1])


def test_with_both_kinds_of_encoder_the_index_is_the_same() -> None:
    settings = RetrievalSettings(retriever_weights={"learned_sparse": 1})
    clues = [Clue("harbour of Orrin", "span")]
    one, other = (
        EvidenceIndex.build(chunks_of(TOWN), embedder, learned_sparse=True)
        for embedder in (WeighedWords(), BothAtOnce())
    )
    assert one.retrieve("lantern", clues, k=5, settings=settings) == other.retrieve(
        "lantern", clues, k=5, settings=settings
    )


def test_what_the_index_was_built_without_cannot_be_weighed() -> None:
    index = EvidenceIndex.build(chunks_of(TOWN), WeighedWords())
    with pytest.raises(InputError, match=r"\['learned_sparse'\] is 1, but the index was built without"):
        index.retrieve("lantern", settings=RetrievalSettings(retriever_weights={"learned_sparse": 1}))
    with pytest.raises(InputError, match=r"\['graph'\] is 0\.5, but the index was built without a graph"):
        index.retrieve("lantern", settings=RetrievalSettings(retriever_weights={"graph": 0.5}))
    with pytest.raises(InputError, match=r"\['graph'\] is 0\.5, but the index was built without a graph"):
        index.check_k(1, RetrievalSettings(retriever_weights={"graph": 0.5}))
    with pytest.raises(InputError, match="a HashedWords gives none"):
        EvidenceIndex.build(chunks_of(TOWN), HashedWords(), learned_sparse=True)
    with pytest.raises(InputError, match="no embedder was given"):
        EvidenceIndex.build(chunks_of(TOWN), learned_sparse=True)


# What each retriever weighs


def test_a_retriever_of_weight_0_does_not_search_and_the_others_weigh_what_is_said() -> None:
    index = EvidenceIndex.build(chunks_of(TOWN), HashedWords())
    settings = RetrievalSettings(rrf_constant=0)

    def weights(given: dict[RetrieverName, float]) -> list[tuple[str, float]]:
        best = index.retrieve("lantern gate", k=1, settings=replace(settings, retriever_weights=given))[0]
        return [(hit.retriever, best.score) for hit in best.hits]

    assert weights({"dense": 0}) == [("bm25", 1.0)]
    assert weights({"bm25": 0}) == [("dense", 1.0)]
    assert weights({"bm25": 0.5, "dense": 2}) == [("bm25", 2.5), ("dense", 2.5)]


def test_vectors_alone_find_what_an_index_of_vectors_finds() -> None:
    index = EvidenceIndex.build(chunks_of(TOWN), HashedWords())
    assert index.dense is not None
    (nearest,) = index.dense.search(["harbour lantern"], 3)
    found = index.retrieve("harbour lantern", k=3, settings=RetrievalSettings(retriever_weights={"bm25": 0}))
    assert [piece.chunk for piece in found] == [index.chunks[ordinal] for ordinal, _ in nearest]


def test_with_no_bm25_and_no_vectors_nothing_searches_and_that_is_said() -> None:
    index = EvidenceIndex.build(chunks_of(TOWN))
    with pytest.raises(InputError, match=r"\['bm25'\] is 0, and the index has no vectors"):
        index.retrieve("lantern", settings=RetrievalSettings(retriever_weights={"bm25": 0}))


# With a graph


def test_the_graph_finds_what_hangs_together_with_the_first_chunk_found() -> None:
    texts = [
        "The red lantern was made by Ines Albarrow.",
        "Rain fell on the mill all week.",
        "Ines Albarrow was born in Tarn Hollow.",
        "Bread is sold out by nine.",
    ]
    chunks = tuple(replace(chunk, document_id=chunk.id) for chunk in chunks_of(texts))
    index = EvidenceIndex.build(chunks, entities=find_entities)
    question = "Where was the maker of the red lantern born?"
    settings = RetrievalSettings(retriever_weights={"graph": 0.5}, graph_anchors=1)
    found = index.retrieve("Who made the red lantern?", k=2, settings=settings)
    assert found[1].chunk.text == texts[2]
    assert [hit.retriever for hit in found[1].hits] == ["graph"]
    assert index.retrieve(question, k=4) == EvidenceIndex.build(chunks).retrieve(question, k=4)


SETTINGS = st.builds(
    RetrievalSettings,
    fusion=st.sampled_from(["rrf", "relative_score"]),
    retriever_weights=st.fixed_dictionaries(
        {
            "dense": st.sampled_from([0, 1, 2]),
            "learned_sparse": st.sampled_from([0, 0.5]),
            "graph": st.sampled_from([0, 1]),
        }
    ),
    neighbours=st.integers(0, 2),
    order=st.sampled_from(["rank", "document"]),
)


@given(st.lists(st.tuples(questions, clue_lists), max_size=3), corpora, SETTINGS, st.booleans())
def test_whatever_takes_part_many_requests_give_what_each_gives_alone_every_time(
    requests: list[tuple[str, list[Clue]]], texts: list[str], settings: RetrievalSettings, reranked: bool
) -> None:
    index = EvidenceIndex.build(chunks_of(texts), BothAtOnce(), learned_sparse=True, entities=find_entities)
    reranker = shortest if reranked else None
    together = index.retrieve_batch(requests, k=1, settings=settings, reranker=reranker)
    assert together == tuple(
        index.retrieve(question, clues, k=1, settings=settings, reranker=reranker)
        for question, clues in requests
    )


@given(st.data(), corpora, questions, clue_lists, SETTINGS, st.booleans(), st.sampled_from([0.0, 1.0]))
def test_whatever_takes_part_exactly_k_different_chunks_were_chosen(
    data: st.DataObject,
    texts: list[str],
    question: str,
    clues: list[Clue],
    settings: RetrievalSettings,
    reranked: bool,
    question_weight: float,
) -> None:
    k = data.draw(st.integers(1, len(texts)))
    settings = replace(settings, question_weight=question_weight)
    chunks = chunks_of([f"{text} {n}" for n, text in enumerate(texts)])
    index = EvidenceIndex.build(chunks, BothAtOnce(), learned_sparse=True, entities=find_entities)
    reranker = shortest if reranked else None
    found = index.retrieve(question, clues, k=k, settings=settings, reranker=reranker)
    assert found == index.retrieve(question, clues, k=k, settings=settings, reranker=reranker)
    assert len({piece.chunk.id for piece in found}) == len(found)
    ranked = sorted(found, key=lambda piece: piece.rank)
    assert [piece.rank for piece in ranked] == list(range(1, len(found) + 1))
    assert [piece.score for piece in ranked] == sorted((piece.score for piece in ranked), reverse=True)
    chosen = [piece for piece in found if NEIGHBOUR not in {hit.retriever for hit in piece.hits}]
    assert len(chosen) == k


# Changed


@given(corpora, corpora, questions, clue_lists, st.booleans())
def test_an_index_of_other_chunks_finds_what_one_that_is_built_of_them_finds(
    before: list[str], after: list[str], question: str, clues: list[Clue], lexical: bool
) -> None:
    def build(texts: list[str]) -> EvidenceIndex:
        return EvidenceIndex.build(
            chunks_of(texts),
            BothAtOnce(),
            learned_sparse=lexical,
            entities=find_entities,
            tokenization="grams",
        )

    settings = RetrievalSettings(retriever_weights={"learned_sparse": float(lexical), "graph": 1})
    changed, fresh = build(before).changed(chunks_of(after)), build(after)
    asked = [(question, clues)]
    k = len(after)
    assert changed.retrieve_batch(asked, k=k, settings=settings) == fresh.retrieve_batch(
        asked, k=k, settings=settings
    )


def test_a_change_encodes_and_reads_new_texts_only_and_leaves_the_index_before_as_it_was() -> None:
    embedder = BothAtOnce()
    read: list[str] = []

    def finder(text: str) -> tuple[str, ...]:
        read.append(text)
        return find_entities(text)

    before = EvidenceIndex.build(chunks_of(TOWN), embedder, learned_sparse=True, entities=finder)
    found = before.retrieve("lantern", k=5)
    after = before.changed(chunks_of([TOWN[3], "A boat lies in the harbour.", TOWN[0]]))
    assert embedder.passes == [5, 1]
    assert read[5:] == ["A boat lies in the harbour."]
    assert len(after.retrieve("lantern", k=3)) == 3
    assert before.retrieve("lantern", k=5) == found
    fewer = after.changed(after.chunks[:1])
    assert (embedder.passes, len(read)) == ([5, 1], 6)
    assert fewer.retrieve("lantern", k=1)[0].chunk.text == TOWN[3]


def test_token_weights_without_vectors_change_too() -> None:
    encoder, chunks = WeighedWords(), chunks_of(TOWN)
    index = EvidenceIndex(chunks, BM25Index.build(chunks), learned_sparse=weighed(chunks, encoder))
    changed = index.changed(chunks_of(["A boat", *TOWN]))
    hits = changed.retrieve("boat", k=1, settings=RetrievalSettings(retriever_weights={"learned_sparse": 1}))[
        0
    ].hits
    assert [hit.retriever for hit in hits] == ["bm25", "lexical"]


# Other embedders, other tokens


def test_any_embedder_will_do() -> None:
    words = HashedWords()
    index = EvidenceIndex.build(chunks_of(TOWN), words.embed_documents)
    assert index.retrieve("harbour", k=5) == EvidenceIndex.build(chunks_of(TOWN), words).retrieve(
        "harbour", k=5
    )
    with pytest.raises(InputError, match=r"give flag_embedder\('bge-m3'\)"):
        EvidenceIndex.build(chunks_of(TOWN), "bge-m3")


@pytest.mark.skipif(not sudachi_is_installed(), reason="needs Sudachi")
def test_japanese_is_cut_into_words_for_chunks_queries_and_changes() -> None:
    texts = ["港は冬に凍る。", "時計を直した人がいる。"]
    index = EvidenceIndex.build(chunks_of(texts), tokenization="japanese")
    assert index.changed(chunks_of(texts[::-1])).bm25.tokenization == "japanese"
    assert "直す" in index.bm25.vocabulary
    assert index.retrieve("誰が直すか", k=1)[0].chunk.text == texts[1]


def test_a_question_of_stop_words_finds_where_they_stand_and_a_clue_of_them_adds_nothing() -> None:
    index = EvidenceIndex.build(chunks_of(["The clock is old.", "A lantern.", "“Who is it?” she asked."]))
    (first, *_) = index.retrieve("Who is it?", k=3)
    assert first.chunk.text == "“Who is it?” she asked."
    assert [hit.retriever for hit in first.hits] == ["bm25"]
    alone = index.retrieve("lantern", k=3)
    assert index.retrieve("lantern", [Clue("It was him.", "answer")], k=3) == alone


def test_a_word_with_a_soft_hyphen_is_found_and_finds() -> None:
    index = EvidenceIndex.build(
        chunks_of(["A lantern.", "Acknowl\u00adedgement of the debt.", "Old clocks."])
    )
    for question in ("acknowledgement", "ACKNOWL\u00adEDGE\u200bMENT", "a\u2060cknowledgement"):
        (first, *_) = index.retrieve(question, k=1)
        assert first.chunk.text.startswith("Acknowl")
        assert first.score > 0
