from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memorag_core.errors import InputError
from memorag_core.retrieval import EvidenceIndex, FanOut
from memorag_core.retrieval.fusion import RankedList, fuse
from memorag_core.retrieval.queries import queries
from memorag_core.retrieval.tokenization import lexical_tokens
from memorag_core.settings import Expansion, FusionMethod, RetrievalSettings
from memorag_core.types import CLUE_KINDS, Chunk, Clue, Evidence, FoundPassage, Hit
from tests.core.retrieval.conftest import chunks_of, corpora, sentences
from tests.core.retrieval.external.searching import AsyncTold, Searched, Told

questions = sentences.filter(str.strip)
clue_lists = st.lists(st.builds(Clue, sentences, st.sampled_from(CLUE_KINDS), st.floats(-3, 0)), max_size=4)
expansions = st.sampled_from(("separate", "append", "both"))
methods = st.sampled_from(("rrf", "relative_score"))
question_weights = st.sampled_from([0.0, 1.0])

passages = st.builds(
    FoundPassage,
    st.sampled_from(["lantern", "harbour", "灯笼 港口", "clock", " ", "ランプ"]),
    st.sampled_from([None, "a", "b", "c", "灯"]),
)
answers = st.lists(passages, max_size=8)


def chosen(evidence: Sequence[Evidence]) -> list[tuple[str, int, float]]:
    return [(piece.chunk.id, piece.rank, piece.score) for piece in evidence]


def found(fan_out: FanOut, question: str, clues: Sequence[Clue] = (), **options: Any) -> tuple[Evidence, ...]:
    return fan_out.retrieve_batch([(question, clues)], **options)[0].evidence


@given(corpora, questions, clue_lists, expansions, methods, question_weights, st.integers(1, 12))
def test_what_comes_out_is_the_fusion_of_the_lists_that_the_searches_gave(
    texts: list[str],
    question: str,
    clues: list[Clue],
    expansion: Expansion,
    method: FusionMethod,
    weight: float,
    k: int,
) -> None:
    chunks = chunks_of([f"{text} {n}" for n, text in enumerate(texts)])
    searched = Searched(chunks)
    settings = RetrievalSettings(expansion=expansion, fusion=method, question_weight=weight)
    plan = list(queries(question, clues, settings))
    rankings = [searched.index.search([query.text], len(chunks))[0] for query in plan]
    ordinals = {place: n for n, place in enumerate(dict.fromkeys(o for r in rankings for o, _ in r))}
    lists = [
        RankedList(
            f"mine{query.suffix}",
            query.query,
            query.kind,
            query.weight,
            tuple((ordinals[place], score) for place, score in ranking),
        )
        for query, ranking in zip(plan, rankings, strict=True)
    ]
    evidence = found(FanOut(searched, name="mine"), question, clues, k=k, settings=settings)
    assert len(evidence) == min(k, len(ordinals))
    if not evidence:
        return
    fill = [ordinals[place] for place, _ in rankings[0]]
    expected = fuse(
        lists, len(evidence), size=len(ordinals), constant=settings.rrf_constant, method=method, fill=fill
    )
    places = list(ordinals)
    assert [(chunks[places[one.ordinal]].id, one.score, one.hits) for one in expected] == [
        (piece.chunk.id, piece.score, piece.hits) for piece in evidence
    ]


@given(corpora, questions, clue_lists, expansions)
def test_over_the_same_lists_an_index_of_our_own_gives_every_passage_the_same_score(
    texts: list[str], question: str, clues: list[Clue], expansion: Expansion
) -> None:
    chunks = chunks_of([f"{text} {n}" for n, text in enumerate(texts)])
    settings = RetrievalSettings(expansion=expansion)
    # An index of our own leaves clues of stop words out; another searcher is asked whatever a clue says.
    clues = [clue for clue in clues if lexical_tokens(clue.text)]
    ours = EvidenceIndex.build(chunks).retrieve(question, clues, k=len(chunks), settings=settings)
    theirs = found(FanOut(Searched(chunks), name="bm25"), question, clues, k=len(chunks), settings=settings)
    assert {piece.chunk.id: (piece.score, piece.hits) for piece in ours if piece.hits} == {
        piece.chunk.id: (piece.score, piece.hits) for piece in theirs
    }


