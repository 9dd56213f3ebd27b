from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorag_core.errors import InputError, StoreError
from memorag_core.retrieval.entities import find_entities
from memorag_core.retrieval.graph import EntityGraph
from memorag_core.types import Chunk
from tests.core.retrieval.conftest import chunks_of, corpora

ROOT = Path(__file__).parents[3]


def apart(texts: Sequence[str]) -> tuple[Chunk, ...]:
    """Each text a document of its own, so that nothing is a neighbour."""
    return tuple(Chunk(f"{place}:0", text, str(place), 0, len(text)) for place, text in enumerate(texts))


def by_words(text: str) -> list[str]:
    return text.split()


def by_hand(chunks: Sequence[Chunk], starts: np.ndarray, damping: float) -> np.ndarray:
    """Personalised PageRank by solving its linear system, from the definition: shares = (1 - d) s + d P s.

    The walk leaves a chunk by an entity as often as the entity weighs, and an entity by any of its chunks.
    """
    size = len(chunks)
    holders: dict[str, set[int]] = {}
    for ordinal, chunk in enumerate(chunks):
        for name in find_entities(chunk.text):
            holders.setdefault(name, set()).add(ordinal)
    joints = [
        (np.log(1 + size / len(held)) ** 2, sorted(held))
        for held in holders.values()
        if 2 <= len(held) <= max(3, size / 10)
    ]
    joints += [
        (4 * np.log(1 + size / 2) ** 2, [one, one + 1])
        for one in range(size - 1)
        if chunks[one].document_id == chunks[one + 1].document_id
    ]
    step = np.zeros((size, size))  # [to, from]
    for weight, held in joints:
        for start in held:
            for end in held:
                step[end, start] += weight / len(held)
    for start in range(size):
        total = step[:, start].sum()
        # From a chunk with no way out the walk starts again.
        step[:, start] = step[:, start] / total if total else starts
    return np.asarray(np.linalg.solve(np.eye(size) - damping * step, (1 - damping) * starts))


anchor_weights = st.floats(0.1, 10.0)


@st.composite
def graphs_with_anchors(draw: st.DrawFn) -> tuple[EntityGraph, list[tuple[int, float]]]:
    texts = draw(corpora)
    chunks = draw(st.sampled_from((chunks_of, apart)))(texts)
    ordinals = draw(st.lists(st.integers(0, len(texts) - 1), min_size=1, max_size=4, unique=True))
    return EntityGraph.build(chunks), [(ordinal, draw(anchor_weights)) for ordinal in ordinals]


@given(graphs_with_anchors(), st.sampled_from((0.0, 0.3, 0.5, 0.85)))
def test_shares_are_those_of_personalised_pagerank_and_sum_to_one(
    drawn: tuple[EntityGraph, list[tuple[int, float]]], damping: float
) -> None:
    graph, anchors = drawn
    starts = np.zeros(graph.size)
    for ordinal, weight in anchors:
        starts[ordinal] = weight
    starts /= starts.sum()
    (shares,) = graph.shares([anchors], damping=damping)
    assert shares.sum() == pytest.approx(1.0)
    assert (shares >= 0).all()
    np.testing.assert_allclose(shares, by_hand(graph.chunks, starts, damping), atol=2e-6)


@given(st.data(), corpora)
def test_chunks_and_entities_by_other_names_and_in_another_order_get_the_same_shares(
    data: st.DataObject, texts: list[str]
) -> None:
    order = data.draw(st.permutations(range(len(texts))))
    anchor = data.draw(st.integers(0, len(texts) - 1))
    chunks = apart(texts)
    graph = EntityGraph.build(chunks, lambda text: [f"a{word}a" for word in text.split()])
    other = EntityGraph.build(
        [replace(chunks[one], id=f"new {one}") for one in order],
        lambda text: [f"x{word[::-1]}x" for word in reversed(text.split())],
    )
    (shares,) = graph.shares([[(anchor, 1.0)]])
    (moved,) = other.shares([[(order.index(anchor), 1.0)]])
    np.testing.assert_allclose(moved, shares[order], atol=1e-12)


@given(corpora, corpora, st.sampled_from((chunks_of, apart)))
def test_a_changed_graph_is_the_graph_built_fresh(
    before: list[str], after: list[str], make: Callable[[Sequence[str]], tuple[Chunk, ...]]
) -> None:
    fresh = EntityGraph.build(make(after))
    grown = EntityGraph.build(make(before)).changed(make(after))
    assert grown.chunks == fresh.chunks
    assert grown.vocabulary == fresh.vocabulary
    assert grown.offsets.tobytes() == fresh.offsets.tobytes()
    assert grown.numbers.tobytes() == fresh.numbers.tobytes()
    anchors = [[(0, 1.0)], [(len(after) - 1, 2.0)]]
    assert grown.expand(anchors, 20) == fresh.expand(anchors, 20)


