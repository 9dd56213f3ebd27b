"""How an index is made and kept: chosen once, used for the first chunks, for all changes and for the store.

In: what was chosen, then chunks or what a store kept. Out: an index, or what a store keeps of one. Reads no
files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from memorag_core.documents.words import RULE
from memorag_core.errors import InputError, StoreError
from memorag_core.protocols import Embedder, FloatMatrix, ShowProgress
from memorag_core.retrieval.bm25 import BM25Index
from memorag_core.retrieval.dense import DenseIndex, uses_faiss
from memorag_core.retrieval.encoders.encode import check_sparse_encoder, encode_chunks
from memorag_core.retrieval.entities import EntityFinder, find_entities
from memorag_core.retrieval.graph import EntityGraph
from memorag_core.retrieval.index import EvidenceIndex
from memorag_core.retrieval.learned_sparse import LearnedSparseIndex
from memorag_core.retrieval.nearest_neighbours import VectorSettings
from memorag_core.retrieval.tokenization import Tokenization, lexical_tokens
from memorag_core.types import Chunk

Kept: TypeAlias = tuple[Mapping[str, npt.NDArray[Any]], Mapping[str, Any]]
"""What a store keeps of a part of an index: arrays by name, and a header that can be written as JSON."""

DENSE, LEARNED_SPARSE, GRAPH = "dense", "lexical", "graph"
"""The names of the parts in a store. BM25 is built anew: that takes less time than reading it would."""

ANOTHER_EMBEDDER = 0.2
"""Distance of two unit vectors of one text from which on they are not one embedder's in two precisions."""


