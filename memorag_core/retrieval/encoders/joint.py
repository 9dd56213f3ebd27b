"""Vectors and token weights of chunks: in one pass where the encoder makes both at once.

In: chunks and an encoder. Out: unit vectors and token weights, one of each a chunk. Knows no index.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from memorag_core.errors import InputError
from memorag_core.protocols import Embedder, FloatMatrix, LexicalEncoder, TokenWeights
from memorag_core.retrieval.encoders.encode import unit_rows
from memorag_core.system.progress import progress_bar
from memorag_core.types import Chunk


@runtime_checkable
class _Both(Protocol):
    """What gives ``vectors`` and ``weights`` of texts in one pass; ``FlagEmbedder`` does."""

    def encode(self, texts: Sequence[str]) -> Any: ...


def as_lexical_encoder(embedder: Embedder | None) -> LexicalEncoder:
    """The embedder as what gives token weights.

    Raises:
        InputError: It gives none.
    """
    if isinstance(embedder, LexicalEncoder):
        return embedder
    found = "no embedder was given" if embedder is None else f"a {type(embedder).__name__} gives none"
    raise InputError(
        f"Token weights were asked for, and {found}; expected an embedder with lexical_documents, "
        "lexical_query and fingerprint. Give flag_embedder('BAAI/bge-m3'), or a lexical_weight of 0."
    )


def encode_both(
    chunks: Sequence[Chunk], embedder: Embedder, *, batch_size: int = 64, progress: bool | None = None
) -> tuple[FloatMatrix, tuple[TokenWeights, ...]]:
    """Encode chunks, ``batch_size`` texts at a time, to vectors and to token weights.

    Args:
        chunks: At least one.
        embedder: A ``LexicalEncoder`` too; asked once for both where it has ``encode``, as ``FlagEmbedder``.
        batch_size: The most texts handed to it in one call.
        progress: Whether to show a bar; None shows it on terminals.

    Returns:
        [N, E] float32 of rows of length 1, and N mappings.

    Raises:
        InputError: No chunks, a batch size below 1, an embedder without token weights, vectors that cannot
            be, or weights that are not one mapping a chunk.
    """
    if not chunks:
        raise InputError("There are no chunks to encode; expected at least one.")
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; give the texts of one call as 1 or more.")
    encoder = as_lexical_encoder(embedder)
    rows: list[FloatMatrix] = []
    weights: list[TokenWeights] = []
    with progress_bar(len(chunks), "encoding", unit="chunk", shown=progress) as told:
        for start in range(0, len(chunks), batch_size):
            texts = [chunk.text for chunk in chunks[start : start + batch_size]]
            if isinstance(encoder, _Both):
                both = encoder.encode(texts)
                vectors, own = both.vectors, both.weights
            else:
                vectors, own = embedder.embed_documents(texts), encoder.lexical_documents(texts)
            what = f"the chunks from number {start}"
            if len(own) != len(texts):
                raise InputError(
                    f"The encoder gave the weights of {len(own)} texts for {what}; expected {len(texts)}."
                )
            rows.append(unit_rows(vectors, len(texts), what))
            if rows[-1].shape[1] != rows[0].shape[1]:
                raise InputError(
                    f"The embedder gave vectors of {rows[-1].shape[1]} numbers for {what}, but of "
                    f"{rows[0].shape[1]} before; all must have one size."
                )
            weights += own
            told(len(texts))
    return np.concatenate(rows), tuple(weights)
