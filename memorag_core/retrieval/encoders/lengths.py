"""How much of a passage an encoder reads, by its own tokenizer.

In: a tokenizer, a limit, and what the encoder makes of a passage before it reads it. Out: counts, and which
passages are too long. Knows no library but that of the tokenizer, and does not cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from memorag_core.retrieval.encoders.inference import count_tokens, most_tokens

_AT_ONCE = 256
"""Passages counted in one go: enough for the tokenizer's threads, few enough that a question gets between."""


class PassageLengths:
    """Counts the tokens of passages. Threads may share it if the lock is that of all who use the tokenizer.

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
    ) -> None:
        """Hold a tokenizer of transformers, or a bare one, and what to count with it.

        Args:
            tokenizer: Nothing is set in it that stays.
            max_tokens: The limit.
            dressed: Puts in front of a passage what the encoder reads before it.
            lock: Held while the tokenizer is used; None for one that nobody else uses.
        """
        self.max_tokens = max_tokens
        self._tokenizer = tokenizer
        self._dressed = dressed
        self._lock = nullcontext() if lock is None else lock
        special = getattr(tokenizer, "num_special_tokens_to_add", None)
        self._special = int(special(False)) if callable(special) else 0

    def count_tokens(self, text: str) -> int:
        """The tokens of a passage, special ones and what stands before it included, nothing cut off."""
        with self._lock:
            return count_tokens(self._tokenizer, [self._dressed(text)])[0]

    def too_long(self, texts: Sequence[str]) -> dict[int, int]:
        """The places of the passages with more tokens than are read, and how many each has.

        Texts that cannot have so many, whatever the tokenizer makes of them, are not tokenized.
        """
        most = self.max_tokens
        if most is None:
            return {}
        dressed = ((place, self._dressed(text)) for place, text in enumerate(texts))
        asked = [(place, text) for place, text in dressed if most_tokens(text) + self._special > most]
        found: dict[int, int] = {}
        for start in range(0, len(asked), _AT_ONCE):
            some = asked[start : start + _AT_ONCE]
            with self._lock:
                counts = count_tokens(self._tokenizer, [text for _, text in some])
            found |= {place: tokens for (place, _), tokens in zip(some, counts, strict=True) if tokens > most}
        return found
