from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from memorag_core import Clue, Document, InputError, RetrievalSettings, find_entities
from memorag_evaluation.datasets import Dataset, Query
from memorag_evaluation.oracle import MOST, oracle_clues
from memorag_evaluation.retrieval import ASKED, BETTER_PART, Comparison, WayScore, compare_ways
from memorag_evaluation.suites import Suite, set_suite
from memorag_evaluation.ways import PARTS, WAYS, WITHOUT_VECTORS, Way, settings_of
from tests.core.retrieval.conftest import HashedWords
from tests.evaluation.conftest import TEXT, true_clues

PASSAGES = (
    Document("Red Lantern\nThe red lantern was made by Ines Albarrow.", "p0"),
    Document("Mill\nRain fell on the mill all week.", "p1"),
    Document("Ines Albarrow\nInes Albarrow was born in Tarn Hollow.", "p2"),
    Document("Bread\nBread is sold out by nine.", "p3"),
)


def passages(*, vectors: bool = True) -> Suite:
    joined = Document("\n\n".join(one.text for one in PASSAGES), "town")
    starts = {one.id: joined.text.index(one.text) for one in PASSAGES}
    lengths = {one.id: len(one.text) for one in PASSAGES}

    def query(name: str, question: str, *ids: str) -> Query:
        spans = tuple((starts[one], starts[one] + lengths[one]) for one in ids)
        return Query(name, question, (), "town", spans, f"{len(ids)} hops", ids)

    queries = (
        query("q0", "Where was the maker of the red lantern born?", "p0", "p2"),
        query("q1", "When is there no bread?", "p3"),
    )
    dataset = Dataset("town", (joined,), queries, 0, PASSAGES)
    suite = set_suite(dataset, embedder=HashedWords() if vectors else None, entities=find_entities)
    return replace(suite, ks=(1, 2))


def rows(comparison: Comparison, measure: str, kind: str = "all") -> dict[Way, WayScore]:
    return {one.way: one for one in comparison.scores if (one.measure, one.kind) == (measure, kind)}


# ways ----------------------------------------------------------------------------------------------


def test_a_way_searches_with_what_its_name_says_and_leaves_the_other_settings() -> None:
    given = RetrievalSettings(retriever_weights={"bm25": 0.5, "dense": 2}, rrf_constant=9)
    found = {way: settings_of(way, given) for way in WAYS}
    weights = {way: own.retriever_weights for way, own in found.items()}
    assert {way: (own["bm25"], own["dense"], own["graph"]) for way, own in weights.items()} == {
        "bm25": (0.5, 0, 0),
        "dense": (0, 2, 0),
        "hybrid": (0.5, 2, 0),
        "bm25 + graph": (0.5, 0, 1),
        "hybrid + graph": (0.5, 2, 1),
    }
    assert all(own.rrf_constant == 9 for own in found.values())
    quiet = replace(given, retriever_weights={"graph": 0.3})
    assert settings_of("hybrid + graph", quiet).retriever_weights["graph"] == 0.3
    assert settings_of("hybrid", quiet).retriever_weights["graph"] == 0


def test_every_part_of_a_way_is_a_way() -> None:
    assert {*PARTS, *(part for parts in PARTS.values() for part in parts)} <= set(get_args(Way))


# perfect clues -------------------------------------------------------------------------------------


def test_perfect_clues_are_sentences_of_the_gold_the_longest_of_each_span_in_turn(real: Suite) -> None:
    clues = oracle_clues(real)
    assert [clue.text for clue in clues["town", "Who mends clocks?"]] == [TEXT[:38]]
    assert [clue.text for clue in clues["town", "What does Fenn sell?"]] == [
        "Old Fenn keeps bees behind the mill.",
        "He sells honey at the fair.",
    ]
    hops = oracle_clues(passages())["town", "Where was the maker of the red lantern born?"]
    assert [clue.text for clue in hops] == [
        "The red lantern was made by Ines Albarrow.",
        "Ines Albarrow was born in Tarn Hollow.",
        "Red Lantern",
        "Ines Albarrow",
    ]


def test_there_are_no_more_perfect_clues_than_a_memory_gives(real: Suite) -> None:
    (asked,) = real.documents
    whole = replace(asked, cases=tuple(replace(case, gold=((0, len(TEXT)),)) for case in asked.cases))
    assert {len(found) for found in oracle_clues(replace(real, documents=(whole,)), most=2).values()} == {2}
    long = Document(" ".join(f"Sentence number {'x' * number} ends." for number in range(20)), "long")
    suite = set_suite(Dataset("long", (long,), (Query("q", "Which?", (), "long", ((0, len(long.text)),)),)))
    assert len(oracle_clues(suite)["long", "Which?"]) == MOST


# comparing -----------------------------------------------------------------------------------------


