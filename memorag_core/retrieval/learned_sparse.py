"""The learned sparse index: passages and queries as weights of tokens, such as bge-m3's.

In: weights by token id, of chunks and then of queries, from an encoder. Out: for each query the chunks that
share a token with it, best first, by ordinal. Does not know which model gave the weights, nor how a token is
spelled.

Chen et al., "BGE M3-Embedding", 2024, section 3.3: the score is the sum over the tokens that query and
passage share of the product of their weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from memorag_core.errors import InputError, StoreError
from memorag_core.protocols import LearnedSparseEncoder, TokenWeights
from memorag_core.retrieval.bm25 import best_first
from memorag_core.retrieval.encoders.encode import check_sparse_encoder


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """The weights of N texts, one text after the other."""

    counts: npt.NDArray[np.int64]  # [N] tokens of each
    tokens: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class LearnedSparseIndex:
    """For each token the chunks that hold it, with their weights: an inverted index in four arrays.

    Immutable; searches only read it, so threads may share it where the encoder allows it.

    Attributes:
        size: How many chunks it is of.
        encoder: Gives the weights of queries.
        tokens: [T] int64, the token ids that occur, ascending.
        starts: [T + 1] int64; the postings of ``tokens[t]`` are ``starts[t]`` to ``starts[t + 1]``.
        ordinals: [P] int32, the chunk of each posting, ascending within a token.
        weights: [P] float32, above 0.
    """

    size: int
    encoder: LearnedSparseEncoder
    tokens: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    ordinals: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]

    @classmethod
    def from_weights(
        cls, weights: Sequence[TokenWeights], encoder: LearnedSparseEncoder
    ) -> LearnedSparseIndex:
        """Index weights of chunks, such as ``encode_chunks`` makes.

        Args:
            weights: Of each chunk, in the chunks' order, at least one. Weights of 0 are left out.
            encoder: The one that made them.

        Raises:
            InputError: No chunks, no such encoder, or a weight that is negative or not finite.
        """
        if not weights:
            raise InputError("There are no weights to index; an index needs at least one chunk.")
        check_sparse_encoder(encoder)
        return cls._of(_rows(weights), encoder)

    @classmethod
    def _of(cls, rows: _Rows, encoder: LearnedSparseEncoder) -> LearnedSparseIndex:
        above = rows.weights > 0  # of float32, in which tiny weights are 0
        size = len(rows.counts)
        ordinals = np.repeat(np.arange(size, dtype=np.int32), rows.counts)[above]
        order = np.lexsort((ordinals, rows.tokens[above]))
        tokens, first = np.unique(rows.tokens[above][order], return_index=True)
        starts = np.append(first, len(order)).astype(np.int64)
        return cls(size, encoder, *_frozen(tokens, starts, ordinals[order], rows.weights[above][order]))

    def changed(self, places: Sequence[int], added: Sequence[TokenWeights] = ()) -> LearnedSparseIndex:
        """The index of other chunks, most of them from this one.

        Args:
            places: For each chunk, in the order of the new ordinals, where its weights are: an ordinal of
                this index, or ``size + i`` for ``added[i]``. A place may come several times or not at all.
            added: Weights of new texts, from the same encoder.

        Raises:
            InputError: No places, one that there is not, or a weight that cannot be.
        """
        new = _rows(added)
        wanted = np.asarray(places, dtype=np.int64)
        known = self.size + len(added)
        if not len(wanted) or not 0 <= wanted.min() <= wanted.max() < known:
            raise InputError(
                f"The places of {len(wanted)} chunks were given; expected one chunk or more, each place from "
                f"0 to {known - 1}."
            )
        order = np.argsort(self.ordinals, kind="stable")  # by chunk, its tokens ascending
        tokens = np.concatenate([np.repeat(self.tokens, np.diff(self.starts))[order], new.tokens])
        weights = np.concatenate([self.weights[order], new.weights])
        counts = np.concatenate([np.bincount(self.ordinals, minlength=self.size), new.counts])
        ends = np.cumsum(counts)
        lengths = counts[wanted]
        # Of every posting its place in the old order: the start of its chunk, and how far it is from there.
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        taken = np.repeat(ends[wanted] - lengths, lengths) + within
        return self._of(_Rows(lengths, tokens[taken], weights[taken]), self.encoder)

    def search(self, queries: Sequence[str], k: int) -> list[list[tuple[int, float]]]:
        """Rank the chunks for many queries; a query given twice is encoded once.

        Args:
            queries: Texts of any length.
            k: The most chunks to return for each query, at least 1.

        Returns:
            For each query at most ``k`` pairs (ordinal, score), best first, the lowest ordinal first among
            equals. Chunks that share no token with the query are left out.

        Raises:
            InputError: ``k`` below 1, or a query with a weight that is negative or not finite.
        """
        if k < 1:
            raise InputError(f"k is {k}; a search returns at least one chunk: give k of 1 or more.")
        found = {query: best_first(self._scores(query), k) for query in dict.fromkeys(queries)}
        return [list(found[query]) for query in queries]

    def pack(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """The index as (arrays by name, JSON-able header), for a store."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        return arrays, {"size": self.size, "encoder": dict(self.encoder.fingerprint)}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Any], header: Mapping[str, Any], encoder: LearnedSparseEncoder
    ) -> LearnedSparseIndex:
        """The inverse of ``pack``: the same index, without encoding.

        Args:
            arrays: As ``pack`` gave them.
            header: As ``pack`` gave it, by way of JSON too.
            encoder: The one that the index was built with, by its fingerprint.

        Raises:
            InputError: No such encoder.
            StoreError: Another encoder, or arrays that make no index.
        """
        check_sparse_encoder(encoder)
        saved, given = header.get("encoder") or {}, dict(encoder.fingerprint)
        if saved != given:
            raise StoreError(
                f"The lexical weights were made by {saved}, but the encoder is {given}: give that encoder, "
                "or index the chunks again."
            )
        size = header.get("size")
        if set(arrays) != set(_ARRAYS) or type(size) is not int or size < 1:
            raise StoreError(
                f"Found the arrays {', '.join(sorted(arrays)) or 'none'} of {size!r} chunks; expected "
                f"{', '.join(_ARRAYS)} of one chunk or more. Index the chunks again."
            )
        read = {name: np.asarray(arrays[name]) for name in _ARRAYS}
        wrong = [name for name, kind in _ARRAYS.items() if read[name].dtype != kind or read[name].ndim != 1]
        if wrong or not _is_index(size, **read):
            raise StoreError(
                "The arrays of the learned sparse index do not fit together (of a wrong kind: "
                f"{', '.join(wrong) or 'none'}; lengths "
                f"{', '.join(f'{name} {read[name].size}' for name in _ARRAYS)}). Index the chunks again."
            )
        return cls(size, encoder, *_frozen(*(np.array(read[name]) for name in _ARRAYS)))

    def _scores(self, query: str) -> npt.NDArray[np.float64]:
        """[size]; summed in float64 by ascending token, so that equal chunks have equal scores."""
        scores = np.zeros(self.size, dtype=np.float64)
        asked = self.encoder.lexical_query(query)
        ids = np.array(sorted(asked), dtype=np.int64)
        for token, place in zip(ids.tolist(), np.searchsorted(self.tokens, ids).tolist(), strict=True):
            weight = _checked(asked[token], f"the query {query[:60]!r}")
            if place < len(self.tokens) and self.tokens[place] == token:
                held = slice(int(self.starts[place]), int(self.starts[place + 1]))
                scores[self.ordinals[held]] += weight * self.weights[held].astype(np.float64)
        return scores


