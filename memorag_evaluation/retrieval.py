"""Ways to search beside one another: with the question alone, with clues of a memory, with perfect clues.

In: a suite over an index that has what the ways need, clues, settings. Out: for each way and measure the
means with their intervals, the paired gains of the clues, and the paired differences between ways. Knows no
memory model and no encoder.

All ways rank the same chunks, give the same number of them, and are asked the same questions; what the best k
chunks take in words is told beside, for passages are not all of one length.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

from memorag_core.settings import RetrievalSettings
from memorag_evaluation.asking import Recalled
from memorag_evaluation.evidence import Fusion, Ranked, Values, judge, rank
from memorag_evaluation.metrics import Estimate, answer_tokens, estimate, paired_difference
from memorag_evaluation.oracle import oracle_clues
from memorag_evaluation.suites import Suite
from memorag_evaluation.ways import PARTS, WAYS, Way, settings_of
from memorag_evaluation.worlds import kind_groups

Asked: TypeAlias = Literal["question", "clues", "oracle", "ceiling"]
"""What the retrievers are asked beside the question: nothing; the clues of a memory; those of a perfect
memory, which weigh as much as a memory's; the same, each as loud as the question."""

ASKED: tuple[Asked, ...] = get_args(Asked)

BETTER_PART = "better part"
"""In the name of a difference: the part of a way with the higher mean on the same questions."""


@dataclass(frozen=True, slots=True)
class Column:
    """One measure of one way, asked in one manner.

    Attributes:
        mean: over the questions that were asked in this manner, with an interval over documents.
        gain: over the question alone, paired on the same questions; None for the question itself.
    """

    mean: Estimate
    gain: Estimate | None = None


@dataclass(frozen=True, slots=True)
class WayScore:
    """One measure of one kind of question by one way to search.

    Attributes:
        suite: where it was measured.
        kind: of the questions, "all" for all of them.
        measure: such as "hit@5".
        way: how was searched.
        words: that the chunks of this k take, a mean over the questions, with the question alone.
        columns: by what was asked.
    """

    suite: str
    kind: str
    measure: str
    way: Way
    words: float
    columns: Mapping[Asked, Column]


