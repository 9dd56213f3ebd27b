"""The index of the evidence: chunks, asked with a question and its clues.

In: chunks and, for dense retrieval, an embedder; then questions with their clues. Out: evidence, exactly as
many chunks as asked for, each with the ranked lists that it was found in. Does not know where clues come
from, nor what is done with the evidence.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from memorag_core.errors import InputError
from memorag_core.protocols import CountTokens, FloatMatrix, Reranker, ShowProgress
from memorag_core.retrieval.bm25 import BM25Index
from memorag_core.retrieval.dense import DenseIndex, uses_faiss
from memorag_core.retrieval.encoders.embedders import as_embedder
from memorag_core.retrieval.encoders.encode import check_sparse_encoder, encode_chunks, matched
from memorag_core.retrieval.entities import EntityFinder
from memorag_core.retrieval.expansion import expansions
from memorag_core.retrieval.filtering import Places, renumbered, search_selected
from memorag_core.retrieval.fusion import RankedList
from memorag_core.retrieval.graph import EntityGraph
from memorag_core.retrieval.learned_sparse import LearnedSparseIndex
from memorag_core.retrieval.nearest_neighbours import DenseBackend, VectorSettings
from memorag_core.retrieval.queries import plans_of
from memorag_core.retrieval.ranking import choose, search_depth
from memorag_core.retrieval.support import lexical_support
from memorag_core.retrieval.tokenization import Tokenization
from memorag_core.settings import RetrievalSettings
from memorag_core.types import Chunk, Clue, Evidence

Ranker: TypeAlias = BM25Index | DenseIndex | LearnedSparseIndex
"""What ranks chunks for a text."""

_DEFAULTS = RetrievalSettings()
_VECTORS = VectorSettings()


@dataclass(frozen=True, slots=True, eq=False)
class EvidenceIndex:
    """Chunks with what finds them, all over the same ordinals.

    An immutable value: another corpus is another index. Threads may share it where the embedder allows it.

    Attributes:
        chunks: In the order of the corpus.
        bm25: BM25.
        dense: Vectors, where an embedder was given.
        learned_sparse: The embedder's token weights, where they were asked for.
        graph: Of chunks and entities, where it was asked for.
    """

    chunks: tuple[Chunk, ...]
    bm25: BM25Index
    dense: DenseIndex | None = None
    learned_sparse: LearnedSparseIndex | None = None
    graph: EntityGraph | None = None

    def __post_init__(self) -> None:
        """Hold the parts to the same chunks."""
        parts = {"bm25": self.bm25, "dense": self.dense, "lexical": self.learned_sparse, "graph": self.graph}
        for name, part in parts.items():
            if part is not None and part.size != len(self.chunks):
                raise InputError(
                    f"The {name} index is of {part.size} chunks, but {len(self.chunks)} chunks were "
                    "given: build both from the same chunks."
                )

    @classmethod
    def build(
        cls,
        chunks: Sequence[Chunk],
        embedder: object = None,
        *,
        vectors: FloatMatrix | None = None,
        batch_size: int = 64,
        backend: DenseBackend = "auto",
        vector_settings: VectorSettings = _VECTORS,
        tokenization: Tokenization = "grams",
        learned_sparse: bool = False,
        entities: EntityFinder | None = None,
        progress: ShowProgress = None,
        lexical: bool | None = None,
    ) -> EvidenceIndex:
        """Index chunks.

        Args:
            chunks: At least one; ties in later rankings go to the earlier chunk.
            embedder: Anything that ``as_embedder`` takes; without one, BM25 works alone.
            vectors: [N, E] of an earlier index's ``vectors``; with them the embedder encodes questions only.
            batch_size: The most texts handed to the embedder in one call.
            backend: What searches the vectors.
            vector_settings: How.
            tokenization: What BM25 makes of scripts without spaces; see ``lexical_tokens``.
            learned_sparse: Whether to index the embedder's token weights too.
            entities: Finds what chunks speak of, for a graph: ``find_entities``, or a finder of your own.
                None makes no graph.
            progress: Whether to show a bar while encoding, or who is told; None shows it on terminals.
            lexical: The old name of ``learned_sparse``.

        Raises:
            InputError: No chunks, no embedder in what was given, vectors without an embedder or not one a
                chunk, unusable vectors, ``learned_sparse`` with an embedder that gives no token weights, or
                an unknown tokenization.
            MissingExtraError: FAISS, SciPy or Sudachi is wanted and not installed.
        """
        encoder = None if embedder is None else as_embedder(embedder)
        if vectors is not None and encoder is None:
            raise InputError(
                "Vectors were given without the embedder that made them; "
                "give it too, for questions must be encoded."
            )
        if lexical is not None:
            _renamed("EvidenceIndex.build(lexical=...)", "learned_sparse=...")
            learned_sparse = lexical
        if learned_sparse:
            check_sparse_encoder(encoder)
        bm25 = BM25Index.build(chunks, tokenization=tokenization)
        graph = None if entities is None else EntityGraph.build(chunks, entities)
        if encoder is None:
            return cls(tuple(chunks), bm25, graph=graph)
        uses_faiss(backend, vector_settings)  # before the work of encoding, not after
        made = encode_chunks(
            chunks,
            encoder,
            vectors=vectors is None,
            weights=learned_sparse,
            batch_size=batch_size,
            progress=progress,
        )
        if vectors is None:
            vectors = made.vectors
        dense = DenseIndex.from_vectors(vectors, encoder, backend=backend, settings=vector_settings)
        sparse = None
        if learned_sparse:
            sparse = LearnedSparseIndex.from_weights(made.weights, check_sparse_encoder(encoder))
        return cls(tuple(chunks), bm25, dense, sparse, graph)

    def changed(
        self, chunks: Sequence[Chunk], *, batch_size: int = 64, progress: ShowProgress = None
    ) -> EvidenceIndex:
        """The index of other chunks, which finds what one built from them afresh finds.

        Texts that this index has are not encoded again, nor are their entities looked for. BM25 is built
        anew: its weights depend on all chunks, and it takes little time. Vectors that are not searched flat
        may be found a little otherwise than in an index built afresh, as far as "hnsw" and "ivf" miss any.

        Args:
            chunks: All chunks of the corpus as it is now, in their order.
            batch_size: The most texts handed to the embedder in one call.
            progress: Whether to show a bar while encoding, or who is told; None shows it on terminals.

        Raises:
            InputError: No chunks, or what the embedder or the finder gives cannot be used.
        """
        bm25 = BM25Index.build(chunks, tokenization=self.bm25.tokenization)
        places, new = matched(self.chunks, chunks)
        dense, sparse = self.dense, self.learned_sparse
        encoder = dense.embedder if dense is not None else sparse and sparse.encoder
        made = encode_chunks(
            new,
            encoder,
            vectors=bool(new) and dense is not None,
            weights=bool(new) and sparse is not None,
            batch_size=batch_size,
            progress=progress,
        )
        dense = None if dense is None else dense.changed(places, made.vectors)
        sparse = None if sparse is None else sparse.changed(places, made.weights)
        graph = None if self.graph is None else self.graph.changed(chunks)
        return EvidenceIndex(tuple(chunks), bm25, dense, sparse, graph)

    @property
    def sparse(self) -> BM25Index:
        """The old name of ``bm25``."""
        _renamed("EvidenceIndex.sparse", "EvidenceIndex.bm25")
        return self.bm25

    @property
    def lexical(self) -> LearnedSparseIndex | None:
        """The old name of ``learned_sparse``."""
        _renamed("EvidenceIndex.lexical", "EvidenceIndex.learned_sparse")
        return self.learned_sparse

    @property
    def vectors(self) -> FloatMatrix | None:
        """The chunks' unit vectors [N, E] for a store, read-only; None without an embedder."""
        return None if self.dense is None else self.dense.vectors

    def retrieve(
        self,
        question: str,
        clues: Sequence[Clue] = (),
        *,
        k: int | None = None,
        settings: RetrievalSettings = _DEFAULTS,
        reranker: Reranker | None = None,
        count_tokens: CountTokens = len,
    ) -> tuple[Evidence, ...]:
        """Find the evidence for one question; see ``retrieve_batch``."""
        return self.retrieve_batch(
            [(question, clues)], k=k, settings=settings, reranker=reranker, count_tokens=count_tokens
        )[0]

    def retrieve_batch(
        self,
        requests: Sequence[tuple[str, Sequence[Clue]]],
        *,
        k: int | None = None,
        settings: RetrievalSettings = _DEFAULTS,
        reranker: Reranker | None = None,
        count_tokens: CountTokens = len,
        where: Callable[[Chunk], bool] | None = None,
    ) -> tuple[tuple[Evidence, ...], ...]:
        """Find the evidence for many questions; each retriever is called once, no text is searched twice.

        Every retriever ranks the chunks for the question and for each clue, the graph ranks those that hang
        together with the first of them, and the rankings are fused. Where they found fewer than ``k`` chunks,
        the rest follow in the order of the question's own ranking and then of the corpus, with score 0 and no
        hits. A re-ranker then orders the first ``rerank_depth`` of what was found, by the question alone.

        Args:
            requests: Pairs of a question and its clues. Clues of blank text or of weight 0 are as if absent.
            k: Chunks for each question; None takes ``settings.k``.
            settings: Depth of the lists, how they are fused, the weights of the question, of each clue and of
                some retrievers, what a clue asks, and the shape of the result. Hits name the clue in each
                case; those of the question and the clue as one query carry "+question" after the
                retriever's name.
            reranker: What ``as_reranker`` gives; scores of evidence are its scores then.
            count_tokens: What a text takes of ``settings.budget``.
            where: Whether a chunk may be found; None lets all be found. Each ranking is then that of all
                chunks without the others, read on until it is as deep as without this.

        Returns:
            For each request exactly ``k`` pieces of evidence, best first, the earlier chunk first among
            equals; all that may be found where these are fewer. With a budget fewer, where they do not fit;
            with neighbours those besides; in the order of the documents where the settings say so.

        Raises:
            InputError: ``k`` below 1 or above the number of chunks, an empty question, a clue whose score
                is not a number, or whose support is not a share, where they count; a weight for a graph or
                for token weights that the index was built without; a budget that no chunk fits; or scores of
                a re-ranker that are not one finite number a passage.
        """
        count = settings.k if k is None else k
        self.check_k(count, settings)
        if not requests:
            return ()
        depth = min(search_depth(count, settings, reranker), len(self.chunks))
        chunks, places = self.chunks, None
        if where is not None:
            kept = [ordinal for ordinal, chunk in enumerate(self.chunks) if where(chunk)]
            chunks = tuple(self.chunks[ordinal] for ordinal in kept)
            places = {ordinal: place for place, ordinal in enumerate(kept)}
        lists = self._lists(requests, depth, settings, places)
        return tuple(
            choose(
                question,
                own if places is None else renumbered(own, places),
                chunks,
                k=count,
                settings=settings,
                reranker=reranker,
                count_tokens=count_tokens,
            )
            for (question, _), own in zip(requests, lists, strict=True)
        )

    def check_k(self, k: int, settings: RetrievalSettings = _DEFAULTS) -> None:
        """Refuse a number of chunks, or settings, that no search of this index can follow.

        Raises:
            InputError: As ``retrieve_batch``, whatever the questions.
        """
        size = len(self.chunks)
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= size:
            chunks = "1 chunk" if size == 1 else f"{size} chunks"
            raise InputError(
                f"k is {k!r}, but the corpus has {chunks}: give a whole number from 1 to {size}, "
                "or memorize more text, or cut it into smaller chunks."
            )
        weights = settings.retriever_weights
        if weights["graph"] > 0 and self.graph is None:
            raise InputError(
                f"retriever_weights['graph'] is {weights['graph']}, but the index was built without a graph: "
                "give entities=find_entities when building it, or a weight of 0."
            )
        if weights["learned_sparse"] > 0 and self.learned_sparse is None:
            raise InputError(
                f"retriever_weights['learned_sparse'] is {weights['learned_sparse']}, but the index was "
                "built without token weights: give learned_sparse=True when building it, or a weight of 0."
            )
        if next(self._rankers(settings), None) is None:
            raise InputError(
                f"retriever_weights['bm25'] is {weights['bm25']}, and the index has no vectors to search "
                "instead: give an embedder when building it, or BM25 a weight above 0 (1 is usual)."
            )

    def support(self, texts: Sequence[str]) -> tuple[float, ...]:
        """How much of what each text says one place of the corpus says; see ``lexical_support``.

        Args:
            texts: Any; the words count, not the wording.

        Returns:
            For each text a share above 0 and at most 1.
        """
        return lexical_support(self.bm25, self.chunks, texts)

    def _rankers(self, settings: RetrievalSettings) -> Iterator[tuple[str, float, Ranker]]:
        """What ranks the chunks, by the names that hits give, with what each weighs."""
        weights = settings.retriever_weights
        if weights["bm25"] > 0:
            yield "bm25", weights["bm25"], self.bm25
        if self.dense is not None and weights["dense"] > 0:
            yield "dense", weights["dense"], self.dense
        if self.learned_sparse is not None and weights["learned_sparse"] > 0:
            yield "lexical", weights["learned_sparse"], self.learned_sparse

    def _lists(
        self,
        requests: Sequence[tuple[str, Sequence[Clue]]],
        depth: int,
        settings: RetrievalSettings,
        places: Places | None = None,
    ) -> list[list[RankedList]]:
        """The ranked lists of each request; with ``places``, of those chunks, but for the graph's."""
        plans = plans_of(requests, settings)
        texts = list(dict.fromkeys(query.text for plan in plans for query in plan))
        # A question is searched by its stop words where it has no other words; a clue ("It was him.") is not.
        silent = {
            query
            for plan in plans
            for query in plan
            if query.kind != "question" and not self.bm25.tells(query.text)
        }
        spoken = list(dict.fromkeys(query.text for plan in plans for query in plan if query not in silent))
        searched = [
            (
                name,
                weight,
                search_selected(
                    ranker,
                    spoken if ranker is self.bm25 else texts,
                    depth,
                    places=places,
                    size=len(self.chunks),
                ),
            )
            for name, weight, ranker in self._rankers(settings)
        ]
        lists = [
            [
                query.ranked(name, () if name == "bm25" and query in silent else found[query.text], weight)
                for query in plan
                for name, weight, found in searched
            ]
            for plan in plans
        ]
        if self.graph is not None and settings.retriever_weights["graph"] > 0:
            for own, expansion in zip(
                lists, expansions(self.graph, lists, settings, depth=depth), strict=True
            ):
                own += [] if expansion is None else [expansion]
        return lists


def _renamed(old: str, new: str) -> None:
    """Tell who calls our caller of a name that will be gone in the next version."""
    warnings.warn(f"{old} is deprecated; use {new}.", DeprecationWarning, stacklevel=3)
