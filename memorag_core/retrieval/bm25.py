"""The lexical index: BM25 over chunks, which needs no model.

In: chunks, then queries. Out: for each query the chunks that share a word with it, best first, by ordinal
(the chunk's place in the sequence given to ``build``). Does not know of clues, weights or fusion.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import bm25s
import numpy as np
import numpy.typing as npt

from memorag_core.errors import InputError
from memorag_core.retrieval.tokenization import Tokenization, left_out_tokens, lexical_tokens
from memorag_core.system.logs import quiet
from memorag_core.types import Chunk

quiet("bm25s", own=logging.DEBUG)


@dataclass(frozen=True, slots=True, eq=False)
class BM25Index:
    """BM25 weights of every term in every chunk (k1 1.5, b 0.75, the idf that is never negative).

    Immutable after ``build``; searches only read it, so threads may share it. ``tokenization`` is how the
    chunks were cut into tokens, and how every query is.

    Stop words are not in it. The first query that has no other words makes an index of them, which takes
    about as long as building this one did; such queries alone use it.
    """

    size: int
    _terms: _Terms
    _left_out: _LeftOut
    tokenization: Tokenization = "grams"

    @classmethod
    def build(cls, chunks: Sequence[Chunk], *, tokenization: Tokenization = "grams") -> BM25Index:
        """Index the texts of the chunks.

        Args:
            chunks: At least one; their order gives the ordinals.
            tokenization: What ``lexical_tokens`` makes of scripts without spaces, in chunks and queries.

        Raises:
            InputError: No chunks, or an unknown tokenization.
            MissingExtraError: ``"japanese"``, and Sudachi is not installed.
        """
        if not chunks:
            raise InputError("There are no chunks to index; a lexical index needs at least one.")
        texts = tuple(chunk.text for chunk in chunks)
        terms = _Terms.of(lexical_tokens(text, tokenization=tokenization) for text in texts)
        return cls(len(texts), terms, _LeftOut(texts, tokenization), tokenization)

    @property
    def vocabulary(self) -> Mapping[str, int]:
        """The number of every token, in the order in which the chunks bring them up."""
        return self._terms.vocabulary

    def search(self, queries: Sequence[str], k: int) -> list[list[tuple[int, float]]]:
        """Rank the chunks for many queries; a query given twice is scored once.

        Args:
            queries: Texts of any length.
            k: The most chunks to return for each query, at least 1.

        Returns:
            For each query at most ``k`` pairs (ordinal, score), best first, the lowest ordinal first among
            equals. Chunks that share no token with the query score 0 and are left out: their order would mean
            nothing. A query of stop words alone ("Who is it?") is searched by these.

        Raises:
            InputError: ``k`` below 1.
        """
        if k < 1:
            raise InputError(f"k is {k}; a search returns at least one chunk: give k of 1 or more.")
        found = {query: self._ranking(query, k) for query in dict.fromkeys(queries)}
        return [list(found[query]) for query in queries]

    def tells(self, query: str) -> bool:
        """Whether a query has words that say what it is about, and not stop words alone."""
        return bool(lexical_tokens(query, tokenization=self.tokenization))

    def holders(self, token: str) -> npt.NDArray[np.integer[Any]]:
        """The ordinals of the chunks that hold a token, ascending; none for one that is unknown."""
        return self._terms.holders(token)

    def _ranking(self, query: str, k: int) -> list[tuple[int, float]]:
        tokens = lexical_tokens(query, tokenization=self.tokenization)
        return self._terms.ranking(tokens, k) if tokens else self._left_out.ranking(query, k)


@dataclass(frozen=True, slots=True, eq=False)
class _Terms:
    """The weights of terms in texts."""

    vocabulary: dict[str, int]
    scorer: Any  # bm25s.BM25, or None where no text holds a token

    @classmethod
    def of(cls, texts: Iterable[Sequence[str]]) -> _Terms:
        # Term numbers in order of first appearance: a set would order them by a hash that differs between
        # processes.
        vocabulary: dict[str, int] = {}
        rows = [[vocabulary.setdefault(token, len(vocabulary)) for token in tokens] for tokens in texts]
        if not vocabulary:
            return cls(vocabulary, None)
        scorer = bm25s.BM25(method="lucene", k1=1.5, b=0.75, backend="numpy")
        scorer.index((rows, vocabulary), create_empty_token=False, show_progress=False)
        return cls(vocabulary, scorer)

    def ranking(self, tokens: Sequence[str], k: int) -> list[tuple[int, float]]:
        terms = [self.vocabulary[token] for token in tokens if token in self.vocabulary]
        # bm25s' own selection leaves the order of equal scores open, so the selection is made here.
        return best_first(self.scorer.get_scores_from_ids(terms), k) if terms else []

    def holders(self, token: str) -> npt.NDArray[np.integer[Any]]:
        number = self.vocabulary.get(token)
        if number is None:
            return np.zeros(0, dtype=np.int64)
        matrix = self.scorer.scores  # a column for each token, the texts that hold it in order
        return np.asarray(matrix["indices"][matrix["indptr"][number] : matrix["indptr"][number + 1]])


class _LeftOut:
    """The stop words of texts, indexed when they are asked for first.

    Without a lock, which a fork could inherit: threads that ask at once make the same index each.
    """

    __slots__ = ("_terms", "_texts", "_tokenization")

    def __init__(self, texts: Sequence[str], tokenization: Tokenization) -> None:
        self._texts = texts
        self._tokenization: Tokenization = tokenization
        self._terms: _Terms | None = None

    def ranking(self, query: str, k: int) -> list[tuple[int, float]]:
        tokens = left_out_tokens(query, tokenization=self._tokenization)
        if not tokens:
            return []
        terms = self._terms
        if terms is None:
            terms = _Terms.of(left_out_tokens(text, tokenization=self._tokenization) for text in self._texts)
            self._terms = terms
        return terms.ranking(tokens, k)


def best_first(scores: npt.NDArray[np.floating[Any]], k: int) -> list[tuple[int, float]]:
    """The ``k`` highest of scores [N] above 0 as pairs (place, score), the lowest place first of equals."""
    places = np.flatnonzero(scores > 0)
    if len(places) > k:
        least = np.partition(scores[places], -k)[-k]
        places = places[scores[places] >= least]  # every one that ties with the k-th
    order = np.argsort(-scores[places], kind="stable")[:k]
    return [(int(place), float(scores[place])) for place in places[order]]
