"""What evidence is measured on: documents in chunks, with questions whose evidence is known.

In: generated worlds, sets of real texts, and what their chunks are indexed with. Out: a ``Suite``. Knows no
memory model and no clue.

Worlds are cut into chunks of three sentences (some 150 characters), so that a fact shares its chunk with
others; real texts into chunks of 200 words, which is what others measure on; in a set of passages the
passages are the chunks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from memorag_core.protocols import Embedder
from memorag_core.retrieval import EntityFinder, EvidenceIndex
from memorag_core.types import Chunk, Document
from memorag_evaluation.chunks import sentence_chunks, word_chunks
from memorag_evaluation.datasets import Dataset, by_document
from memorag_evaluation.metrics import Span
from memorag_evaluation.worlds import AskedWorld

Measure: TypeAlias = Literal["recall", "hit", "passages"]
"""What is counted among the best k chunks: the share of the chunks that hold the evidence; or whether at
least half of the evidence's characters are covered (and how much of them is, as ``coverage``); or the share
of the passages that are the evidence (and whether all of them are there, as ``all_gold``)."""

WORLD_KS, SET_KS, PASSAGE_KS = (1, 3), (1, 3, 5, 10), (2, 5, 10)


@dataclass(frozen=True, slots=True)
class Case:
    """A question with the characters of its evidence, a span for each piece.

    ``chunks`` are the ids of the chunks that are the evidence, where chunks are what it is named by.
    """

    id: str
    question: str
    kind: str
    gold: tuple[Span, ...]
    chunks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class AskedDocument:
    """A document, the index of its chunks, and the questions on it.

    In a set of passages the document is what a memory reads, all of them, and each chunk is a document of its
    own: that two passages stand side by side there means nothing.
    """

    document: Document
    index: EvidenceIndex
    cases: tuple[Case, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Suite:
    """Documents to measure on.

    Attributes:
        name: for the tables.
        measure: what is counted.
        ks: how many chunks are looked at, ascending.
        documents: each with its questions.
        skipped: questions that were left out when the set was read.
    """

    name: str
    measure: Measure
    ks: tuple[int, ...]
    documents: tuple[AskedDocument, ...]
    skipped: int = 0

    @property
    def cases(self) -> Iterator[tuple[str, Case]]:
        """Every question with the id of its document."""
        return ((asked.document.id, case) for asked in self.documents for case in asked.cases)

    def only(self, ids: Collection[str]) -> Suite:
        """The same suite with those questions alone, and the documents that they are on."""
        kept = (
            replace(asked, cases=tuple(case for case in asked.cases if case.id in ids))
            for asked in self.documents
        )
        return replace(self, documents=tuple(asked for asked in kept if asked.cases))


def world_suite(worlds: Iterable[AskedWorld], *, name: str = "worlds") -> Suite:
    """Generated worlds in chunks of three sentences; a fact's evidence is the chunk that holds most of it."""
    documents = []
    for world in worlds:
        cases = tuple(
            Case(
                f"{world.document.id}/{place}",
                asked.question,
                asked.kind,
                tuple((fact.start, fact.end) for fact in asked.evidence),
            )
            for place, asked in enumerate(world.questions)
        )
        index = EvidenceIndex.build(sentence_chunks(world.document))
        documents.append(AskedDocument(world.document, index, cases))
    return Suite(name, "recall", WORLD_KS, tuple(documents))


def set_suite(
    dataset: Dataset, *, embedder: Embedder | None = None, entities: EntityFinder | None = None
) -> Suite:
    """A set of real texts: each question searches its own document, or all passages of a set of passages.

    Args:
        dataset: documents and questions.
        embedder: makes vectors, so that they search beside BM25; None for BM25 alone.
        entities: finds what chunks speak of, for a graph; None for none.
    """
    asked = by_document(dataset.queries)
    documents = tuple(
        AskedDocument(
            document,
            EvidenceIndex.build(_chunks(dataset, document), embedder, entities=entities),
            tuple(
                Case(one.id, one.question, one.kind or "all", one.spans, one.passages)
                for one in asked[document.id]
            ),
        )
        for document in dataset.documents
        if document.id in asked
    )
    if dataset.passages:
        return Suite(dataset.name, "passages", PASSAGE_KS, documents, dataset.skipped)
    return Suite(dataset.name, "hit", SET_KS, documents, dataset.skipped)


def _chunks(dataset: Dataset, document: Document) -> tuple[Chunk, ...]:
    if not dataset.passages:
        return word_chunks(document)
    return tuple(Chunk(one.id, one.text, one.id, 0, len(one.text)) for one in dataset.passages)
