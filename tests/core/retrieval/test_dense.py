from __future__ import annotations

import sys
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorag_core.errors import InputError, MissingExtraError
from memorag_core.protocols import Embedder
from memorag_core.retrieval import EvidenceIndex
from memorag_core.retrieval.dense import DenseIndex
from memorag_core.retrieval.nearest_neighbours import DenseBackend
from tests.core.retrieval.conftest import FixedVectors, HashedWords, chunks_of, corpora, dense_of, sentences

BACKENDS: tuple[DenseBackend, ...] = ("faiss", "numpy")
both_backends = pytest.mark.parametrize("backend", BACKENDS)
small = st.integers(-2, 2).map(float)


@both_backends
@given(corpora, st.lists(sentences, max_size=4), st.integers(1, 15))
def test_search_finds_the_k_nearest_best_first_and_ties_by_ordinal(
    backend: DenseBackend, texts: list[str], queries: list[str], k: int
) -> None:
    embedder = HashedWords()
    index = dense_of(chunks_of(texts), embedder, backend=backend)
    for query, found in zip(queries, index.search(queries, k), strict=True):
        vector = np.array(embedder.embed_query(query))
        if not vector.any():
            assert found == []  # no direction, no neighbour
            continue
        cosines = index.vectors @ (vector / np.linalg.norm(vector))
        assert len(found) == min(k, len(texts))
        assert found == sorted(found, key=lambda pair: (-pair[1], pair[0]))
        assert [score for _, score in found] == pytest.approx(sorted(cosines, reverse=True)[:k], abs=1e-6)
        assert all(score == pytest.approx(cosines[ordinal], abs=1e-6) for ordinal, score in found)


@given(st.lists(st.lists(small, min_size=3, max_size=3), min_size=1, max_size=30), st.integers(1, 5))
def test_both_backends_agree_to_the_bit_on_ties_too(rows: list[list[float]], k: int) -> None:
    embedder = FixedVectors({"q": [1.0, -1.0, 0.5]})
    vectors = np.array(rows, dtype=np.float32)
    faiss, plain = (DenseIndex.from_vectors(vectors, embedder, backend=backend) for backend in BACKENDS)
    assert faiss.search(["q"], k) == plain.search(["q"], k)


@both_backends
def test_of_many_equal_chunks_the_first_come_out(backend: DenseBackend) -> None:
    vectors = np.tile(np.random.default_rng(0).normal(size=(1, 7)).astype(np.float32), (500, 1))
    vectors[321] *= -1
    index = DenseIndex.from_vectors(vectors, FixedVectors({"q": vectors[0].tolist()}), backend=backend)
    (found,) = index.search(["q"], 3)
    assert [ordinal for ordinal, _ in found] == [0, 1, 2]
    assert len({score for _, score in found}) == 1


@both_backends
def test_many_queries_at_once_give_the_bits_that_each_gives_alone(backend: DenseBackend) -> None:
    generator = np.random.default_rng(1)
    table = {f"q{number}": generator.normal(size=24).tolist() for number in range(60)}
    vectors = generator.normal(size=(300, 24)).astype(np.float32)
    index = DenseIndex.from_vectors(vectors, FixedVectors(table), backend=backend)
    assert index.search([*table], 5) == [index.search([query], 5)[0] for query in table]


@both_backends
def test_vectors_given_back_make_the_same_index_without_encoding(backend: DenseBackend) -> None:
    texts = [f"lantern {number} mends harbour {number % 5}" for number in range(40)]
    embedder = HashedWords(48)
    built = dense_of(chunks_of(texts), embedder, backend=backend)
    encoded = len(embedder.calls)
    again = DenseIndex.from_vectors(built.vectors, embedder, backend=backend)
    assert len(embedder.calls) == encoded
    assert np.array_equal(again.vectors, built.vectors)
    assert again.search(["lantern 7", "harbour"], 9) == built.search(["lantern 7", "harbour"], 9)
    assert built.backend == again.backend == backend


@given(st.integers(1, 30), st.integers(1, 9))
def test_no_call_of_the_embedder_holds_more_texts_than_the_batch_size(count: int, batch_size: int) -> None:
    texts = [f"lantern {number}" for number in range(count)]
    embedder, whole = HashedWords(), HashedWords()
    batched = dense_of(chunks_of(texts), embedder, batch_size=batch_size)
    assert max(embedder.calls) <= batch_size
    assert sum(embedder.calls) == count
    assert np.array_equal(batched.vectors, dense_of(chunks_of(texts), whole, batch_size=99).vectors)


