"""A corpus that outgrows one memory: forty documents over several, asked together, on the bundled model."""

from __future__ import annotations

import random

import pytest

from memorag_core import BeaconModel, Document, MemoRAG
from memorag_core.memory.bundled import bundled_path
from memorag_training.worlds import generate_world
from tests.core.doubles import asks

DOCUMENTS, MEMORIES = 40, 4
CAPACITY = 1280  # ten documents, each filled up to a window of 128


@pytest.fixture(scope="module")
def model() -> BeaconModel:
    return BeaconModel.from_pretrained(bundled_path(), device="cpu", capacity=CAPACITY, overlap=0)


@pytest.fixture(scope="module")
def asked() -> dict[str, int]:
    """Questions that name what they ask of, and the document that answers each."""
    return {
        f"What is the name of the ship that {captain} sails?": number
        for number, captain in enumerate(_captains())
    }


@pytest.fixture(scope="module")
def corpus(model: BeaconModel) -> MemoRAG:
    documents = [
        Document(f"{_world(number)} {captain} sails the {_ship(number)}.", id=str(number))
        for number, captain in enumerate(_captains())
    ]
    return MemoRAG(model, progress=False).memorize(documents)


def _world(number: int) -> str:
    return generate_world(random.Random(number), split="test", characters=90).text


def _captains() -> list[str]:
    draw = random.Random(7)
    return ["".join(draw.choice("bdfgklmnprstvz") + draw.choice("aeiou") for _ in range(3)).title()
            for _ in range(DOCUMENTS)]  # fmt: skip


def _ship(number: int) -> str:
    return f"{_captains()[-1 - number][::-1]} Rose".title()


def test_forty_documents_lie_in_four_memories(corpus: MemoRAG) -> None:
    assert corpus.memory.parts == MEMORIES
    assert len(corpus.documents) == DOCUMENTS


def test_asking_all_memories_together_equals_asking_each_by_itself(
    corpus: MemoRAG, model: BeaconModel, asked: dict[str, int]
) -> None:
    questions = list(asked)[::5]
    together = model.recollect(asks(questions, "span"), corpus.memory)
    for part in range(MEMORIES):
        alone = model.recollect(asks(questions, "span"), corpus.memory.row(part))
        for all_parts, (one,) in zip(together, alone, strict=True):
            (same,) = (said for said in all_parts if said.part == part)
            assert same.text == one.text
            assert same.score == pytest.approx(one.score, abs=1e-4)


def test_the_evidence_comes_from_the_document_that_was_asked_about(
    corpus: MemoRAG, asked: dict[str, int]
) -> None:
    found = corpus.retrieve_batch(list(asked), k=1)
    assert [evidence.chunk.document_id for (evidence,) in found] == [str(number) for number in asked.values()]
