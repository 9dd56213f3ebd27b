"""Structures that look at some vectors only: what they find, that it comes again, how it is kept."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from memorag_core.errors import StoreError
from memorag_core.retrieval import nearest_neighbours as neighbours
from memorag_core.retrieval.dense import DenseIndex
from memorag_core.retrieval.nearest_neighbours import VectorSettings
from tests.core.retrieval.clustered import Numbered, clustered, exact, numbers, with_added, without

faiss = pytest.importorskip("faiss")
Kind = Literal["hnsw", "ivf"]
KINDS: tuple[Kind, ...] = ("hnsw", "ivf")
both_kinds = pytest.mark.parametrize("kind", KINDS)

VECTORS = clustered(6000, 32, clusters=60)
QUERIES = Numbered(clustered(100, 32, clusters=60, seed=1))
ASKED = numbers(100)


def index_of(kind: Kind, **given: Any) -> DenseIndex:
    return DenseIndex.from_vectors(VECTORS, QUERIES, settings=VectorSettings(kind=kind, **given))


def recall(index: DenseIndex) -> float:
    found = index.search(ASKED, 10)
    vectors = index.vectors
    return float(
        np.mean(
            [
                len({ordinal for ordinal, _ in ten} & {*exact(vectors, query, 10)}) / 10
                for ten, query in zip(found, QUERIES.vectors, strict=True)
            ]
        )
    )


@both_kinds
def test_nine_of_the_ten_nearest_are_found_among_clusters_also_after_changes(kind: Kind) -> None:
    index = index_of(kind)
    assert recall(index) >= 0.95
    for share in (0.01, 0.1):  # in the tail, then folded
        assert recall(with_added(index, clustered(int(6000 * share), 32, clusters=60, seed=2))) >= 0.95
    assert recall(without(index, range(0, 6000, 6))) >= 0.95


@both_kinds
def test_of_many_equal_chunks_the_first_come_out(kind: Kind) -> None:
    vectors = VECTORS.copy()
    vectors[100:4000:7] = vectors[100]
    index = DenseIndex.from_vectors(vectors, Numbered(vectors), settings=VectorSettings(kind=kind))
    (found,) = index.search(["100"], 3)
    assert [ordinal for ordinal, _ in found] == [100, 107, 114]


@both_kinds
def test_the_same_vectors_give_the_same_structure_whatever_the_threads(kind: Kind) -> None:
    before = faiss.omp_get_max_threads()
    try:
        made = set()
        for threads in (1, 2, 4):
            faiss.omp_set_num_threads(threads)
            raw = with_added(index_of(kind), VECTORS[:300]).pack()[0]["structure"]
            made.add(hashlib.sha256(raw.tobytes()).hexdigest())
        assert len(made) == 1
    finally:
        faiss.omp_set_num_threads(before)


def test_an_older_faiss_builds_the_graph_with_one_thread_and_gives_the_others_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = faiss.omp_get_max_threads()
    with neighbours._one_thread():
        assert faiss.omp_get_max_threads() == 1
    assert faiss.omp_get_max_threads() == before
    expected = index_of("hnsw").pack()[0]["structure"]
    monkeypatch.setattr(faiss, "__version__", "1.9.0")
    assert np.array_equal(index_of("hnsw").pack()[0]["structure"], expected)


def test_another_seed_is_another_structure() -> None:
    one, other = (index_of("ivf", seed=seed).pack()[0]["structure"] for seed in (0, 1))
    assert not np.array_equal(one, other)


@both_kinds
@settings(deadline=None, max_examples=8)
@given(st.integers(0, 100), st.integers(0, 900), st.booleans())
def test_an_index_comes_back_from_files_as_it_was_and_goes_on_alike(
    tmp_path_factory: pytest.TempPathFactory, kind: Kind, added: int, gone: int, turned: bool
) -> None:
    index = without(with_added(index_of(kind), clustered(added, 32, seed=5)), range(50, 50 + gone))
    if turned:
        index = index.changed(np.arange(index.size)[::-1])
    file = tmp_path_factory.mktemp("index") / "index.safetensors"
    arrays, header = index.pack()
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, file)
    again = DenseIndex.unpack(
        load_file(file), json.loads(json.dumps(header)), QUERIES, settings=VectorSettings(kind="auto")
    )
    assert again.kind == kind
    assert np.array_equal(again.vectors, index.vectors)
    assert again.search(ASKED, 9) == index.search(ASKED, 9)
    assert without(again, [3]).search(ASKED, 9) == without(index, [3]).search(ASKED, 9)
    repacked, same = again.pack()
    assert same == header
    assert all(np.array_equal(repacked[name], array) for name, array in arrays.items())


@both_kinds
def test_small_changes_leave_the_stored_structure_as_it_is(kind: Kind) -> None:
    index = index_of(kind)
    arrays, _ = index.pack()
    more, _ = with_added(index, VECTORS[:50]).pack()
    assert np.array_equal(more["structure"], arrays["structure"])
    assert np.array_equal(more["places"], arrays["places"])  # appended: nothing but vectors is new
    less, _ = without(index, [7]).pack()
    assert np.array_equal(less["structure"], arrays["structure"])
    assert less["places"][6:9].tolist() == [6, -1, 7]


def test_a_flat_index_is_stored_as_its_vectors_alone() -> None:
    index = without(DenseIndex.from_vectors(VECTORS[:90], QUERIES), [4])
    arrays, header = index.pack()
    assert [*arrays] == ["vectors"]
    assert header["grows"] == {"vectors": 0}
    for backend in ("auto", "numpy"):
        again = DenseIndex.unpack(arrays, header, QUERIES, backend=backend)
        assert again.search(ASKED, 5) == index.search(ASKED, 5)


def test_settings_that_ask_for_another_structure_build_it_from_the_vectors() -> None:
    arrays, header = index_of("ivf").pack()
    for chosen in (
        VectorSettings(kind="ivf", lists=5),
        VectorSettings(kind="hnsw"),
        VectorSettings(kind="flat"),
    ):
        again = DenseIndex.unpack(arrays, header, QUERIES, settings=chosen)
        fresh = DenseIndex.from_vectors(VECTORS, QUERIES, settings=chosen)
        assert again.kind == chosen.kind
        assert again.search(ASKED, 5) == fresh.search(ASKED, 5)
    assert DenseIndex.unpack(arrays, header, QUERIES, backend="numpy").kind == "flat"


def changed_vectors(arrays: dict[str, Any], header: dict[str, Any]) -> None:
    arrays["vectors"] = arrays["vectors"].copy()
    arrays["vectors"][5, 0] += 0.25


def of_another_index(arrays: dict[str, Any], header: dict[str, Any]) -> None:
    arrays["structure"] = DenseIndex.from_vectors(
        VECTORS[:500], QUERIES, settings=VectorSettings(kind="ivf")
    ).pack()[0]["structure"]


def of_other_dimensions(arrays: dict[str, Any], header: dict[str, Any]) -> None:
    arrays["structure"] = DenseIndex.from_vectors(
        np.ascontiguousarray(VECTORS[:, :16]), QUERIES, settings=VectorSettings(kind="ivf")
    ).pack()[0]["structure"]


def of_another_kind(arrays: dict[str, Any], header: dict[str, Any]) -> None:
    arrays["structure"] = index_of("hnsw").pack()[0]["structure"]


def cut_off(arrays: dict[str, Any], header: dict[str, Any]) -> None:
    arrays["structure"] = arrays["structure"][:1000]


def no_structure(arrays: dict[str, Any], header: dict[str, Any]) -> None:
    del arrays["structure"]


def no_vectors(arrays: dict[str, Any], header: dict[str, Any]) -> None:
    del arrays["vectors"]


def a_place_twice(arrays: dict[str, Any], header: dict[str, Any]) -> None:
    arrays["places"] = np.where(arrays["places"] == 8, 9, arrays["places"])


def a_place_too_far(arrays: dict[str, Any], header: dict[str, Any]) -> None:
    arrays["places"] = np.where(arrays["places"] == 8, 6000, arrays["places"])


def too_few_places(arrays: dict[str, Any], header: dict[str, Any]) -> None:
    arrays["places"] = arrays["places"][:-1]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (changed_vectors, "their hash differs"),
        (of_another_index, "of 500 vectors.*expected an IndexIVFScalarQuantizer of 6000"),
        (of_other_dimensions, "of vectors of 16 numbers; expected 32"),
        (of_another_kind, "is an IndexHNSWSQ"),
        (cut_off, "FAISS cannot read the ivf structure"),
        (no_structure, "is missing"),
        (no_vectors, "no float32 matrix named 'vectors'"),
        (a_place_twice, "name a vector twice"),
        (a_place_too_far, "not among the 6000"),
        (too_few_places, "one for each of the 6000 rows"),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(damage: Any, message: str) -> None:
    arrays, header = index_of("ivf").pack()
    damage(arrays, header)
    with pytest.raises(StoreError, match=message):
        DenseIndex.unpack(arrays, header, QUERIES)


@both_kinds
def test_a_corpus_of_a_few_chunks_can_have_a_structure_and_nothing_is_printed(
    kind: Kind, capfd: pytest.CaptureFixture[str]
) -> None:
    for count in (1, 2, 40, 300):
        vectors = VECTORS[:count]
        index = DenseIndex.from_vectors(vectors, QUERIES, settings=VectorSettings(kind=kind))
        assert len(index.search(["0"], 400)[0]) == count
    assert capfd.readouterr() == ("", "")