@dataclass(frozen=True, slots=True)
class WayDifference:
    """How much one way finds beyond another, paired on the same questions.

    ``name`` is such as "hybrid - bm25", "hybrid - better part" or "hybrid + graph - hybrid".
    """

    suite: str
    kind: str
    measure: str
    asked: Asked
    name: str
    difference: Estimate


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of a suite: every way by every measure, and the ways against each other."""

    scores: tuple[WayScore, ...]
    differences: tuple[WayDifference, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """The questions that were asked in one manner, and what each way found for them."""

    suite: Suite
    values: Mapping[Way, Values]
    ranked: Mapping[Way, Ranked]


def compare_ways(
    suite: Suite,
    *,
    settings: RetrievalSettings,
    ways: Sequence[Way] = WAYS,
    asked: Suite | None = None,
    recalled: Recalled | None = None,
    seed: int = 0,
) -> Comparison:
    """Search a suite in every way: with the question, with perfect clues, and with recalled ones.

    Args:
        suite: documents and questions; its indexes have vectors and a graph where the ways need them.
        settings: how rankings are joined.
        ways: to search.
        asked: the questions that the memory was asked, of the same suite; None for none.
        recalled: the clues for them.
        seed: of the bootstrap.

    Raises:
        InputError: A way needs vectors or a graph that an index was built without.
    """
    oracle = oracle_clues(suite)
    loud = {**settings.clue_weights, "span": 1.0}
    found: dict[Asked, _Found] = {
        "question": _search(suite, None, ways, settings),
        "oracle": _search(suite, oracle, ways, settings),
        "ceiling": _search(suite, oracle, ways, replace(settings, clue_weights=loud, decay=1.0)),
    }
    if asked is not None and recalled is not None:
        found["clues"] = _search(asked, recalled, ways, settings)
    cells = tuple(_cells(found, suite, ways))
    return Comparison(
        tuple(cell.score(seed) for cell in cells),
        tuple(difference for cell in cells for difference in _differences(cell, cells, seed)),
    )


def _search(
    suite: Suite, recalled: Recalled | None, ways: Sequence[Way], settings: RetrievalSettings
) -> _Found:
    ranked = {way: rank(suite, recalled, Fusion(settings_of(way, settings))) for way in ways}
    return _Found(suite, {way: judge(suite, own) for way, own in ranked.items()}, ranked)


# --- summing up ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Cell:
    """The values of one measure, one kind of question and one way, by what was asked and by question."""

    suite: str
    kind: str
    measure: str
    way: Way
    words: float
    values: Mapping[Asked, Mapping[tuple[str, str], float]]  # by (id of the document, id of the question)

    def score(self, seed: int) -> WayScore:
        """Means and gains."""
        alone = self.values["question"]
        columns: dict[Asked, Column] = {}
        for asked, own in self.values.items():
            documents = [document for document, _ in own]
            gain = None
            if asked != "question":
                gain = paired_difference(
                    list(own.values()), [alone[key] for key in own], documents, seed=seed
                )
            columns[asked] = Column(estimate(list(own.values()), documents, seed=seed), gain)
        return WayScore(self.suite, self.kind, self.measure, self.way, self.words, columns)


def _cells(found: Mapping[Asked, _Found], suite: Suite, ways: Sequence[Way]) -> Iterator[_Cell]:
    kinds = [case.kind for _, case in suite.cases]
    lengths = {
        chunk.id: len(answer_tokens(chunk.text)) for own in suite.documents for chunk in own.index.chunks
    }
    names = list(found["question"].values[ways[0]][0])
    for kind, wanted in kind_groups(kinds).items():
        own = "all" if wanted == set(kinds) else kind
        for name in names:
            for way in ways:
                values: dict[Asked, Mapping[tuple[str, str], float]] = {}
                for asked in ASKED:
                    if asked in found:
                        values[asked] = dict(_of(found[asked], way, wanted, name))
                yield _Cell(
                    suite.name,
                    own,
                    name,
                    way,
                    _words(found["question"], way, wanted, int(name.partition("@")[2]), lengths),
                    {asked: one for asked, one in values.items() if one},
                )


def _of(found: _Found, way: Way, kinds: frozenset[str], name: str) -> Iterator[tuple[tuple[str, str], float]]:
    for (document, case), values in zip(found.suite.cases, found.values[way], strict=True):
        if case.kind in kinds:
            yield (document, case.id), values[name]


def _words(found: _Found, way: Way, kinds: frozenset[str], k: int, lengths: Mapping[str, int]) -> float:
    sums = [
        sum(lengths[chunk.id] for chunk in ranked[:k])
        for (_, case), ranked in zip(found.suite.cases, found.ranked[way], strict=True)
        if case.kind in kinds
    ]
    return sum(sums) / len(sums)


def _differences(cell: _Cell, cells: Sequence[_Cell], seed: int) -> Iterator[WayDifference]:
    """What a way finds beyond each of its parts, and beyond the better one where it has several."""
    others = {
        other.way: other
        for other in cells
        if (other.kind, other.measure) == (cell.kind, cell.measure) and other.way in PARTS.get(cell.way, ())
    }
    for asked, own in cell.values.items():
        parts = {way: list(other.values[asked].values()) for way, other in others.items()}
        compared = {f"{cell.way} - {way}": values for way, values in parts.items()}
        if len(parts) > 1:
            compared[f"{cell.way} - {BETTER_PART}"] = max(parts.values(), key=sum)
        documents = [document for document, _ in own]
        for name, values in compared.items():
            yield WayDifference(
                cell.suite,
                cell.kind,
                cell.measure,
                asked,
                name,
                paired_difference(list(own.values()), values, documents, seed=seed),
            )
