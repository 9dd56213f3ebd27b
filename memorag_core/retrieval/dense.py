"""The dense index: inner products of unit vectors, that is cosine similarity, over chunks.

In: vectors and the embedder that made them; then queries. Out: for each query the nearest chunks,
best first, by ordinal. Does not know which encoder made the vectors, nor of clues, weights or fusion.

An index is a value. One with other chunks has a matrix of its own, but where a structure searches the vectors
it keeps that of the index before: vectors of new chunks stand ``beside`` it and are compared one by one, rows
of it that no chunk has any more are passed over. When either are more than their share, they are folded into
a new structure. FAISS can delete from lists but not from a graph, and changes an index in place: so both are
done here, for all kinds alike.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from memorag_core.errors import InputError, MissingExtraError, StoreError
from memorag_core.protocols import Embedder, FloatMatrix
from memorag_core.retrieval.encoders.encode import check_embedder, unit_rows
from memorag_core.retrieval.nearest_neighbours import (
    REMEDY,
    DenseBackend,
    Rows,
    Structure,
    VectorSettings,
    fits,
    import_faiss,
    nearest_rows,
)

Numbers: TypeAlias = Sequence[int] | npt.NDArray[np.integer[Any]]
"""Whole numbers, one for each chunk."""

_DEFAULTS = VectorSettings()

_ROUNDING = 1e-5
"""More than the search in float32 can be off; scores nearer than this may come back in either order."""

_SHALLOWEST = 16
"""The fewest candidates that are scored again: the 8-bit copies put the nearest few in a wrong order."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class DenseIndex:
    """Unit vectors of the chunks and the embedder that questions are encoded with.

    Make it by ``from_vectors``, and the next one by ``changed``: no vector is computed again, and this one
    goes on to answer as before. Searches only read, so threads may share it where the embedder allows it.

    Attributes:
        embedder: Encodes questions.
        settings: How vectors are searched and kept.
        backend: What searches the vectors, "faiss" or "numpy".
        vectors: [N, E] float32, one unit row a chunk, read-only; ``from_vectors`` makes an index of them
            again.
    """

    embedder: Embedder
    settings: VectorSettings
    backend: DenseBackend
    vectors: FloatMatrix
    _structure: Structure | None  # None compares all vectors
    _places: Rows  # [S] of each row of the structure its chunk, -1 where none has it
    _beside: Rows = field(init=False, repr=False)  # [T] the chunks that are in no row of the structure
    _tail: FloatMatrix = field(init=False, repr=False)  # [T, E] their vectors

    def __post_init__(self) -> None:
        inside = np.zeros(self.size, dtype=bool)
        inside[self._places[self._places >= 0]] = True
        beside = np.flatnonzero(~inside) if self._structure is not None else np.arange(0)
        object.__setattr__(self, "_beside", beside)
        object.__setattr__(self, "_tail", self.vectors[beside])
        for array in (self.vectors, self._places):
            array.setflags(write=False)

    @classmethod
    def from_vectors(
        cls,
        vectors: FloatMatrix,
        embedder: Embedder,
        *,
        backend: DenseBackend = "auto",
        settings: VectorSettings = _DEFAULTS,
    ) -> DenseIndex:
        """Index vectors of chunks, such as ``encode_chunks`` makes.

        Args:
            vectors: [N, E], one row a chunk in the chunks' order; copied and brought to length 1. A row of
                zeros stays one and is equally far from every query.
            embedder: The embedder that made them; questions are encoded with it.
            backend: What searches: FAISS, or NumPy where that is not installed ("auto"), or one of the two.
            settings: How.

        Raises:
            InputError: No vectors, not a matrix, numbers that are not finite, no such embedder, or a kind
                that the backend does not have.
            MissingExtraError: FAISS is wanted and not installed.
        """
        check_embedder(embedder)
        uses_faiss(backend, settings)
        return cls._of_units(unit_rows(vectors, len(vectors), "the chunks"), embedder, backend, settings)

    @classmethod
    def _of_units(
        cls, matrix: FloatMatrix, embedder: Embedder, backend: DenseBackend, settings: VectorSettings
    ) -> DenseIndex:
        """Of unit rows that nobody else writes to."""
        kind = settings.kind_for(len(matrix))
        if not uses_faiss(backend, settings):
            if backend == "auto" and kind != "flat":
                _hint()
            return cls(embedder, settings, "numpy", matrix, None, np.arange(0))
        structure = Structure.build(matrix, kind, settings)
        places = np.arange(0 if structure is None else len(matrix))
        return cls(embedder, settings, "faiss", matrix, structure, places)

    @property
    def size(self) -> int:
        """How many chunks it holds."""
        return len(self.vectors)

    @property
    def dimensions(self) -> int:
        """Numbers of a vector, E."""
        return int(self.vectors.shape[1])

    @property
    def kind(self) -> str:
        """How the vectors are searched: "flat", "hnsw" or "ivf"."""
        return "flat" if self._structure is None else self._structure.kind

    def changed(self, places: Numbers, added: FloatMatrix | None = None) -> DenseIndex:
        """The index of other chunks, most of them from this one; no structure is built for a small change.

        Args:
            places: For each chunk, in the order of the new ordinals, where its vector is: an ordinal of this
                index, or ``size + i`` for row ``i`` of ``added``. A place may come several times, as equal
                texts do; vectors without a place are left out.
            added: [A, E] vectors of new texts, of any length; None for none.

        Returns:
            An index that finds what one made of those vectors afresh finds, exactly where it is flat.

        Raises:
            InputError: No places, one that there is not, or vectors that do not fit.
        """
        known = self.vectors
        if added is not None and len(added):
            new = unit_rows(added, len(added), "the added chunks")
            if new.shape[1] != self.dimensions:
                raise InputError(
                    f"The added vectors have {new.shape[1]} numbers, but the index has {self.dimensions}: "
                    "make them with the index's embedder, or build anew."
                )
            known = np.concatenate([known, new])
        wanted = _whole(places, len(known), "The places")
        if not len(wanted):
            raise InputError("No chunks would be left; a dense index needs at least one. Drop the index.")
        vectors = known if np.array_equal(wanted, np.arange(len(known))) else known[wanted]
        old = self._structure
        if old is None:
            return self._of_units(vectors, self.embedder, self.backend, self.settings)
        # A row belongs to one chunk: what comes again stands beside the structure.
        first = np.full(len(known), -1)
        first[wanted[::-1]] = np.arange(len(wanted))[::-1]
        rows = np.where(self._places >= 0, first[self._places], -1)
        index = DenseIndex(self.embedder, self.settings, self.backend, vectors, old, rows)
        too_many_dead = np.count_nonzero(rows < 0) > self.settings.dead_share * len(rows)
        if not too_many_dead and len(index._beside) <= self.settings.tail_share * index.size:
            return index
        kind = self.settings.kind_for(index.size)
        if too_many_dead or not old.grows or old.kind != kind or old.outgrown(index.size):
            return self._of_units(vectors, self.embedder, self.backend, self.settings)
        grown, rows = old.extended(index._tail), np.concatenate([rows, index._beside])
        return DenseIndex(self.embedder, self.settings, self.backend, vectors, grown, rows)

    def pack(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """The index as (arrays by name, JSON-able header), for a store.

        ``vectors`` [N, E] float32, one unit row a chunk, is all that a flat index needs. With "hnsw" and
        "ivf" come ``structure`` [bytes] uint8, in FAISS's own format, which stays the same until a fold, and
        ``places`` [S] int64, for each row in it its ordinal or -1. ``grows`` in the header says to the store
        that the vectors grow at their end.
        """
        arrays: dict[str, npt.NDArray[Any]] = {"vectors": self.vectors}
        header: dict[str, Any] = {"grows": {"vectors": 0}, "vectors_sha256": _sha256_of(self.vectors)}
        if self._structure is not None and self._structure.grows:
            arrays["structure"] = self._structure.to_bytes()
            arrays["places"] = self._places
            header["structure"] = self._structure.header()
        return arrays, header

    @classmethod
    def unpack(
        cls,
        arrays: Mapping[str, npt.NDArray[Any]],
        header: Mapping[str, Any],
        embedder: Embedder,
        *,
        backend: DenseBackend = "auto",
        settings: VectorSettings = _DEFAULTS,
    ) -> DenseIndex:
        """The inverse of ``pack``; vectors are shared, not copied.

        A structure that the settings would have built otherwise is built anew from the vectors; so it is used
        only where ``settings.kind`` is its kind or "auto", and FAISS searches.

        Args:
            arrays: What ``pack`` gave; nobody may write to them any more.
            header: Likewise.
            embedder: The embedder that made the vectors.
            backend: As in ``from_vectors``.
            settings: As in ``from_vectors``.

        Raises:
            StoreError: Arrays that are missing, are not those that were packed, or do not fit each other.
            InputError: No such embedder, or a kind that the backend does not have.
            MissingExtraError: FAISS is wanted and not installed.
        """
        check_embedder(embedder)
        with_faiss = uses_faiss(backend, settings)
        vectors = _stored_vectors(arrays, header)
        about = header.get("structure")
        if not isinstance(about, Mapping | None):
            raise StoreError(f"The header's structure is {about!r:.80}; expected an object. {REMEDY}")
        if about is None or not with_faiss or not fits(about, settings):
            return cls._of_units(vectors, embedder, backend, settings)
        if "structure" not in arrays or "places" not in arrays:
            raise StoreError(
                f"The structure over the vectors, or the places of its rows, is missing. {REMEDY}"
            )
        structure = Structure.parse(arrays["structure"], about, settings)
        places = _stored_places(arrays["places"], structure, vectors)
        return cls(embedder, settings, "faiss", vectors, structure, places)

    def search(self, queries: Sequence[str], k: int) -> list[list[tuple[int, float]]]:
        """Find the nearest chunks for many queries at once; a query given twice is encoded once.

        Args:
            queries: Texts, each encoded by ``embed_query``.
            k: The most chunks to return for each query, at least 1; more than there are gives all.

        Returns:
            For each query the ``k`` pairs (ordinal, cosine in -1 to 1), best first, the lowest ordinal first
            among equals. A query whose vector is zero points nowhere and finds nothing. The cosines are exact
            of every kind; "hnsw" and "ivf" may miss some of the nearest, but always give ``k``.

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
        rankings = self._nearest(rows[directed], min(k, self.size))
        found = {texts[row]: ranking for row, ranking in zip(directed, rankings, strict=True)}
        return [list(found.get(query, ())) for query in queries]

    def _encode(self, query: str) -> FloatMatrix:
        row = unit_rows([self.embedder.embed_query(query)], 1, f"the query {query[:60]!r}")  # [1, E]
        if row.shape[1] != self.dimensions:
            raise InputError(
                f"The embedder gave a query vector of {row.shape[1]} numbers, but the chunks' vectors have "
                f"{self.dimensions}: give the embedder that the index was built with, or build anew."
            )
        return row

    def _nearest(self, queries: FloatMatrix, k: int) -> list[list[tuple[int, float]]]:
        """The k nearest of each query, exactly scored.

        It goes deeper where dead rows took the places, or where rounding could have hidden a tie.
        """
        rankings: list[list[tuple[int, float]]] = [[] for _ in queries]
        pending = np.arange(len(queries))
        depth, effort = max(2 * k, _SHALLOWEST), 1
        while len(pending):
            unsure: list[int] = []
            for number, parts in zip(
                pending.tolist(), self._candidates(queries[pending], depth, effort), strict=True
            ):
                rankings[number], sure = self._ranked(queries[number], parts, k)
                if not sure:
                    unsure.append(number)
            pending = np.array(unsure, dtype=np.int64)
            depth, effort = 4 * depth, 4 * effort
        return rankings

    def _candidates(self, queries: FloatMatrix, depth: int, effort: int) -> list[list[tuple[Rows, bool]]]:
        """For each query parts of the chunks: about the nearest of it, and whether these are all of it."""
        with_faiss = self.backend == "faiss"
        found = None  # rows of the structure, dead ones too; -1 for none
        if self._structure is not None and depth < self._structure.size:
            found = self._structure.nearest_rows(queries, depth, effort)
        if found is None:
            every = nearest_rows(self.vectors, queries, depth, with_faiss=with_faiss)
            return [[(ordinals, depth >= self.size)] for ordinals in every]
        inside = np.where(found >= 0, self._places[found], -1)
        tail = self._beside[nearest_rows(self._tail, queries, depth, with_faiss=with_faiss)]
        whole = depth >= len(self._beside)
        return [
            [(ordinals[ordinals >= 0], False), (others, whole)]
            for ordinals, others in zip(inside, tail, strict=True)
        ]

    def _ranked(
        self, query: FloatMatrix, parts: Sequence[tuple[Rows, bool]], k: int
    ) -> tuple[list[tuple[int, float]], bool]:
        """The best k of some chunks, and whether others, not looked at, can be none of them."""
        scored = [(ordinals, self._cosines(query, ordinals), whole) for ordinals, whole in parts]
        ordinals = np.concatenate([some for some, _, _ in scored])
        cosines = np.concatenate([some for _, some, _ in scored])
        order = np.lexsort((ordinals, -cosines))[:k]
        ranking = [(int(ordinals[place]), float(cosines[place])) for place in order]
        # What was not looked at is no nearer than the least near of what was.
        edges = [float(some.min(initial=np.inf)) for _, some, whole in scored if not whole]
        return ranking, not edges or (len(ranking) == k and ranking[-1][1] - max(edges) > _ROUNDING)

    def _cosines(self, query: FloatMatrix, ordinals: Rows) -> npt.NDArray[np.float64]:
        """Summed row by row in float64: equal vectors get equal scores, alone or in a batch."""
        products = self.vectors[ordinals].astype(np.float64) * query.astype(np.float64)  # [depth, E]
        cosines: npt.NDArray[np.float64] = np.clip(products.sum(axis=1), -1.0, 1.0)
        return cosines


def uses_faiss(backend: DenseBackend, settings: VectorSettings) -> bool:
    """Whether FAISS is to search.

    Raises:
        InputError: An unknown backend, or a kind that it does not have.
        MissingExtraError: FAISS is wanted and not installed.
    """
    if backend not in get_args(DenseBackend):
        raise InputError(f"The dense backend is {backend!r}; the backends are 'auto', 'faiss' and 'numpy'.")
    approximate = settings.kind in ("hnsw", "ivf")
    if backend == "numpy":
        if approximate:
            raise InputError(
                f"NumPy does not search by {settings.kind!r}; expected 'flat' or 'auto', or another backend."
            )
        return False
    try:
        import_faiss()
    except MissingExtraError:
        if backend == "faiss" or approximate:
            raise
        return False
    return True


@cache
def _hint() -> None:
    """Said once in a process."""
    _log.warning(
        "FAISS is not installed: every query is compared with every vector by NumPy. From this many vectors "
        "on, FAISS would look at some of them. Install it with: pip install 'memorag-adapters[cpu]'"
    )


def _whole(numbers: Any, below: int, what: str) -> Rows:
    """Whole numbers from 0 to below a bound, as an array."""
    given = np.asarray(numbers)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        raise InputError(f"{what} are {given.dtype} of shape {given.shape}; expected a row of whole numbers.")
    rows = given.astype(np.int64)
    if rows.size and not 0 <= rows.min() <= rows.max() < below:
        raise InputError(f"{what} go from {rows.min()} to {rows.max()}; expected 0 to {below - 1}.")
    return rows


def _sha256_of(vectors: FloatMatrix) -> str:
    return hashlib.sha256(np.ascontiguousarray(vectors).view(np.uint8).data).hexdigest()


def _stored_vectors(arrays: Mapping[str, npt.NDArray[Any]], header: Mapping[str, Any]) -> FloatMatrix:
    """The vectors of an index, after checking that they are those it was packed with."""
    vectors = arrays.get("vectors")
    if not isinstance(vectors, np.ndarray) or vectors.dtype != np.float32 or vectors.ndim != 2:
        raise StoreError(f"There is no float32 matrix named 'vectors'. {REMEDY}")
    if 0 in vectors.shape or _sha256_of(vectors) != header.get("vectors_sha256"):
        raise StoreError(
            f"The {len(vectors)} vectors are not those that the header was written for: their hash differs. "
            f"{REMEDY}"
        )
    return vectors


def _stored_places(places: npt.NDArray[Any], structure: Structure, vectors: FloatMatrix) -> Rows:
    """The places of a structure's rows, after checking that all three belong together."""
    count, size = vectors.shape
    if structure.dimensions != size:
        raise StoreError(
            f"The structure is of vectors of {structure.dimensions} numbers; expected {size}. {REMEDY}"
        )
    if places.shape != (structure.size,) or places.dtype != np.int64:
        raise StoreError(
            f"The places are {places.dtype} of shape {places.shape}; expected int64, one for each of the "
            f"{structure.size} rows of the structure. {REMEDY}"
        )
    living = places[places != -1]
    if living.size and (
        living.min() < 0 or living.max() >= count or np.bincount(living, minlength=1).max() > 1
    ):
        raise StoreError(
            f"The places of the structure's rows name a vector twice, or one that is not among the {count}. "
            f"{REMEDY}"
        )
    return places
