from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorag_core.errors import InputError
from memorag_core.retrieval.fusion import Fused, RankedList, fuse
from memorag_core.types import Hit

SIZE = 8


def ranked(*ordinals: int, weight: float = 1.0, query: str = "q") -> RankedList:
    """A list of these chunks in this order, from a retriever that scores them by falling whole numbers."""
    found = tuple((ordinal, float(len(ordinals) - place)) for place, ordinal in enumerate(ordinals))
    return RankedList("bm25", query, "span", weight, found)


orders = st.lists(st.integers(0, SIZE - 1), unique=True, max_size=SIZE)
weights = st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0, 2.0])
rankings = st.lists(
    st.builds(lambda order, weight: ranked(*order, weight=weight), orders, weights), max_size=5
)


def test_the_score_is_the_weighted_sum_of_reciprocal_ranks() -> None:
    lists = [ranked(2, 0, weight=2.0, query="a"), ranked(0, 1, weight=0.5, query="b")]
    first, second, third = fuse(lists, 3, size=3, constant=60)
    assert (first.ordinal, second.ordinal, third.ordinal) == (0, 2, 1)
    assert first.score == pytest.approx(2 / 62 + 0.5 / 61)
    assert second.score == pytest.approx(2 / 61)
    assert third.score == pytest.approx(0.5 / 62)
    assert first.hits == (Hit("bm25", "a", "span", 2, 1.0), Hit("bm25", "b", "span", 1, 2.0))


@given(rankings, st.integers(1, SIZE), orders)
def test_exactly_k_different_chunks_come_out_best_first_and_ties_by_ordinal(
    lists: list[RankedList], k: int, fill: list[int]
) -> None:
    fused = fuse(lists, k, size=SIZE, fill=fill)
    assert len(fused) == len({chunk.ordinal for chunk in fused}) == k
    hit = [chunk for chunk in fused if chunk.hits]
    assert hit == sorted(hit, key=lambda chunk: (-chunk.score, chunk.ordinal))
    assert list(fused[: len(hit)]) == hit
    assert fused == fuse(lists, SIZE, size=SIZE, fill=fill)[:k]


@given(rankings)
def test_chunks_that_no_list_found_follow_in_the_filling_order_and_then_by_ordinal(
    lists: list[RankedList],
) -> None:
    fill = [5, 3]
    fused = fuse(lists, SIZE, size=SIZE, fill=fill)
    filled = [chunk for chunk in fused if not chunk.hits]
    wanted = [ordinal for ordinal in (5, 3, 0, 1, 2, 4, 6, 7) if ordinal in {f.ordinal for f in filled}]
    assert filled == [Fused(ordinal, 0.0) for ordinal in wanted]


@given(st.data(), rankings)
def test_the_order_of_the_lists_does_not_matter(data: st.DataObject, lists: list[RankedList]) -> None:
    shuffled = data.draw(st.permutations(lists))
    once = fuse(lists, SIZE, size=SIZE)
    again = fuse(shuffled, SIZE, size=SIZE)
    assert [(chunk.ordinal, chunk.score) for chunk in once] == [
        (chunk.ordinal, chunk.score) for chunk in again
    ]


@given(st.data(), rankings)
def test_other_numbers_for_the_chunks_give_the_same_scores(
    data: st.DataObject, lists: list[RankedList]
) -> None:
    names = data.draw(st.permutations(range(SIZE)))
    renamed = [
        RankedList(r.retriever, r.query, r.kind, r.weight, tuple((names[o], score) for o, score in r.found))
        for r in lists
    ]
    scores = {chunk.ordinal: (chunk.score, chunk.hits) for chunk in fuse(renamed, SIZE, size=SIZE)}
    assert all(
        scores[names[chunk.ordinal]] == (chunk.score, chunk.hits) for chunk in fuse(lists, SIZE, size=SIZE)
    )


@given(rankings, st.integers(1, SIZE))
def test_a_list_of_weight_zero_is_as_if_it_were_not_there(lists: list[RankedList], k: int) -> None:
    present = [one for one in lists if one.weight > 0]
    assert fuse(lists, k, size=SIZE) == fuse(present, k, size=SIZE)


@given(rankings, orders, st.integers(1, SIZE))
def test_another_list_never_lowers_a_score(lists: list[RankedList], order: list[int], k: int) -> None:
    before = {chunk.ordinal: chunk.score for chunk in fuse(lists, SIZE, size=SIZE)}
    after = {chunk.ordinal: chunk.score for chunk in fuse([*lists, ranked(*order)], SIZE, size=SIZE)}
    assert all(after[ordinal] >= before[ordinal] for ordinal in before)