@given(answers, answers, questions, st.integers(1, 8), st.sampled_from([1, 3, 50]), question_weights)
def test_exactly_k_different_passages_come_out_or_all_that_were_found(
    own: list[FoundPassage], other: list[FoundPassage], question: str, k: int, fan_out: int, weight: float
) -> None:
    clue = Clue("a clue of its own", "span")
    settings = RetrievalSettings(fan_out=fan_out, question_weight=weight)
    searcher = Told({question: own, clue.text: other})
    evidence = found(FanOut(searcher), question, [clue], k=k, settings=settings)
    # Each list is read to the depth that was asked for, the same passage counted once.
    lists = [
        list(dict.fromkeys((p.id, p.id or p.text) for p in one if p.text.strip()))[: max(fan_out, k)]
        for one in (own, other)
    ]
    assert len(evidence) == min(k, len({key for one in lists for key in one}))
    assert len({piece.chunk.id for piece in evidence}) == len(evidence)
    assert [piece.rank for piece in evidence] == list(range(1, len(evidence) + 1))
    assert [piece.score for piece in evidence] == sorted((p.score for p in evidence), reverse=True)
    assert all(piece.chunk.text.strip() for piece in evidence)
    assert evidence == found(FanOut(searcher), question, [clue], k=k, settings=settings)


@given(st.lists(st.tuples(questions, clue_lists), max_size=4), corpora, expansions)
def test_many_requests_at_once_give_what_each_gives_alone_awaited_or_not(
    requests: list[tuple[str, list[Clue]]], texts: list[str], expansion: Expansion
) -> None:
    fan_out = FanOut(Searched(chunks_of(texts)))
    settings = RetrievalSettings(expansion=expansion)
    together = fan_out.retrieve_batch(requests, settings=settings)
    awaited = asyncio.run(fan_out.aretrieve_batch(requests, settings=settings))
    assert [one.question for one in together] == [question for question, _ in requests]
    assert [one.evidence for one in together] == [one.evidence for one in awaited]
    assert [one.evidence for one in together] == [
        found(fan_out, question, clues, settings=settings) for question, clues in requests
    ]


@settings(max_examples=20)
@given(st.data())
def test_the_result_does_not_depend_on_which_search_ends_first(data: st.DataObject) -> None:
    texts = [f"lantern {'harbour ' * n} clock {n}" for n in range(8)]
    clues = [Clue(word, "span") for word in ("harbour", "clock", "lantern 3", "5", "港口")]
    asked = ["lantern", *(clue.text for clue in clues)]
    searched = Searched(chunks_of(texts))
    table = {text: searched.search(text, 50) for text in asked}
    pauses = {text: data.draw(st.sampled_from([0.0, 0.002, 0.006])) for text in asked}
    concurrency = data.draw(st.integers(1, 6))
    expected = found(FanOut(searched), "lantern", clues, k=8)
    for searcher in (Told(table, pauses=pauses), AsyncTold(table, pauses=pauses)):
        fan_out = FanOut(searcher, concurrency=concurrency)
        assert found(fan_out, "lantern", clues, k=8) == expected
        (awaited,) = asyncio.run(fan_out.aretrieve_batch([("lantern", clues)], k=8))
        assert awaited.evidence == expected


