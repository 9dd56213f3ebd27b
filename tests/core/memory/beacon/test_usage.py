"""How a model wants to be used: entries that cannot be are refused, and babble is no reply."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from memorag_core.errors import CheckpointError
from memorag_core.memory.beacon.usage import Usage
from tests.core.doubles import asks
from tests.core.memory.beacon.conftest import text_model
from tests.core.memory.beacon.test_text import QUESTIONS, TEXTS


@pytest.mark.parametrize("least", [0.5, "high", True, [1]])
def test_a_least_score_that_is_none_is_refused(least: Any) -> None:
    with pytest.raises(CheckpointError, match="least_score"):
        Usage.from_mapping({"format": 1, "least_score": least})


def test_replies_that_a_model_hardly_believes_say_nothing_and_the_others_stay() -> None:
    model = text_model(capacity=16, overlap=4)
    memory = model.memorize(TEXTS)
    everything = model.recollect(asks(QUESTIONS, "span"), memory)
    scores = sorted(said.score for replies in everything for said in replies if said.text)
    least = scores[len(scores) // 2]
    assert scores[0] < least < 0
    model.usage = replace(model.usage, least_score=least)
    for replies, kept in zip(everything, model.recollect(asks(QUESTIONS, "span"), memory), strict=True):
        by_part = {said.part: said for said in kept}
        for said in replies:
            assert by_part[said.part].text == (said.text if said.score >= least else "")
            assert by_part[said.part].score == said.score
