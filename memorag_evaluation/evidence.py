"""Evidence recall: what clues from memory do for BM25, beside the question alone and an emptied memory.

In: a suite, the clues for its questions, a way to join the rankings. Out: for each question what the best k
chunks hold, the means with their paired differences, and how many spans are not in the text. Knows no memory
model.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from memorag_core.clues.verification import check_clues
from memorag_core.memory.grounding import Passages
from memorag_core.settings import ClueSettings, RetrievalSettings
from memorag_core.types import CLUE_KINDS, Chunk, Clue, ClueKind, Recall
from memorag_evaluation.asking import Recalled
from memorag_evaluation.metrics import (
    Estimate,
    Span,
    coverage,
    estimate,
    is_hit,
    overlap,
    paired_difference,
    share_found,
)
from memorag_evaluation.suites import Case, Suite
from memorag_evaluation.worlds import kind_groups

_CHECKED = ClueSettings()


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
            f"{self.settings.rrf_constant:g}, confidence {self.settings.confidence:g}, support "
            f"{self.settings.support:g}"
        )


Values: TypeAlias = tuple[Mapping[str, float], ...]
"""For each question of a suite, in order, the measures by name, such as "recall@1"."""


Ranked: TypeAlias = tuple[tuple[Chunk, ...], ...]
"""For each question of a suite, in order, the chunks that were found, best first."""


def measure(suite: Suite, recalled: Recalled | None, fusion: Fusion) -> Values:
    """Rank the chunks of every document and look at the best k of them.

    Args:
        suite: documents and questions.
        recalled: the clues; None for the question alone.
        fusion: how rankings are joined.
    """
    return judge(suite, rank(suite, recalled, fusion))


def rank(suite: Suite, recalled: Recalled | None, fusion: Fusion) -> Ranked:
    """The best chunks for every question, as many as the suite looks at; arguments as ``measure``."""
    ranked: list[tuple[Chunk, ...]] = []
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
        ranked += [tuple(one.chunk for one in evidence) for evidence in found]
    return tuple(ranked)


def judge(suite: Suite, ranked: Ranked) -> Values:
    """What the best k chunks of every question hold, for each k of the suite."""
    rankings = iter(ranked)
    return tuple(
        _values(suite, asked.index.chunks, case, next(rankings))
        for asked in suite.documents
        for case in asked.cases
    )


def _values(
    suite: Suite, chunks: Sequence[Chunk], case: Case, ranked: Sequence[Chunk]
) -> Mapping[str, float]:
    if suite.measure == "recall":
        homes = {_home(chunks, span) for span in case.gold}
        return {f"recall@{k}": share_found(homes, (chunk.id for chunk in ranked[:k])) for k in suite.ks}
    values = {}
    if suite.measure == "passages":
        shares = {k: share_found(case.chunks, (chunk.id for chunk in ranked[:k])) for k in suite.ks}
        values = {f"recall@{k}": share for k, share in shares.items()}
        return values | {f"all_gold@{k}": float(share == 1) for k, share in shares.items()}
    for k in suite.ks:
        spans = [(chunk.start, chunk.end) for chunk in ranked[:k]]
        values[f"hit@{k}"] = is_hit(case.gold, spans)
        values[f"coverage@{k}"] = coverage(case.gold, spans)
    return values


def _home(chunks: Sequence[Chunk], span: Span) -> str:
    """The id of the chunk that holds most of a span, the first among equals."""
    return max(chunks, key=lambda chunk: overlap((chunk.start, chunk.end), span)).id


# --- checking -----------------------------------------------------------------------------------------------


def check(suite: Suite, recalled: Recalled, settings: ClueSettings = _CHECKED) -> Recalled:
    """Hold the clues of every question against its document, as the pipeline does.

    Args:
        suite: documents and questions.
        recalled: the clues.
        settings: below which support a clue is dropped.
    """
    checked: dict[tuple[str, str], tuple[Clue, ...]] = {}
    for asked in suite.documents:
        questions = list(dict.fromkeys(case.question for case in asked.cases))
        found = check_clues(
            [Recall(question, recalled[asked.document.id, question]) for question in questions],
            passages=Passages.build([asked.document]),
            support=asked.index.support,
            settings=settings,
        )
        checked |= {(asked.document.id, one.question): one.clues for one in found}
    return checked


@dataclass(frozen=True, slots=True)
class Inventions:
    """How many recalled spans do not stand in the text, white space aside.

    Attributes:
        suite: where it was measured.
        spans: all of them.
        invented: those that do not.
        questions: with an invented span, by id of the document and question.
    """

    suite: str
    spans: int
    invented: int
    questions: frozenset[tuple[str, str]]

    @property
    def share(self) -> float | None:
        """Invented spans among all; None where there are no spans."""
        return self.invented / self.spans if self.spans else None


def inventions(suite: Suite, recalled: Recalled) -> Inventions:
    """Look every span up in the document that it was recalled from.

    Args:
        suite: documents and questions.
        recalled: the clues; those of other kinds are not looked at.
    """
    spans = invented = 0
    questions: set[tuple[str, str]] = set()
    for asked in suite.documents:
        passages = Passages.build([asked.document])
        for key in dict.fromkeys((asked.document.id, case.question) for case in asked.cases):
            texts = [clue.text for clue in recalled[key] if clue.kind == "span"]
            missing = [text for text in texts if passages.find(text) is None]
            spans += len(texts)
            invented += len(missing)
            if missing:
                questions.add(key)
    return Inventions(suite.name, spans, invented, frozenset(questions))


# --- comparing ----------------------------------------------------------------------------------------------

Variant: TypeAlias = Literal["question", "free", "grounded", "checked", "emptied"]
"""How is searched: with the question alone; with clues of which spans are free, or held to the text, or held
and then checked against it; with those of an emptied memory."""

VARIANTS: tuple[Variant, ...] = get_args(Variant)

COMPARED: tuple[tuple[Variant, Variant], ...] = (
    ("free", "question"),
    ("grounded", "question"),
    ("checked", "question"),
    ("grounded", "free"),
    ("checked", "free"),
    ("checked", "grounded"),
    ("free", "emptied"),
    ("checked", "emptied"),
)
"""What is compared with what, where both were measured."""

INVENTED = "invented"
"""The kind of all questions for which a free span does not stand in the text."""


@dataclass(frozen=True, slots=True)
class EvidenceScore:
    """One measure of one kind of question, by several ways to search.

    Attributes:
        suite: where it was measured.
        kind: of the questions; "one_hop" is all implicit ones that one sentence answers, "all" all of them,
            "invented" those for which a free span does not stand in the text.
        measure: such as "recall@1".
        questions: how many.
        means: of each variant.
        differences: by names such as "grounded - free", paired question by question.
    """

    suite: str
    kind: str
    measure: str
    questions: int
    means: Mapping[Variant, Estimate]
    differences: Mapping[str, Estimate]


def compare(
    suite: Suite,
    values: Mapping[Variant, Values],
    *,
    invented: Collection[tuple[str, str]] = (),
    seed: int = 0,
) -> tuple[EvidenceScore, ...]:
    """Put ways to search side by side, with intervals over documents.

    Args:
        suite: what was measured on.
        values: from ``measure``, with the clues of each variant.
        invented: the questions with an invented span, as ``inventions`` gives them.
        seed: of the bootstrap.
    """
    cases = list(suite.cases)
    groups = {
        kind: [place for place, (_, case) in enumerate(cases) if case.kind in wanted]
        for kind, wanted in kind_groups([case.kind for _, case in cases]).items()
    }
    groups[INVENTED] = [
        place for place, (document, case) in enumerate(cases) if (document, case.question) in invented
    ]
    names = next(iter(next(iter(values.values()))), {})
    return tuple(
        _score(suite, kind, name, places, values, seed)
        for kind, places in groups.items()
        if places
        for name in names
    )


def _score(
    suite: Suite,
    kind: str,
    name: str,
    places: Sequence[int],
    values: Mapping[Variant, Values],
    seed: int,
) -> EvidenceScore:
    cases = list(suite.cases)
    documents = [cases[place][0] for place in places]
    columns = {variant: [own[place][name] for place in places] for variant, own in values.items()}
    return EvidenceScore(
        suite=suite.name,
        kind=kind,
        measure=name,
        questions=len(places),
        means={variant: estimate(column, documents, seed=seed) for variant, column in columns.items()},
        differences={
            f"{one} - {other}": paired_difference(columns[one], columns[other], documents, seed=seed)
            for one, other in COMPARED
            if one in columns and other in columns
        },
    )
