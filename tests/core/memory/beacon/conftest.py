"""Tiny random beacon models of every supported family, and a tokenizer for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from memorag_core.memory.beacon import BeaconMemory, BeaconModel, BeaconSettings, save_checkpoint
from memorag_core.memory.beacon.cache import Block
from memorag_core.memory.beacon.layers import attach, beacon_parameters
from memorag_core.memory.beacon.rotary import Rotary
from memorag_core.memory.beacon.usage import Usage
from memorag_core.memory.tokenizer import Tokens
from memorag_core.prompts import PromptSet

FAMILIES = ("qwen2", "qwen3", "mistral", "llama")
GOLDEN = Path(__file__).parents[3] / "golden"
VOCABULARY = 61

torch.set_num_threads(1)


def host_model(
    family: str = "llama",
    *,
    layers: int = 2,
    hidden: int = 24,
    heads: int = 4,
    kv_heads: int = 2,
    head_dim: int = 8,
    rope_theta: float = 10_000.0,
    tied: bool = False,
    vocabulary: int = VOCABULARY,
    seed: int = 0,
) -> PreTrainedModel:
    """A random transformers model, with norms that are not all ones."""
    config = AutoConfig.for_model(
        family,
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=32,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        max_position_embeddings=4096,
        rope_theta=rope_theta,
        sliding_window=None,
        tie_word_embeddings=tied,
        eos_token_id=2,
        bos_token_id=1,
        pad_token_id=0,
    )
    torch.manual_seed(seed)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.3 if parameter.ndim > 1 else 0.2))
            if parameter.ndim == 1:
                parameter.add_(1.0)
    model.eval().requires_grad_(False)
    return model


def beacon_model(
    family: str = "llama",
    *,
    window: int = 8,
    ratio: int = 4,
    params: tuple[Any, ...] = ("q", "k", "v"),
    tokens: Tokens | None = None,
    usage: Usage | None = None,
    stop: frozenset[int] = frozenset(),
    capacity: int | None = None,
    overlap: int = 0,
    **shape: Any,
) -> BeaconModel:
    """A random beacon model whose beacon parameters are its own."""
    model = host_model(family, **shape)
    settings = BeaconSettings(window=window, ratios=(ratio,), params=params)
    attach(model, settings)
    with torch.no_grad():
        for _, parameter in beacon_parameters(model):
            parameter.add_(torch.randn_like(parameter) * 0.3)
    model.requires_grad_(False)
    return BeaconModel(
        model, settings, tokens=tokens, usage=usage, stop=stop, capacity=capacity, overlap=overlap
    )


def weights_of(model: BeaconModel, folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a model by their names in a checkpoint."""
    from safetensors.torch import load_file

    save_checkpoint(model.model, folder, settings=model.settings)
    return load_file(folder / "model.safetensors")


def random_ids(rows: int, tokens: int, *, seed: int = 0, vocabulary: int = VOCABULARY) -> torch.Tensor:
    """[rows, tokens] random ids."""
    return torch.randint(0, vocabulary, (rows, tokens), generator=torch.Generator().manual_seed(seed))


def state(memory: BeaconMemory) -> list[torch.Tensor]:
    """All that a memory holds, row by row: slots and tail, keys and values, [L, 1, H, T, D] each."""
    return [
        getattr(getattr(block, name), kind)[:, row : row + 1]
        for block in memory.blocks
        for row in range(block.rows)
        for name in ("slots", "tail")
        for kind in ("keys", "values")
    ]


def unrotated(block: Block, rotary: Rotary) -> Block:
    """A copy of rows with keys as they were before rotary positions."""
    slots = torch.arange(block.slots.length)
    tail = block.slots.length + torch.arange(block.tail.length)
    return Block(block.stream, block.slots.moved(rotary, -slots), block.tail.moved(rotary, -tail))


def snapshot(memory: BeaconMemory) -> list[torch.Tensor]:
    """A copy of all that a memory holds."""
    return [tensor.clone() for tensor in state(memory)]


def assert_same_memory(found: BeaconMemory, expected: BeaconMemory, *, exactly: bool = False) -> None:
    assert found.stream == expected.stream
    assert (found.tokens, found.parts) == (expected.tokens, expected.parts)
    assert_close(state(found), state(expected), exactly=exactly)


def assert_close(found: list[torch.Tensor], expected: list[torch.Tensor], *, exactly: bool = False) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert torch.equal(one, other) if exactly else torch.allclose(one, other, atol=2e-4, rtol=1e-3)


def small_tokenizer(*, chat_template: str | None = None, bos: bool = False) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes and a few special tokens; every text can be written with it, and read back."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|end|>", "<|pad|>", "<|ask|>", "<|span|>", "<|line|>", "<|none|>", "<s>"]
    vocabulary = {token: number for number, token in enumerate([*special, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    from tokenizers import decoders, processors

    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|end|>",
        pad_token="<|pad|>",
        bos_token="<s>" if bos else None,
        chat_template=chat_template,
    )


ASK_PROMPTS = {
    "language": "xx",
    "chat": False,
    "context": "{context}",
    "tasks": {"span": "<|ask|>{question}<|span|>", "answer": "<|ask|>{question}"},
    "answer": "{evidence} {question}",
    "summary_request": "all",
}
"""A checkpoint's own way to be asked, as ``memorag-usage.json`` has it."""


def write_checkpoint(
    folder: Path,
    *,
    usage: dict[str, Any] | None = None,
    usage_file: str = "memorag-usage.json",
    tokenizer: Any = None,
    **model: Any,
) -> BeaconModel:
    """Save a random model to a folder in the checkpoint format; returns what was saved."""
    if tokenizer is not None:
        model.setdefault("vocabulary", len(tokenizer))
        tokenizer.save_pretrained(folder)
    made = beacon_model(**model)
    save_checkpoint(made.model, folder, settings=made.settings)
    if usage is not None:
        (folder / usage_file).write_text(json.dumps({"format": 1, **usage}), encoding="utf-8")
    return made


def text_model(
    *,
    pad_windows: bool = False,
    capacity: int | None = None,
    overlap: int = 0,
    chat: str | None = None,
    **rest: Any,
) -> BeaconModel:
    """A random model that reads bytes and is asked with a few special tokens."""
    tokenizer = small_tokenizer(chat_template=chat)
    usage = Usage(
        pad_windows=pad_windows,
        prompts=PromptSet.from_mapping(ASK_PROMPTS),
        max_new_tokens={"span": 12, "answer": 6},
        line_token="<|line|>",
        none_token="<|none|>",
    )
    return beacon_model(
        tokens=Tokens(tokenizer, usage.line_token, usage.none_token),
        usage=usage,
        vocabulary=len(tokenizer),
        capacity=capacity,
        overlap=overlap,
        **rest,
    )


def rewrite_weights(folder: Path, change: Any) -> None:
    """Apply a change to the tensors of a checkpoint."""
    from safetensors.torch import load_file

    tensors = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def rewrite_config(folder: Path, **changes: Any) -> None:
    """Change entries of a checkpoint's config.json; None takes one out."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for name, value in changes.items():
        config.pop(name, None)
        if value is not None:
            config[name] = value
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


@pytest.fixture(params=sorted(path.name for path in GOLDEN.iterdir() if path.is_dir()))
def golden(request: pytest.FixtureRequest) -> Path:
    """The folder of each golden model."""
    return GOLDEN / str(request.param)
