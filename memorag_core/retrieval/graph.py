"""The graph of chunks and entities: from the chunks found first to those that hang together with them.

In: chunks, a way to find their entities; then anchors, chunks with weights. Out: for each set of anchors the
chunks that a random walk from them visits most, by ordinal. Knows no question, no clue and no fusion.

Two chunks hang together by the entities they share, a rare entity binding more than a common one, and by
standing side by side in a document. From the anchors a walk goes from chunk to entity to chunk and now and
then starts again: personalised PageRank, as Gutiérrez et al. walk it for questions of many hops ("HippoRAG",
NeurIPS 2024, section 2.3), on chunks as the nodes that are ranked and without a model that reads the corpus.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil, fsum, isfinite, log
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from memorag_core.documents.words import RULE
from memorag_core.errors import InputError, MissingExtraError, StoreError
from memorag_core.retrieval.entities import EntityFinder, entity_key, find_entities
from memorag_core.types import Chunk
from memorag_core.types.packed import whole_number

Anchors: TypeAlias = Sequence[tuple[int, float]]
"""Pairs (chunk ordinal, weight above 0): where a walk starts, and how often there."""

IntArray: TypeAlias = npt.NDArray[np.integer[Any]]

DAMPING = 0.5
"""The share of the steps that go on instead of starting again. 0.5, as in HippoRAG: what is two hops away
matters, what is ten hops away does not. 0.3 to 0.85 found as much."""

NEIGHBOURS = 4.0
"""How much standing side by side binds, in units of an entity that is in two chunks only."""

_COMMONEST = 0.1
"""An entity in more than this share of the chunks says nothing of any, and is left out."""

_MOST = 200
"""Nor does an entity in more chunks than this, for each gets a sliver of the walk; in large corpora most
edges are of such entities, and time goes with the edges."""

_FEWEST = 3
"""The chunks that an entity may be in whatever the share: in a corpus of ten chunks, 3 are not common."""

_LEFT = 1e-6
"""The share of the walk that is not walked any more."""

_TIE = 9
"""Decimals, of the best score, that count in a ranking: sums of the same numbers in another order tie."""


@dataclass(frozen=True, slots=True, eq=False)
class EntityGraph:
    """Chunks and the entities in each; an immutable value that threads may share.

    Attributes:
        chunks: the chunks, their order giving the ordinals.
        vocabulary: the entities, in the order in which the chunks bring them up.
        offsets: [N + 1] int64; the entities of chunk ``i`` are ``numbers[offsets[i]:offsets[i + 1]]``.
        numbers: int32, places in the vocabulary, each once in a chunk.
        finder: what found the entities, and finds those of chunks to come.
    """

    chunks: tuple[Chunk, ...]
    vocabulary: tuple[str, ...]
    offsets: IntArray
    numbers: IntArray
    finder: EntityFinder = find_entities
    _walk: _Walk = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Weigh the edges."""
        for array in (self.offsets, self.numbers):
            array.setflags(write=False)
        object.__setattr__(self, "_walk", _Walk.over(self.chunks, self.offsets, self.numbers))

    @classmethod
    def build(cls, chunks: Sequence[Chunk], finder: EntityFinder = find_entities) -> EntityGraph:
        """Find the entities of every chunk.

        Args:
            chunks: At least one. Chunks of one document are neighbours where they stand one after the other
                in the sequence.
            finder: Called once for each text that differs; what it gives is spelled as ``entity_key`` does.

        Raises:
            InputError: No chunks, or the finder gave something else than texts.
            MissingExtraError: SciPy is not installed.
        """
        return cls._of(chunks, finder, {})

    def changed(self, chunks: Sequence[Chunk]) -> EntityGraph:
        """The graph of other chunks, as ``build`` makes it; only texts that this one has not are read.

        Args:
            chunks: All chunks of the corpus as it is now, in their order.

        Raises:
            InputError: As ``build``.
        """
        known = {chunk.text: self.entities(ordinal) for ordinal, chunk in enumerate(self.chunks)}
        return self._of(chunks, self.finder, known)

    @classmethod
    def _of(
        cls, chunks: Sequence[Chunk], finder: EntityFinder, known: dict[str, tuple[str, ...]]
    ) -> EntityGraph:
        if not chunks:
            raise InputError("There are no chunks to join; a graph needs at least one.")
        vocabulary: dict[str, int] = {}
        numbers: list[int] = []
        offsets = [0]
        for chunk in chunks:
            if chunk.text not in known:
                known[chunk.text] = _found(finder, chunk)
            numbers += [vocabulary.setdefault(name, len(vocabulary)) for name in known[chunk.text]]
            offsets.append(len(numbers))
        return cls(
            tuple(chunks),
            tuple(vocabulary),
            np.array(offsets, dtype=np.int64),
            np.array(numbers, dtype=np.int32),
            finder,
        )

    @property
    def size(self) -> int:
        """How many chunks it joins."""
        return len(self.chunks)

    def entities(self, ordinal: int) -> tuple[str, ...]:
        """The entities of one chunk, in the finder's order."""
        start, end = self.offsets[ordinal], self.offsets[ordinal + 1]
        return tuple(self.vocabulary[number] for number in self.numbers[start:end])

    # --- asking ---------------------------------------------------------------------------------------------

    def expand(
        self, anchors: Sequence[Anchors], k: int, *, damping: float = DAMPING
    ) -> list[list[tuple[int, float]]]:
        """Rank the chunks by how well they hang together with each set of anchors.

        Args:
            anchors: For each question the chunks to start from; sets do not influence each other.
            k: The most chunks to return for each, at least 1.
            damping: See ``DAMPING``; 0 gives the anchors alone.

        Returns:
            For each set at most ``k`` pairs (ordinal, share of the walk), best first, the lowest ordinal
            first among equals. Anchors are among them; chunks that the walk does not reach are not. No
            anchors find nothing.

        Raises:
            InputError: ``k`` below 1, a damping outside 0 to below 1, an ordinal outside the chunks or twice,
                or a weight that is not above 0 and finite.
        """
        if k < 1:
            raise InputError(f"k is {k}; an expansion returns at least one chunk: give k of 1 or more.")
        shares = self.shares(anchors, damping=damping)
        return [_ranking(row, k) for row in shares]

    def shares(self, anchors: Sequence[Anchors], *, damping: float = DAMPING) -> npt.NDArray[np.float64]:
        """How much of the walk from each set of anchors falls on each chunk: [Q, N], each row of sum 1.

        The row of a set without anchors is 0. Arguments and errors are those of ``expand``.
        """
        if not (isfinite(damping) and 0 <= damping < 1):
            raise InputError(
                f"The damping is {damping!r}; expected 0 to below 1, the share of the steps that go on "
                f"({DAMPING} is usual)."
            )
        starts = np.zeros((self.size, len(anchors)))
        for column, one in enumerate(anchors):
            _check(one, self.size)
            total = fsum(weight for _, weight in one)
            for ordinal, weight in one:
                starts[ordinal, column] = weight / total
        return self._walk.walked(starts, damping).T

    # --- keeping --------------------------------------------------------------------------------------------

    def pack(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """The entities as (arrays by name, JSON-able header), for a store; not the chunks, nor the finder."""
        names = "\n".join(self.vocabulary).encode()  # no key holds white space other than a space
        arrays = {
            "entity_offsets": self.offsets,
            "entity_numbers": self.numbers,
            "entity_names": np.frombuffer(names, dtype=np.uint8),
        }
        return arrays, {"chunks": self.size, "entities": len(self.vocabulary), "rule": RULE}

    @classmethod
    def unpack(
        cls,
        chunks: Sequence[Chunk],
        arrays: Mapping[str, npt.NDArray[Any]],
        kept: Mapping[str, Any],
        finder: EntityFinder = find_entities,
    ) -> EntityGraph:
        """The graph that was packed, over the chunks that it was built from; no text is read.

        Entities that were spelled by another rule are spelled by the one of now.

        Raises:
            StoreError: What was packed is incomplete, contradicts itself, or is of other chunks.
            MissingExtraError: SciPy is not installed.
        """
        try:
            offsets = np.array(arrays["entity_offsets"], dtype=np.int64)
            numbers = np.array(arrays["entity_numbers"], dtype=np.int32)
            names = np.array(arrays["entity_names"], dtype=np.uint8).tobytes().decode()
            vocabulary = tuple(names.split("\n")) if names else ()
            count = whole_number(kept["chunks"], "chunks")
            entities = whole_number(kept["entities"], "entities")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise StoreError(
                f"The kept graph cannot be read ({error!r}); expected entity_offsets, entity_numbers, "
                "entity_names, chunks and entities as pack gives them. Build the graph from the chunks again."
            ) from error
        whole = (
            len(offsets) == count + 1 == len(chunks) + 1
            and offsets[0] == 0
            and offsets[-1] == len(numbers)
            and bool((np.diff(offsets) >= 0).all())
            and len(vocabulary) == entities
            and bool(((numbers >= 0) & (numbers < len(vocabulary))).all())
        )
        if not whole:
            raise StoreError(
                f"The kept graph is of {count} chunks, {len(numbers)} edges and {len(vocabulary)} entities "
                f"that do not fit each other or these {len(chunks)} chunks: build it from the chunks again."
            )
        if kept.get("rule") != RULE:
            keys = [entity_key(name) for name in vocabulary]
            rows = [numbers[start:end].tolist() for start, end in pairwise(offsets.tolist())]
            known = {
                chunk.text: tuple(dict.fromkeys(keys[number] for number in row if keys[number]))
                for chunk, row in zip(chunks, rows, strict=True)
            }
            return cls._of(chunks, finder, known)
        return cls(tuple(chunks), vocabulary, offsets, numbers, finder)


@dataclass(frozen=True, slots=True, eq=False)
class _Walk:
    """One step of the walk, chunk to joint to chunk; a joint is an entity, or two chunks side by side."""

    to_joints: Any  # scipy CSR [joints, N]; column n: where a step leaves chunk n, of sum 1 or 0
    to_chunks: Any  # scipy CSR [N, joints]; column j: where it arrives, of sum 1

    @classmethod
    def over(cls, chunks: Sequence[Chunk], offsets: IntArray, numbers: IntArray) -> _Walk:
        """Weigh an entity in ``n`` of ``N`` chunks by the square of its idf, ``ln(N / n) ** 2``.

        The square keeps hubs out: with the idf alone, twenty common words bind two chunks like a rare name.
        """
        sparse = _import_sparse()
        size = len(chunks)
        rows = np.repeat(np.arange(size), np.diff(offsets))  # [edges]
        holders = np.bincount(numbers) if len(numbers) else np.zeros(0, dtype=np.int64)  # [entities]
        telling = (holders >= 2) & (holders <= max(_FEWEST, min(_MOST, _COMMONEST * size)))
        column = np.cumsum(telling) - 1
        kept = telling[numbers]
        rows, columns = rows[kept], column[numbers[kept]]
        # In 2 of 2 chunks the idf is 0; a walk may still go there.
        idf = np.log1p(size / np.maximum(holders, 1))
        weights = idf[numbers[kept]] ** 2

        left = np.array(
            [one for one in range(size - 1) if chunks[one].document_id == chunks[one + 1].document_id],
            dtype=np.int64,
        )
        first = int(telling.sum())
        joints = first + len(left)
        rows = np.concatenate([rows, left, left + 1])
        columns = np.concatenate([columns, np.tile(np.arange(first, joints), 2)])
        weights = np.concatenate([weights, np.full(2 * len(left), NEIGHBOURS * np.log1p(size / 2) ** 2)])

        total = np.bincount(rows, weights=weights, minlength=size)
        ends = np.bincount(columns, minlength=joints)
        out = sparse.csr_array((weights / total[rows], (columns, rows)), shape=(joints, size))
        back = sparse.csr_array((1.0 / ends[columns], (rows, columns)), shape=(size, joints))
        return cls(out, back)

    def walked(self, starts: npt.NDArray[np.float64], damping: float) -> npt.NDArray[np.float64]:
        """Where the walk is, [N, Q], from starts [N, Q] whose columns are of sum 1 or 0.

        The number of steps follows from the damping alone, so no question waits for another's convergence,
        and a question gets the same bits in any batch.
        """
        steps = ceil(log(_LEFT) / log(damping)) if damping > 0 else 0
        whole = starts.any(axis=0).astype(np.float64)  # [Q]
        shares = starts
        for _ in range(steps):
            gone: npt.NDArray[np.float64] = damping * (self.to_chunks @ (self.to_joints @ shares))
            # What starts again, with what was on chunks that nothing leads away from. Summed along rows: the
            # order of a sum down columns depends on how many there are.
            shares = gone + starts * (whole - np.ascontiguousarray(gone.T).sum(axis=1))
        return shares


def _ranking(shares: npt.NDArray[np.float64], k: int) -> list[tuple[int, float]]:
    reached = np.flatnonzero(shares > 0)
    if not len(reached):
        return []
    rounded = np.round(shares[reached] / shares.max(), _TIE)
    order = reached[np.lexsort((reached, -rounded))][:k]
    return [(int(ordinal), float(shares[ordinal])) for ordinal in order]


def _found(finder: EntityFinder, chunk: Chunk) -> tuple[str, ...]:
    """The finder's entities of a chunk in one spelling, each once."""
    given: object = finder(chunk.text)
    listed = isinstance(given, Iterable) and not isinstance(given, str)
    names: list[Any] = list(given) if listed else []  # type: ignore[call-overload]
    if not listed or not all(isinstance(name, str) for name in names):
        raise InputError(
            f"The entity finder gave {given!r:.80} for the chunk {chunk.id!r}; expected a sequence of texts, "
            "such as ['Paris', 'Marie Curie']."
        )
    keys = dict.fromkeys(map(entity_key, names))
    keys.pop("", None)
    return tuple(keys)


def _check(anchors: Anchors, size: int) -> None:
    ordinals = [ordinal for ordinal, _ in anchors]
    if len(set(ordinals)) < len(ordinals) or not all(0 <= ordinal < size for ordinal in ordinals):
        raise InputError(
            f"The anchors are the chunks {ordinals}; expected ordinals from 0 to {size - 1}, each once."
        )
    for ordinal, weight in anchors:
        if not (isfinite(weight) and weight > 0):
            raise InputError(
                f"The anchor {ordinal} has the weight {weight}; expected a number above 0. Leave out chunks "
                "that count for nothing."
            )


def _import_sparse() -> Any:
    try:
        from scipy import sparse
    except ImportError as error:
        raise MissingExtraError("scipy", "graph", "the graph of chunks and entities", error) from error
    return sparse
