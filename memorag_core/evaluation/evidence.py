"""Evidence recall: what clues from memory do for BM25, beside the question alone and an emptied memory.

In: a suite, the clues for its questions, a way to join the rankings. Out: for each question what the best k
chunks hold, and the means with their paired differences. Knows no memory model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from memorag_core.config import RetrievalSettings
from memorag_core.evaluation.asking import Recalled
from memorag_core.evaluation.metrics import (
    Estimate,
    Span,
    coverage,
    estimate,
    is_hit,
    overlap,
    paired_difference,
    share_found,
)
from memorag_core.evaluation.suites import Case, Suite
from memorag_core.evaluation.worlds import kind_groups
from memorag_core.records import CLUE_KINDS, Chunk, Clue, ClueKind


@dataclass(frozen=True, slots=True)
class Fusion:
    """A way to join the rankings of a question and its clues.

    Attributes:
        settings: weights, constant, depth and what clues ask; ``k`` is the suite's.
        kinds: the kinds of clue that are used.
    """

    settings: RetrievalSettings = field(default_factory=RetrievalSettings)
    kinds: tuple[ClueKind, ...] = CLUE_KINDS

    def chosen(self, clues: Iterable[Clue]) -> tuple[Clue, ...]:
        """The clues that are used."""
        return tuple(clue for clue in clues if clue.kind in self.kinds)

    def __str__(self) -> str:
        asking: tuple[ClueKind | Literal["question"], ...] = ("question", *self.kinds)
        weights = ", ".join(f"{kind} {self.settings.weight(kind):g}" for kind in asking)
        return (
            f"{self.settings.expansion}, {weights}, decay {self.settings.decay:g}, constant "
            f"{self.settings.rrf_constant:g}, confidence {self.settings.confidence:g}"
        )


Values: TypeAlias = tuple[Mapping[str, float], ...]
"""For each question of a suite, in order, the measures by name, such as "recall@1"."""


def measure(suite: Suite, recalled: Recalled | None, fusion: Fusion) -> Values:
    """Rank the chunks of every document and look at the best k of them.

    Args:
        suite: documents and questions.
        recalled: the clues; None for the question alone.
        fusion: how rankings are joined.
    """
    values: list[Mapping[str, float]] = []
    for asked in suite.documents:
        requests = [
            (case.question, fusion.chosen(recalled[asked.document.id, case.question]) if recalled else ())
            for case in asked.cases
        ]
        found = asked.index.retrieve_batch(
            requests,
            k=min(suite.ks[-1], len(asked.index.chunks)),
            settings=fusion.settings,
        )
        for case, evidence in zip(asked.cases, found, strict=True):
            values.append(_values(suite, asked.index.chunks, case, [one.chunk for one in evidence]))
    return tuple(values)


def _values(
    suite: Suite, chunks: Sequence[Chunk], case: Case, ranked: Sequence[Chunk]
) -> Mapping[str, float]:
    if suite.measure == "recall":
        homes = {_home(chunks, span) for span in case.gold}
        return {f"recall@{k}": share_found(homes, (chunk.id for chunk in ranked[:k])) for k in suite.ks}
    values = {}
    for k in suite.ks:
        spans = [(chunk.start, chunk.end) for chunk in ranked[:k]]
        values[f"hit@{k}"] = is_hit(case.gold, spans)
        values[f"coverage@{k}"] = coverage(case.gold, spans)
    return values


def _home(chunks: Sequence[Chunk], span: Span) -> str:
    """The id of the chunk that holds most of a span, the first among equals."""
    return max(chunks, key=lambda chunk: overlap((chunk.start, chunk.end), span)).id


# --- comparing ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EvidenceScore:
    """One measure of one kind of question, by three ways to search.

    Attributes:
        suite: where it was measured.
        kind: of the questions; "one_hop" is all implicit ones that one sentence answers, "all" all of them.
        measure: such as "recall@1".
        questions: how many.
        question: the question alone.
        clues: with clues of the memory.
        emptied: with clues of the emptied memory; None where it was not asked.
        gain: clues less question, paired.
        over_emptied: clues less emptied, paired.
    """

    suite: str
    kind: str
    measure: str
    questions: int
    question: Estimate
    clues: Estimate
    emptied: Estimate | None
    gain: Estimate
    over_emptied: Estimate | None


def compare(
    suite: Suite, question: Values, clues: Values, emptied: Values | None = None, *, seed: int = 0
) -> tuple[EvidenceScore, ...]:
    """Put the three ways to search side by side, with intervals over documents.

    Args:
        suite: what was measured on.
        question: from ``measure`` without clues.
        clues: from ``measure`` with the memory's clues.
        emptied: from ``measure`` with the emptied memory's clues.
        seed: of the bootstrap.
    """
    cases = list(suite.cases)
    scores = []
    for kind, wanted in kind_groups([case.kind for _, case in cases]).items():
        places = [place for place, (_, case) in enumerate(cases) if case.kind in wanted]
        documents = [cases[place][0] for place in places]
        for name in question[0] if question else ():
            columns = [
                [column[place][name] for place in places] if column is not None else None
                for column in (question, clues, emptied)
            ]
            asked, found, control = columns
            assert asked is not None
            assert found is not None
            scores.append(
                EvidenceScore(
                    suite=suite.name,
                    kind=kind,
                    measure=name,
                    questions=len(places),
                    question=estimate(asked, documents, seed=seed),
                    clues=estimate(found, documents, seed=seed),
                    emptied=estimate(control, documents, seed=seed) if control is not None else None,
                    gain=paired_difference(found, asked, documents, seed=seed),
                    over_emptied=(
                        paired_difference(found, control, documents, seed=seed)
                        if control is not None
                        else None
                    ),
                )
            )
    return tuple(scores)
