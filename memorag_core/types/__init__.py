"""The values that travel through the system: documents, chunks, clues, evidence, answers.

In: nothing. Out: frozen dataclasses. Knows nothing of models, indexes or frameworks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from memorag_core.types.metadata import FrozenDict, frozen

ClueKind: TypeAlias = Literal["span", "query", "answer", "key_point", "entity", "step"]
"""What a clue is: text of the corpus, a surrogate question, a draft answer, a key point of a summary, a name
that the question is about, a finding on the way to the answer."""

CLUE_KINDS: tuple[ClueKind, ...] = get_args(ClueKind)


class NoId(str):
    """The id of a document that was given none: it reads "0", and gives way to one of its own."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Document:
    """What the user gives: a text with an id and metadata.

    One without an id gets the lowest free number when it is memorized, and takes no other's place. What is
    given is copied then: documents that a memory hands out cannot be changed, nor can their metadata.
    """

    text: str
    id: str = NoId("0")
    metadata: Mapping[str, Any] = field(default_factory=dict)


def has_id(document: Document) -> bool:
    """Whether a document was given an id."""
    return not isinstance(document.id, NoId)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage of a document that can be retrieved; ``text`` is ``document.text[start:end]``.

    Its metadata cannot be changed, for all who ask share it; ``memorag_core.thawed`` copies them.
    """

    id: str
    text: str
    document_id: str
    start: int
    end: int
    metadata: Mapping[str, Any] = field(default_factory=FrozenDict)

    def __post_init__(self) -> None:
        if type(self.metadata) is not FrozenDict:
            object.__setattr__(self, "metadata", frozen(self.metadata))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a text stands in the corpus: ``text == document.text[start:end]``."""

    document_id: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to a memory: a question, for one kind of clue, put to some parts or (None) to all."""

    question: str
    kind: ClueKind
    parts: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """A line that was held to the corpus while it was decoded; ``text`` is what stands there.

    ``score`` is the mean natural-log probability that the model gave its tokens, constraint or not, plus,
    where the model can say that it remembers nothing, the log probability that it does not say so.
    """

    text: str
    place: Place
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Recollection:
    """What a memory model said to one request from one part of its memory.

    ``score`` is the mean natural-log probability of the generated tokens (0 is certainty), plus, where the
    model can say that it remembers nothing, the log probability that it does not say so. ``part`` counts the
    parts of the memory from 0. ``finished`` is False when a limit cut it off. ``spans`` are the lines of a
    reply that was held to the corpus; None for one that was free. ``withheld`` is what the model wrote and
    hardly believed itself, and so is not taken as said.
    """

    text: str
    score: float = 0.0
    part: int = 0
    tokens: int = 0
    finished: bool = True
    spans: tuple[Span, ...] | None = None
    withheld: str = ""


@dataclass(frozen=True, slots=True)
class Clue:
    """A line recalled from memory for a question. A key for retrieval, never evidence.

    ``place`` is where it stands in the corpus, where that is known. ``support`` says how much of what it
    says the corpus says, from 0 to 1; None where that was not looked at.
    """

    text: str
    kind: ClueKind
    score: float = 0.0
    part: int = 0
    place: Place | None = None
    support: float | None = None


@dataclass(frozen=True, slots=True)
class DroppedClue:
    """What a memory said that became no clue, and why."""

    text: str
    kind: ClueKind
    reason: str
    part: int = 0


@dataclass(frozen=True, slots=True)
class Recall:
    """All that came of asking a memory about one question.

    Attributes:
        question: what was asked about.
        clues: in the order of the kinds, best first within a kind.
        dropped: what was said and is no clue, in the order of the kinds.
        replies: for each kind what the parts said.
        tokens: that were generated.
        seconds: that asking took, with all questions that were asked together.
        kept: whether this was kept from an earlier asking, which took those tokens and seconds.
    """

    question: str
    clues: tuple[Clue, ...] = ()
    dropped: tuple[DroppedClue, ...] = ()
    replies: Mapping[ClueKind, tuple[Recollection, ...]] = field(default_factory=FrozenDict)
    tokens: int = 0
    seconds: float = 0.0
    kept: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        if type(self.replies) is not FrozenDict:  # a recall is kept, and given to all who ask the same
            object.__setattr__(self, "replies", FrozenDict(self.replies))


@dataclass(frozen=True, slots=True)
class Hit:
    """One place of a chunk in one ranked list: which retriever, asked what, at which rank (from 1).

    ``score`` is the retriever's own, the higher the better; None where it gives none.
    """

    retriever: str
    query: str
    kind: ClueKind | Literal["question"]
    rank: int
    score: float | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """A chunk found with the question and the clues; ``rank`` counts from 1, ``score`` is the fused score."""

    chunk: Chunk
    score: float
    rank: int
    hits: tuple[Hit, ...] = ()

    @property
    def clues(self) -> tuple[str, ...]:
        """The texts of the clues that found this chunk, best rank first, without the question."""
        found = sorted((hit for hit in self.hits if hit.kind != "question"), key=lambda hit: hit.rank)
        return tuple(dict.fromkeys(hit.query for hit in found))


@dataclass(frozen=True, slots=True)
class FoundPassage:
    """What a retriever of the user's own gives: a passage of whatever it searches.

    ``id`` is the retriever's name for it; without one, equal texts are the same passage. ``score`` is the
    higher the better; None where the retriever gives no scores, or such as cannot be compared that way.
    """

    text: str
    id: str | None = None
    score: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SearchFailure:
    """A search of the user's own retriever that gave nothing: what was asked, and what went wrong.

    ``error`` is the type of the exception and its message; ``seconds`` is how long it took to fail.
    """

    query: str
    kind: ClueKind | Literal["question"]
    error: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Findings:
    """What came of searching for one question.

    Attributes:
        question: what was asked.
        evidence: best first.
        failures: searches that gave nothing; the evidence was found without them.
        seconds: that searching took, with all questions that were searched for together.
    """

    question: str
    evidence: tuple[Evidence, ...] = ()
    failures: tuple[SearchFailure, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Citation:
    """A number in the text of an answer that names a passage of its evidence.

    ``start`` and ``end`` are characters of that text: those of the mark in brackets, which several numbers
    may share. ``evidence`` is the passage's index among the evidence, from 0, ``place`` where it stands in
    the corpus; None for a passage of unknown place.
    """

    number: int
    start: int
    end: int
    evidence: int
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Unfounded:
    """A number in the text of an answer that is written like a citation, and no passage has it."""

    number: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The text given to the user, with the evidence and clues behind it and who wrote it.

    ``citations`` say which evidence the text names where, and ``unfounded`` what it names that is not there.
    """

    text: str
    question: str
    source: Literal["generator", "memory"]
    evidence: tuple[Evidence, ...] = ()
    clues: tuple[Clue, ...] = ()
    citations: tuple[Citation, ...] = ()
    unfounded: tuple[Unfounded, ...] = ()
