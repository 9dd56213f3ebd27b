from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorag_core.errors import InputError
from memorag_core.retrieval.index import EvidenceIndex
from memorag_core.retrieval.rerank import RERANKER, as_reranker, ordered, rerank
from memorag_core.retrieval.tokenization import lexical_tokens
from memorag_core.types import Evidence, Hit
from tests.core.retrieval.conftest import chunks_of, corpora


def shared_words(query: str, passages: Sequence[str]) -> list[float]:
    """A re-ranker without a model: the share of a passage's words that the query has."""
    asked = set(lexical_tokens(query))
    return [len(asked & {*lexical_tokens(text)}) / (1 + len(lexical_tokens(text))) for text in passages]


def evidence_of(texts: Sequence[str]) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(chunk, 1 / rank, rank, (Hit("bm25", "q", "question", rank, 1 / rank),))
        for rank, chunk in enumerate(chunks_of(texts), start=1)
    )


@given(corpora, st.data())
def test_passages_are_ordered_by_their_scores_and_equal_ones_as_before(
    texts: list[str], data: st.DataObject
) -> None:
    found = data.draw(st.permutations(texts))
    scores = shared_words("lantern mends", found)
    expected = sorted(range(len(found)), key=lambda place: -scores[place])
    assert ordered("lantern mends", found, shared_words) == [(place, scores[place]) for place in expected]


def test_equal_texts_are_scored_once_and_tie_whatever_the_reranker_does() -> None:
    asked: list[list[str]] = []

    def drifting(query: str, passages: Sequence[str]) -> list[float]:
        asked.append([*passages])
        return [float(place) for place, _ in enumerate(passages)]

    found = rerank("q", evidence_of(["b", "a", "b", "a"]), drifting)
    assert asked == [["b", "a"]]
    assert [one.chunk.start for one in found] == [1, 3, 0, 2]


def test_the_evidence_of_an_index_goes_through_it() -> None:
    index = EvidenceIndex.build(chunks_of(["the harbour clock", "a lantern", "she mends the lantern"]))
    found = rerank("who mends a lantern", index.retrieve("who mends a lantern", k=3), shared_words, k=1)
    assert found[0].chunk.text == "she mends the lantern"
    assert {hit.retriever for hit in found[0].hits} == {"bm25", RERANKER}


def test_nothing_found_is_nothing_to_order_and_no_reranker_is_asked() -> None:
    def never(query: str, passages: Sequence[str]) -> list[float]:
        raise AssertionError("asked for nothing")

    assert rerank("q", (), never) == ()
    assert ordered("q", [], never) == []


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ([1.0], "gave 1 scores for 2 passages"),
        ([1.0, 2.0, 3.0], "gave 3 scores for 2 passages"),
        ([1.0, math.nan], "score nan to the passage 'b'"),
        ([math.inf, 0.0], "score inf to the passage 'a'"),
        (["x", 1.0], "gave a list that is no list of numbers"),
        (None, "gave a NoneType that is no list of numbers"),
        ([[1.0], [2.0]], "no list of numbers"),
    ],
)
def test_scores_that_are_not_one_finite_number_a_passage_are_refused(scores: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        rerank("q", evidence_of(["a", "b"]), lambda query, passages: scores)


def test_wrong_arguments_are_clear_errors() -> None:
    evidence = evidence_of(["a", "b"])
    for k in (0, 3, True, -1):
        with pytest.raises(InputError, match=f"k is {k}, but 2 pieces"):
            rerank("q", evidence, shared_words, k=k)
    with pytest.raises(InputError, match="The question is ' '"):
        rerank(" ", evidence, shared_words)


def test_a_function_is_a_reranker_as_it_is_and_other_things_are_refused_by_name() -> None:
    assert as_reranker(shared_words) is shared_words

    async def later(query: str, passages: Sequence[str]) -> list[float]:
        return []

    for wrong, said in [
        ("BAAI/bge-reranker-v2-m3", r"flag_reranker\('BAAI/bge-reranker-v2-m3'\) or cross_encoder"),
        (Path("folder"), "flag_reranker"),
        (EvidenceIndex, r"the class EvidenceIndex; give an object: EvidenceIndex\(\.\.\.\)"),
        (later, "is an async function; expected a function"),
        (None, "is a NoneType; expected a function"),
        (7, "is a int; expected"),
    ]:
        with pytest.raises(InputError, match=said):
            as_reranker(wrong)
