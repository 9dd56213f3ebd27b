"""Settings: what is refused, and with which words."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, replace
from typing import Any, cast

import pytest

from memorag_core.errors import InputError
from memorag_core.settings import ChunkSettings, ClueSettings, RetrievalSettings, with_grouped_weights
from memorag_core.types import CLUE_KINDS

ALL: tuple[Callable[..., Any], ...] = (ChunkSettings, ClueSettings, RetrievalSettings)


@pytest.mark.parametrize("settings", ALL)
def test_settings_are_values_that_cannot_change_and_can_be_keys(settings: Callable[..., Any]) -> None:
    value = settings()
    assert value == settings()
    assert hash(value) == hash(settings())
    with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
        value.size = 3


@pytest.mark.parametrize("settings", ALL)
def test_settings_come_back_from_json_as_they_were(settings: Callable[..., Any]) -> None:
    value = settings()
    assert settings(**json.loads(json.dumps(asdict(value)))) == value


@pytest.mark.parametrize(
    ("settings", "wrong", "found"),
    [
        (ChunkSettings, {"size": 0}, r"size is 0; expected a whole number of 1 or more"),
        (ChunkSettings, {"size": 800.0}, r"size is 800\.0; expected a whole number"),
        (ChunkSettings, {"size": True}, r"size is True"),
        (ChunkSettings, {"overlap": -1}, r"overlap is -1; expected a whole number of 0 or more"),
        (ChunkSettings, {"size": 100, "overlap": 100}, r"overlap is 100; expected less than the size, 100"),
        (ClueSettings, {"kinds": ()}, r"kinds is \(\); expected one or more of span, query"),
        (ClueSettings, {"kinds": "span"}, r"kinds is 'span'; expected .* Give a tuple"),
        (ClueSettings, {"kinds": ("span", "riddle")}, r"expected .* Take out 'riddle'"),
        (ClueSettings, {"kinds": ("span", "span")}, r"each once\. Name each kind once"),
        (ClueSettings, {"kinds": (1,)}, r"kinds is \(1,\)"),
        (ClueSettings, {"per_kind": 0}, r"per_kind is 0; expected .* fewer kinds"),
        (ClueSettings, {"max_new_tokens": 0}, r"max_new_tokens is 0; expected .* None"),
        (ClueSettings, {"language": " "}, r"language is ' '; expected a code"),
        (RetrievalSettings, {"k": 0}, r"k is 0; expected a whole number of 1 or more"),
        (RetrievalSettings, {"fan_out": 0}, r"fan_out is 0"),
        (RetrievalSettings, {"rrf_constant": -1.0}, r"rrf_constant is -1\.0; expected a finite number"),
        (RetrievalSettings, {"clue_weights": {"span": float("nan")}}, r"clue_weights\['span'\] is nan"),
        (RetrievalSettings, {"question_weight": float("inf")}, r"question_weight is inf"),
        (RetrievalSettings, {"fusion": "borda"}, r"fusion is 'borda'; expected one of rrf, relative_score"),
        (RetrievalSettings, {"order": "date"}, r"order is 'date'; expected one of rank, document"),
        (RetrievalSettings, {"expansion": "all"}, r"expansion is 'all'; expected one of separate"),
        (RetrievalSettings, {"rerank_depth": 0}, r"rerank_depth is 0; expected a whole number of 1"),
        (RetrievalSettings, {"budget": 0}, r"budget is 0; expected .* None for no limit"),
        (RetrievalSettings, {"neighbours": -1}, r"neighbours is -1; expected a whole number of 0"),
        (
            RetrievalSettings,
            {"retriever_weights": {"graph": -1.0}},
            r"is -1\.0; .* 0 for no graph",
        ),
        (RetrievalSettings, {"graph_anchors": 0}, r"graph_anchors is 0; expected .* weight of 0"),
        (RetrievalSettings, {"graph_damping": 1.0}, r"graph_damping is 1\.0; expected 0 to below 1"),
        (
            RetrievalSettings,
            {"retriever_weights": {"learned_sparse": float("nan")}},
            r"sparse'\] is nan",
        ),
        (RetrievalSettings, {"retriever_weights": {"bm25": -1.0}}, r"\['bm25'\] is -1\.0; .* 0 for no BM25"),
        (
            RetrievalSettings,
            {"retriever_weights": {"dense": "1"}},
            r"is '1'; .* 0 for no vectors",
        ),
        (
            RetrievalSettings,
            {"retriever_weights": {"bm25": 0, "dense": 0}},
            r"expected one above 0, or nothing searches",
        ),
        (RetrievalSettings, {"clue_weights": {"answer": "1"}}, r"clue_weights\['answer'\] is '1'"),
        (
            RetrievalSettings,
            {"clue_weights": {"riddle": 1}},
            r"has 'riddle'; expected .* span, query",
        ),
        (
            RetrievalSettings,
            {"retriever_weights": {"lexical": 1}},
            r"has 'lexical'; .* learned_sparse",
        ),
        (RetrievalSettings, {"clue_weights": 0.5}, r"clue_weights has 0\.5; expected a mapping"),
    ],
)
def test_wrong_settings_say_what_was_found_and_what_was_expected(
    settings: Callable[..., Any], wrong: dict[str, Any], found: str
) -> None:
    with pytest.raises(InputError, match=found):
        settings(**wrong)


def test_weights_of_nothing_but_zero_are_refused() -> None:
    with pytest.raises(InputError, match="only weights of 0"):
        RetrievalSettings(question_weight=0, clue_weights=dict.fromkeys(CLUE_KINDS, 0))


def test_no_kind_weighs_more_than_the_question_and_every_kind_of_clue_has_a_weight() -> None:
    settings = RetrievalSettings()
    assert settings.weight("question") == max(settings.weight(kind) for kind in CLUE_KINDS)
    assert all(settings.weight(kind) > 0 for kind in CLUE_KINDS)
    assert replace(settings, clue_weights={"query": 0.25}).weight("query") == 0.25


def test_weights_that_are_left_out_are_the_usual_ones_and_none_can_be_changed() -> None:
    settings = RetrievalSettings(clue_weights={"span": 0.5}, retriever_weights={"graph": 1})
    assert settings.clue_weights == {**RetrievalSettings().clue_weights, "span": 0.5}
    assert settings.retriever_weights == {"bm25": 1, "dense": 1, "learned_sparse": 0, "graph": 1}
    assert hash(settings) == hash(replace(settings)) != hash(RetrievalSettings())
    for same in (copy.deepcopy(settings), copy.copy(settings), pickle.loads(pickle.dumps(settings))):
        assert same == settings
        assert hash(same) == hash(settings)
        with pytest.raises(TypeError, match="cannot be changed"):
            cast(dict[str, float], same.clue_weights)["span"] = 2


OLD_WEIGHTS = {
    **{f"{kind}_weight": 0.5 + place for place, kind in enumerate(("question", *CLUE_KINDS))},
    "bm25_weight": 0.25,
    "dense_weight": 2.0,
    "lexical_weight": 0.75,
    "graph_weight": 3.0,
}
"""All weights of version 0.1.0 by their names there, changed."""


def test_weights_by_their_old_names_are_the_same_settings_with_a_warning_for_each() -> None:
    with pytest.warns(DeprecationWarning, match="is deprecated; use") as warned:
        old = RetrievalSettings(**OLD_WEIGHTS)  # type: ignore[arg-type]
    assert len(warned) == len(OLD_WEIGHTS) - 1  # the question's has its name still
    assert all("_weights={" in str(one.message) and one.filename == __file__ for one in warned)
    assert old == RetrievalSettings(**with_grouped_weights(OLD_WEIGHTS))
    assert [old.question_weight, *map(old.weight, CLUE_KINDS)] == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5]
    assert old.retriever_weights == {"bm25": 0.25, "dense": 2.0, "learned_sparse": 0.75, "graph": 3.0}
    for name, value in OLD_WEIGHTS.items():
        if name != "question_weight":
            with pytest.warns(DeprecationWarning, match=rf"Settings\.{name} is deprecated; use \w+\["):
                assert getattr(old, name) == value
    with pytest.warns(DeprecationWarning, match="span_weight"):
        assert replace(old, span_weight=9).clue_weights == {**old.clue_weights, "span": 9}  # type: ignore[call-arg]
    with pytest.raises(AttributeError, match="has no attribute 'riddle_weight'"):
        old.riddle_weight  # type: ignore[attr-defined]  # noqa: B018


def test_a_list_of_kinds_becomes_a_tuple() -> None:
    assert ClueSettings(kinds=["span", "answer"]).kinds == ("span", "answer")  # type: ignore[arg-type]


def test_an_unknown_expansion_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match="'hyde'; expected one of separate, append, both"):
        RetrievalSettings(expansion="hyde")  # type: ignore[arg-type]
