"""A dense index that changes is the index of what is left, and the ones before it stay."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memorag_core.errors import InputError
from memorag_core.protocols import FloatMatrix
from memorag_core.retrieval.dense import DenseIndex
from memorag_core.retrieval.encoders.encode import matched
from memorag_core.retrieval.index import EvidenceIndex
from memorag_core.retrieval.nearest_neighbours import VectorSettings
from tests.core.retrieval.clustered import Numbered, clustered, exact, numbers, with_added, without
from tests.core.retrieval.conftest import HashedWords, chunks_of, corpora, dense_of
from tests.rules import examples

POOL = clustered(400, 8, clusters=5, seed=3)
POOL[50:60] = POOL[0]  # ties are common
QUERIES = Numbered(np.concatenate([POOL[:3], clustered(3, 8, clusters=5, seed=4)]))

Change = tuple[str, int, int]
"""What is done, where, and with how many chunks."""

changes = st.lists(
    st.tuples(
        st.sampled_from(["add", "insert", "delete", "replace", "twice", "turn"]),
        st.integers(0, 999),
        st.integers(1, 9),
    ),
    max_size=8,
)
shares = st.sampled_from([0.0, 0.1, 0.5, 1.0])
backends = st.sampled_from(["faiss", "numpy"])


def places_after(change: Change, size: int) -> tuple[list[int], int]:
    """Where the vectors of the next corpus are, and how many of them are new."""
    what, at, count = change
    at %= size
    old = list(range(size))
    new = list(range(size, size + count))
    match what:
        case "add":
            return old + new, count
        case "insert":
            return old[:at] + new + old[at:], count
        case "delete":
            left = old[:at] + old[at + count :]
            return (left, 0) if left else (old[:1], 0)
        case "replace":
            return old[:at] + new + old[at + count :], count
        case "twice":  # chunks of equal texts
            return old + old[at : at + count], 0
        case _:  # the documents in another order
            return old[at:] + old[:at], 0


def after(
    index: DenseIndex, model: FloatMatrix, given_changes: list[Change]
) -> list[tuple[DenseIndex, FloatMatrix]]:
    """Every index on the way, beside the vectors that it should be of."""
    taken = len(model)
    way = [(index, model)]
    for change in given_changes:
        places, count = places_after(change, len(model))
        added = POOL[np.arange(taken, taken + count) % len(POOL)]
        taken += count
        model = np.concatenate([model, added])[places]
        index = index.changed(places, added)
        way.append((index, model))
    return way


@settings(deadline=None)
@given(changes, st.integers(1, 60), shares, shares, st.integers(1, 70), backends)
def test_any_changes_give_what_building_afresh_gives_and_old_values_stay(
    given_changes: list[Change], start: int, tail: float, dead: float, k: int, backend: Any
) -> None:
    chosen = VectorSettings(tail_share=tail, dead_share=dead)
    first = DenseIndex.from_vectors(POOL[:start], QUERIES, backend=backend, settings=chosen)
    queries = numbers(len(QUERIES.vectors))
    for index, model in after(first, POOL[:start], given_changes):  # after all of them were made
        fresh = DenseIndex.from_vectors(model, QUERIES, backend=backend)
        assert index.size == fresh.size == len(model)
        assert np.array_equal(index.vectors, fresh.vectors)
        assert index.search(queries, k) == fresh.search(queries, k)
        for query, found in zip(QUERIES.vectors, index.search(queries, k), strict=True):
            assert [ordinal for ordinal, _ in found] == exact(fresh.vectors, query, k)


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
@settings(deadline=None, max_examples=examples(40))
@given(changes, st.integers(20, 200), shares, shares, st.integers(1, 250))
def test_approximate_kinds_keep_the_same_chunks_give_k_of_them_and_score_them_exactly(
    kind: Literal["hnsw", "ivf"], given_changes: list[Change], start: int, tail: float, dead: float, k: int
) -> None:
    chosen = VectorSettings(kind=kind, probes=1, search_breadth=4, tail_share=tail, dead_share=dead)
    first = DenseIndex.from_vectors(POOL[:start], QUERIES, settings=chosen)
    queries = numbers(len(QUERIES.vectors))
    for index, model in after(first, POOL[:start], given_changes):
        assert index.kind == kind
        assert np.allclose(index.vectors, model, atol=1e-6)
        for query, found in zip(QUERIES.vectors, index.search(queries, k), strict=True):
            ordinals = [ordinal for ordinal, _ in found]
            assert len(set(ordinals)) == len(ordinals) == min(k, len(model))
            assert found == sorted(found, key=lambda pair: (-pair[1], pair[0]))
            cosines = model.astype(np.float64) @ query.astype(np.float64)
            assert all(score == pytest.approx(cosines[ordinal], abs=1e-5) for ordinal, score in found)
        everything = index.search(queries[:1], len(model))[0]
        assert sorted(ordinal for ordinal, _ in everything) == list(range(len(model)))


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_ordinals_are_those_of_the_chunks_that_are_left_after_a_deletion_in_the_middle(
    kind: Literal["flat", "hnsw", "ivf"],
) -> None:
    vectors = clustered(3000)
    index = DenseIndex.from_vectors(vectors, Numbered(vectors), settings=VectorSettings(kind=kind))
    left = without(index, range(1000, 1200))
    for row in (0, 999, 1200, 2999):
        ordinal = row if row < 1000 else row - 200
        assert left.search([str(row)], 1)[0][0][0] == ordinal
        assert index.search([str(row)], 1)[0][0][0] == row
    again = with_added(left, vectors[1000:1200])
    assert again.search(["1005"], 1)[0][0][0] == 2805


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_a_query_into_the_midst_of_what_was_deleted_still_finds_k(
    kind: Literal["flat", "hnsw", "ivf"],
) -> None:
    vectors = clustered(4000, clusters=8)
    index = DenseIndex.from_vectors(
        vectors, Numbered(vectors), settings=VectorSettings(kind=kind, probes=1, search_breadth=16)
    )
    near = exact(vectors, vectors[17], 600)
    left = without(index, near)
    (found,) = left.search(["17"], 30)
    kept = np.delete(vectors, near, axis=0)
    assert len(found) == 30
    if kind == "flat":
        assert [ordinal for ordinal, _ in found] == exact(kept, vectors[17], 30)
    assert left.kind == kind


def test_small_changes_leave_the_structure_alone_and_large_ones_fold_it() -> None:
    vectors = clustered(2000)
    chosen = VectorSettings(kind="ivf", tail_share=0.02, dead_share=0.2)
    index = DenseIndex.from_vectors(vectors, Numbered(vectors), settings=chosen)
    structure = index._structure
    assert with_added(index, vectors[:40])._structure is structure
    assert without(index, range(400))._structure is structure
    assert index.changed(range(1999, -1, -1))._structure is structure
    extended = with_added(index, vectors[:50])
    assert extended._structure is not structure
    assert extended._structure is not None
    assert structure is not None
    assert (extended._structure.size, extended._structure.trained) == (2050, 2000)
    assert structure.size == 2000  # the copy grew, not the structure
    rebuilt = without(index, range(401))
    assert rebuilt._structure is not None
    assert (rebuilt._structure.size, rebuilt._structure.trained) == (1599, 1599)
    outgrown = with_added(index, np.concatenate([vectors, vectors[:1]]))
    assert outgrown._structure is not None
    assert outgrown._structure.trained == 4001  # centroids of too few vectors are found anew


def test_an_index_changes_its_kind_when_a_fold_finds_it_grown_or_shrunk_beyond_the_threshold() -> None:
    vectors = clustered(1100)
    index = DenseIndex.from_vectors(vectors[:900], Numbered(vectors), settings=VectorSettings(ivf_from=1000))
    assert index.kind == "flat"
    longer = with_added(index, vectors[900:])
    assert longer.kind == "ivf"
    assert without(longer, range(300)).kind == "flat"


def test_old_and_new_values_answer_from_many_threads_as_from_one() -> None:
    vectors = clustered(3000)
    queries = numbers(40)
    first = DenseIndex.from_vectors(vectors, Numbered(vectors), settings=VectorSettings(kind="hnsw"))
    way = [first]
    for step in range(4):
        way.append(with_added(without(way[-1], [5 * step, 900]), clustered(90, seed=step)))
    expected = [index.search(queries, 7) for index in way]

    def asked_while_it_changes(turn: int) -> bool:
        index = way[turn % len(way)]
        with_added(index, vectors[:100])  # folds
        return index.search(queries, 7) == expected[turn % len(way)]

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(asked_while_it_changes, range(40)))


def test_vectors_of_a_changed_index_cannot_be_written() -> None:
    index = DenseIndex.from_vectors(
        POOL[:9], QUERIES, settings=VectorSettings(tail_share=1.0, dead_share=1.0)
    )
    for value in (index, with_added(index, POOL[:2]), without(index, [3])):
        with pytest.raises(ValueError, match="read-only"):
            value.vectors[0, 0] = 1.0


@settings(deadline=None)
@given(corpora, corpora, corpora)
def test_other_chunks_are_indexed_as_if_afresh_and_only_new_texts_are_encoded(
    first: list[str], second: list[str], third: list[str]
) -> None:
    embedder = HashedWords()
    chosen = VectorSettings(tail_share=1.0, dead_share=1.0)
    whole = EvidenceIndex.build(chunks_of(first), embedder, vector_settings=chosen)
    known = set(first)
    for before, after_it in ((first, second), (second, third)):
        embedder.calls.clear()
        whole = whole.changed(chunks_of(after_it))
        index = whole.dense
        assert index is not None
        assert sum(embedder.calls) == len({*after_it} - {*before})
        fresh = dense_of(chunks_of(after_it), HashedWords())
        assert np.array_equal(index.vectors, fresh.vectors)
        assert index.search([*known], 5) == fresh.search([*known], 5)


def test_a_corpus_that_repeats_itself_keeps_the_vectors_it_has() -> None:
    texts = ["the lantern", "the clock", "the lantern", "the lantern"]
    index = dense_of(chunks_of(texts), HashedWords(), settings=VectorSettings(tail_share=1.0, dead_share=1.0))
    places, new = matched(chunks_of(texts), chunks_of([*texts, "the harbour"]))
    assert (places, [chunk.text for chunk in new]) == ([0, 1, 2, 3, 4], ["the harbour"])
    same = index.changed(places, np.ones((1, index.dimensions), dtype=np.float32))
    assert np.array_equal(same.vectors[:4], index.vectors)


def test_added_vectors_are_brought_to_length_1() -> None:
    index = with_added(DenseIndex.from_vectors(POOL[:9], QUERIES), 7 * POOL[9:12])
    assert np.allclose(index.vectors, POOL[:12], atol=1e-6)


def test_nothing_added_and_nothing_left_out_is_the_same_index() -> None:
    index = DenseIndex.from_vectors(POOL[:9], QUERIES)
    for same in (without(index, []), with_added(index, POOL[:0]), index.changed(range(9))):
        assert same.search(numbers(6), 9) == index.search(numbers(6), 9)


def test_changes_that_cannot_be_made_are_clear_errors() -> None:
    index = DenseIndex.from_vectors(POOL[:9], QUERIES)
    with pytest.raises(InputError, match=r"places go from 0 to 9; expected 0 to 8"):
        index.changed([0, 9])
    with pytest.raises(InputError, match=r"places go from -1 to 3"):
        index.changed([-1, 3])
    with pytest.raises(InputError, match=r"float64.*whole numbers"):
        index.changed([0.5])  # type: ignore[list-item]
    with pytest.raises(InputError, match="No chunks would be left"):
        without(index, range(9))
    with pytest.raises(InputError, match="have 3 numbers, but the index has 8"):
        with_added(index, np.ones((2, 3), dtype=np.float32))
    with pytest.raises(InputError, match=r"the added chunks hold NaN.*row 1"):
        with_added(index, np.array([[1.0] * 8, [np.nan] * 8], dtype=np.float32))
