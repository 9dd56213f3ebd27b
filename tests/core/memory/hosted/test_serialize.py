"""Packing: the same memory comes back, with the same settings only; so does a whole pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save

from memorag_core import MemoRAG
from memorag_core.errors import StoreError
from memorag_core.memory.hosted import HostedModel
from tests.core.loopback import ChatServer, chat
from tests.core.memory.hosted.test_model import ISLAND, offline, real_text

MODEL = offline(capacity=64, overlap=20)


@given(
    texts=st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip),
        min_size=1,
        max_size=5,
    )
)
def test_saved_and_loaded_is_the_same_memory_and_can_be_continued(texts: list[str]) -> None:
    memory = MODEL.memorize(texts)
    arrays, header = MODEL.pack(memory)
    loaded = MODEL.unpack(load(save(dict(arrays))), json.loads(json.dumps(header)))
    assert loaded == memory
    assert MODEL.memorize("And more.", loaded) == MODEL.memorize("And more.", memory)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format 2"),
        ({"format": None}, "format None"),
        ({"capacity": 65}, "capacity and overlap of 65 and 20 tokens; the model is set to 64 and 20"),
        ({"overlap": 0}, "overlap of 64 and 0"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    arrays, header = MODEL.pack(MODEL.memorize(ISLAND))
    with pytest.raises(StoreError, match=message):
        MODEL.unpack(arrays, {**header, **change})
    with pytest.raises(StoreError):
        MODEL.unpack(arrays, {name: value for name, value in header.items() if name not in change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": None}, "'text' of the memory is NoneType"),
        ({"ends": [1, 2]}, "'ends' of the memory is list"),
        ({"tokens": np.ones(6, dtype=np.int32)}, "'tokens' of the memory is int32"),
        ({"text": np.zeros((2, 2), dtype=np.uint8)}, "'text' of the memory is uint8"),
        ({"ends": np.zeros(0, dtype=np.int64)}, "do not cover"),
        ({"ends": np.array([3, 3, 9], dtype=np.int64)}, "do not cover"),
        ({"text": np.zeros(5, dtype=np.uint8)}, "do not cover its text of 5 bytes"),
        ({"tokens": np.ones(2, dtype=np.int64)}, "pieces and 2 counts"),
        ({"text": np.full(len(ISLAND), 255, dtype=np.uint8)}, "no UTF-8"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    arrays, header = MODEL.pack(MODEL.memorize(ISLAND))
    with pytest.raises(StoreError, match=message):
        MODEL.unpack({**arrays, **change}, header)


def test_a_count_below_nothing_is_refused() -> None:
    arrays, header = MODEL.pack(MODEL.memorize(ISLAND))
    with pytest.raises(StoreError, match="0 or more"):
        MODEL.unpack({**arrays, "tokens": -arrays["tokens"]}, header)


def test_a_pipeline_recalls_from_the_server_finds_evidence_and_is_the_same_after_loading(
    server: ChatServer, tmp_path: Path
) -> None:
    model = HostedModel(chat(server), capacity=3000)
    rag = MemoRAG(model, progress=False).memorize([ISLAND, real_text(30_000)])
    assert rag.memory.parts >= 3
    question = "Who repairs the clocks of the valley?"
    clues, evidence = rag.clues(question), rag.retrieve(question, k=2)
    assert server.asked == rag.memory.parts * 3  # a request for each kind and part; asked again, none
    replies = "\n".join(server.replies)
    assert clues
    assert [clue.text for clue in clues if clue.text not in replies] == []
    assert "Anna Holt repairs every clock" in evidence[0].chunk.text
    assert any("Anna Holt" in text for text in evidence[0].clues)
    assert "Anna Holt" in rag.answer(question).text

    rag.save(tmp_path / "store")
    loaded = MemoRAG.load(tmp_path / "store", HostedModel(chat(server), capacity=3000), progress=False)
    assert loaded.memory == rag.memory
    assert loaded.clues(question) == clues
    assert loaded.retrieve(question, k=2) == evidence
    assert loaded.memorize("One thing more.").memory == rag.memorize("One thing more.").memory
    with pytest.raises(StoreError, match="capacity"):
        MemoRAG.load(tmp_path / "store", HostedModel(chat(server)))
    with pytest.raises(StoreError, match="model"):
        MemoRAG.load(tmp_path / "store", HostedModel(chat(server), name="other", capacity=3000))


def test_many_questions_are_asked_together_through_the_pipeline(server: ChatServer) -> None:
    rag = MemoRAG(HostedModel(chat(server)), progress=False).memorize(ISLAND)
    questions = ["Who repairs the clocks?", "When does the ferry leave?", "Who raised the tower?"]
    found = rag.retrieve_batch(questions, k=1)
    alone = MemoRAG(HostedModel(chat(server)), progress=False).memorize(ISLAND)
    assert found == tuple(alone.retrieve(question, k=1) for question in questions)
    assert server.asked == 18