def test_a_set_of_passages_counts_the_passages_found_and_whether_all_are() -> None:
    found = compare_ways(passages(), settings=RetrievalSettings())
    assert {one.measure for one in found.scores} == {"recall@1", "recall@2", "all_gold@1", "all_gold@2"}
    assert {one.kind for one in found.scores} == {"2 hops", "1 hops", "all"}
    best = rows(found, "recall@2", "2 hops")["bm25 + graph"].columns
    assert best["ceiling"].mean.mean == 1.0
    assert rows(found, "all_gold@1", "2 hops")["bm25"].columns["ceiling"].mean.mean == 0.0
    assert rows(found, "recall@1", "2 hops")["bm25"].columns["ceiling"].mean.mean == 0.5


def test_passages_side_by_side_are_not_joined_for_that_by_the_graph() -> None:
    (asked,) = passages().documents
    assert [chunk.document_id for chunk in asked.index.chunks] == [one.id for one in PASSAGES]
    assert asked.index.graph is not None
    (reached,) = asked.index.graph.expand([[(3, 1.0)]], 4)  # bread shares no word with the mill beside it
    assert [ordinal for ordinal, _ in reached] == [3]


def test_every_way_is_measured_on_the_same_questions_and_compared_with_its_parts(real: Suite) -> None:
    suite = passages()
    asked = suite.only({"q0"})
    recalled = {("town", "Where was the maker of the red lantern born?"): (Clue("Tarn Hollow", "span"),)}
    found = compare_ways(suite, settings=RetrievalSettings(), asked=asked, recalled=recalled)
    scores = rows(found, "recall@1")
    assert list(scores) == list(WAYS)
    for score in scores.values():
        assert {name: column.mean.values for name, column in score.columns.items()} == {
            "question": 2,
            "clues": 1,
            "oracle": 2,
            "ceiling": 2,
        }
        assert score.columns["question"].gain is None
        gains = [score.columns[name].gain for name in ("clues", "oracle", "ceiling")]
        assert [gain and gain.values for gain in gains] == [1, 2, 2]
        assert score.words > 0
    assert "clues" not in rows(found, "recall@1", "1 hops")["bm25"].columns
    names = {one.name for one in found.differences}
    assert names == {
        "hybrid - bm25",
        "hybrid - dense",
        f"hybrid - {BETTER_PART}",
        "bm25 + graph - bm25",
        "hybrid + graph - hybrid",
    }
    for one in found.differences:
        if one.kind == "all" and one.measure == "recall@1" and BETTER_PART not in one.name:
            way, _, part = one.name.rpartition(" - ")
            means = {name: score.columns[one.asked].mean.mean for name, score in scores.items()}
            gap = means[way] - means[part]  # type: ignore[index]  # names of ways
            assert one.difference.mean == pytest.approx(gap)


def test_gains_and_the_better_part_follow_from_the_means(real: Suite) -> None:
    found = compare_ways(passages(), settings=RetrievalSettings(), seed=3)
    for score in found.scores:
        alone = score.columns["question"].mean.mean
        for name in ASKED[2:]:
            gain = score.columns[name].gain
            assert gain is not None
            assert gain.mean == pytest.approx(score.columns[name].mean.mean - alone)
    scores = rows(found, "recall@1")
    for one in found.differences:
        if (one.name, one.kind, one.measure, one.asked) == (
            f"hybrid - {BETTER_PART}",
            "all",
            "recall@1",
            "question",
        ):
            parts = [scores[way].columns["question"].mean.mean for way in PARTS["hybrid"]]
            assert one.difference.mean == pytest.approx(
                scores["hybrid"].columns["question"].mean.mean - max(parts)
            )


def test_the_same_seed_gives_the_same_comparison() -> None:
    one, other = (compare_ways(passages(), settings=RetrievalSettings(), seed=3) for _ in range(2))
    assert one == other


def test_perfect_clues_as_loud_as_the_question_find_what_it_misses(real: Suite) -> None:
    found = compare_ways(real, settings=RetrievalSettings(), ways=["bm25"])
    columns = rows(found, "hit@1")["bm25"].columns
    assert columns["ceiling"].mean.mean == 1.0
    assert columns["question"].mean.mean <= columns["oracle"].mean.mean <= columns["ceiling"].mean.mean
    assert true_clues(real).keys() == oracle_clues(real).keys()


def test_a_way_that_an_index_cannot_go_is_refused() -> None:
    suite = passages(vectors=False)
    with pytest.raises(InputError, match="has no vectors to search instead"):
        compare_ways(suite, settings=RetrievalSettings())
    assert compare_ways(suite, settings=RetrievalSettings(), ways=WITHOUT_VECTORS).scores


def test_a_suite_of_some_questions_keeps_its_documents_and_their_indexes(worlds: Suite) -> None:
    chosen = [case.id for _, case in worlds.cases][1:3]
    some = worlds.only(chosen)
    assert [case.id for _, case in some.cases] == chosen
    assert [one.index for one in some.documents] == [worlds.documents[0].index]