def _rows(weights: Sequence[TokenWeights]) -> _Rows:
    checked = [
        _checked(weight, f"chunk {ordinal}")
        for ordinal, of_chunk in enumerate(weights)
        for weight in of_chunk.values()
    ]
    tokens = [token for of_chunk in weights for token in of_chunk]
    return _Rows(
        np.array([len(of_chunk) for of_chunk in weights], dtype=np.int64),
        np.array(tokens, dtype=np.int64),
        np.array(checked, dtype=np.float32),
    )


_MOST = 1e30
"""Far above what encoders give, and far enough below the largest float32."""

_ARRAYS = {"tokens": np.int64, "starts": np.int64, "ordinals": np.int32, "weights": np.float32}


def _is_index(
    size: int,
    *,
    tokens: npt.NDArray[Any],
    starts: npt.NDArray[Any],
    ordinals: npt.NDArray[Any],
    weights: npt.NDArray[Any],
) -> bool:
    """Whether every search in these arrays stays inside them and finds each chunk once."""
    if len(starts) != len(tokens) + 1 or len(ordinals) != len(weights):
        return False
    if starts[0] != 0 or starts[-1] != len(ordinals) or (np.diff(starts) < 1).any():
        return False
    inside = ((ordinals >= 0) & (ordinals < size)).all() and (np.diff(tokens) > 0).all()
    within = np.ones(len(ordinals), dtype=bool)
    within[starts[:-1]] = False  # the first posting of a token may be of an earlier chunk than the last one
    rising = (np.diff(ordinals, prepend=-1) > 0)[within].all()
    return bool(inside and rising and np.isfinite(weights).all() and (weights > 0).all())


def _frozen(*arrays: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], ...]:
    for array in arrays:
        array.setflags(write=False)
    return arrays


def _checked(weight: float, what: str) -> float:
    if not 0 <= weight <= _MOST:
        raise InputError(
            f"A lexical weight of {what} is {weight}; expected a number from 0 to {_MOST:.0e}. "
            "Half precision may be the cause."
        )
    return weight
