"""What is measured with and on: a tiny random beacon model, generated worlds, a text with two questions.

The model is of the bundled model's format and remembers nothing, but everything runs.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from memorag_core import BeaconModel, Clue, Document
from memorag_core.memory.beacon import BeaconSettings, save_checkpoint
from memorag_core.memory.beacon.layers import attach
from memorag_evaluation.asking import Recalled
from memorag_evaluation.datasets import Dataset, Query
from memorag_evaluation.suites import Suite, set_suite, world_suite
from memorag_evaluation.worlds import draw_worlds
from memorag_training.tokenizer import save_tokenizer, train_tokenizer
from memorag_training.worlds import generate_world

WINDOW = 64

TEXT = (
    "Mara Venn repairs timepieces in Orrin. The harbour of Dell lies under fog. Tobin Hale bakes rye bread. "
    + "Nothing else is known of the town. " * 60
    + "Old Fenn keeps bees behind the mill. He sells honey at the fair."
)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    rng = random.Random(5)
    texts = [generate_world(rng, split="train", characters=4000).text for _ in range(4)]
    tokenizer = train_tokenizer(texts, size=400)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=16,
            tie_word_embeddings=True,
            eos_token_id=tokenizer.token_to_id("<|end|>"),
            pad_token_id=tokenizer.token_to_id("<|pad|>"),
            max_position_embeddings=4096,
        )
    )
    settings = BeaconSettings(window=WINDOW, ratios=(4, 8))
    attach(model, settings)
    for _, parameter in model.named_parameters():  # a random model of this size would say one token for ever
        torch.nn.init.normal_(parameter, std=0.3)
    save_checkpoint(model, folder, settings=settings)
    save_tokenizer(tokenizer, folder)
    kinds = ("span", "query", "answer")
    usage = {
        "format": 1,
        "capacity": 4 * WINDOW,
        "ratio": 4,
        "pad_windows": True,
        "max_new_tokens": dict.fromkeys(kinds, 6),
        "line_token": "<|line|>",
        "none_token": "<|none|>",
        "prompts": {
            "chat": False,
            "context": "{context}",
            "tasks": {kind: f"<|ask|>{{question}}<|{kind}|>" for kind in kinds},
        },
    }
    (folder / "memorag-usage.json").write_text(json.dumps(usage))
    return folder


@pytest.fixture(scope="session")
def model(checkpoint: Path) -> BeaconModel:
    return BeaconModel.from_pretrained(checkpoint)


@pytest.fixture(scope="session")
def worlds() -> Suite:
    return world_suite(
        draw_worlds(lambda text: len(text.split()), count=3, tokens=500, split="test", seed=0, per_kind=4)
    )


@pytest.fixture(scope="session")
def real() -> Suite:
    fenn = TEXT.index("Old Fenn")
    queries = (
        Query("q0", "Who mends clocks?", (), "town", ((0, 38),)),
        Query("q1", "What does Fenn sell?", (), "town", ((fenn, fenn + 36), (fenn + 37, len(TEXT)))),
    )
    return set_suite(Dataset("town", (Document(TEXT, "town"), Document("Unasked.", "other")), queries))


def true_clues(suite: Suite) -> Recalled:
    """What a perfect memory would recall: the evidence itself."""
    return {
        (asked.document.id, case.question): tuple(
            Clue(asked.document.text[start:end], "span") for start, end in case.gold
        )
        for asked in suite.documents
        for case in asked.cases
    }
