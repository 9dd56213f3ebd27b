"""What the retrieval tests stand on: an embedder that really embeds, chunks from texts, drawn texts."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, cast

from hypothesis import strategies as st

from memorag_core.protocols import Embedder, LearnedSparseEncoder
from memorag_core.retrieval.dense import DenseIndex
from memorag_core.retrieval.encoders.encode import encode_chunks
from memorag_core.retrieval.learned_sparse import LearnedSparseIndex
from memorag_core.retrieval.tokenization import lexical_tokens
from memorag_core.types import Chunk


class HashedWords:
    """An embedder of hashed word counts: deterministic, no model. Remembers how many texts each call held."""

    def __init__(self, dimensions: int = 32) -> None:
        self.dimensions = dimensions
        self.calls: list[int] = []
        self.queries = 0

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.calls.append(len(texts))
        return [self._vector(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        self.queries += 1
        return self._vector(text)

    def _vector(self, text: str) -> list[float]:
        vector = [0.0] * self.dimensions
        for token in lexical_tokens(text):
            number = zlib.crc32(token.encode())
            vector[number % self.dimensions] += 1.0 if number & 1024 else -1.0
        return vector


class FixedVectors:
    """An embedder that answers from a table; a text that is not in it raises KeyError."""

    def __init__(self, table: dict[str, list[float]]) -> None:
        self.table = table

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.table[text] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.table[text]


def chunks_of(texts: Sequence[str]) -> tuple[Chunk, ...]:
    """One chunk a text, each with its place in the joined document."""
    chunks: list[Chunk] = []
    start = 0
    for text in texts:
        chunks.append(Chunk(f"0:{start}-{start + len(text)}", text, "0", start, start + len(text)))
        start += len(text)
    return tuple(chunks)


def dense_of(chunks: Sequence[Chunk], embedder: object, *, batch_size: int = 64, **given: Any) -> DenseIndex:
    """The dense index of chunks that are encoded now."""
    vectors = encode_chunks(chunks, embedder, batch_size=batch_size, progress=False).vectors
    return DenseIndex.from_vectors(vectors, cast(Embedder, embedder), **given)


def weighed(
    chunks: Sequence[Chunk], encoder: LearnedSparseEncoder, *, batch_size: int = 64
) -> LearnedSparseIndex:
    """The learned sparse index of chunks that are encoded now."""
    encoded = encode_chunks(
        chunks, encoder, vectors=False, weights=True, batch_size=batch_size, progress=False
    )
    return LearnedSparseIndex.from_weights(encoded.weights, encoder)


_WORDS = (
    "lantern",
    "lanterns",
    "mends",
    "the",
    "harbour",
    "clock",
    "灯笼",
    "修理",
    "港口",
    "ランプ",
    "фонарь",
    "!",
)
sentences = st.lists(st.sampled_from(_WORDS), max_size=5).map(" ".join)
"""Short texts over few words, so that matches, ties, empty texts and mixed scripts are all common."""

corpora = st.lists(sentences, min_size=1, max_size=12)
