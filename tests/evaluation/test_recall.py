from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from memorag_core import BeaconModel, InputError
from memorag_evaluation import recall
from memorag_evaluation.emptied import MemoryState, emptied_memory
from memorag_evaluation.recall import (
    Outcome,
    held_out_prose,
    prose_recall,
    score_recall,
    world_recall,
)
from memorag_evaluation.worlds import AskedWorld, draw_worlds
from memorag_training.bundled import is_held_out
from memorag_training.loss import Episode, Row, episode_loss
from memorag_training.tasks import Prose
from memorag_training.worlds import generate_world
from tests.core.doubles import asks
from tests.evaluation.conftest import WINDOW

SHAPE = {"tokens": 2 * WINDOW, "documents": 4, "rows": 4, "seed": 1}


def books(data: Path, *, held_out: bool) -> Path:
    """A folder of prose whose books are all held out, or all trained on."""
    names = [f"book-{number}" for number in range(400)]
    names = [name for name in names if is_held_out(name) == held_out][:2]
    (data / "prose").mkdir(parents=True)
    with gzip.open(data / "prose" / "train.jsonl.gz", "wt", encoding="utf-8") as lines:
        for name in names:
            text = generate_world(random.Random(name), split="train", characters=8000).text
            lines.write(json.dumps({"id": name, "text": text}) + "\n")
    return data


@pytest.fixture(scope="module")
def prose(model: BeaconModel, tmp_path_factory: pytest.TempPathFactory) -> Prose:
    return held_out_prose(books(tmp_path_factory.mktemp("data"), held_out=True), model)


@pytest.fixture(scope="module")
def worlds(model: BeaconModel) -> tuple[AskedWorld, ...]:
    tokens = model.tokens
    assert tokens is not None
    return draw_worlds(
        lambda text: len(tokens.encode_text(text)), count=2, tokens=150, split="test", seed=0, per_kind=2
    )


def of(outcomes: tuple[Outcome, ...], memory: MemoryState) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.memory == memory]


# prose ---------------------------------------------------------------------------------------------


def rows_on(model: BeaconModel, documents: torch.Tensor) -> list[list[Row]]:
    """Rows whose targets are what the model says to them by itself, three on each document."""
    rng = random.Random(0)
    memory = model.feed(documents).memory
    asked: list[list[Row]] = [[] for _ in documents]
    for place, some in enumerate(asked):
        for length in (3, 9, 20):
            prompt = [rng.randrange(400) for _ in range(length)]
            said = model.greedy([prompt], memory.row(place), max_new_tokens=12)[0].tolist()
            some.append(Row(place, tuple(prompt), tuple(said)))
    return asked


def test_what_a_model_says_by_itself_is_what_it_finds_most_likely(model: BeaconModel) -> None:
    documents = torch.randint(0, 400, (2, 2 * WINDOW), generator=torch.Generator().manual_seed(0))
    asked = rows_on(model, documents)
    memory = model.feed(documents).memory
    assert recall._forced(model, asked, memory) == [[(True,) * 12] * 3] * 2
    wrong = [[Row(row.document, row.prompt, (*row.target[:-1], 399 - row.target[-1])) for row in asked[0]]]
    assert recall._forced(model, wrong, memory.row(0)) == [[(*(True,) * 11, False)] * 3]
    for place, some in enumerate(asked):
        assert recall._replies(model, some, memory.row(place)) == [row.target for row in some]


def test_token_accuracy_is_the_one_that_training_reports(model: BeaconModel) -> None:
    documents = torch.randint(0, 400, (2, 2 * WINDOW), generator=torch.Generator().manual_seed(1))
    rng = random.Random(1)
    asked = [
        [
            Row(
                row.document,
                row.prompt,
                tuple(t if rng.random() < 0.7 else rng.randrange(400) for t in row.target),
            )
            for row in some
        ]
        for some in rows_on(model, documents)
    ]
    forced = recall._forced(model, asked, model.feed(documents).memory)
    right = [right for some in forced for row in some for right in row]
    episode = Episode(documents, tuple(row for some in asked for row in some))
    with torch.no_grad():
        said = episode_loss(model.model, episode, window=WINDOW, ratio=model.ratio)
    assert 0.2 < float(said.correct) < 0.9
    assert sum(right) / len(right) == pytest.approx(float(said.correct))