def test_each_text_of_a_batch_is_searched_once_and_as_deep_as_is_needed() -> None:
    searched = Searched(chunks_of(["a lantern", "a clock"]))
    clue = Clue("clock", "span")
    requests = [("lantern", [clue]), ("lantern", [clue, Clue("clock", "query")]), ("clock", ())]
    fan_out = FanOut(searched, concurrency=1)

    def asked(**options: Any) -> list[tuple[str, int]]:
        searched.asked.clear()
        fan_out.retrieve_batch(requests, **options)
        return searched.asked

    shallow = RetrievalSettings(fan_out=3, rerank_depth=20)
    assert asked() == [("lantern", 50), ("clock", 50)]
    assert asked(settings=shallow) == [("lantern", 4), ("clock", 4)]  # k is 4
    assert asked(settings=shallow, k=9) == [("lantern", 9), ("clock", 9)]
    assert asked(settings=shallow, reranker=longest) == [("lantern", 20), ("clock", 20)]


def test_a_passage_is_a_document_of_its_own_under_the_retrievers_id_or_a_hash_of_its_text() -> None:
    named = FoundPassage("Mara repairs clocks.", id="shop/7", score=2.5, metadata={"page": 7})
    plain = FoundPassage("港口冬天结冰。", metadata={"page": 9})
    first, second = found(FanOut(lambda query, k: [named, plain], name="shop"), "clocks?")
    assert first.chunk == Chunk("shop/7", named.text, "shop/7", 0, len(named.text), {"page": 7})
    assert first.hits == (Hit("shop", "clocks?", "question", 1, 2.5),)
    assert second.hits == (Hit("shop", "clocks?", "question", 2, None),)
    assert (second.chunk.text, second.chunk.start, second.chunk.end) == (plain.text, 0, 7)
    assert second.chunk.id == second.chunk.document_id == "afe0981d9ac37762"
    assert second.chunk.metadata == {"page": 9}


def test_passages_of_one_id_are_the_same_and_without_ids_those_of_one_text() -> None:
    clue = Clue("a clue", "span")
    table = {
        "?!": [FoundPassage("new", id="1"), FoundPassage("old", id="2"), FoundPassage("plain")],
        "a clue": [FoundPassage("plain"), FoundPassage("plain"), FoundPassage("other words", id="1")],
    }
    settings = RetrievalSettings(clue_weights={"span": 1.0}, confidence=0)
    evidence = found(FanOut(Told(table)), "?!", [clue], settings=settings)
    ranks = {piece.chunk.text: [hit.rank for hit in piece.hits] for piece in evidence}
    assert ranks == {"new": [1, 2], "plain": [3, 1], "old": [2]}


def test_the_question_and_the_clue_as_one_query_are_named_as_an_index_names_them() -> None:
    searched = Searched(chunks_of(["a lantern", "a harbour"]))
    settings = RetrievalSettings(expansion="append")
    evidence = found(FanOut(searched), "lantern", [Clue("harbour", "span")], settings=settings)
    assert {(hit.retriever, hit.query) for piece in evidence for hit in piece.hits} == {
        ("search", "lantern"),
        ("search+question", "harbour"),
    }
    assert evidence[0].clues == ("harbour",)


def test_chinese_and_japanese_clues_find_what_the_question_cannot() -> None:
    texts = ["王师傅在城南修理钟表。", "港口冬天结冰。", "ランプが門の上に掛かっている。"]
    fan_out = FanOut(Searched(chunks_of(texts)))
    clues = [Clue("港口冬天", "span"), Clue("ランプが門", "answer")]
    assert [piece.chunk.text for piece in found(fan_out, "谁会修钟？")] == texts[:1]
    evidence = found(fan_out, "谁会修钟？", clues)
    assert evidence[0].chunk.text == texts[0]
    assert {piece.chunk.text for piece in evidence} == set(texts)


def longest(query: str, texts: Sequence[str]) -> list[float]:
    return [float(len(text)) for text in texts]


