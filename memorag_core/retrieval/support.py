"""How much of what a text says stands in the chunks: the lexical support of a clue.

In: the lexical index of the chunks, texts. Out: for each text a share from 0 to 1. Reads no chunk again: the
index knows which chunks hold a token. Knows nothing of clues and their kinds.

A statement is held to one passage: its tokens must stand together in one chunk, or in two neighbouring ones,
for a cut may run through it. Tokens weigh as in BM25, so that rare words decide and common ones hardly count.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from memorag_core.retrieval.bm25 import BM25Index
from memorag_core.retrieval.tokenization import lexical_tokens
from memorag_core.types import Chunk

Weights: TypeAlias = npt.NDArray[np.float64]


def lexical_support(sparse: BM25Index, chunks: Sequence[Chunk], texts: Sequence[str]) -> tuple[float, ...]:
    """The share of what each text says that the best single place of the chunks holds.

    What a text says is the summed idf of its different tokens; what a place lacks of it is set against that
    sum and the weight of one unknown word besides. So a text that stands there has 1, whatever its length;
    one unknown word alone has 1/2, for a "no" or a "7" may be right and stand nowhere; and an invented
    sentence of ten such words has 1/11.

    Args:
        sparse: of the chunks.
        chunks: in the same order; neighbours are those of one document that follow each other.
        texts: of any length. One without content tokens says nothing that could be lacking: 1.

    Returns:
        One share for each text, above 0 and at most 1. The cost is that of searching for it.
    """
    found = {text: _support(sparse, chunks, text) for text in dict.fromkeys(texts)}
    return tuple(found[text] for text in texts)


def _support(sparse: BM25Index, chunks: Sequence[Chunk], text: str) -> float:
    tokens = dict.fromkeys(lexical_tokens(text, tokenization=sparse.tokenization))
    if not tokens:
        return 1.0
    held = np.zeros(sparse.size)  # by each chunk
    both = np.zeros(max(sparse.size - 1, 0))  # by a chunk as well as by the next one
    total = 0.0
    for token in tokens:
        ordinals = sparse.holders(token)
        weight = _idf(len(ordinals), sparse.size)
        total += weight
        held[ordinals] += weight
        both[ordinals[:-1][np.diff(ordinals) == 1]] += weight
    best = _best(held, both, chunks)
    return 1.0 - max(total - best, 0.0) / (total + _idf(0, sparse.size))


def _best(held: Weights, both: Weights, chunks: Sequence[Chunk]) -> float:
    """The most that a chunk holds, or two neighbouring ones of the same document."""
    single = float(held.max())
    pairs = held[:-1] + held[1:] - both
    better = np.flatnonzero(pairs > single)
    for place in better[np.argsort(-pairs[better], kind="stable")].tolist():
        if chunks[place].document_id == chunks[place + 1].document_id:
            return float(pairs[place])
    return single


def _idf(holders: int, size: int) -> float:
    """The weight of a token that so many of the chunks hold; that of BM25Index, above 0."""
    return log(1 + (size - holders + 0.5) / (holders + 0.5))
