"""Models whose memory would be wrong are refused by name, with the reason."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, BertModel

from memorag_core.errors import InputError, UnsupportedModelError
from memorag_core.memory.longcontext import LongContextModel
from tests.core.memory.longcontext.conftest import causal_model


@pytest.mark.parametrize(
    ("family", "changes", "reason"),
    [
        ("mamba", {}, "of its 3 layers those that keep keys and values are"),
        ("rwkv", {}, "of its 3 layers"),
        ("bloom", {}, "of its 3 layers"),
        ("gpt_oss", {"num_local_experts": 2}, "s_aux"),
        ("llama4_text", {"attention_chunk_size": 20}, "sees other tokens"),
        ("falcon_h1", {"mamba_d_ssm": 16, "mamba_n_heads": 2, "mamba_d_state": 8}, "logits differ"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "dynamic"),
        ("llama", {"max_position_embeddings": 8}, "max_position_embeddings is 8"),
        ("gemma3_text", {"use_bidirectional_attention": True, "sliding_window": 7}, "sees other tokens"),
    ],
)
def test_a_model_that_works_otherwise_is_refused_by_name(
    family: str, changes: dict[str, Any], reason: str
) -> None:
    model = causal_model(family, **changes)
    with pytest.raises(UnsupportedModelError, match=reason) as refused:
        LongContextModel(model)
    assert repr(family) in str(refused.value)
    assert "Supported are" in str(refused.value)


def test_encoder_decoders_and_models_without_a_head_are_refused() -> None:
    shape = {"d_model": 24, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    config = AutoConfig.for_model("bart", vocab_size=61, **shape, **sizes)
    with pytest.raises(UnsupportedModelError, match="encoder"):
        LongContextModel(AutoModelForSeq2SeqLM.from_config(config))
    bert = AutoConfig.for_model(
        "bert", vocab_size=61, hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    with pytest.raises(UnsupportedModelError, match="logits_to_keep"):
        LongContextModel(BertModel(cast(Any, bert)))
    with pytest.raises(InputError, match="expected a causal language model"):
        LongContextModel(cast(Any, nn.Linear(2, 2)))


class Shifted(nn.Module):
    """A layer that also looks at its input one token before: a state beside keys and values."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        shifted = nn.functional.pad(hidden, (0, 0, 1, 0))[:, :-1]
        return cast(torch.Tensor, self.inner(hidden + 0.1 * shifted))


def test_a_state_that_no_config_tells_of_is_found_by_the_trial() -> None:
    model = causal_model("llama")
    cast(Any, model).model.layers[1].mlp = Shifted(cast(Any, model).model.layers[1].mlp)
    with pytest.raises(UnsupportedModelError, match="logits differ"):
        LongContextModel(model)


def test_a_refused_model_still_works_by_itself() -> None:
    config = AutoConfig.for_model(
        "gpt_oss", vocab_size=61, hidden_size=24, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, head_dim=8, intermediate_size=8, num_local_experts=2, num_experts_per_tok=1,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    ids = torch.arange(10)[None]
    expected = model(ids).logits
    with pytest.raises(UnsupportedModelError):
        LongContextModel(model)
    assert torch.equal(model(ids).logits, expected)
