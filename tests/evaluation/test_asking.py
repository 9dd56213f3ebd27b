from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memorag_core import Ask, BeaconModel, ClueSettings, Document, InputError, Recollection
from memorag_core.memory.beacon import BeaconMemory, load_checkpoint
from memorag_evaluation.asking import ClueFile, recall_clues
from memorag_evaluation.datasets import Dataset, Query
from memorag_evaluation.suites import Suite, set_suite
from tests.evaluation.conftest import TEXT


class CountingModel(BeaconModel):
    """Counts the questions that it is asked."""

    asked = 0

    def recollect(
        self,
        asks: Sequence[Ask],
        memory: BeaconMemory | None,
        **how: Any,
    ) -> tuple[tuple[Recollection, ...], ...]:
        self.asked += len(asks)
        return super().recollect(asks, memory, **how)


def counting(checkpoint: Path, *, ratio: int | None = None) -> CountingModel:
    loaded = load_checkpoint(checkpoint)
    return CountingModel(
        loaded.model, loaded.settings, ratio=ratio, tokens=loaded.tokens, usage=loaded.usage, stop=loaded.stop
    )


SPANS = ClueSettings(kinds=("span",))


def test_clues_are_asked_for_once_and_found_again_in_their_file(
    checkpoint: Path, real: Suite, tmp_path: Path
) -> None:
    model = counting(checkpoint)
    path = tmp_path / "kept" / "clues.jsonl"
    full = recall_clues(model, real, settings=SPANS, kept=ClueFile(path))
    emptied = recall_clues(model, real, memory="emptied", settings=SPANS, kept=ClueFile(path))
    assert model.asked == 4
    assert set(full) == set(emptied) == {("town", "Who mends clocks?"), ("town", "What does Fenn sell?")}

    again = counting(checkpoint)
    assert recall_clues(again, real, settings=SPANS, kept=ClueFile(path)) == full
    assert recall_clues(again, real, memory="emptied", settings=SPANS, kept=ClueFile(path)) == emptied
    assert again.asked == 0
    assert len(path.read_text(encoding="utf-8").splitlines()) == 4


def test_another_ratio_other_settings_or_another_text_are_asked_anew(
    checkpoint: Path, real: Suite, tmp_path: Path
) -> None:
    path = tmp_path / "clues.jsonl"
    recall_clues(counting(checkpoint), real, settings=SPANS, kept=ClueFile(path))
    other = set_suite(
        Dataset("town", (Document(TEXT + "!", "town"),), (Query("q", "Who?", (), "town", ((0, 9),)),))
    )
    for model, suite, settings in (
        (counting(checkpoint, ratio=8), real, SPANS),
        (counting(checkpoint), real, ClueSettings(kinds=("span",), per_kind=1)),
        (counting(checkpoint), other, SPANS),
    ):
        recall_clues(model, suite, settings=settings, kept=ClueFile(path))
        assert model.asked


def test_spans_are_held_to_the_text_unless_free_ones_or_an_emptied_memory_are_asked_for(
    checkpoint: Path, real: Suite, tmp_path: Path
) -> None:
    path = tmp_path / "clues.jsonl"
    model = counting(checkpoint)
    grounded = recall_clues(model, real, settings=SPANS, kept=ClueFile(path))
    free = recall_clues(model, real, settings=replace(SPANS, grounded=False), kept=ClueFile(path))
    emptied = recall_clues(model, real, memory="emptied", settings=SPANS, kept=ClueFile(path))
    assert model.asked == 6  # none is mistaken for another
    places = [clue.place for clues in grounded.values() for clue in clues]
    assert places
    assert all(place is not None and place.document_id == "town" for place in places)
    assert all(clue.place is None for found in (free, emptied) for clues in found.values() for clue in clues)


def test_how_clues_are_checked_is_no_reason_to_ask_again(checkpoint: Path, real: Suite) -> None:
    model, kept = counting(checkpoint), ClueFile(None)
    first = recall_clues(model, real, settings=SPANS, kept=kept)
    assert recall_clues(model, real, settings=replace(SPANS, least_support=0.9), kept=kept) == first
    assert model.asked == 2


def test_requests_for_generators_are_no_reason_to_ask_again_and_those_for_clues_are(
    checkpoint: Path, real: Suite
) -> None:
    model, kept = counting(checkpoint), ClueFile(None)
    recall_clues(model, real, settings=SPANS, kept=kept)
    asked, prompts = model.asked, model.usage.prompts
    assert prompts is not None
    model.usage = replace(model.usage, prompts=replace(prompts, answer="{evidence} {question}!"))
    recall_clues(model, real, settings=SPANS, kept=kept)
    assert model.asked == asked
    tasks = {**prompts.tasks, "span": "<|ask|> {question}<|span|>"}
    model.usage = replace(model.usage, prompts=replace(prompts, tasks=tasks))
    recall_clues(model, real, settings=SPANS, kept=kept)
    assert model.asked > asked


def test_a_file_that_holds_something_else_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "clues.jsonl"
    path.write_text(json.dumps({"key": "a", "question": "b", "clues": []}) + "\n{}\n")
    with pytest.raises(InputError, match=r"clues\.jsonl:2 is no line of clues"):
        ClueFile(path)