@given(orders, st.integers(1, SIZE))
def test_one_list_alone_keeps_its_order(order: list[int], k: int) -> None:
    fused = fuse([ranked(*order)], k, size=SIZE)
    assert [chunk.ordinal for chunk in fused][: len(order)] == order[:k]


# By relative scores


def scored(*found: tuple[int, float], weight: float = 1.0) -> RankedList:
    return RankedList("bm25", "q", "span", weight, found)


def test_the_relative_score_is_the_weighted_sum_of_the_places_between_lowest_and_highest() -> None:
    lists = [scored((2, 9.0), (0, 6.0), (1, 5.0), weight=2.0), scored((0, 0.8), (1, 0.4), weight=0.5)]
    fused = fuse(lists, 4, size=4, method="relative_score")
    assert [(one.ordinal, one.score) for one in fused] == [
        (2, pytest.approx(2.0)),
        (0, pytest.approx(2.0 * 0.25 + 0.5)),
        (1, 0.0),  # the last of both lists
        (3, 0.0),  # in none
    ]
    assert [len(one.hits) for one in fused] == [1, 2, 2, 0]


@given(st.lists(st.floats(0.125, 8), min_size=1, max_size=SIZE), st.sampled_from([0.5, 1.0, 2.0]))
def test_relative_scores_do_not_depend_on_the_unit_of_a_list(scores: list[float], unit: float) -> None:
    falling = sorted(scores, reverse=True)
    once, again = (
        fuse(
            [scored(*((ordinal, score * by) for ordinal, score in enumerate(falling)))],
            SIZE,
            size=SIZE,
            method="relative_score",
        )
        for by in (1.0, unit)
    )
    assert [(one.ordinal, one.score) for one in once] == [(one.ordinal, one.score) for one in again]
    assert once[0].score == 1.0


@given(st.data(), rankings, st.integers(1, SIZE))
def test_relative_scores_give_exactly_k_ties_by_ordinal_in_any_order_of_the_lists(
    data: st.DataObject, lists: list[RankedList], k: int
) -> None:
    fused = fuse(lists, k, size=SIZE, method="relative_score")
    assert len({one.ordinal for one in fused}) == len(fused) == k
    hit = [one for one in fused if one.hits]
    assert hit == sorted(hit, key=lambda one: (-one.score, one.ordinal))
    assert list(fused[: len(hit)]) == hit
    shuffled = data.draw(st.permutations(lists))
    again = fuse(shuffled, k, size=SIZE, method="relative_score")
    assert [(one.ordinal, one.score) for one in fused] == [(one.ordinal, one.score) for one in again]


def test_lists_of_one_chunk_or_of_equal_scores_give_all_their_weight() -> None:
    lists = [scored((3, -7.0), weight=0.5), scored((0, 2.0), (1, 2.0))]
    fused = fuse(lists, 3, size=4, method="relative_score")
    assert [(one.ordinal, one.score) for one in fused] == [(0, 1.0), (1, 1.0), (3, 0.5)]


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_counts_by_rank_and_is_refused_by_score(score: float) -> None:
    lists = [scored((0, score), (1, 1.0))]
    assert fuse(lists, 1, size=2)[0].ordinal == 0
    with pytest.raises(InputError, match="'bm25' for 'q' holds a score that is not finite"):
        fuse(lists, 1, size=2, method="relative_score")


@pytest.mark.parametrize("k", [0, -1, 4])
def test_k_outside_the_chunks_is_a_clear_error(k: int) -> None:
    with pytest.raises(InputError, match=rf"k is {k}, but there are 3 chunks"):
        fuse([ranked(0)], k, size=3)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (ranked(0, weight=-1.0), "weight -1.0"),
        (ranked(0, weight=float("nan")), "weight nan"),
        (ranked(1, 1), "holds a chunk twice"),
        (ranked(3), "outside 0 to 2"),
        (ranked(-1), "outside 0 to 2"),
    ],
)
def test_a_list_that_cannot_be_is_named_in_the_error(bad: RankedList, message: str) -> None:
    with pytest.raises(InputError, match=rf"'bm25' for 'q'.*{message}"):
        fuse([bad], 1, size=3)


@pytest.mark.parametrize("constant", [-1.0, float("nan"), float("inf")])
def test_a_constant_that_cannot_be_is_a_clear_error(constant: float) -> None:
    with pytest.raises(InputError, match="constant of rank fusion"):
        fuse([ranked(0)], 1, size=3, constant=constant)