def test_only_texts_that_are_new_are_read() -> None:
    read: list[str] = []

    def finder(text: str) -> list[str]:
        read.append(text)
        return text.split()

    graph = EntityGraph.build(apart(["Ann Bo", "Bo Cy", "Ann Bo"]), finder)
    assert read == ["Ann Bo", "Bo Cy"]
    graph.changed(apart(["Cy Di", "Bo Cy"]))
    assert read == ["Ann Bo", "Bo Cy", "Cy Di"]


@given(graphs_with_anchors())
def test_a_graph_kept_and_taken_back_is_the_same(drawn: tuple[EntityGraph, list[tuple[int, float]]]) -> None:
    graph, anchors = drawn
    arrays, kept = graph.pack()
    again = EntityGraph.unpack(graph.chunks, arrays, json.loads(json.dumps(kept)))
    assert [again.entities(one) for one in range(again.size)] == [
        graph.entities(one) for one in range(graph.size)
    ]
    assert again.shares([anchors]).tobytes() == graph.shares([anchors]).tobytes()


@given(st.data(), corpora)
def test_many_sets_of_anchors_at_once_get_what_each_gets_alone(data: st.DataObject, texts: list[str]) -> None:
    graph = EntityGraph.build(chunks_of(texts))
    one = st.dictionaries(st.integers(0, len(texts) - 1), anchor_weights, max_size=3)
    sets = [list(drawn.items()) for drawn in data.draw(st.lists(one, max_size=5))]
    assert graph.expand(sets, 5) == [graph.expand([anchors], 5)[0] for anchors in sets]


@given(graphs_with_anchors(), st.integers(1, 15))
def test_the_k_best_are_the_first_k_of_all_best_first(
    drawn: tuple[EntityGraph, list[tuple[int, float]]], k: int
) -> None:
    graph, anchors = drawn
    (everything,) = graph.expand([anchors], graph.size)
    (best,) = graph.expand([anchors], k)
    assert best == everything[:k]
    shares = [share for _, share in everything]
    assert shares == pytest.approx(sorted(shares, reverse=True), rel=1e-8)
    assert {ordinal for ordinal, _ in anchors} <= {ordinal for ordinal, _ in everything}


def test_chunks_that_are_alike_to_the_anchors_come_in_the_order_of_the_corpus() -> None:
    texts = ["hub", "ann hub", "bo hub", "cy hub"] + [f"none{place}" for place in range(40)]
    texts[0] = "ann bo cy"
    graph = EntityGraph.build(apart(texts), by_words)
    (found,) = graph.expand([[(0, 1.0)]], 4)
    assert [ordinal for ordinal, _ in found] == [0, 1, 2, 3]


def test_a_rare_entity_binds_more_than_a_common_one() -> None:
    texts = ["rare common", "rare", "common", "common", "common"] + [f"none{place}" for place in range(40)]
    graph = EntityGraph.build(apart(texts), by_words)
    (found,) = graph.expand([[(0, 1.0)]], 2)
    assert [ordinal for ordinal, _ in found] == [0, 1]


def test_a_chunk_two_hops_away_is_reached() -> None:
    texts = ["The film Hello Love was sung by Hank Snow.", "Hank Snow died in Madison Tennessee."]
    texts += ["Madison Tennessee is north of Nashville.", "Bread is baked of flour and water."]
    (found,) = EntityGraph.build(apart(texts)).expand([[(0, 1.0)]], 4)
    assert [ordinal for ordinal, _ in found] == [0, 1, 2]


def test_chunks_without_edges_get_nothing_and_anchors_without_edges_keep_all() -> None:
    graph = EntityGraph.build(apart(["Ann Bo met.", "Ann Bo left.", "Quiet rain."]))
    assert dict(graph.expand([[(0, 1.0)]], 3)[0]).keys() == {0, 1}
    assert graph.expand([[(2, 3.0)]], 3) == [[(2, 1.0)]]
    bare = EntityGraph.build(apart(["a", "b", "c"]), lambda text: [])
    assert bare.expand([[(1, 1.0), (0, 3.0)]], 3) == [[(0, 0.75), (1, 0.25)]]


def test_no_anchors_find_nothing() -> None:
    graph = EntityGraph.build(apart(["Ann Bo", "Ann Bo"]))
    assert graph.expand([], 3) == []
    assert graph.expand([[], [(0, 1.0)]], 3)[0] == []


