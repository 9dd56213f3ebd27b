"""Limits of asking hold: a long question is cut to what a model has room for, and time within one step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from memorag_core import Ask, BeaconModel, ClueSettings, Document, MemoRAG, Recollection
from memorag_core.memory.beacon import generate as asking
from memorag_core.memory.beacon.host import Host
from memorag_core.memory.bundled import bundled_path
from memorag_core.memory.requests import LONGEST_QUESTION
from memorag_core.memory.tokenizer import Tokens

PEOPLE = [
    Document(f"{name} keeps the key number {number}.", name) for number, name in enumerate(("Maud", "Ivo"))
]
END = "Which key does Maud keep?"


@pytest.fixture(scope="module")
def model() -> BeaconModel:
    return BeaconModel.from_pretrained(bundled_path(), device="cpu")


def question(words: int) -> str:
    return " ".join([*(f"word{number % 97}" for number in range(words - 5)), END])


class Steps:
    """The tokens of a row that the model runs, run by run; ends replies after so many runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: int | None = None) -> None:
        self.runs: list[tuple[int, int]] = []
        self.most = most
        run: Callable[..., torch.Tensor] = Host.run

        def counted(host: Host, ids: torch.Tensor, *given: Any) -> torch.Tensor:
            self.runs.append((ids.shape[0], ids.shape[1]))
            return run(host, ids, *given)

        monkeypatch.setattr(Host, "run", counted)

    def said(self, ask: int, reply: Recollection) -> None:
        pass

    def goes_on(self) -> bool:
        return self.most is None or len(self.runs) < self.most


def test_a_long_question_costs_no_more_than_the_longest_that_is_asked(
    model: BeaconModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rag = MemoRAG(model, clues=ClueSettings(language="en"), progress=False).memorize(PEOPLE)
    steps = Steps(monkeypatch)
    cost = {}
    for words in (10, 1_000, 10_000):
        steps.runs.clear()
        with caplog.at_level(logging.WARNING, "memorag_core"):
            found = rag.explain(question(words), k=1)
        cost[words] = sum(tokens for _, tokens in steps.runs)
        assert found.recall.question == question(words)  # it is searched whole
    assert cost[10_000] <= cost[10] + LONGEST_QUESTION + 128
    assert cost[10_000] <= 1.2 * cost[1_000]
    assert caplog.text.count("longer than what this model is asked with") == 2


def test_the_beginning_and_the_end_of_a_long_question_are_kept(model: BeaconModel) -> None:
    tokens = model.tokens
    assert tokens is not None
    texts = ("Tell me. " + question(500), "是" * 3_000 + "谁？", "a" * 4_000, " " * 5_000 + END, "𝒳" * 900)
    for text in texts:
        for most in (1, 2, 7, 40, 256):
            ends = tokens.ends_of(text, most)
            assert len(tokens.encode_text(ends)) <= max(most, 16)
            assert ends.strip()
    assert tokens.ends_of(" " * 5_000 + END, 40).endswith(END)
    ends = tokens.ends_of("Tell me this. " + question(500), 60)
    assert ends.startswith("Tell me this.")
    assert ends.endswith(END)
    assert tokens.ends_of(END, 256) is END


def test_long_questions_are_cut_in_time_linear_in_their_length(model: BeaconModel) -> None:
    tokens = model.tokens
    assert isinstance(tokens, Tokens)
    text = question(20_000)
    ends = tokens.ends_of(text, 256)
    assert ends == tokens.ends_of(text[:5_000] + text[-20_000:], 256)  # only its ends are looked at closely


def asks_of(words: int, count: int) -> Iterator[Ask]:
    for number in range(count):
        for kind in ("span", "query", "answer"):
            yield Ask(f"{number} {question(words)}", kind)


@pytest.mark.parametrize("most", [0, 1, 2, 3, 5])
def test_replies_end_within_one_run_also_while_prompts_are_read(
    model: BeaconModel, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    memory = model.memorize(PEOPLE)
    steps = Steps(monkeypatch, most)
    asks = list(asks_of(100, 12))
    said = model.recollect(asks, memory, watch=steps)
    assert len(steps.runs) == most
    assert [len(one) for one in said] == [memory.parts] * len(asks)
    assert all(rows * tokens <= max(asking.CHUNK, rows) for rows, tokens in steps.runs)
    assert all(not reply.text and not reply.finished for one in said for reply in one)


def test_parts_that_are_not_asked_any_more_are_not_read(
    model: BeaconModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "The miller of Hollowmere grinds oats for the whole valley. " * 700
    memory = model.memorize(text)
    assert memory.parts > 3
    monkeypatch.setattr("memorag_core.memory.local_model.ASKED_ROWS", 1)
    steps = Steps(monkeypatch, 2)
    (said,) = model.recollect([Ask("Who grinds oats?", "span")], memory, watch=steps)
    assert len(steps.runs) == 2
    assert len(said) == memory.parts


def test_prompts_read_in_pieces_say_the_same(model: BeaconModel, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = model.memorize(PEOPLE)
    steps = Steps(monkeypatch)
    asks = list(asks_of(60, 2))
    whole = model.recollect(asks, memory)
    monkeypatch.setattr(asking, "CHUNK", 64)
    pieces = model.recollect(asks, memory, watch=steps)
    assert [[reply.text for reply in one] for one in pieces] == [
        [reply.text for reply in one] for one in whole
    ]
