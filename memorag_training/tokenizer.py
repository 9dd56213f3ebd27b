"""A small byte-level tokenizer for a memory model trained from scratch.

In: an iterator of texts. Out: a ``tokenizers.Tokenizer``. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

SPECIAL_TOKENS = (
    "<|end|>",
    "<|pad|>",
    "<|ask|>",
    "<|text|>",
    "<|span|>",
    "<|query|>",
    "<|answer|>",
    "<|line|>",
    "<|none|>",
)
"""End of a reply, filler of windows, start of a request, the kinds of reply (continue the text, spans,
surrogate question, draft answer), a new line within a reply, and the reply that nothing is remembered."""


def train_tokenizer(texts: Iterable[str], *, size: int = 2048) -> Any:
    """Train byte-level BPE (arXiv 1909.03341) with runs of white space folded to one space.

    Args:
        texts: the training texts.
        size: entries, special tokens included.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.ByteLevel(add_prefix_space=True), pre_tokenizers.Digits(individual_digits=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    return tokenizer


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json`` as transformers reads them."""
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|end|>",
        pad_token="<|pad|>",
        extra_special_tokens=list(SPECIAL_TOKENS[2:]),
        clean_up_tokenization_spaces=False,
    )
    fast.save_pretrained(folder)
