from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest

from memorag_core.errors import InputError
from memorag_core.protocols import Searcher
from memorag_core.retrieval import FanOut, as_searcher
from memorag_core.retrieval.external.searchers import checked_passages
from memorag_core.types import FoundPassage
from tests.core.retrieval.external.searching import AsyncTold, Told


class NumbersOnly:
    def search(self, vector: Sequence[float], k: int, metric: str) -> None:
        """Of another meaning."""


class AsyncSearch:
    async def search(self, query: str, k: int) -> list[FoundPassage]:
        return []


class StoreOfVectors:
    """Shaped as LangChain's vector stores are: their search takes a kind of search, not a number."""

    def search(self, query: str, search_type: str, **kwargs: Any) -> list[object]:
        return []

    def similarity_search(self, query: str, k: int = 4) -> list[object]:
        return []


class IndexOfDocuments:
    """Shaped as LlamaIndex's indexes are."""

    def as_retriever(self, **kwargs: Any) -> object:
        return None


class RetrieverOfAFramework:
    """Shaped as the retrievers of both are."""

    def invoke(self, query: str) -> list[object]:
        return []

    def retrieve(self, query: str) -> list[object]:
        return []


def given(function: Any) -> tuple[FoundPassage, ...]:
    searcher = as_searcher(function)
    return checked_passages(searcher.search("?", 3), searcher)


@pytest.mark.parametrize("searcher", [Told({}), AsyncTold({})])
def test_a_searcher_stays_as_it_is(searcher: Searcher) -> None:
    assert as_searcher(searcher) is searcher
    assert FanOut(searcher).searcher is searcher


def test_a_function_may_give_passages_texts_and_pairs_of_a_text_and_a_score() -> None:
    passage = FoundPassage("c", id="3", metadata={"page": 1})
    assert given(lambda query, k: ["a", ("b", 0.5), passage]) == (
        FoundPassage("a"),
        FoundPassage("b", score=0.5),
        passage,
    )
    assert given(lambda query, k: (("b", np.float32(0.5)),))[0].score == 0.5
    assert given(lambda *asked: []) == ()
    assert given(partial(lambda store, query, k: [store], "here")) == (FoundPassage("here"),)


def test_a_function_is_asked_for_the_query_and_the_number() -> None:
    asked: list[tuple[str, int]] = []

    def shop(query: str, k: int) -> list[str]:
        asked.append((query, k))
        return []

    as_searcher(shop).search("clocks", 7)
    assert asked == [("clocks", 7)]


@pytest.mark.parametrize("wrong", [None, "chroma", 7, [], IndexOfDocuments(), StoreOfVectors()])
def test_what_does_not_search_is_an_error_that_says_what_does(wrong: object) -> None:
    message = rf"The searcher is a {type(wrong).__name__}; expected an object with search\(query, k\)"
    with pytest.raises(InputError, match=message):
        as_searcher(wrong)
    with pytest.raises(InputError, match=r"of LangChain or LlamaIndex is given to the adapter"):
        FanOut(wrong)


def test_a_retriever_of_a_framework_is_sent_to_its_adapter() -> None:
    with pytest.raises(
        InputError, match=r"is a RetrieverOfAFramework; .* given to the adapter of its framework"
    ):
        as_searcher(RetrieverOfAFramework())


def test_a_class_or_a_search_of_another_meaning_is_a_clear_error() -> None:
    with pytest.raises(InputError, match=r"is the class Told; give an object: Told\(\.\.\.\)"):
        as_searcher(Told)
    with pytest.raises(InputError, match=r"NumbersOnly.search takes \(vector, k, metric\), not a query"):
        as_searcher(NumbersOnly())
    with pytest.raises(InputError, match=r"takes \(query\), not a query and a number by place"):
        as_searcher(lambda query: [])
    with pytest.raises(
        InputError, match=r"AsyncSearch.search is async.*Give an object that has it as asearch"
    ):
        as_searcher(AsyncSearch())


def test_an_async_function_in_disguise_is_named_when_it_answers() -> None:
    async def search(query: str, k: int) -> list[str]:
        return []

    with pytest.raises(InputError, match=r"gave a coroutine; expected a list of passages"):
        given(lambda query, k: search(query, k))


@pytest.mark.parametrize("pair", [("a", "b"), (1, 2.0), ("a", 0.5, "c")])
def test_a_pair_of_something_else_is_a_clear_error_that_names_the_function(pair: object) -> None:
    def shop(query: str, k: int) -> list[object]:
        return [pair]

    with pytest.raises(InputError, match=r"Passage 1 of 1 that the searcher .*shop gave"):
        given(shop)
