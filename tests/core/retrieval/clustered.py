"""Vectors that lie as texts do, in clusters, and an embedder that knows queries by number."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from memorag_core.protocols import FloatMatrix
from memorag_core.retrieval.dense import DenseIndex


def clustered(count: int, dimensions: int = 24, *, clusters: int = 20, seed: int = 0) -> FloatMatrix:
    """Unit vectors [count, dimensions] around so many directions."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(clusters, dimensions))
    spread = 0.5 * generator.normal(size=(count, dimensions))
    vectors = centres[generator.integers(clusters, size=count)] + spread
    units: FloatMatrix = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return units


class Numbered:
    """An embedder of queries that are numbers of rows; it encodes no chunks."""

    def __init__(self, vectors: FloatMatrix) -> None:
        self.vectors = vectors

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        raise AssertionError("vectors that are there were to be computed again")

    def embed_query(self, text: str) -> list[float]:
        row: list[float] = self.vectors[int(text)].tolist()
        return row


def numbers(count: int) -> list[str]:
    """Queries for ``Numbered``."""
    return [str(number) for number in range(count)]


def exact(vectors: FloatMatrix, query: FloatMatrix, k: int) -> list[int]:
    """The nearest rows, all compared, the lowest first among equals."""
    cosines = (vectors.astype(np.float64) * query.astype(np.float64)).sum(axis=1)
    return [int(row) for row in np.lexsort((np.arange(len(vectors)), -cosines))[:k]]


def with_added(index: DenseIndex, vectors: FloatMatrix) -> DenseIndex:
    """The index with more chunks at the end."""
    return index.changed(range(index.size + len(vectors)), vectors)


def without(index: DenseIndex, ordinals: Collection[int]) -> DenseIndex:
    """The index without some chunks; those behind them move up."""
    return index.changed(np.delete(np.arange(index.size), list(ordinals)))