@dataclass(frozen=True, slots=True, eq=False)
class IndexMaker:
    """Makes the index of a corpus, first and after every change.

    Attributes:
        embedder: Makes vectors; None for none.
        tokenization: What BM25 makes of scripts without spaces.
        learned_sparse: Whether the embedder's token weights are indexed.
        entities: Finds what chunks speak of, for a graph; None for none.
        vectors: How vectors are searched.
        progress: Whether to show bars, or who is told; None shows them on terminals.

    Raises:
        InputError: Token weights of an embedder that gives none, or an unknown tokenization.
        MissingExtraError: Japanese, and Sudachi is not installed.
    """

    embedder: Embedder | None = None
    tokenization: Tokenization = "grams"
    learned_sparse: bool = False
    entities: EntityFinder | None = None
    vectors: VectorSettings = field(default_factory=VectorSettings)
    progress: ShowProgress = None

    def __post_init__(self) -> None:
        lexical_tokens("", tokenization=self.tokenization)  # now, not after the reading
        if self.learned_sparse:
            check_sparse_encoder(self.embedder)

    def index(self, chunks: Sequence[Chunk], before: EvidenceIndex | None = None) -> EvidenceIndex:
        """The index of some chunks, made of what can be kept of the one before.

        Raises:
            InputError: No chunks, or what the embedder or the finder gives cannot be used.
            MissingExtraError: What is wanted is not installed.
        """
        if before is not None:
            return before.changed(chunks, progress=self.progress)
        return EvidenceIndex.build(
            chunks,
            self.embedder,
            vector_settings=self.vectors,
            tokenization=self.tokenization,
            learned_sparse=self.learned_sparse,
            entities=self.entities,
            progress=self.progress,
        )

    def packed(self, index: EvidenceIndex) -> dict[str, Kept]:
        """What a store should keep of an index beside its chunks and vectors, by the names of the parts.

        Of vectors that are searched flat there is nothing more to keep.
        """
        kept: dict[str, Kept] = {}
        if index.dense is not None and index.dense.kind != "flat":
            arrays, header = index.dense.pack()
            arrays.pop("vectors")  # the store has them already
            kept[DENSE] = arrays, header
        if index.learned_sparse is not None:
            kept[LEARNED_SPARSE] = index.learned_sparse.pack()
        if index.graph is not None:
            arrays, header = index.graph.pack()
            kept[GRAPH] = arrays, {**header, "built_in_finder": index.graph.finder is find_entities}
        return kept

    def unpacked(
        self, chunks: Sequence[Chunk], vectors: FloatMatrix | None, kept: Mapping[str, Kept]
    ) -> EvidenceIndex:
        """The index that was packed; what is wanted and was not kept is made.

        Args:
            chunks: That it was of.
            vectors: Its vectors, if it had any; nobody may write to them any more.
            kept: What ``packed`` gave; parts that are not wanted any more are left alone.

        Raises:
            InputError: Vectors and no embedder to encode questions with; a graph whose entities a finder of
                the user found, and no finder.
            StoreError: Vectors or weights of another embedder, or parts that do not fit.
            MissingExtraError: What is wanted is not installed.
        """
        bm25 = BM25Index.build(chunks, tokenization=self.tokenization)
        graph = self._graph(chunks, kept.get(GRAPH))
        if self.embedder is None:
            if vectors is not None:
                raise InputError(
                    "The chunks were saved with dense vectors, and no embedder was given to encode questions "
                    "with. Give the one that made them: MemoRAG.load(path, embedder=...)."
                )
            return EvidenceIndex(tuple(chunks), bm25, graph=graph)
        uses_faiss("auto", self.vectors)  # before the work of encoding, not after
        dense = None if vectors is None else self._dense(chunks, vectors, kept.get(DENSE), self.embedder)
        weigh = self.learned_sparse and LEARNED_SPARSE not in kept
        made = encode_chunks(
            chunks, self.embedder, vectors=dense is None, weights=weigh, progress=self.progress
        )
        if dense is None:
            dense = DenseIndex.from_vectors(made.vectors, self.embedder, settings=self.vectors)
        sparse = None
        if self.learned_sparse:
            encoder = check_sparse_encoder(self.embedder)
            sparse = (
                LearnedSparseIndex.from_weights(made.weights, encoder)
                if weigh
                else LearnedSparseIndex.unpack(*kept[LEARNED_SPARSE], encoder)
            )
            if sparse.size != len(chunks):
                raise StoreError(
                    f"The saved lexical index is of {sparse.size} chunks; expected {len(chunks)}. Index the "
                    "chunks again."
                )
        return EvidenceIndex(tuple(chunks), bm25, dense, sparse, graph)

    def _dense(
        self, chunks: Sequence[Chunk], vectors: FloatMatrix, kept: Kept | None, embedder: Embedder
    ) -> DenseIndex:
        again = encode_chunks(chunks[:1], embedder, progress=False).vectors
        if again.shape != vectors[:1].shape or np.linalg.norm(again - vectors[:1]) > ANOTHER_EMBEDDER:
            raise StoreError(
                "The saved vectors come from another embedder: this one encodes the first chunk differently. "
                "Give the one that made them, or memorize the text again with this one."
            )
        if kept is None:
            return DenseIndex.from_vectors(vectors, embedder, settings=self.vectors)
        arrays, header = kept
        return DenseIndex.unpack({**arrays, "vectors": vectors}, header, embedder, settings=self.vectors)

    def _graph(self, chunks: Sequence[Chunk], kept: Kept | None) -> EntityGraph | None:
        if self.entities is None:
            return None
        built_in = self.entities is find_entities
        if kept is not None and type(kept[1].get("built_in_finder")) is not bool:
            raise StoreError(
                "The header of the saved graph does not say who found its entities: built_in_finder is "
                f"{kept[1].get('built_in_finder')!r:.80}, expected true or false. Memorize the text again."
            )
        if kept is not None and built_in and not kept[1].get("built_in_finder"):
            raise InputError(
                "The entities of the saved graph were found by a finder of your own, and none was given for "
                "texts to come. Give it: MemoRAG.load(path, entities=...)."
            )
        if kept is None or built_in != kept[1].get("built_in_finder"):
            return EntityGraph.build(chunks, self.entities)
        if built_in and kept[1].get("rule") != RULE:  # words were told in another way then
            return EntityGraph.build(chunks, self.entities)
        arrays, header = kept
        return EntityGraph.unpack(chunks, arrays, header, self.entities)
