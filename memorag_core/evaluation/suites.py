"""What evidence is measured on: documents in chunks, with questions whose evidence is known.

In: generated worlds, sets of real texts. Out: a ``Suite``. Knows no model and no clue.

Worlds are cut into chunks of three sentences (some 150 characters), so that a fact shares its chunk with
others; real texts into chunks of 200 words, which is what others measure on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from memorag_core.evaluation.chunks import sentence_chunks, word_chunks
from memorag_core.evaluation.datasets import Dataset, by_document
from memorag_core.evaluation.metrics import Span
from memorag_core.evaluation.worlds import AskedWorld
from memorag_core.records import Document
from memorag_core.retrieval import EvidenceIndex

Measure: TypeAlias = Literal["recall", "hit"]
"""What is counted among the best k chunks: the share of the chunks that hold the evidence, or whether at
least half of the evidence's characters are covered (and how much of them is, as ``coverage``)."""

WORLD_KS, SET_KS = (1, 3), (1, 3, 5, 10)


@dataclass(frozen=True, slots=True)
class Case:
    """A question with the characters of its evidence, a span for each piece."""

    id: str
    question: str
    kind: str
    gold: tuple[Span, ...]


@dataclass(frozen=True, slots=True, eq=False)
class AskedDocument:
    """A document, the index of its chunks, and the questions on it."""

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


def set_suite(dataset: Dataset) -> Suite:
    """A set of real texts in chunks of 200 words; each question searches its own document."""
    asked = by_document(dataset.queries)
    documents = tuple(
        AskedDocument(
            document,
            EvidenceIndex.build(word_chunks(document)),
            tuple(Case(one.id, one.question, one.kind or "all", one.spans) for one in asked[document.id]),
        )
        for document in dataset.documents
        if document.id in asked
    )
    return Suite(dataset.name, "hit", SET_KS, documents, dataset.skipped)
