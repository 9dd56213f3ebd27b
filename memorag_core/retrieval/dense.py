"""The dense index: inner products of unit vectors, that is cosine similarity, over chunks.

In: chunks and an embedder, or vectors kept from before; then queries. Out: for each query the nearest chunks,
best first, by ordinal. Does not know which encoder made the vectors, nor of clues, weights or fusion.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from tqdm import tqdm

from memorag_core.errors import InputError, MissingExtraError
from memorag_core.protocols import Embedder, FloatMatrix
from memorag_core.records import Chunk

DenseBackend: TypeAlias = Literal["faiss", "numpy"]
"""What searches the vectors. NumPy compares with every vector in Python; it is for places without FAISS."""

_UNIT = 1e-6
"""A vector this near to length 1 is left as it is, so that vectors kept and given back stay the same bits."""

_ROUNDING = 1e-5
"""More than the search in float32 can be off; scores nearer than this may come back in either order."""

_NORMALISED_AT_ONCE = 4096
"""Rows brought to length 1 together; bounds the float64 copy."""


@dataclass(frozen=True, slots=True, eq=False)
class DenseIndex:
    """Unit vectors of the chunks and the embedder that questions are encoded with.

    ``vectors`` is [N, E] float32, one row a chunk, read-only; with them ``from_vectors`` makes the same index
    again without encoding. Searches only read, so threads may share the index where the embedder allows it.
    """

    vectors: FloatMatrix
    embedder: Embedder
    _faiss: Any = None  # faiss.IndexFlatIP, or None for NumPy

    @classmethod
    def build(
        cls,
        chunks: Sequence[Chunk],
        embedder: Embedder,
        *,
        batch_size: int = 64,
        backend: DenseBackend = "faiss",
        progress: bool | None = None,
    ) -> DenseIndex:
        """Encode the chunks, ``batch_size`` texts at a time, and index their vectors.

        Args:
            chunks: At least one; their order gives the ordinals.
            embedder: Any object with ``embed_documents`` and ``embed_query``.
            batch_size: The most texts handed to the embedder in one call, which bounds its memory.
            backend: ``"faiss"``, or ``"numpy"`` to do without it.
            progress: Whether to show a bar; None shows it on terminals.

        Raises:
            InputError: No chunks, no such embedder, a batch size below 1, or vectors that are missing, of
                several sizes, or not finite.
            MissingExtraError: FAISS is wanted and not installed.
        """
        if not chunks:
            raise InputError("There are no chunks to encode; a dense index needs at least one.")
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; give the texts of one call as 1 or more.")
        _check_embedder(embedder)
        _check_backend(backend)  # before the work of encoding, not after
        bar = tqdm(
            total=len(chunks),
            desc="encoding",
            unit="chunk",
            disable=None if progress is None else not progress,
        )
        blocks: list[FloatMatrix] = []
        with bar:
            for start in range(0, len(chunks), batch_size):
                texts = [chunk.text for chunk in chunks[start : start + batch_size]]
                block = _matrix(
                    embedder.embed_documents(texts), len(texts), f"the chunks from number {start}"
                )
                if blocks and block.shape[1] != blocks[0].shape[1]:
                    raise InputError(
                        f"The embedder gave vectors of {block.shape[1]} numbers for the chunks from number "
                        f"{start}, but of {blocks[0].shape[1]} before; all must have one size."
                    )
                blocks.append(block)
                bar.update(len(texts))
        return cls.from_vectors(np.concatenate(blocks), embedder, backend=backend)

    @classmethod
    def from_vectors(
        cls, vectors: FloatMatrix, embedder: Embedder, *, backend: DenseBackend = "faiss"
    ) -> DenseIndex:
        """Index vectors that were made before, without encoding anything.

        Args:
            vectors: [N, E], one row a chunk in the chunks' order; copied and brought to length 1. A row of
                zeros stays one and is equally far from every query.
            embedder: The embedder that made them; questions are encoded with it.
            backend: ``"faiss"``, or ``"numpy"`` to do without it.

        Raises:
            InputError: No vectors, not a matrix, numbers that are not finite, or no such embedder.
            MissingExtraError: FAISS is wanted and not installed.
        """
        _check_embedder(embedder)
        _check_backend(backend)
        matrix = _matrix(vectors, len(vectors), "the chunks")  # [N, E]
        matrix.setflags(write=False)
        if backend == "numpy":
            return cls(matrix, embedder)
        index = _import_faiss().IndexFlatIP(matrix.shape[1])
        index.add(matrix)
        return cls(matrix, embedder, index)

    @property
    def size(self) -> int:
        """How many chunks it holds."""
        return len(self.vectors)

    @property
    def backend(self) -> DenseBackend:
        """What searches the vectors."""
        return "numpy" if self._faiss is None else "faiss"

    def search(self, queries: Sequence[str], k: int) -> list[list[tuple[int, float]]]:
        """Find the nearest chunks for many queries at once; a query given twice is encoded once.

        Args:
            queries: Texts, each encoded by ``embed_query``.
            k: The most chunks to return for each query, at least 1; more than there are gives all.

        Returns:
            For each query the pairs (ordinal, cosine in -1 to 1), best first, the lowest ordinal first among
            equals. A query whose vector is zero points nowhere and finds nothing.

        Raises:
            InputError: ``k`` below 1, or a query vector of another size or with numbers that are not finite.
        """
        if k < 1:
            raise InputError(f"k is {k}; a search returns at least one chunk: give k of 1 or more.")
        texts = list(dict.fromkeys(queries))
        if not texts:
            return []
        rows = np.concatenate([self._encode(text) for text in texts])  # [Q, E]
        directed = np.flatnonzero(rows.any(axis=1))
        rankings = self._nearest(rows[directed], min(k, len(self.vectors)))
        found = {texts[row]: ranking for row, ranking in zip(directed, rankings, strict=True)}
        return [list(found.get(query, ())) for query in queries]

    def _encode(self, query: str) -> FloatMatrix:
        row = _matrix([self.embedder.embed_query(query)], 1, f"the query {query[:60]!r}")  # [1, E]
        if row.shape[1] != self.vectors.shape[1]:
            raise InputError(
                f"The embedder gave a query vector of {row.shape[1]} numbers, but the chunks' vectors have "
                f"{self.vectors.shape[1]}: give the embedder that the index was built with, or build anew."
            )
        return row

    def _nearest(self, rows: FloatMatrix, k: int) -> list[list[tuple[int, float]]]:
        """The k nearest of each row, exactly scored; goes deeper where rounding could have hidden a tie."""
        rankings: list[list[tuple[int, float]]] = [[] for _ in rows]
        pending = np.arange(len(rows))
        depth = min(2 * k, len(self.vectors))
        while len(pending):
            unsure: list[int] = []
            for row, candidates in zip(pending, self._candidates(rows[pending], depth), strict=True):
                scored = self._scored(rows[row], candidates)
                rankings[row] = scored[:k]
                if depth < len(self.vectors) and scored[k - 1][1] - scored[-1][1] <= _ROUNDING:
                    unsure.append(int(row))
            pending = np.array(unsure, dtype=np.int64)
            depth = min(4 * depth, len(self.vectors))
        return rankings

    def _candidates(self, rows: FloatMatrix, depth: int) -> Iterator[Any]:
        """For each row the ordinals [depth] of about the nearest chunks, in no order to rely on."""
        if self._faiss is not None:
            yield from self._faiss.search(rows, depth)[1]
            return
        for row in rows:
            yield np.argpartition(self.vectors @ row, -depth)[-depth:]

    def _scored(self, row: FloatMatrix, candidates: Any) -> list[tuple[int, float]]:
        """Cosines summed row by row in float64: equal vectors get equal scores, alone or in a batch."""
        products = self.vectors[candidates].astype(np.float64) * row.astype(np.float64)  # [depth, E]
        cosines = np.clip(products.sum(axis=1), -1.0, 1.0)
        order = np.lexsort((candidates, -cosines))
        return [(int(candidates[place]), float(cosines[place])) for place in order]


def _check_embedder(embedder: object) -> None:
    if not isinstance(embedder, Embedder):
        raise InputError(
            f"The embedder is a {type(embedder).__name__} without the methods embed_documents and "
            "embed_query; give an object that has both, such as LangChain's Embeddings."
        )


def _check_backend(backend: DenseBackend) -> None:
    if backend not in ("faiss", "numpy"):
        raise InputError(f"The dense backend is {backend!r}; the backends are 'faiss' and 'numpy'.")
    if backend == "faiss":
        _import_faiss()


def _import_faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError("faiss-cpu", "cpu", "Dense retrieval") from error
    return faiss


def _matrix(raw: Any, rows: int, what: str) -> FloatMatrix:
    """The answer of an embedder as new unit rows [rows, E]; ``what`` says in errors what was encoded."""
    try:
        given = np.asarray(raw)
        numeric = given.dtype.kind in "fiu"
    except ValueError:  # rows of different lengths
        numeric = False
    if not numeric or given.ndim != 2 or given.shape[0] != rows or 0 in given.shape:
        found = f"an array of shape {given.shape}" if numeric else "rows that make no matrix of numbers"
        raise InputError(
            f"The vectors of {what} are {found}; expected {rows} rows of numbers, "
            "all of one length, at least one."
        )
    matrix = np.empty(given.shape, dtype=np.float32)
    for start in range(0, rows, _NORMALISED_AT_ONCE):
        block = given[start : start + _NORMALISED_AT_ONCE].astype(np.float64)  # squares of float32 fit
        with np.errstate(over="ignore"):  # seen below
            lengths = np.linalg.norm(block, axis=1, keepdims=True)
        finite = np.isfinite(lengths[:, 0])
        if not finite.all():
            raise InputError(
                f"The vectors of {what} hold NaN, infinity or numbers too large in row "
                f"{start + int(np.argmin(finite))}; expected finite numbers. A text longer than the encoder "
                "reads, or half precision, may be the cause."
            )
        lengths[(lengths == 0) | (np.abs(lengths - 1) <= _UNIT)] = 1
        matrix[start : start + _NORMALISED_AT_ONCE] = block / lengths
    return matrix