def test_neighbours_in_a_document_hang_together_and_documents_do_not() -> None:
    one = [Chunk(f"a:{place}", f"word{place}", "a", place, place + 1) for place in range(3)]
    graph = EntityGraph.build([*one, Chunk("b:0", "other", "b", 0, 1)])
    assert [ordinal for ordinal, _ in graph.expand([[(0, 1.0)]], 4)[0]] == [0, 1, 2]


def test_chinese_chunks_hang_together_by_what_they_name() -> None:
    texts = ["《红楼梦》的作者是曹雪芹。", "曹雪芹生于南京。", "天气很好，我们去爬山。"]
    assert [ordinal for ordinal, _ in EntityGraph.build(apart(texts)).expand([[(0, 1.0)]], 3)[0]] == [0, 1]


def test_entities_of_a_finder_are_brought_to_one_spelling() -> None:
    graph = EntityGraph.build(apart(["x", "y"]), lambda text: ("Ann’s", "ANN", " “Bo” ", "…"))
    assert graph.entities(1) == ("ann", "bo")


def test_another_process_ranks_alike() -> None:
    program = """
from memorag_core.types import Chunk
from memorag_core.retrieval.graph import EntityGraph
texts = ["Ann Bo met Cy Di.", "Cy Di saw Ed Fo.", "Ed Fo knew Ann Bo.", "Gi Ha saw Ann Bo."]
graph = EntityGraph.build([Chunk(str(i), text, str(i), 0, len(text)) for i, text in enumerate(texts)])
print(graph.vocabulary, graph.expand([[(0, 1.0)], [(3, 1.0), (1, 0.5)]], 4))
"""
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


# --- errors -------------------------------------------------------------------------------------------------


def test_no_chunks_are_refused() -> None:
    with pytest.raises(InputError, match="no chunks to join"):
        EntityGraph.build([])
    with pytest.raises(InputError, match="no chunks to join"):
        EntityGraph.build(apart(["a"])).changed([])


@pytest.mark.parametrize("given_back", ["Ann", None, [1], 7])
def test_a_finder_that_gives_no_texts_is_refused(given_back: object) -> None:
    with pytest.raises(InputError, match=r"The entity finder gave .* for the chunk '0:0'; expected a seq"):
        EntityGraph.build(apart(["a"]), lambda text: given_back)  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize(
    ("anchors", "said"),
    [
        ([(2, 1.0)], r"chunks \[2\]; expected ordinals from 0 to 1"),
        ([(-1, 1.0)], r"chunks \[-1\]"),
        ([(0, 1.0), (0, 2.0)], "each once"),
        ([(0, 0.0)], "weight 0.0; expected a number above 0"),
        ([(0, float("nan"))], "weight nan"),
    ],
)
def test_anchors_that_are_none_are_refused(anchors: list[tuple[int, float]], said: str) -> None:
    with pytest.raises(InputError, match=said):
        EntityGraph.build(apart(["a", "b"])).expand([anchors], 1)


@pytest.mark.parametrize("damping", [-0.1, 1.0, float("nan")])
def test_a_damping_that_is_no_share_is_refused(damping: float) -> None:
    with pytest.raises(InputError, match="expected 0 to below 1"):
        EntityGraph.build(apart(["a"])).expand([[(0, 1.0)]], 1, damping=damping)


def test_k_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="k is 0"):
        EntityGraph.build(apart(["a"])).expand([[(0, 1.0)]], 0)


@pytest.mark.parametrize("damage", ["missing", "chunks", "place", "order", "name", "end"])
def test_a_kept_graph_that_does_not_fit_is_refused(damage: str) -> None:
    chunks = apart(["Ann Bo", "Ann Cy"])
    arrays, kept = EntityGraph.build(chunks, by_words).pack()
    arrays = {name: array.copy() for name, array in arrays.items()}
    if damage == "missing":
        del arrays["entity_numbers"]
    elif damage == "chunks":
        chunks = chunks[:1]
    elif damage == "place":
        arrays["entity_numbers"][0] = 99
    elif damage == "order":
        arrays["entity_offsets"][1] = 5
    elif damage == "name":
        arrays["entity_names"] = arrays["entity_names"][:3]
    else:
        arrays["entity_offsets"][-1] = 3
    with pytest.raises(StoreError, match=r"Build the graph|build it from the chunks again"):
        EntityGraph.unpack(chunks, arrays, kept, by_words)


def test_without_scipy_the_error_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['scipy'] = None\n"
        "from memorag_core.types import Chunk\n"
        "from memorag_core.retrieval.graph import EntityGraph\n"
        "EntityGraph.build([Chunk('0', 'a', '0', 0, 1)])\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=False, capture_output=True, text=True, timeout=60
    )
    assert "pip install 'memorag-adapters[graph]'" in run.stderr
