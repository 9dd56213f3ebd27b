from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorag_core.errors import InputError
from memorag_core.retrieval.bm25 import BM25Index
from memorag_core.retrieval.expansion import expansions
from memorag_core.retrieval.fusion import RankedList, fuse
from memorag_core.retrieval.graph import EntityGraph
from memorag_core.settings import RetrievalSettings
from memorag_core.types import Chunk
from tests.core.retrieval.conftest import chunks_of, corpora, sentences

HOPS = (
    "Bread is baked of flour, and it borders on a cake.",
    "Hello Love is a song by Hank Snow.",
    "Hank Snow died in Madison Tennessee.",
    "Which state has mountains? Many a state borders on a state in the east.",
    "Madison Tennessee lies near North Carolina.",
)
QUESTION = "Which state borders where the singer of Hello Love died?"


def apart(texts: tuple[str, ...]) -> tuple[Chunk, ...]:
    return tuple(Chunk(str(place), text, str(place), 0, len(text)) for place, text in enumerate(texts))


def ranked(query: str, index: BM25Index, weight: float = 1.0) -> RankedList:
    return RankedList("bm25", query, "question", weight, tuple(index.search([query], 50)[0]))


def test_a_chunk_that_shares_no_word_with_the_question_is_found_over_a_shared_name() -> None:
    chunks = apart(HOPS)
    lists = [ranked("Hello Love", BM25Index.build(chunks))]
    (more,) = expansions(
        EntityGraph.build(chunks), [lists], RetrievalSettings(retriever_weights={"graph": 1}), depth=50
    )
    assert more is not None
    assert (more.retriever, more.query, more.kind) == ("graph", "Hello Love", "question")
    assert [one.ordinal for one in fuse([*lists, more], 3, size=5)] == [1, 2, 4]


def test_the_weight_is_that_of_all_lists_of_the_question_together() -> None:
    chunks = apart(HOPS)
    graph, one = EntityGraph.build(chunks), ranked(QUESTION, BM25Index.build(chunks))
    clue = replace(one, kind="span", weight=0.25)
    plans = [[one], [one, one, clue], [replace(one, weight=0.0), clue]]
    found = expansions(graph, plans, RetrievalSettings(retriever_weights={"graph": 0.5}), depth=50)
    assert [more.weight for more in found if more is not None] == [0.5, 1.0, 0.125]


@given(corpora, st.lists(sentences, min_size=1, max_size=4), st.integers(1, 4))
def test_many_questions_at_once_get_what_each_gets_alone(
    texts: list[str], questions: list[str], anchors: int
) -> None:
    chunks = chunks_of(texts)
    graph, index = EntityGraph.build(chunks), BM25Index.build(chunks)
    plans = [[ranked(question, index)] for question in questions]
    settings = RetrievalSettings(retriever_weights={"graph": 1}, graph_anchors=anchors)
    together = expansions(graph, plans, settings, depth=50)
    assert together == [expansions(graph, [lists], settings, depth=50)[0] for lists in plans]
    for (one,), more in zip(plans, together, strict=True):
        assert (more is None) == (not one.found)


def test_lists_that_found_nothing_or_weigh_nothing_are_not_expanded() -> None:
    graph = EntityGraph.build(apart(HOPS))
    nothing = RankedList("bm25", "?", "question", 1.0, ())
    silent = RankedList("bm25", "?", "question", 0.0, ((1, 2.0),))
    settings = RetrievalSettings(retriever_weights={"graph": 1})
    assert expansions(graph, [[nothing], [silent], []], settings, depth=50) == [None, None, None]


def test_a_list_without_any_depth_is_refused() -> None:
    with pytest.raises(InputError, match="k is 0"):
        expansions(EntityGraph.build(apart(HOPS)), [], RetrievalSettings(), depth=0)
