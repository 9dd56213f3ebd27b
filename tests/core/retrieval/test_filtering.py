from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorag_core.errors import InputError
from memorag_core.retrieval import EvidenceIndex, find_entities
from memorag_core.retrieval.filtering import search_selected
from memorag_core.settings import RetrievalSettings
from memorag_core.types import CLUE_KINDS, Chunk, Clue
from tests.core.retrieval.conftest import HashedWords, chunks_of, corpora, sentences

questions = sentences.filter(str.strip)
clue_lists = st.lists(st.builds(Clue, sentences, st.sampled_from(CLUE_KINDS), st.floats(-3, 0)), max_size=4)
embedders = st.sampled_from([None, HashedWords()])
masks = st.lists(st.booleans(), min_size=12, max_size=12)


def index_of(texts: Sequence[str], embedder: HashedWords | None = None, **parts: object) -> EvidenceIndex:
    chunks = chunks_of([f"{text} {number}" for number, text in enumerate(texts)])
    return EvidenceIndex.build(chunks, embedder, **parts)  # type: ignore[arg-type]


def chosen(index: EvidenceIndex, mask: Sequence[bool]) -> set[str]:
    return {chunk.id for number, chunk in enumerate(index.chunks) if mask[number % len(mask)]}


@given(st.data(), corpora, questions, clue_lists, embedders, masks)
def test_exactly_k_of_those_that_may_be_found_come_out_or_all_of_them(
    data: st.DataObject,
    texts: list[str],
    question: str,
    clues: list[Clue],
    embedder: HashedWords | None,
    mask: list[bool],
) -> None:
    k = data.draw(st.integers(1, len(texts)))
    index = index_of(texts, embedder)
    allowed = chosen(index, mask)
    (found,) = index.retrieve_batch([(question, clues)], k=k, where=lambda chunk: chunk.id in allowed)
    names = [piece.chunk.id for piece in found]
    assert len(set(names)) == len(names) == min(k, len(allowed))
    assert set(names) <= allowed
    assert [piece.rank for piece in found] == list(range(1, len(found) + 1))


@given(st.data(), corpora, questions, clue_lists, embedders)
def test_nothing_changes_where_all_may_be_found(
    data: st.DataObject, texts: list[str], question: str, clues: list[Clue], embedder: HashedWords | None
) -> None:
    k = data.draw(st.integers(1, len(texts)))
    index = index_of(texts, embedder, entities=find_entities)
    settings = RetrievalSettings(retriever_weights={"graph": 1.0})
    asked = [(question, clues)]
    free = index.retrieve_batch(asked, k=k, settings=settings)
    assert index.retrieve_batch(asked, k=k, settings=settings, where=lambda _: True) == free


@given(corpora, questions, masks)
def test_one_ranking_stands_as_it_does_among_all_chunks_with_the_others_left_out(
    texts: list[str], question: str, mask: list[bool]
) -> None:
    index = index_of(texts)
    allowed = chosen(index, mask)
    size = len(index.chunks)
    everything = index.retrieve(question, k=size)
    (found,) = index.retrieve_batch([(question, ())], k=size, where=lambda chunk: chunk.id in allowed)
    hit = [piece.chunk.id for piece in everything if piece.hits and piece.chunk.id in allowed]
    assert [piece.chunk.id for piece in found if piece.hits] == hit


@given(corpora, questions, clue_lists, embedders, masks)
def test_ranks_count_only_what_may_be_found(
    texts: list[str], question: str, clues: list[Clue], embedder: HashedWords | None, mask: list[bool]
) -> None:
    index = index_of(texts, embedder)
    allowed = chosen(index, mask)
    size = len(index.chunks)
    (found,) = index.retrieve_batch([(question, clues)], k=size, where=lambda chunk: chunk.id in allowed)
    ranks: dict[tuple[str, str], list[int]] = {}
    for piece in found:
        for hit in dict.fromkeys(piece.hits):
            ranks.setdefault((hit.retriever, hit.query), []).append(hit.rank)
    for (_, query), held in ranks.items():
        if [clue.text for clue in clues].count(query) <= 1 and query != question:
            assert sorted(held) == list(range(1, len(held) + 1))


@given(st.integers(1, 60), st.integers(1, 9), st.data())
def test_a_list_is_as_deep_as_asked_for_however_few_may_be_found(
    size: int, depth: int, data: st.DataObject
) -> None:
    kept = data.draw(st.sets(st.integers(0, size - 1), min_size=1))
    order = data.draw(st.permutations(range(size)))

    class Fixed:
        def search(self, queries: Sequence[str], k: int) -> list[list[tuple[int, float]]]:
            return [[(ordinal, 1.0 / (1 + rank)) for rank, ordinal in enumerate(order[:k])] for _ in queries]

    places = {ordinal: place for place, ordinal in enumerate(sorted(kept))}
    found = search_selected(Fixed(), ["a", "b"], depth, places=places, size=size)
    wanted = [ordinal for ordinal in order if ordinal in kept][:depth]
    assert [ordinal for ordinal, _ in found["a"]] == wanted
    assert found["a"] == found["b"]


def test_what_may_not_be_found_is_found_neither_by_the_graph_nor_as_a_neighbour() -> None:
    chunks = [
        Chunk(f"c{number}", text, "d", number, number + 1, {})
        for number, text in enumerate(
            ["Orrin lies by the sea.", "Mara Venn left Orrin.", "Mara Venn repairs clocks.", "Nobody knows."]
        )
    ]
    index = EvidenceIndex.build(chunks, entities=find_entities)
    settings = RetrievalSettings(retriever_weights={"graph": 1.0}, neighbours=2)
    (found,) = index.retrieve_batch(
        [("Who lives in Orrin?", ())], k=2, settings=settings, where=lambda chunk: chunk.id in ("c0", "c3")
    )
    assert {piece.chunk.id for piece in found} == {"c0", "c3"}


def test_nothing_is_found_where_nothing_may_be_and_impossible_questions_are_refused_still() -> None:
    index = index_of(["One line.", "Another line."])
    asked = [("A line?", ()), ("Which one?", ())]
    assert index.retrieve_batch(asked, k=2, where=lambda _: False) == ((), ())
    with pytest.raises(InputError, match="k is 3"):
        index.retrieve_batch(asked, k=3, where=lambda _: False)
    with pytest.raises(InputError, match="Question 1"):
        index.retrieve_batch([(" ", ())], k=1, where=lambda _: False)


def test_deep_lists_are_read_to_the_end_only_where_the_first_read_was_too_short() -> None:
    read: list[tuple[int, int]] = []

    class Counting:
        def search(self, queries: Sequence[str], k: int) -> list[list[tuple[int, float]]]:
            read.append((len(queries), k))
            return [[(int(ordinal), 1.0) for ordinal in np.arange(1000)[:k]] for _ in queries]

    even = {ordinal: ordinal // 10 for ordinal in range(0, 1000, 10)}
    search_selected(Counting(), ["a"], 5, places=even, size=1000)
    assert read == [(1, 100)]
    search_selected(Counting(), ["a"], 5, places={990: 0, 991: 1}, size=1000)
    assert read[1:] == [(1, 1000)]
