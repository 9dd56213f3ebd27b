"""Texts to unit vectors, by an embedder of whatever make.

In: chunks and an embedder, or the numbers that one gave. Out: [N, E] float32, every row of length 1, or an
error that says what was encoded. Knows no index.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from memorag_core.errors import InputError
from memorag_core.protocols import Embedder, FloatMatrix
from memorag_core.system.progress import progress_bar
from memorag_core.types import Chunk

_UNIT = 1e-6
"""A vector this near to length 1 is left as it is, so that vectors kept and given back stay the same bits."""

_NORMALISED_AT_ONCE = 4096
"""Rows brought to length 1 together; bounds the float64 copy."""


def encode_chunks(
    chunks: Sequence[Chunk], embedder: Embedder, *, batch_size: int = 64, progress: bool | None = None
) -> FloatMatrix:
    """Encode chunks, ``batch_size`` texts at a time.

    Args:
        chunks: At least one.
        embedder: Any object with ``embed_documents`` and ``embed_query``.
        batch_size: The most texts handed to the embedder in one call.
        progress: Whether to show a bar; None shows it on terminals.

    Returns:
        [N, E] float32, rows of length 1, one a chunk.

    Raises:
        InputError: No chunks, no such embedder, a batch size below 1, or vectors that are missing, of several
            sizes, or not finite.
    """
    if not chunks:
        raise InputError("There are no chunks to encode; a dense index needs at least one.")
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; give the texts of one call as 1 or more.")
    check_embedder(embedder)
    blocks: list[FloatMatrix] = []
    with progress_bar(len(chunks), "encoding", unit="chunk", shown=progress) as told:
        for start in range(0, len(chunks), batch_size):
            texts = [chunk.text for chunk in chunks[start : start + batch_size]]
            block = unit_rows(embedder.embed_documents(texts), len(texts), f"the chunks from number {start}")
            if blocks and block.shape[1] != blocks[0].shape[1]:
                raise InputError(
                    f"The embedder gave vectors of {block.shape[1]} numbers for the chunks from number "
                    f"{start}, but of {blocks[0].shape[1]} before; all must have one size."
                )
            blocks.append(block)
            told(len(texts))
    return np.concatenate(blocks)


def matched(before: Sequence[Chunk], after: Sequence[Chunk]) -> tuple[list[int], list[Chunk]]:
    """Where the vectors of chunks are, by their texts.

    Args:
        before: Chunks that have vectors.
        after: Chunks that need them.

    Returns:
        For each of ``after`` its place, an ordinal of ``before`` or ``len(before) + i`` for the i-th of the
        chunks beside them, whose texts are new and all different. Equal texts take one vector each as long as
        there are, so that a corpus that repeats itself keeps the vectors it has.
    """
    unused: dict[str, list[int]] = {}
    for place in range(len(before) - 1, -1, -1):
        unused.setdefault(before[place].text, []).append(place)
    new: list[Chunk] = []
    places: list[int] = []
    for chunk in after:
        if chunk.text not in unused:
            unused[chunk.text] = [len(before) + len(new)]
            new.append(chunk)
        left = unused[chunk.text]
        places.append(left.pop() if len(left) > 1 else left[0])
    return places, new


def check_embedder(embedder: object) -> None:
    """Refuse what is no embedder."""
    if not isinstance(embedder, Embedder):
        raise InputError(
            f"The embedder is a {type(embedder).__name__} without the methods embed_documents and "
            "embed_query; give an object that has both, such as LangChain's Embeddings."
        )


def unit_rows(raw: Any, rows: int, what: str) -> FloatMatrix:
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
