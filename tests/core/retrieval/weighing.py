"""Embedders that give token weights too, without a model: in a pass of their own, or both in one."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from memorag_core.protocols import TokenWeights
from memorag_core.retrieval.encoders.encode import Encoded
from memorag_core.retrieval.tokenization import lexical_tokens
from tests.core.retrieval.conftest import HashedWords


class WeighedWords(HashedWords):
    """Weighs each token of a text by how often it is there. Remembers how many texts each call weighed."""

    def __init__(self, dimensions: int = 32, *, name: str = "words") -> None:
        super().__init__(dimensions)
        self.fingerprint: Mapping[str, Any] = {"encoder": name}
        self.weighed: list[int] = []

    def lexical_documents(self, texts: Sequence[str]) -> list[TokenWeights]:
        self.weighed.append(len(texts))
        return [self.lexical_query(text) for text in texts]

    def lexical_query(self, text: str) -> TokenWeights:
        counts = Counter(zlib.crc32(token.encode()) for token in lexical_tokens(text))
        return {token: float(count) for token, count in counts.items()}


class BothAtOnce(WeighedWords):
    """Gives vectors and weights in one pass, as FlagEmbedder does."""

    def __init__(self, dimensions: int = 32, *, name: str = "words") -> None:
        super().__init__(dimensions, name=name)
        self.passes: list[int] = []

    def encode(self, texts: Sequence[str]) -> Encoded:
        self.passes.append(len(texts))
        vectors = np.array([self._vector(text) for text in texts], dtype=np.float32)
        return Encoded(vectors, tuple(self.lexical_query(text) for text in texts))
