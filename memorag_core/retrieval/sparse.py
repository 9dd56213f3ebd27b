"""The lexical index: BM25 over chunks, which needs no model.

In: chunks, then queries. Out: for each query the chunks that share a word with it, best first, by ordinal
(the chunk's place in the sequence given to ``build``). Does not know of clues, weights or fusion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import bm25s
import numpy as np

from memorag_core.errors import InputError
from memorag_core.records import Chunk
from memorag_core.retrieval.tokens import lexical_tokens


@dataclass(frozen=True, slots=True, eq=False)
class BM25Index:
    """BM25 weights of every term in every chunk (k1 1.5, b 0.75, the idf that is never negative).

    Immutable after ``build``; searches only read it, so threads may share it.
    """

    size: int
    vocabulary: dict[str, int]
    _scorer: Any  # bm25s.BM25, or None where no chunk holds a token

    @classmethod
    def build(cls, chunks: Sequence[Chunk]) -> BM25Index:
        """Index the texts of the chunks.

        Args:
            chunks: At least one; their order gives the ordinals.

        Raises:
            InputError: No chunks.
        """
        if not chunks:
            raise InputError("There are no chunks to index; a lexical index needs at least one.")
        # Term numbers in order of first appearance: a set would order them by a hash that differs between
        # processes.
        vocabulary: dict[str, int] = {}
        rows = [
            [vocabulary.setdefault(token, len(vocabulary)) for token in lexical_tokens(chunk.text)]
            for chunk in chunks
        ]
        if not vocabulary:
            return cls(len(chunks), vocabulary, None)
        scorer = bm25s.BM25(method="lucene", k1=1.5, b=0.75, backend="numpy")
        scorer.index((rows, vocabulary), create_empty_token=False, show_progress=False)
        return cls(len(chunks), vocabulary, scorer)

    def search(self, queries: Sequence[str], k: int) -> list[list[tuple[int, float]]]:
        """Rank the chunks for many queries; a query given twice is scored once.

        Args:
            queries: Texts of any length.
            k: The most chunks to return for each query, at least 1.

        Returns:
            For each query at most ``k`` pairs (ordinal, score), best first, the lowest ordinal first among
            equals. Chunks that share no token with the query score 0 and are left out: their order would mean
            nothing.

        Raises:
            InputError: ``k`` below 1.
        """
        if k < 1:
            raise InputError(f"k is {k}; a search returns at least one chunk: give k of 1 or more.")
        found = {query: self._ranking(query, k) for query in dict.fromkeys(queries)}
        return [list(found[query]) for query in queries]

    def _ranking(self, query: str, k: int) -> list[tuple[int, float]]:
        terms = [self.vocabulary[token] for token in lexical_tokens(query) if token in self.vocabulary]
        if not terms:
            return []
        # bm25s' own selection leaves the order of equal scores open, so the selection is made here.
        scores = self._scorer.get_scores_from_ids(terms)  # [chunks]
        ordinals = np.flatnonzero(scores > 0)
        if len(ordinals) > k:
            least = np.partition(scores[ordinals], -k)[-k]
            ordinals = ordinals[scores[ordinals] >= least]  # every chunk that ties with the k-th
        order = np.argsort(-scores[ordinals], kind="stable")[:k]
        return [(int(ordinal), float(scores[ordinal])) for ordinal in ordinals[order]]
