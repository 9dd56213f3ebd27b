"""How much of a passage an encoder reads, by its own tokenizer.

In: a model, its tokenizer, and what the encoder makes of a passage before it reads it. Out: limits, counts,
and which passages are too long. Knows no library but that of the tokenizer, and does not cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import Any

from memorag_core.errors import InputError

_AT_ONCE = 256
"""Passages counted in one go: enough for the tokenizer's threads, few enough that a question gets between."""

_EXPANSION = 16
"""Bytes of a normal form for each byte of a character but the first; all of Unicode keeps to it."""

_NO_LIMIT = 10**9
"""Tokenizers without a length say 10^30, static models infinity; nothing that reads has so many positions."""


class PassageLengths:
    """Counts the tokens of passages. Threads may share it if the lock is that of all who use the tokenizer.

    Encoders that run here are subclasses, and so tell how much they read.

    Attributes:
        max_tokens: The most tokens of a passage that are read, special ones included; None for no limit.
    """

    max_tokens: int | None

    def __init__(
        self,
        tokenizer: Any,
        max_tokens: int | None,
        *,
        dressed: Callable[[str], str],
        lock: AbstractContextManager[object] | None = None,
        copied: bool = False,
    ) -> None:
        """Hold a tokenizer of transformers, or a bare one, and what to count with it.

        Args:
            tokenizer: Nothing is set in it that stays.
            max_tokens: The limit.
            dressed: Puts in front of a passage what the encoder reads before it.
            lock: Held while the tokenizer is used; None for one that nobody else uses.
            copied: Whether to count by a copy, for a tokenizer that others use without the lock. It is made
                when it is first needed, because copying takes a while.
        """
        self.max_tokens = max_tokens
        self._tokenizer = tokenizer
        self._to_copy = copied
        self._special: int | None = None
        self._dressed = dressed
        self._lock = nullcontext() if lock is None else lock

    def _counter(self) -> Any:
        """The tokenizer to count by; for who holds the lock."""
        if self._to_copy:
            self._tokenizer, self._to_copy = deepcopy(self._tokenizer), False
        return self._tokenizer

    def _special_tokens(self) -> int:
        if self._special is None:
            with self._lock:
                special = getattr(self._counter(), "num_special_tokens_to_add", None)
                self._special = int(special(False)) if callable(special) else 0
        return self._special

    def count_tokens(self, text: str) -> int:
        """The tokens of a passage, special ones and what stands before it included, nothing cut off."""
        with self._lock:
            return _counts(self._counter(), [self._dressed(text)])[0]

    def too_long(self, texts: Sequence[str]) -> dict[int, int]:
        """The places of the passages with more tokens than are read, and how many each has.

        Texts that cannot have so many, whatever the tokenizer makes of them, are not tokenized.
        """
        most = self.max_tokens
        if most is None:
            return {}
        special = self._special_tokens()
        dressed = ((place, self._dressed(text)) for place, text in enumerate(texts))
        asked = [(place, text) for place, text in dressed if most_tokens(text) + special > most]
        found: dict[int, int] = {}
        for start in range(0, len(asked), _AT_ONCE):
            some = asked[start : start + _AT_ONCE]
            with self._lock:
                counts = _counts(self._counter(), [text for _, text in some])
            found |= {place: tokens for (place, _), tokens in zip(some, counts, strict=True) if tokens > most}
        return found


def read_limit(model: Any, tokenizer: Any, *, wanted: int | None) -> int | None:
    """The most tokens of a text that an encoder reads, special ones included; None for no limit.

    Args:
        model: A module of torch. Its learned positions count, less those that RoBERTa keeps for padding;
            without any, what its configuration says; and its ``max_seq_length``, if it has one.
        tokenizer: Its tokenizer, whose own limit counts too, if it has one.
        wanted: A lower limit that was asked for, or None.

    Raises:
        InputError: ``wanted`` is below 1, no whole number, or more than the model reads.
    """
    own = (getattr(model, "max_seq_length", None), getattr(tokenizer, "model_max_length", None))
    limits = [_positions(model), *own]
    known = [int(limit) for limit in limits if isinstance(limit, int | float) and 0 < limit < _NO_LIMIT]
    most = min(known, default=None)
    if wanted is None:
        return most
    if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 1:
        raise InputError(f"max_tokens is {wanted!r}; expected a whole number of 1 or more, or None for all.")
    if most is not None and wanted > most:
        raise InputError(
            f"max_tokens is {wanted}, but the model reads {most} tokens at most: give that or less, or None."
        )
    return wanted


def _positions(model: Any) -> int | None:
    for module in model.modules():
        table = getattr(module, "position_embeddings", None)
        count = getattr(table, "num_embeddings", None)
        if isinstance(count, int):
            padding = getattr(module, "padding_idx", None)  # RoBERTa counts positions from behind it
            return count - (padding + 1 if isinstance(padding, int) else 0)
    said = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    return said if isinstance(said, int) else None


def _counts(tokenizer: Any, texts: Sequence[str]) -> list[int]:
    """The tokens of each text with the special tokens that the encoder adds, nothing cut off.

    Args:
        tokenizer: One of transformers, or a bare ``tokenizers.Tokenizer`` as static models have.
        texts: At least one.
    """
    if callable(tokenizer):
        asked = {"return_attention_mask": False, "return_token_type_ids": False, "verbose": False}
        found = tokenizer(list(texts), truncation=False, padding=False, **asked)["input_ids"]
        return [len(ids) for ids in found]
    return [len(found.ids) for found in tokenizer.encode_batch(list(texts), add_special_tokens=False)]


def most_tokens(text: str) -> int:
    """More tokens than any tokenizer makes of a text, special ones aside; found without one.

    A token stands for a byte or more of the text in a normal form; and where beginnings of words are marked,
    a mark may be a token. ASCII is its own normal form. Of other characters the normal forms, in lower case,
    have at most 16 bytes for each byte but the first ("\ufdfa" has 3 and becomes 33).
    """
    return 2 * (len(text) + _EXPANSION * (len(text.encode()) - len(text))) + 2
