"""The index of the evidence: chunks, asked with a question and its clues.

In: chunks and, for dense retrieval, an embedder; then questions with their clues. Out: evidence, exactly as
many chunks as asked for, each with the ranked lists that it was found in. Does not know where clues come
from, nor what is done with the evidence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import exp, isnan
from typing import Literal

from memorag_core.config import RetrievalSettings
from memorag_core.errors import InputError
from memorag_core.protocols import Embedder, FloatMatrix
from memorag_core.records import Chunk, Clue, ClueKind, Evidence
from memorag_core.retrieval.dense import DenseBackend, DenseIndex
from memorag_core.retrieval.fusion import RankedList, fuse
from memorag_core.retrieval.sparse import BM25Index

_DEFAULTS = RetrievalSettings()
_WITH_QUESTION = "+question"  # after the retriever's name in a Hit whose query was the question and the clue


@dataclass(frozen=True, slots=True)
class _Ask:
    """One query of a request: what the retrievers are asked, and what the hits then say of it."""

    text: str
    query: str
    kind: ClueKind | Literal["question"]
    weight: float
    suffix: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class EvidenceIndex:
    """Chunks with a lexical index and, where an embedder was given, a dense one over the same ordinals.

    An immutable value: another corpus is another index. Threads may share it where the embedder allows it.
    """

    chunks: tuple[Chunk, ...]
    sparse: BM25Index
    dense: DenseIndex | None = None

    def __post_init__(self) -> None:
        """Hold the parts to the same chunks."""
        for name, retriever in self._retrievers():
            if retriever.size != len(self.chunks):
                raise InputError(
                    f"The {name} index is of {retriever.size} chunks, but {len(self.chunks)} chunks were "
                    "given: build both from the same chunks."
                )

    @classmethod
    def build(
        cls,
        chunks: Sequence[Chunk],
        embedder: Embedder | None = None,
        *,
        vectors: FloatMatrix | None = None,
        batch_size: int = 64,
        backend: DenseBackend = "faiss",
        progress: bool | None = None,
    ) -> EvidenceIndex:
        """Index chunks.

        Args:
            chunks: At least one; ties in later rankings go to the earlier chunk.
            embedder: Any object with ``embed_documents`` and ``embed_query``; without one, BM25 works alone.
            vectors: [N, E] of an earlier index's ``vectors``; with them the embedder encodes questions only.
            batch_size: The most texts handed to the embedder in one call.
            backend: What searches the vectors.
            progress: Whether to show a bar while encoding; None shows it on terminals.

        Raises:
            InputError: No chunks, vectors without an embedder or not one a chunk, or unusable vectors.
            MissingExtraError: An embedder was given and FAISS is not installed.
        """
        if vectors is not None and embedder is None:
            raise InputError(
                "Vectors were given without the embedder that made them; "
                "give it too, for questions must be encoded."
            )
        sparse = BM25Index.build(chunks)
        dense = None
        if embedder is not None and vectors is not None:
            dense = DenseIndex.from_vectors(vectors, embedder, backend=backend)
        elif embedder is not None:
            dense = DenseIndex.build(
                chunks, embedder, batch_size=batch_size, backend=backend, progress=progress
            )
        return cls(tuple(chunks), sparse, dense)

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
    ) -> tuple[Evidence, ...]:
        """Find the evidence for one question; see ``retrieve_batch``."""
        return self.retrieve_batch([(question, clues)], k=k, settings=settings)[0]

    def retrieve_batch(
        self,
        requests: Sequence[tuple[str, Sequence[Clue]]],
        *,
        k: int | None = None,
        settings: RetrievalSettings = _DEFAULTS,
    ) -> tuple[tuple[Evidence, ...], ...]:
        """Find the evidence for many questions; each retriever is called once, no text is searched twice.

        Every retriever ranks the chunks for the question and for each clue, and weighted reciprocal rank
        fusion joins the rankings. Where they found fewer than ``k`` chunks, the rest follow in the order of
        the question's own ranking and then of the corpus, with score 0 and no hits.

        Args:
            requests: Pairs of a question and its clues. Clues of blank text or of weight 0 are as if absent.
            k: Chunks for each question; None takes ``settings.k``.
            settings: Depth of the lists, the fusion's constant, the weights of the question and of each clue,
                and what a clue asks. Hits name the clue in each case; those of the question and the clue as
                one query carry "+question" after the retriever's name.

        Returns:
            For each request exactly ``k`` pieces of evidence, best first, the earlier chunk first among
            equals.

        Raises:
            InputError: ``k`` below 1 or above the number of chunks, an empty question, or a clue whose score
                is not a number where confidence counts.
        """
        count = self._checked_k(settings.k if k is None else k)
        for number, (question, _) in enumerate(requests, start=1):
            if not isinstance(question, str) or not question.strip():
                raise InputError(
                    f"Question {number} of {len(requests)} is {question!r}; expected a text that is not "
                    "empty. Ask something, or leave it out."
                )
        plans = [list(_asks(question, clues, settings)) for question, clues in requests]
        texts = list(dict.fromkeys(ask.text for plan in plans for ask in plan))
        if not texts:
            return ()
        depth = min(max(settings.fan_out, count), len(self.chunks))
        searched: list[tuple[str, dict[str, list[tuple[int, float]]]]] = [
            (name, dict(zip(texts, retriever.search(texts, depth), strict=True)))
            for name, retriever in self._retrievers()
        ]
        return tuple(
            self._fused(
                [
                    RankedList(name + ask.suffix, ask.query, ask.kind, ask.weight, tuple(found[ask.text]))
                    for ask in plan
                    for name, found in searched
                ],
                count,
                settings.rrf_constant,
            )
            for plan in plans
        )

    def _retrievers(self) -> Iterator[tuple[str, BM25Index | DenseIndex]]:
        """What ranks the chunks, by the names that hits give."""
        yield "bm25", self.sparse
        if self.dense is not None:
            yield "dense", self.dense

    def _fused(self, lists: Sequence[RankedList], k: int, constant: float) -> tuple[Evidence, ...]:
        size = len(self.chunks)
        # A question that weighs nothing is not in the fusion, but still orders what is filled in.
        silent = [replace(one, weight=1.0) for one in lists if one.kind == "question" and one.weight == 0]
        asked_alone = len({ordinal for one in silent for ordinal, _ in one.found})
        fill = (
            [one.ordinal for one in fuse(silent, asked_alone, size=size, constant=constant)]
            if asked_alone
            else []
        )
        return tuple(
            Evidence(self.chunks[one.ordinal], one.score, rank, one.hits)
            for rank, one in enumerate(fuse(lists, k, size=size, constant=constant, fill=fill), start=1)
        )

    def _checked_k(self, k: int) -> int:
        size = len(self.chunks)
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= size:
            chunks = "1 chunk" if size == 1 else f"{size} chunks"
            raise InputError(
                f"k is {k!r}, but the corpus has {chunks}: give a whole number from 1 to {size}, "
                "or memorize more text, or cut it into smaller chunks."
            )
        return k


def _asks(question: str, clues: Sequence[Clue], settings: RetrievalSettings) -> Iterator[_Ask]:
    """The queries of one request, the question's first."""
    yield _Ask(question, question, "question", settings.weight("question"))
    places: Counter[ClueKind] = Counter()
    for clue in clues:
        if not clue.text.strip():
            continue
        weight = settings.weight(clue.kind) * _belief(clue, settings.confidence)
        weight *= settings.decay ** places[clue.kind]
        places[clue.kind] += 1
        if weight == 0:
            continue
        alone = _Ask(clue.text, clue.text, clue.kind, weight)
        joined = replace(alone, text=f"{question}\n{clue.text}", suffix=_WITH_QUESTION)
        if settings.expansion == "both":
            yield replace(alone, weight=weight / 2)
            yield replace(joined, weight=weight / 2)
        else:
            yield alone if settings.expansion == "separate" else joined


def _belief(clue: Clue, confidence: float) -> float:
    """How sure the memory was of a clue, 0 to 1, from its mean log-probability a token."""
    if confidence == 0:
        return 1.0
    if isnan(clue.score):
        raise InputError(
            f"The clue {clue.text[:60]!r} has a score that is not a number; expected a mean log-probability "
            "(0 is certain). Leave confidence off for clues without one."
        )
    return exp(confidence * min(clue.score, 0.0))
