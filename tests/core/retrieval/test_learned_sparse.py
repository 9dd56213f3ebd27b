from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorag_core.errors import InputError, StoreError
from memorag_core.protocols import LearnedSparseEncoder, TokenWeights
from memorag_core.retrieval.learned_sparse import LearnedSparseIndex
from tests.core.retrieval.conftest import chunks_of, corpora, sentences, weighed


class Letters:
    """An encoder without a model: the code of each letter of a text, weighted by how often it is there."""

    def __init__(self, name: str = "letters") -> None:
        self.fingerprint: Mapping[str, Any] = {"encoder": name, "version": 1}
        self.calls: list[int] = []
        self.queries = 0

    def lexical_documents(self, texts: Sequence[str]) -> list[TokenWeights]:
        self.calls.append(len(texts))
        return [self._weights(text) for text in texts]

    def lexical_query(self, text: str) -> TokenWeights:
        self.queries += 1
        return self._weights(text)

    def _weights(self, text: str) -> TokenWeights:
        return {ord(letter): text.count(letter) / 4 for letter in dict.fromkeys(text) if letter.isalpha()}


weights = st.dictionaries(st.integers(0, 12), st.sampled_from([0.0, 0.25, 0.5, 1.0, 1e-60, 7.0]), max_size=6)


def by_hand(texts: Sequence[str], query: str) -> dict[int, float]:
    encoder = Letters()
    asked, held = encoder.lexical_query(query), encoder.lexical_documents(texts)
    scores = [sum(weight * one.get(token, 0.0) for token, weight in asked.items()) for one in held]
    return {ordinal: score for ordinal, score in enumerate(scores) if score > 0}


@given(corpora, sentences, st.integers(1, 15))
def test_scores_are_sums_of_products_best_first_ties_by_ordinal_and_zero_is_no_hit(
    texts: list[str], query: str, k: int
) -> None:
    index = weighed(chunks_of(texts), Letters())
    (everything,), (best,) = index.search([query], len(texts)), index.search([query], k)
    assert dict(everything) == pytest.approx(by_hand(texts, query))
    assert everything == sorted(everything, key=lambda pair: (-pair[1], pair[0]))
    assert best == everything[:k]


@given(corpora, st.lists(sentences, max_size=4), st.integers(1, 5))
def test_an_index_that_was_saved_is_the_same_without_encoding(
    texts: list[str], queries: list[str], batch_size: int
) -> None:
    encoder = Letters()
    index = weighed(chunks_of(texts), encoder, batch_size=batch_size)
    assert max(encoder.calls) <= batch_size
    arrays, header = index.pack()
    again = LearnedSparseIndex.unpack(arrays, json.loads(json.dumps(header)), Letters())
    assert again.size == index.size == len(texts)
    assert again.search(queries, 4) == index.search(queries, 4)
    for name, array in again.pack()[0].items():
        assert np.array_equal(array, arrays[name])
        assert not array.flags.writeable


@given(st.lists(weights, min_size=1, max_size=8))
def test_weights_that_are_nothing_leave_nothing_behind(given_weights: list[TokenWeights]) -> None:
    index = LearnedSparseIndex.from_weights(given_weights, Letters())
    assert len(index.weights) == sum(weight > 1e-50 for one in given_weights for weight in one.values())
    assert LearnedSparseIndex.unpack(*index.pack(), Letters()).size == len(given_weights)


def test_a_query_given_twice_is_encoded_once_and_its_rankings_are_no_one_list() -> None:
    encoder = Letters()
    found = weighed(chunks_of(["abc"]), encoder).search(["a", "a"], 1)
    assert found[0] == found[1] == [(0, 0.0625)]
    assert found[0] is not found[1]
    assert encoder.queries == 1


