from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorag_core.errors import InputError
from memorag_core.retrieval.fusion import Fused
from memorag_core.retrieval.ranking import NEIGHBOUR, shaped
from memorag_core.settings import RetrievalSettings
from memorag_core.types import Chunk, Evidence, Hit
from tests.core.retrieval.conftest import chunks_of

TEXTS = ["aa", "bbbb", "c", "灯笼在港口", "e", "ffffff", "g", "hh"]
SIZE = len(TEXTS)
# Two documents of four chunks each.
CHUNKS = tuple(
    replace(chunk, id=str(number), document_id=str(number // 4))
    for number, chunk in enumerate(chunks_of(TEXTS))
)


def best_of(ordinals: Sequence[int]) -> list[Fused]:
    return [
        Fused(ordinal, float(SIZE - place), (Hit("bm25", "q", "question", place + 1, 1.0),))
        for place, ordinal in enumerate(ordinals)
    ]


def ordinals_of(evidence: Sequence[Evidence]) -> list[int]:
    return [int(piece.chunk.id) for piece in evidence]


def is_neighbour(piece: Evidence) -> bool:
    return [hit.retriever for hit in piece.hits] == [NEIGHBOUR]


orders = st.permutations(range(SIZE)).flatmap(
    lambda order: st.integers(1, SIZE).map(lambda k: list(order[:k]))
)
settings = st.builds(
    RetrievalSettings,
    neighbours=st.integers(0, 3),
    order=st.sampled_from(["rank", "document"]),
    budget=st.one_of(st.none(), st.integers(6, 30)),
)


@given(orders)
def test_without_any_wish_the_best_come_as_they_are(ordinals: list[int]) -> None:
    found = shaped("q", best_of(ordinals), CHUNKS, RetrievalSettings())
    assert found == tuple(
        Evidence(CHUNKS[one.ordinal], one.score, rank, one.hits)
        for rank, one in enumerate(best_of(ordinals), start=1)
    )


@given(orders, settings)
def test_every_chunk_comes_once_with_a_rank_and_all_of_them_fit_the_budget(
    ordinals: list[int], settings: RetrievalSettings
) -> None:
    found = shaped("q", best_of(ordinals), CHUNKS, settings)
    assert len(set(ordinals_of(found))) == len(found)
    ranked = sorted(found, key=lambda piece: piece.rank)
    assert [piece.rank for piece in ranked] == list(range(1, len(found) + 1))
    assert [piece.score for piece in ranked] == sorted((piece.score for piece in ranked), reverse=True)
    assert list(found) == (
        ranked if settings.order == "rank" else sorted(ranked, key=lambda p: int(p.chunk.id))
    )
    kept = [int(piece.chunk.id) for piece in ranked if not is_neighbour(piece)]
    assert kept == [ordinal for ordinal in ordinals if ordinal in kept]
    if settings.budget is None:
        assert kept == ordinals
    else:
        assert sum(len(piece.chunk.text) for piece in found) <= settings.budget
        left = settings.budget
        for ordinal in ordinals:  # what was left out did not fit behind what was taken before it
            assert (ordinal in kept) == (len(TEXTS[ordinal]) <= left)
            left -= len(TEXTS[ordinal]) if ordinal in kept else 0


@given(orders, settings)
def test_neighbours_stand_beside_their_piece_in_its_document_and_name_its_rank(
    ordinals: list[int], settings: RetrievalSettings
) -> None:
    found = shaped("q", best_of(ordinals), CHUNKS, settings)
    by_rank = {piece.rank: piece for piece in found}
    for piece in filter(is_neighbour, found):
        (hit,) = piece.hits
        home = by_rank[hit.rank]
        assert not is_neighbour(home)
        assert hit == Hit(NEIGHBOUR, "q", "question", home.rank, home.score)
        assert home.chunk.document_id == piece.chunk.document_id
        assert 0 < abs(int(home.chunk.id) - int(piece.chunk.id)) <= settings.neighbours
    if settings.budget is None:
        wanted = {
            other
            for ordinal in ordinals
            for other in range(ordinal - settings.neighbours, ordinal + settings.neighbours + 1)
            if 0 <= other < SIZE and other // 4 == ordinal // 4
        }
        assert set(ordinals_of(found)) == wanted


def test_neighbours_follow_their_piece_in_the_order_of_the_text_and_add_no_clue() -> None:
    found = shaped("q", best_of([5, 1]), CHUNKS, RetrievalSettings(neighbours=1))
    assert ordinals_of(found) == [5, 4, 6, 1, 0, 2]
    assert [piece.score for piece in found] == [8, 8, 8, 7, 7, 7]
    assert [hit.rank for piece in found if is_neighbour(piece) for hit in piece.hits] == [1, 1, 4, 4]
    assert all(piece.clues == () for piece in found)
    in_order = shaped("q", best_of([5, 1]), CHUNKS, RetrievalSettings(neighbours=1, order="document"))
    assert ordinals_of(in_order) == [0, 1, 2, 4, 5, 6]
    assert [piece.rank for piece in in_order] == [5, 4, 6, 2, 1, 3]


def test_a_neighbour_that_does_not_fit_ends_its_side() -> None:
    settings = RetrievalSettings(neighbours=3, budget=9)
    # 3 takes 5 of 9; before it 2 takes 1, and 1 would take 4 of the 3 that are left, so 0 does not come.
    assert ordinals_of(shaped("q", best_of([3]), CHUNKS, settings)) == [3, 2]


def test_the_budget_is_counted_as_told() -> None:
    def words(text: str) -> int:
        return len(text.split())

    chunks = chunks_of(["one two three", "four", "five six"])
    found = shaped("q", best_of([0, 1, 2]), chunks, RetrievalSettings(budget=4), count_tokens=words)
    assert [piece.chunk.text for piece in found] == ["one two three", "four"]


def test_a_budget_that_nothing_fits_is_a_clear_error() -> None:
    with pytest.raises(
        InputError, match="budget is 3, but the best chunk takes 6 and no other of the best 2"
    ):
        shaped("q", best_of([5, 1]), CHUNKS, RetrievalSettings(budget=3))


@pytest.mark.parametrize("size", [None, -1, 2.5, True])
def test_a_counter_that_does_not_count_is_a_clear_error(size: Any) -> None:
    with pytest.raises(InputError, match=f"The counter gave {size!r} for the text 'ffffff'"):
        shaped("q", best_of([5]), CHUNKS, RetrievalSettings(budget=9), count_tokens=lambda text: size)


def test_chunks_of_other_documents_are_no_neighbours() -> None:
    alone = tuple(Chunk(str(n), text, str(n), 0, len(text)) for n, text in enumerate(TEXTS))
    assert ordinals_of(shaped("q", best_of([3]), alone, RetrievalSettings(neighbours=2))) == [3]