def test_vectors_are_unit_rows_of_float32_that_cannot_be_written_and_are_no_view_of_what_was_given() -> None:
    given_vectors = np.array([[3.0, 4.0], [0.0, 0.0], [1e20, 0.0]], dtype=np.float32)
    index = DenseIndex.from_vectors(given_vectors, FixedVectors({}))
    given_vectors[:] = 9
    assert index.vectors.dtype == np.float32
    assert index.vectors.tolist() == [[np.float32(0.6), np.float32(0.8)], [0.0, 0.0], [1.0, 0.0]]
    with pytest.raises(ValueError, match="read-only"):
        index.vectors[0, 0] = 1.0


def test_a_query_given_twice_is_encoded_once() -> None:
    embedder = HashedWords()
    found = dense_of(chunks_of(["a lantern"]), embedder).search(["lantern"] * 3, 1)
    assert found[0] == found[1] == found[2]
    assert embedder.queries == 1


def test_no_queries_give_no_rankings() -> None:
    assert dense_of(chunks_of(["a lantern"]), HashedWords()).search([], 1) == []


def test_a_missing_faiss_that_was_asked_for_names_the_extra_and_numpy_does_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    embedder = HashedWords()
    with pytest.raises(MissingExtraError, match=r"'faiss-cpu'.*pip install 'memorag-adapters\[cpu\]'"):
        EvidenceIndex.build(chunks_of(["a lantern"]), embedder, backend="faiss")
    assert embedder.calls == []  # said before the work of encoding
    for backend in ("auto", "numpy"):
        index = dense_of(chunks_of(["a clock", "a lantern"]), embedder, backend=backend)
        assert index.search(["lantern"], 1)[0][0][0] == 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_vectors_that_are_not_finite_are_refused_and_the_row_is_named(bad: float) -> None:
    embedder = FixedVectors({"good": [1.0, 0.0], "bad": [bad, 1.0]})
    with pytest.raises(InputError, match=r"NaN.*row 1"):
        dense_of(chunks_of(["good", "bad"]), embedder)
    with pytest.raises(InputError, match=r"the query 'bad'.*NaN"):
        dense_of(chunks_of(["good"]), embedder).search(["bad"], 1)


def test_a_query_vector_of_another_size_is_refused_with_both_sizes() -> None:
    index = DenseIndex.from_vectors(np.eye(3, dtype=np.float32), FixedVectors({"q": [1.0, 0.0]}))
    with pytest.raises(InputError, match=r"query vector of 2 numbers.*have 3"):
        index.search(["q"], 1)


def test_vectors_that_change_their_size_between_batches_are_refused_with_both_sizes() -> None:
    embedder = FixedVectors({"a": [1.0, 0.0], "b": [1.0, 0.0, 0.0]})
    with pytest.raises(InputError, match=r"vectors of 3 numbers.*but of 2 before"):
        dense_of(chunks_of(["a", "b"]), embedder, batch_size=1)
    with pytest.raises(InputError, match="no matrix of numbers"):
        dense_of(chunks_of(["a", "b"]), embedder, batch_size=2)


class TooFew(HashedWords):
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return super().embed_documents(texts)[1:]


def test_an_embedder_that_loses_a_text_is_refused() -> None:
    with pytest.raises(InputError, match=r"shape \(1, 32\); expected 2 rows"):
        dense_of(chunks_of(["a", "b"]), TooFew())


@pytest.mark.parametrize("shape", [(3,), (2, 0), (0, 2)])
def test_vectors_that_are_no_matrix_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="expected"):
        DenseIndex.from_vectors(np.ones(shape, dtype=np.float32), FixedVectors({}))


def test_wrong_arguments_are_clear_errors() -> None:
    chunks = chunks_of(["a lantern"])
    with pytest.raises(InputError, match="no chunks to encode"):
        dense_of((), HashedWords())
    with pytest.raises(InputError, match="batch_size is 0"):
        dense_of(chunks, HashedWords(), batch_size=0)
    with pytest.raises(InputError, match="embed_documents and embed_query"):
        dense_of(chunks, cast(Embedder, object()))
    with pytest.raises(InputError, match="'scann'"):
        dense_of(chunks, HashedWords(), backend=cast(DenseBackend, "scann"))
    with pytest.raises(InputError, match="k is 0"):
        dense_of(chunks, HashedWords()).search(["lantern"], 0)


def test_importing_the_module_leaves_faiss_unloaded() -> None:
    import subprocess

    program = "import sys, memorag_core.retrieval.dense; print('faiss' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert run.stdout.strip() == "False"