def test_another_encoder_is_refused_with_both() -> None:
    arrays, header = weighed(chunks_of(["abc"]), Letters()).pack()
    with pytest.raises(StoreError, match=r"made by .*'letters'.*the encoder is .*'signs'"):
        LearnedSparseIndex.unpack(arrays, header, Letters("signs"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tokens", np.array([98, 97], dtype=np.int64)),
        ("tokens", np.array([97], dtype=np.int64)),
        ("tokens", np.array([97, 98], dtype=np.int32)),
        ("starts", np.array([0, 2, 4], dtype=np.int64)),
        ("starts", np.array([1, 2, 3], dtype=np.int64)),
        ("starts", np.array([0, 0, 3], dtype=np.int64)),
        ("ordinals", np.array([0, 2, 1], dtype=np.int32)),
        ("ordinals", np.array([1, 0, 1], dtype=np.int32)),
        ("ordinals", np.array([0, -1, 1], dtype=np.int32)),
        ("ordinals", np.array([0, 1], dtype=np.int32)),
        ("weights", np.array([0.25, 0.0, 0.25], dtype=np.float32)),
        ("weights", np.array([0.25, np.nan, 0.25], dtype=np.float32)),
        ("weights", np.array([[0.25, 0.25, 0.25]], dtype=np.float32)),
    ],
)
def test_arrays_that_make_no_index_are_refused(name: str, value: Any) -> None:
    arrays, header = weighed(chunks_of(["a", "ab"]), Letters()).pack()
    assert arrays["ordinals"].tolist() == [0, 1, 1]
    with pytest.raises(StoreError, match="Index the chunks again"):
        LearnedSparseIndex.unpack({**arrays, name: value}, header, Letters())


def test_missing_arrays_and_a_size_that_is_none_are_refused() -> None:
    arrays, header = weighed(chunks_of(["a"]), Letters()).pack()
    with pytest.raises(StoreError, match="expected tokens, starts, ordinals, weights"):
        LearnedSparseIndex.unpack({}, header, Letters())
    for size in (0, None, True):
        with pytest.raises(StoreError, match="Index the chunks again"):
            LearnedSparseIndex.unpack(arrays, {**header, "size": size}, Letters())


class Short(Letters):
    def lexical_documents(self, texts: Sequence[str]) -> list[TokenWeights]:
        return super().lexical_documents(texts)[1:]


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf"), 1e38])
def test_weights_that_cannot_be_are_refused_and_named(bad: float) -> None:
    with pytest.raises(InputError, match="weight of chunk 1 is"):
        LearnedSparseIndex.from_weights([{1: 0.5}, {2: bad}], Letters())

    class Bad(Letters):
        def lexical_query(self, text: str) -> TokenWeights:
            return {ord("a"): bad}

    with pytest.raises(InputError, match="weight of the query 'a' is"):
        weighed(chunks_of(["a"]), Bad()).search(["a"], 1)


def test_wrong_arguments_are_clear_errors() -> None:
    chunks = chunks_of(["a", "b"])
    with pytest.raises(InputError, match="no chunks to encode"):
        weighed((), Letters())
    with pytest.raises(InputError, match="no weights to index"):
        LearnedSparseIndex.from_weights((), Letters())
    with pytest.raises(InputError, match="batch_size is 0"):
        weighed(chunks, Letters(), batch_size=0)
    with pytest.raises(InputError, match="weights of 1 texts for the chunks from number 0; expected 2"):
        weighed(chunks, Short())
    for wrong in (object(), Letters):
        with pytest.raises(InputError, match="with lexical_documents, lexical_query and fingerprint"):
            weighed(chunks, cast(LearnedSparseEncoder, wrong))
    with pytest.raises(InputError, match="k is 0"):
        weighed(chunks, Letters()).search(["a"], 0)


@given(st.data(), corpora, corpora)
def test_an_index_of_other_chunks_is_the_one_that_is_built_of_them(
    data: st.DataObject, before: list[str], new: list[str]
) -> None:
    encoder = Letters()
    known = before + new
    places = data.draw(st.lists(st.integers(0, len(known) - 1), min_size=1, max_size=8))
    index = weighed(chunks_of(before), encoder)
    changed = index.changed(places, encoder.lexical_documents(new))
    fresh = weighed(chunks_of([known[place] for place in places]), encoder)
    arrays, header = changed.pack()
    expected, expected_header = fresh.pack()
    assert header == expected_header
    assert all(np.array_equal(arrays[name], expected[name]) for name in expected)


@pytest.mark.parametrize("places", [[], [2], [-1]])
def test_places_that_there_are_not_are_refused(places: list[int]) -> None:
    with pytest.raises(InputError, match="each place from 0 to 1"):
        weighed(chunks_of(["a", "b"]), Letters()).changed(places)
