"""A small corpus in which a question shares no word with its evidence, so that only a clue finds it."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event
from typing import Any

import pytest

from memorag_core import Ask, Document, MemoRAG, Recollection
from tests.core.doubles import SentenceMemory, SentenceModel

DOCUMENTS = (
    Document("The ferry to the mainland leaves at seven and carries the mail.", "ferry", {"page": 1}),
    Document("Oskar bakes rye bread in the harbour street. His oven burns birch.", "bakery", {"page": 2}),
    Document("The tower at Skerry Point was raised from green granite in 1871.", "tower", {"page": 3}),
    Document("Anna Holt repairs every clock in the valley. She was born in May.", "clocks", {"page": 4}),
)
QUESTION = "Who mends timepieces?"


class GatedModel(SentenceModel):
    """Answers only when the gate is open: proof that whoever opens it was not held up."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Event()
        self.reached = Event()

    def recollect(
        self,
        asks: Sequence[Ask],
        memory: SentenceMemory,
        **how: Any,
    ) -> tuple[tuple[Recollection, ...], ...]:
        self.reached.set()
        if not self.gate.wait(timeout=20):
            raise TimeoutError("nobody opened the gate")
        return super().recollect(asks, memory, **how)


@pytest.fixture
def model() -> SentenceModel:
    return SentenceModel()


@pytest.fixture
def memorag(model: SentenceModel) -> MemoRAG:
    return remembering(model)


@pytest.fixture
def gated() -> tuple[MemoRAG, Any]:
    model = GatedModel()
    return remembering(model), model.gate


def remembering(model: SentenceModel) -> MemoRAG:
    """The corpus, memorized."""
    return MemoRAG(model, progress=False).memorize(DOCUMENTS)
