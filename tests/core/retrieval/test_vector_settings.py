from __future__ import annotations

import logging
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorag_core.errors import InputError, MissingExtraError
from memorag_core.retrieval import dense
from memorag_core.retrieval.dense import DenseIndex
from memorag_core.retrieval.nearest_neighbours import VectorSettings, on_gpu
from tests.core.retrieval.clustered import Numbered, clustered, with_added, without

VECTORS = clustered(60)


def test_small_corpora_are_flat_and_large_ones_are_ivf_unless_something_else_is_chosen() -> None:
    auto = VectorSettings()
    assert [auto.kind_for(count) for count in (1, 199_999, 200_000, 10_000_000)] == [
        "flat",
        "flat",
        "ivf",
        "ivf",
    ]
    assert VectorSettings(kind="hnsw").kind_for(1) == "hnsw"
    assert VectorSettings(kind="flat").kind_for(10_000_000) == "flat"
    assert VectorSettings(ivf_from=5).kind_for(5) == "ivf"


@given(st.integers(1, 10_000_000), st.none() | st.integers(1, 100_000))
def test_there_is_a_list_and_none_has_too_few_vectors_to_be_trained(count: int, lists: int | None) -> None:
    chosen = VectorSettings(lists=lists).lists_for(count)
    assert chosen >= 1
    assert chosen == 1 or chosen * 39 <= count


def test_a_gpu_is_used_only_where_faiss_has_one_searches_the_kind_there_and_it_is_wanted() -> None:
    wanted, unwanted = VectorSettings(), VectorSettings(gpu=False)
    assert [on_gpu(kind, wanted, 1) for kind in ("flat", "ivf", "hnsw")] == [True, True, False]
    for kind in ("flat", "ivf", "hnsw"):
        assert not on_gpu(kind, wanted, 0)
        assert not on_gpu(kind, unwanted, 8)


@pytest.mark.parametrize(
    ("given_settings", "message"),
    [
        ({"kind": "scann"}, "kind is 'scann'; expected 'auto' or one of flat, hnsw, ivf"),
        ({"probes": 0}, "probes is 0; expected a whole number of 1 or more"),
        ({"lists": 0}, "lists is 0"),
        ({"links": 1}, "links is 1; expected a whole number of 2 or more"),
        ({"build_breadth": 2.5}, "build_breadth is 2.5"),
        ({"search_breadth": True}, "search_breadth is True"),
        ({"ivf_from": -1}, "ivf_from is -1"),
        ({"seed": -1}, "seed is -1; expected a whole number of 0 or more"),
        ({"tail_share": 1.5}, "tail_share is 1.5; expected a share from 0"),
        ({"dead_share": float("nan")}, "dead_share is nan"),
        ({"dead_share": "half"}, "dead_share is 'half'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given_settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        VectorSettings(**given_settings)


def test_numpy_takes_over_where_faiss_is_not_installed_and_says_so_once_where_it_matters(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = DenseIndex.from_vectors(VECTORS, Numbered(VECTORS)).search(["3"], 5)
    monkeypatch.setitem(sys.modules, "faiss", None)
    dense._hint.cache_clear()
    with caplog.at_level(logging.WARNING):
        index = DenseIndex.from_vectors(VECTORS, Numbered(VECTORS))
        assert caplog.records == []
        assert (index.backend, index.kind) == ("numpy", "flat")
        assert index.search(["3"], 5) == expected
        assert with_added(without(index, [0]), VECTORS[:9]).backend == "numpy"
        for _ in range(2):
            DenseIndex.from_vectors(VECTORS, Numbered(VECTORS), settings=VectorSettings(ivf_from=60))
        (said,) = caplog.records
    assert "pip install 'memorag-adapters[cpu]'" in said.message


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_a_kind_that_only_faiss_has_is_not_replaced_by_another(
    monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    chosen = VectorSettings(kind=kind)
    with pytest.raises(InputError, match=f"NumPy does not search by '{kind}'"):
        DenseIndex.from_vectors(VECTORS, Numbered(VECTORS), backend="numpy", settings=chosen)
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'memorag-adapters\[cpu\]'"):
        DenseIndex.from_vectors(VECTORS, Numbered(VECTORS), settings=chosen)
