"""Tiny random causal language models of many families, and what they say when plainly prompted."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from memorag_core.memory.longcontext import LongContextMemory, LongContextModel
from tests.core.memory.beacon.conftest import small_tokenizer

VOCABULARY = 61
EOS = 2

torch.set_num_threads(1)

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral with a sliding window": ("mistral", {"sliding_window": 7}),
    "mistral with a window of two tokens": ("mistral", {"sliding_window": 2}),
    "qwen2 with windows in some layers": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
    ),
    "gemma": ("gemma", {}),
    "gemma2": ("gemma2", {"sliding_window": 7, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 2.0}),
    "gemma3": ("gemma3_text", {"sliding_window": 7, "num_hidden_layers": 7}),
    "llama with yarn": (
        "llama",
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 10_000.0,
                "factor": 4.0,
                "original_max_position_embeddings": 128,
            }
        },
    ),
    "phi3": ("phi3", {}),
    "gpt2": ("gpt2", {"n_embd": 24, "n_head": 4, "n_layer": 3}),
    "cohere2": ("cohere2", {"sliding_window": 5, "num_hidden_layers": 4}),
    "mixtral": ("mixtral", {"num_local_experts": 4}),
    "olmo2": ("olmo2", {}),
}
"""Families that are right, with their names in transformers."""

ISSUE_FAMILIES = ("llama", "qwen2", "qwen3", "mistral", "mistral with a sliding window", "gemma2", "gemma3")


def causal_model(family: str = "llama", *, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A random transformers model, with norms that are not all ones."""
    kind, own = FAMILIES.get(family, (family, {}))
    shape: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 24,
        "intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 512,
        "eos_token_id": EOS,
        "bos_token_id": 1,
        "pad_token_id": 0,
    }
    config = AutoConfig.for_model(kind, **{**shape, **own, **changes})
    torch.manual_seed(seed)
    model: Any = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
            if parameter.ndim == 1:
                parameter.add_(1.0)
    return cast(PreTrainedModel, model.eval().requires_grad_(False))


def text_model(
    family: str = "llama", *, chat_template: str | None = None, bos: bool = False, **settings: Any
) -> LongContextModel:
    """A random model that reads bytes; ``positions`` is its longest text, ``shape`` changes it otherwise."""
    tokenizer = small_tokenizer(chat_template=chat_template, bos=bos)
    shape = {"max_position_embeddings": settings.pop("positions", 8192), **settings.pop("shape", {})}
    model = causal_model(family, vocab_size=len(tokenizer), eos_token_id=0, **shape)
    return LongContextModel(model, tokenizer, **settings)


def save_model(folder: Path, family: str = "llama", **changes: Any) -> PreTrainedModel:
    """Save a random model with a tokenizer of bytes to a folder; returns what was saved."""
    tokenizer = small_tokenizer()
    model = causal_model(family, **{"vocab_size": len(tokenizer), "eos_token_id": 0, **changes})
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def random_ids(rows: int, tokens: int, *, seed: int = 0, vocabulary: int = VOCABULARY) -> torch.Tensor:
    """[rows, tokens] random ids."""
    return torch.randint(0, vocabulary, (rows, tokens), generator=torch.Generator().manual_seed(seed))


def plainly(model: PreTrainedModel, ids: torch.Tensor, count: int) -> torch.Tensor:
    """What the model's own ``generate`` says to whole prompts, past end tokens: [B, T] -> [B, count]."""
    config: Any = model.generation_config
    ends, config.eos_token_id = config.eos_token_id, None
    try:
        said = cast(Any, model).generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=count,
            pad_token_id=0,
        )
    finally:
        config.eos_token_id = ends
    return cast(torch.Tensor, said[:, ids.shape[1] :])


def leads(model: PreTrainedModel, ids: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
    """How far the best token is ahead of the second at every step of a reply, [B, N]."""
    with torch.inference_mode():
        logits = model(torch.cat((ids, said), dim=1), use_cache=False).logits[:, ids.shape[1] - 1 : -1]
    best = logits.topk(2, dim=-1).values
    return cast(torch.Tensor, best[..., 0] - best[..., 1])


def assert_same_reply(
    model: PreTrainedModel, ids: torch.Tensor, found: torch.Tensor, expected: torch.Tensor
) -> None:
    """The same ids, up to a token that was as good as equal to another."""
    for row in range(len(ids)):
        apart = (found[row] != expected[row]).nonzero()
        if len(apart):
            first = int(apart[0, 0])
            lead = leads(model, ids[row : row + 1], expected[row : row + 1, : first + 1])[0, first]
            assert lead < 1e-3, f"row {row} says another token at {first}, which was ahead by {lead}"


def state(memory: LongContextMemory) -> list[torch.Tensor]:
    """All that a memory holds, row by row: keys and values of each group, [L, 1, H, T, D] each."""
    return [
        getattr(entries, kind)[:, row : row + 1]
        for block in memory.blocks
        for row in range(block.rows)
        for entries in block.kept
        for kind in ("keys", "values")
    ]


def snapshot(memory: LongContextMemory) -> list[torch.Tensor]:
    """A copy of all that a memory holds."""
    return [tensor.clone() for tensor in state(memory)]


def assert_same_memory(
    found: LongContextMemory, expected: LongContextMemory, *, exactly: bool = False
) -> None:
    assert (found.tokens, found.parts, found.nbytes) == (expected.tokens, expected.parts, expected.nbytes)
    assert_close(state(found), state(expected), exactly=exactly)


def assert_close(found: list[torch.Tensor], expected: list[torch.Tensor], *, exactly: bool = False) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert torch.equal(one, other) if exactly else torch.allclose(one, other, atol=2e-4, rtol=1e-3)
