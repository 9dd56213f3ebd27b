"""Encoders and re-rankers of random weights, small enough for any test, in folders as libraries load them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WORDS = "lantern harbour clock mends the a who does it where is captain letter daily mountain tea".split()
POSITIONS = 38
"""The most tokens that the models read: their 40 positions less the 2 that RoBERTa keeps for padding."""


def write_tokenizer(folder: Path) -> None:
    """Whole words, each a token between <s> and </s>; it states no length, as many do not."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
    ).save_pretrained(folder)


def write_encoder(folder: Path, *, heads: bool = True) -> Path:
    """An XLM-RoBERTa as bge-m3 is one, with the linear layers for lexical weights and token vectors."""
    import torch
    from transformers import XLMRobertaModel

    write_tokenizer(folder)
    torch.manual_seed(0)
    XLMRobertaModel(_config(labels=2)).save_pretrained(folder)
    if heads:
        torch.save(torch.nn.Linear(32, 32).state_dict(), folder / "colbert_linear.pt")
        torch.save(torch.nn.Linear(32, 1).state_dict(), folder / "sparse_linear.pt")
    return folder


def write_reranker(folder: Path, *, labels: int = 1) -> Path:
    """An XLM-RoBERTa that gives numbers to pairs of texts, of weights large enough to tell pairs apart."""
    import torch
    from transformers import XLMRobertaForSequenceClassification

    write_tokenizer(folder)
    torch.manual_seed(0)
    model = XLMRobertaForSequenceClassification(_config(labels=labels))
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(8)
    model.save_pretrained(folder)
    return folder


def _config(*, labels: int) -> Any:
    from transformers import XLMRobertaConfig

    config = XLMRobertaConfig(
        vocab_size=4 + len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=POSITIONS + 2,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )
    config.num_labels = labels
    return config
