"""Packing: the same bits come back, for the same model only; so does a whole pipeline."""

from __future__ import annotations

import json
import pydoc_data.topics
from pathlib import Path
from typing import Any

import pytest
import torch

from memorag_core import LongContextModel, MemoRAG
from memorag_core.errors import StoreError
from memorag_core.prompts import PromptSet
from tests.core.memory.longcontext.conftest import (
    assert_same_memory,
    causal_model,
    random_ids,
    save_model,
    text_model,
)

KINDS = ("span", "query", "answer")
ASKED = PromptSet.from_mapping(
    {"chat": False, "context": "{context}\n", "tasks": {kind: f"{kind}: {{question}}\n" for kind in KINDS}}
)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"blocks": [{"rows": 2, "tokens": 21}]},
        {"blocks": []},
        {"blocks": "x"},
        {"blocks": [{"rows": 1, "tokens": 50}]},
        {"blocks": [{"rows": 1, "tokens": 0}]},
        {"blocks": [{"rows": 1, "tokens": 100_000}], "tokens": 100_000},
        {"blocks": [{"rows": 1, "tokens": 21}] * 2},
        {"tokens": 3},
        {"capacity": 16, "overlap": 0},
        {"capacity": 448, "overlap": 56},
    ],
)
def test_a_header_that_does_not_fit_is_refused(change: dict[str, Any]) -> None:
    model = LongContextModel(causal_model())
    tensors, header = model.pack(model.feed(random_ids(1, 21)).memory)
    with pytest.raises(StoreError):
        model.unpack(tensors, {**header, **change})


def test_tensors_of_another_shape_and_missing_ones_are_refused_by_name() -> None:
    model = LongContextModel(causal_model())
    tensors, header = model.pack(model.feed(random_ids(1, 21)).memory)
    with pytest.raises(StoreError, match=r"group.0.keys.*None"):
        model.unpack({name: value for name, value in tensors.items() if name != "0.group.0.keys"}, header)
    with pytest.raises(StoreError, match=r"0.group.0.values"):
        model.unpack({**tensors, "0.group.0.values": tensors["0.group.0.values"][:1]}, header)
    with pytest.raises(StoreError, match=r"0.group.0.keys"):
        LongContextModel(causal_model(num_hidden_layers=2)).unpack(tensors, header)


def test_a_memory_of_another_capacity_is_refused() -> None:
    model = text_model(prompts=ASKED)
    tensors, header = model.pack(model.memorize("abc"))
    with pytest.raises(StoreError, match="cut into parts"):
        text_model(prompts=ASKED, capacity=100).unpack(tensors, header)


def test_the_fingerprint_tells_models_apart_and_knows_the_same_one_again(tmp_path: Path) -> None:
    save_model(tmp_path, "mistral with a sliding window")
    first, again = (LongContextModel.from_pretrained(tmp_path, prompts=ASKED) for _ in range(2))
    assert first.fingerprint == again.fingerprint == json.loads(json.dumps(first.fingerprint))
    with torch.no_grad():
        again.model.model.layers[0].self_attn.k_proj.weight.add_(0.1)
    assert LongContextModel(again.model, again.tokens, prompts=ASKED).fingerprint != first.fingerprint
    assert LongContextModel(first.model, prompts=ASKED).fingerprint["tokenizer"] is None
    save_model(tmp_path, "mistral")
    assert LongContextModel.from_pretrained(tmp_path, prompts=ASKED).fingerprint["windows"] == [None] * 3


def real_text() -> str:
    """The head of what CPython's help() says about the language."""
    return "\n\n".join(str(pydoc_data.topics.topics[name]) for name in ("assert", "lambda", "while"))[:4000]


@pytest.mark.parametrize(("family", "positions"), [("qwen2", 8192), ("gemma3", 1024)])
def test_a_pipeline_remembers_a_real_text_finds_evidence_and_is_the_same_after_loading(
    tmp_path: Path, family: str, positions: int
) -> None:
    shape = {"max_position_embeddings": positions}
    save_model(tmp_path / "model", family, **shape)
    model = LongContextModel.from_pretrained(tmp_path / "model", prompts=ASKED)
    from memorag_core import ClueSettings

    rag = MemoRAG(model, clues=ClueSettings(max_new_tokens=24), progress=False).memorize(real_text())
    assert (rag.memory.parts > 1) == (positions < 4000)
    question = "What does an anonymous function yield?"
    clues, evidence = rag.clues(question), rag.retrieve(question, k=2)
    assert len(evidence) == 2
    assert "lambda" in evidence[0].chunk.text.casefold()
    assert {clue.kind for clue in clues} <= set(KINDS)
    rag.save(tmp_path / "store")
    loaded = MemoRAG.load(
        tmp_path / "store", LongContextModel.from_pretrained(tmp_path / "model", prompts=ASKED)
    )
    assert_same_memory(loaded.memory, rag.memory, exactly=True)
    assert loaded.clues(question) == clues
    assert loaded.retrieve(question, k=2) == evidence
    assert rag.memorize("One thing more.").memory.tokens == loaded.memorize("One thing more.").memory.tokens
    save_model(tmp_path / "other", family, **shape, seed=5)
    with pytest.raises(StoreError, match="weights"):
        MemoRAG.load(tmp_path / "store", LongContextModel.from_pretrained(tmp_path / "other", prompts=ASKED))