def test_reading_and_asking_in_other_batches_changes_nothing(
    model: BeaconModel, prose: Prose, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = prose_recall(model, prose, **SHAPE)
    monkeypatch.setattr(recall, "READ_TOKENS", 1)
    monkeypatch.setattr(recall, "ASKED_ROWS", 2)
    after = prose_recall(model, prose, **SHAPE)
    assert sorted(after, key=repr) == sorted(before, key=repr)


def test_rows_are_of_both_kinds_and_every_target_token_is_judged(model: BeaconModel, prose: Prose) -> None:
    outcomes = prose_recall(model, prose, **SHAPE)
    assert {outcome.kind for outcome in outcomes} == {"text", "cue"}
    assert all(outcome.correct for outcome in outcomes)
    assert all(0 <= outcome.exact <= outcome.f1 <= 1 for outcome in outcomes)


def test_only_books_that_training_does_not_see_are_read(model: BeaconModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No book of .* is held out"):
        held_out_prose(books(tmp_path, held_out=False), model)


def test_a_model_without_the_trainers_tokens_is_refused_by_name(model: BeaconModel, prose: Prose) -> None:
    bare = BeaconModel(model.model, model.settings)
    with pytest.raises(InputError, match="without a tokenizer"):
        prose_recall(bare, prose, **SHAPE)


# worlds --------------------------------------------------------------------------------------------


def test_worlds_are_asked_with_the_memory_and_with_none(
    model: BeaconModel, worlds: tuple[AskedWorld, ...]
) -> None:
    outcomes = world_recall(model, worlds)
    asked = sum(len(world.questions) for world in worlds)
    assert len(of(outcomes, "full")) == len(of(outcomes, "emptied")) == asked
    assert {outcome.document for outcome in outcomes} == {0, 1}
    assert world_recall(model, worlds, memories=("emptied",)) == tuple(of(outcomes, "emptied"))


def test_spans_are_exact_when_every_sentence_of_the_evidence_is_a_line_of_the_reply() -> None:
    (world,) = draw_worlds(lambda text: len(text.split()), count=1, tokens=600, split="test", seed=0)
    asked = next(asked for asked in world.questions if len(asked.evidence) == 2)
    first, second = (fact.sentence for fact in asked.evidence)
    assert recall._compared(f"{second[5:]}\n{first.upper()}\n{second}", asked, "span") == (1.0, 1.0)
    exact, f1 = recall._compared(f"{first}\nQuite another thing", asked, "span")
    assert exact == 0.0
    assert 0.5 <= f1 < 1.0
    assert recall._compared("", asked, "span") == (0.0, 0.0)
    assert recall._compared(asked.answer, asked, "answer") == (1.0, 1.0)
    assert recall._compared(asked.surrogate, asked, "query") == (1.0, 1.0)


def test_another_kind_of_reply_is_refused(model: BeaconModel, worlds: tuple[AskedWorld, ...]) -> None:
    with pytest.raises(InputError, match="The reply is 'key_point'"):
        world_recall(model, worlds, reply="key_point")


def test_an_emptied_memory_has_no_slots_and_is_asked_like_any_other(model: BeaconModel) -> None:
    empty = emptied_memory(model)
    assert (empty.slots, empty.parts, empty.stream.tokens, empty.stream.ratio) == (0, 1, 0, model.ratio)
    ((said,),) = model.recollect(asks(["Who mends clocks?"], "span"), empty)
    tokens = model.tokens
    assert tokens is not None
    prompt = tokens.encode_request(
        model.usage.prompts or pytest.fail("no prompts"), "span", "Who mends clocks?"
    )
    ids = model.greedy([prompt], max_new_tokens=6)[0].tolist()
    assert said.text == tokens.decode(ids[: said.tokens])


# sums ----------------------------------------------------------------------------------------------


def outcomes() -> Iterator[Outcome]:
    yield Outcome(0, "text", "full", (True, True, False), 0.0, 0.5)
    yield Outcome(0, "cue", "full", (True,), 1.0, 1.0)
    yield Outcome(1, "text", "full", (False,), 0.0, 0.0)
    yield Outcome(1, "text", "emptied", (False, False), 0.0, 0.25)
    yield Outcome(1, "two_hop", "emptied", (), 0.0, 0.75)


def test_scores_are_means_over_questions_and_accuracy_is_over_tokens() -> None:
    scores = {(score.kind, score.memory): score for score in score_recall(tuple(outcomes()))}
    assert set(scores) == {
        ("text", "full"),
        ("text", "emptied"),
        ("cue", "full"),
        ("two_hop", "emptied"),
        ("all", "full"),
        ("all", "emptied"),
    }
    text = scores["text", "full"]
    assert text.token_accuracy is not None
    assert text.first_token is not None
    assert (text.questions, text.token_accuracy.mean, text.first_token.mean) == (2, 0.5, 0.5)
    assert (text.exact_match.mean, text.f1.mean) == (0.0, 0.25)
    assert scores["all", "full"].exact_match.mean == pytest.approx(1 / 3)
    assert scores["two_hop", "emptied"].token_accuracy is None
    assert scores["all", "emptied"].f1.mean == 0.5


def test_one_kind_alone_needs_no_row_for_all() -> None:
    scores = score_recall([Outcome(0, "trade", "full", (), 1.0, 1.0)])
    assert [score.kind for score in scores] == ["trade"]
