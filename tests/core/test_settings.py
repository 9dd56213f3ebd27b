"""Settings: what is refused, and with which words."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, replace
from typing import Any

import pytest

from memorag_core.errors import InputError
from memorag_core.settings import ChunkSettings, ClueSettings, RetrievalSettings
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
        (RetrievalSettings, {"span_weight": float("nan")}, r"span_weight is nan"),
        (RetrievalSettings, {"question_weight": float("inf")}, r"question_weight is inf"),
        (RetrievalSettings, {"fusion": "borda"}, r"fusion is 'borda'; expected one of rrf, relative_score"),
        (RetrievalSettings, {"order": "date"}, r"order is 'date'; expected one of rank, document"),
        (RetrievalSettings, {"expansion": "all"}, r"expansion is 'all'; expected one of separate"),
        (RetrievalSettings, {"rerank_depth": 0}, r"rerank_depth is 0; expected a whole number of 1"),
        (RetrievalSettings, {"budget": 0}, r"budget is 0; expected .* None for no limit"),
        (RetrievalSettings, {"neighbours": -1}, r"neighbours is -1; expected a whole number of 0"),
        (RetrievalSettings, {"graph_weight": -1.0}, r"graph_weight is -1\.0; .* 0 for no graph"),
        (RetrievalSettings, {"graph_anchors": 0}, r"graph_anchors is 0; expected .* graph_weight=0"),
        (RetrievalSettings, {"graph_damping": 1.0}, r"graph_damping is 1\.0; expected 0 to below 1"),
        (RetrievalSettings, {"lexical_weight": float("nan")}, r"lexical_weight is nan"),
        (RetrievalSettings, {"bm25_weight": -1.0}, r"bm25_weight is -1\.0; .* 0 for no BM25"),
        (RetrievalSettings, {"dense_weight": "1"}, r"dense_weight is '1'; .* 0 for no vectors"),
        (
            RetrievalSettings,
            {"bm25_weight": 0, "dense_weight": 0},
            r"expected one above 0, or nothing searches",
        ),
        (RetrievalSettings, {"answer_weight": "1"}, r"answer_weight is '1'"),
    ],
)
def test_wrong_settings_say_what_was_found_and_what_was_expected(
    settings: Callable[..., Any], wrong: dict[str, Any], found: str
) -> None:
    with pytest.raises(InputError, match=found):
        settings(**wrong)


def test_weights_of_nothing_but_zero_are_refused() -> None:
    nothing = dict.fromkeys((f"{kind}_weight" for kind in ("question", *CLUE_KINDS)), 0.0)
    with pytest.raises(InputError, match="only weights of 0"):
        RetrievalSettings(**nothing)  # type: ignore[arg-type]  # all of them are weights


def test_no_kind_weighs_more_than_the_question_and_every_kind_of_clue_has_a_weight() -> None:
    settings = RetrievalSettings()
    assert settings.weight("question") == max(settings.weight(kind) for kind in CLUE_KINDS)
    assert all(settings.weight(kind) > 0 for kind in CLUE_KINDS)
    assert replace(settings, query_weight=0.25).weight("query") == 0.25


def test_a_list_of_kinds_becomes_a_tuple() -> None:
    assert ClueSettings(kinds=["span", "answer"]).kinds == ("span", "answer")  # type: ignore[arg-type]


def test_an_unknown_expansion_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match="'hyde'; expected one of separate, append, both"):
        RetrievalSettings(expansion="hyde")  # type: ignore[arg-type]