def test_a_reranker_orders_what_was_found_and_exactly_k_come_out() -> None:
    fan_out = FanOut(Searched(chunks_of([f"lantern {'word ' * n}" for n in range(9)])))
    settings = RetrievalSettings(rerank_depth=5)
    before = found(fan_out, "lantern", k=5, settings=settings)
    after = found(fan_out, "lantern", k=2, settings=settings, reranker=longest)
    assert [p.chunk for p in after] == sorted((p.chunk for p in before), key=lambda c: -len(c.text))[:2]
    assert [piece.hits[-1].retriever for piece in after] == ["reranker"] * 2


def test_a_budget_leaves_out_what_does_not_fit() -> None:
    fan_out = FanOut(lambda query, k: ["eight888", "three", "12345678901", "four"])
    evidence = found(fan_out, "?!", settings=RetrievalSettings(budget=14))
    assert [piece.chunk.text for piece in evidence] == ["eight888", "three"]
    with pytest.raises(InputError, match="The budget is 3, but the best chunk takes 8"):
        found(fan_out, "?!", settings=RetrievalSettings(budget=3))


def test_a_retriever_that_finds_nothing_gives_no_evidence_and_no_failure() -> None:
    (findings,) = FanOut(lambda query, k: []).retrieve_batch([("?!", [Clue("a clue", "span")])])
    assert (findings.evidence, findings.failures) == ((), ())


def test_lists_without_scores_are_fused_by_rank_and_refused_by_score() -> None:
    fan_out = FanOut(lambda query, k: [FoundPassage("a", score=1.0), FoundPassage("b")])
    assert [piece.chunk.text for piece in found(fan_out, "?!")] == ["a", "b"]
    with pytest.raises(InputError, match=r"'search' for '\?!' holds no scores.* Fuse by rank"):
        found(fan_out, "?!", settings=RetrievalSettings(fusion="relative_score"))


@pytest.mark.parametrize(
    "setting",
    [
        {"neighbours": 1},
        {"order": "document"},
        {"retriever_weights": {"learned_sparse": 0.5}},
        {"retriever_weights": {"graph": 1.0}},
    ],
)
def test_what_takes_a_corpus_of_our_own_is_refused_also_without_requests(setting: dict[str, Any]) -> None:
    settings = replace(RetrievalSettings(), **setting)
    (name,) = setting
    message = rf"RetrievalSettings.{name} is .*, which a retriever of your own cannot give.*Give {name}="
    with pytest.raises(InputError, match=message):
        FanOut(lambda query, k: []).retrieve_batch([], settings=settings)
    with pytest.raises(InputError, match=message):
        FanOut(lambda query, k: []).check_k(3, settings)


def test_wrong_questions_and_wrong_k_are_clear_errors_and_nothing_is_searched() -> None:
    searcher = Told({})
    fan_out = FanOut(searcher)
    for k in (0, -1, True, 2.0, "3"):
        with pytest.raises(InputError, match=rf"k is {k!r}; expected a whole number of 1 or more"):
            fan_out.retrieve_batch([("?!", ())], k=cast(int, k))
        with pytest.raises(InputError, match=rf"k is {k!r}; expected a whole number of 1 or more"):
            fan_out.check_k(cast(int, k))
    fan_out.check_k(1)
    with pytest.raises(InputError, match="Question 2 of 2 is ' '; expected a text"):
        fan_out.retrieve_batch([("?!", ()), (" ", ())])
    assert fan_out.retrieve_batch([]) == ()
    assert searcher.asked == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 0}, "FanOut.concurrency is 0"),
        ({"timeout": 0}, "FanOut.timeout is 0; expected seconds above 0, or None"),
        ({"timeout": float("nan")}, "FanOut.timeout is nan"),
        ({"timeout": "2"}, "FanOut.timeout is '2'"),
        ({"timeout": True}, "FanOut.timeout is True"),
        ({"name": " "}, "FanOut.name is ' '"),
    ],
)
def test_settings_that_cannot_be_used_are_clear_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        FanOut(Told({}), **options)
