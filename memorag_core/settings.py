"""The settings of the stages: what can be chosen, its default with the reason, and what is refused.

In: numbers and names. Out: frozen, hashable values that are checked as they are made. Knows no stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import wraps
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeAlias, TypeVar, get_args

from memorag_core.errors import InputError, warn_renamed
from memorag_core.types import CLUE_KINDS, ClueKind

Expansion: TypeAlias = Literal["separate", "append", "both"]
"""What a clue asks the retrievers: its own text, the question with its text after it, or one list of each."""

FusionMethod: TypeAlias = Literal["rrf", "relative_score"]
"""How ranked lists become one: by ranks alone, or by scores, each list's brought to 0 to 1."""

EvidenceOrder: TypeAlias = Literal["rank", "document"]
"""How evidence stands in a result: the best first, or as it stands in the corpus."""

RetrieverName: TypeAlias = Literal["bm25", "dense", "learned_sparse", "graph"]
"""What ranks the chunks: BM25, vectors, an encoder's token weights (bge-m3's), the graph of chunks."""


def _refuse_change(*_: object, **__: object) -> NoReturn:
    raise TypeError(
        "The weights of settings cannot be changed, for settings are shared. Make others: "
        "dataclasses.replace(settings, clue_weights={**settings.clue_weights, 'span': 0.5})."
    )


class Weights(dict[str, float]):
    """Weights by name, as a value: they cannot be changed, and can be hashed."""

    __slots__ = ()
    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse_change

    def __hash__(self) -> int:  # type: ignore[override]  # a dict has none
        return hash(frozenset(self.items()))

    def __deepcopy__(self, memo: dict[int, Any]) -> Weights:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)


CLUE_WEIGHTS = Weights(span=0.1, query=0.1, answer=0.1, key_point=1.0, entity=0.1, step=0.1)
"""Of the best clue of each kind. A tenth of the question's: enough to decide where the question finds little,
which is what clues are for, and too little to overrule what it finds. For a large memory model, whose clues
are better than those of the bundled one, 0.5 to 1 is worth trying. 1 for key points, for a summary has no
question worth looking up."""

RETRIEVER_WEIGHTS = Weights(bm25=1.0, dense=1.0, learned_sparse=0.0, graph=0.0)
"""Of each retriever's lists. Token weights and the graph take time and room, so they are made only where they
weigh more than 0. A ``graph`` of 1 hardly moves the first rank and finds more behind it (docs/retrieval.md),
with "rrf": most of a walk stays where it began, so relative scores leave little to what it reaches."""

_NONE_OF = {"bm25": "BM25", "dense": "vectors", "learned_sparse": "token weights", "graph": "graph"}

_OLD_WEIGHTS: Mapping[str, tuple[str, str]] = {
    **{f"{kind}_weight": ("clue_weights", kind) for kind in CLUE_KINDS},
    **{f"{name}_weight": ("retriever_weights", name) for name in ("bm25", "dense", "graph")},
    "lexical_weight": ("retriever_weights", "learned_sparse"),
}
"""A field that each weight had once -> the mapping that it is in now, and its name there."""

S = TypeVar("S")


def with_grouped_weights(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of ``RetrievalSettings`` by their names today, such as those of a store written before."""
    fields = {name: value for name, value in given.items() if name not in _OLD_WEIGHTS}
    for old, (group, name) in _OLD_WEIGHTS.items():
        if old in given:
            fields[group] = {**fields.get(group, {}), name: given[old]}
    return fields


def _takes_old_weights(settings: type[S]) -> type[S]:
    """Let settings be made with the old names of weights too, for one version."""
    init = settings.__init__

    @wraps(init)
    def __init__(self: S, *args: Any, **kwargs: Any) -> None:
        for old in kwargs.keys() & _OLD_WEIGHTS.keys():
            group, name = _OLD_WEIGHTS[old]
            warn_renamed(f"RetrievalSettings({old}=...)", f"{group}={{{name!r}: ...}}")
        init(self, *args, **with_grouped_weights(kwargs))

    settings.__init__ = __init__  # type: ignore[method-assign, assignment]
    return settings


@dataclass(frozen=True, slots=True)
class ChunkSettings:
    """How documents are cut into chunks.

    Attributes:
        size: The most characters in a chunk. 800 are some 140 English words or 200 tokens: no more than the
            256 tokens that small sentence encoders read, few enough that a match is about one thing, and four
            of them are a prompt that any generator can take.
        overlap: Characters that a chunk may repeat from the one before it. 0, because chunks are cut between
            sentences where there are any, and repeated text takes two of the k places for one thing.

    Raises:
        InputError: A size below 1, or an overlap that is negative or not below the size.
    """

    size: int = 800
    overlap: int = 0

    def __post_init__(self) -> None:
        check_whole("ChunkSettings.size", self.size, least=1, remedy="Give the characters of a chunk (800).")
        check_whole("ChunkSettings.overlap", self.overlap, least=0, remedy="Give 0 for chunks side by side.")
        if self.overlap >= self.size:
            raise InputError(
                f"ChunkSettings.overlap is {self.overlap}; expected less than the size, {self.size}. "
                "Lower the overlap or raise the size."
            )


@dataclass(frozen=True, slots=True)
class ClueSettings:
    """What is asked of the memory for a question.

    Attributes:
        kinds: The kinds of clue, in the order in which they come out. Spans name the place, surrogate
            questions put the question into the words of the text, the draft answer holds what both look for;
            key points serve summaries and are asked for there.
        per_kind: Clues kept of each kind. 3, because a question has few places in a text, and every further
            clue is a vote against the question's own ranking.
        max_new_tokens: The most tokens the memory model may write for one request; None leaves it to the
            model, which knows how long its clues are.
        language: The language of the requests ("en", "zh", ...); None takes that of the text. A model with
            prompts of its own uses those.
        max_parts: Where a corpus lies in several parts of a memory, the most that a question is put to: those
            that hold what it finds by itself. It saves time, or a hosted model's tokens, where questions name
            what they ask about. None asks all parts, for a vague question finds nothing by itself.
        grounded: Hold spans to the text while they are decoded, so that each of them stands in it word for
            word. Models that answer over an API cannot be held; False leaves all of them free.
        least_support: What a clue is dropped below: the share of what it says that one place of the corpus
            must say. 0.3, which drops one to three of the bundled model's clues in a hundred and loses no
            evidence; from 0.5 on, clues go that were right in one rare word. 0 keeps all; spans that stand in
            the corpus, and the draft answer, stay always.
        max_seconds: The longest that the memory is asked for one call, once it is its turn; replies end where
            they are then, within one run of the model. None lets them end by themselves.

    Raises:
        InputError: No kind, an unknown one or one given twice; a number below 1; a blank language; a time
            that is none; a share that is not from 0 to 1.
    """

    kinds: tuple[ClueKind, ...] = ("span", "query", "answer")
    per_kind: int = 3
    max_new_tokens: int | None = None
    language: str | None = None
    max_parts: int | None = None
    grounded: bool = True
    least_support: float = 0.3
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        expected = f"expected one or more of {', '.join(CLUE_KINDS)}, each once"
        if isinstance(self.kinds, str) or not all(isinstance(kind, str) for kind in self.kinds):
            raise InputError(f"ClueSettings.kinds is {self.kinds!r}; {expected}. Give a tuple: ('span',).")
        object.__setattr__(self, "kinds", tuple(self.kinds))  # lists come from JSON
        unknown = [kind for kind in self.kinds if kind not in CLUE_KINDS]
        if unknown or not self.kinds or len(set(self.kinds)) < len(self.kinds):
            remedy = f"Take out {', '.join(map(repr, unknown))}." if unknown else "Name each kind once."
            raise InputError(f"ClueSettings.kinds is {self.kinds!r}; {expected}. {remedy}")
        check_whole(
            "ClueSettings.per_kind", self.per_kind, least=1, remedy="To ask for less, name fewer kinds."
        )
        if self.max_new_tokens is not None:
            check_whole(
                "ClueSettings.max_new_tokens",
                self.max_new_tokens,
                least=1,
                remedy="Give None for the model's own limit.",
            )
        if self.max_parts is not None:
            check_whole("ClueSettings.max_parts", self.max_parts, least=1, remedy="Give None for all parts.")
        if not isinstance(self.grounded, bool):
            raise InputError(f"ClueSettings.grounded is {self.grounded!r}; expected True or False.")
        _check_number("ClueSettings.least_support", self.least_support, remedy="0 keeps all clues.")
        if self.least_support > 1:
            raise InputError(
                f"ClueSettings.least_support is {self.least_support!r}; expected a share from 0 to 1. 0 "
                "keeps all clues."
            )
        if self.max_seconds is not None:
            _check_number(
                "ClueSettings.max_seconds", self.max_seconds, remedy="Give None to let replies end."
            )
        if self.language is not None and not (isinstance(self.language, str) and self.language.strip()):
            raise InputError(
                f"ClueSettings.language is {self.language!r}; expected a code such as 'en' or 'zh', or None. "
                "Give None to have it found from the text."
            )


@_takes_old_weights
@dataclass(frozen=True, slots=True)
class RetrievalSettings:
    """How the rankings of the question and of the clues become one.

    Attributes:
        k: Pieces of evidence. 4 chunks of the default size are about 800 tokens of prompt.
        rrf_constant: The constant of reciprocal rank fusion, a rank's share being weight / (constant + rank).
            60 in Cormack, Clarke and Büttcher (SIGIR 2009), where all lists are worth the same; 5 lets the
            first ranks of the question's list lead, whatever a few clues say.
        fan_out: How deep each ranked list is read. Below rank 50 a share differs little from the next one's,
            so more depth costs time and moves nothing. Never less than k is read.
        question_weight: Weight of the question's own lists: the highest, for the question is certain and a
            clue is a recollection.
        clue_weights: Weight of the best clue of each kind, before its belief is counted in; kinds that are
            left out weigh what ``CLUE_WEIGHTS`` says.
        expansion: What a clue asks. Its weight is shared by its lists, so that "both" makes no clue louder.
        decay: What each further clue of a kind weighs, of the one before. A memory says first what it is
            surest of, and tends to go on when it has nothing more to say; 1 counts all alike.
        confidence: A clue's weight is multiplied by exp(``confidence * score``): the geometric mean of its
            tokens' probabilities, to this power. What the memory hardly believed counts for less; 0 leaves
            belief out.
        support: A clue's weight is multiplied by its support to this power: what the corpus does not say
            counts for less. 0.25, for a lexical search passes over unknown words as it is, and a surrogate
            question may be right in one word only: 1 loses evidence. 0 leaves support out. Clues that were
            not checked keep their weight.
        fusion: "rrf" is weighted reciprocal rank fusion: a chunk has ``weight / (rrf_constant + rank)`` of
            each list. "relative_score" is ``weight * (score - lowest) / (highest - lowest)``, over the scores
            of the list; 1 for all where they are equal. Ranks, because BM25's scores and cosines are spread
            differently, and one far-off score would push all others of its list together.
        retriever_weights: Weight of each retriever's lists; those that are left out weigh what
            ``RETRIEVER_WEIGHTS`` says, and 0 leaves one out. "dense" counts where there is an embedder,
            "learned_sparse" where it gives token weights too, in units of BM25's and the vectors'. "graph" is
            the weight of what hangs together with the first chunks found, by the names and rare words that it
            shares with them, in units of all the question's own lists together.
        graph_anchors: Chunks from which the graph is walked. 2: of 2, 3 and 4, they did best.
        graph_damping: Share of the steps that go on instead of starting again; 0.5, as in HippoRAG.
        rerank_depth: Chunks of the fused ranking that a re-ranker reads, where one is given; never less than
            ``k``. 20: of 100 questions about tales, BM25's first chunk of 200 words holds the evidence of 51,
            its first 5 that of 77, its first 10 that of 86 (benchmarks/README.md, ``retrieval``); every
            further one takes the re-ranker as long as the first.
        budget: The most that all evidence may take together, in characters, or in whatever a counter that is
            given counts. The ``k`` best are taken in their order, those left out that do not fit any more; so
            there are at most ``k`` then. None for no limit.
        neighbours: Chunks of the same document that are added on each side of a piece of evidence, as far as
            the budget has room when all evidence has its own. They stand behind it, are not among the ``k``,
            and have a hit of the retriever "neighbour".
        order: "rank" or "document". By rank, as those who read a result from the top expect; in the order of
            the documents a generator reads connected passages as they were written. Ranks and scores stay.

    Raises:
        InputError: A whole number below its least, a constant below 0, a weight below 0, not finite, of
            something unknown, or all weights 0; a decay above 1; a damping that is not below 1; an unknown
            expansion, fusion or order.
    """

    k: int = 4
    rrf_constant: float = 5.0
    fan_out: int = 50
    question_weight: float = 1.0
    clue_weights: Mapping[ClueKind, float] = CLUE_WEIGHTS  # type: ignore[assignment]  # its keys are these
    expansion: Expansion = "separate"
    decay: float = 0.5
    confidence: float = 4.0
    support: float = 0.25
    fusion: FusionMethod = "rrf"
    retriever_weights: Mapping[RetrieverName, float] = RETRIEVER_WEIGHTS  # type: ignore[assignment]
    graph_anchors: int = 2
    graph_damping: float = 0.5
    rerank_depth: int = 20
    budget: int | None = None
    neighbours: int = 0
    order: EvidenceOrder = "rank"

    def __post_init__(self) -> None:
        for name, choice in (("expansion", Expansion), ("fusion", FusionMethod), ("order", EvidenceOrder)):
            if getattr(self, name) not in get_args(choice):
                raise InputError(
                    f"RetrievalSettings.{name} is {getattr(self, name)!r}; expected one of "
                    f"{', '.join(get_args(choice))}."
                )
        _check_number("RetrievalSettings.confidence", self.confidence, remedy="0 leaves belief out.")
        _check_number("RetrievalSettings.support", self.support, remedy="0 leaves support out.")
        _check_number("RetrievalSettings.decay", self.decay, remedy="1 counts all clues alike.")
        if self.decay > 1:
            raise InputError(
                f"RetrievalSettings.decay is {self.decay!r}; expected 0 to 1. 1 counts all clues alike."
            )
        check_whole("RetrievalSettings.k", self.k, least=1, remedy="Give how many chunks to return (4).")
        check_whole(
            "RetrievalSettings.fan_out", self.fan_out, least=1, remedy="Give the depth of a list (50)."
        )
        check_whole(
            "RetrievalSettings.rerank_depth",
            self.rerank_depth,
            least=1,
            remedy="Give the chunks to read (20).",
        )
        check_whole(
            "RetrievalSettings.graph_anchors",
            self.graph_anchors,
            least=1,
            remedy="Give the graph a weight of 0 for none.",
        )
        if self.budget is not None:
            check_whole("RetrievalSettings.budget", self.budget, least=1, remedy="Give None for no limit.")
        check_whole("RetrievalSettings.neighbours", self.neighbours, least=0, remedy="Give 0 for none.")
        self._group("clue_weights", CLUE_WEIGHTS)
        self._group("retriever_weights", RETRIEVER_WEIGHTS)
        if not any(weight for name, weight in self.retriever_weights.items() if name != "graph"):
            raise InputError(
                "RetrievalSettings.retriever_weights has 0 for all that search; expected one above 0, or "
                "nothing searches. Raise that of 'bm25' (1 is usual)."
            )
        _check_number("RetrievalSettings.graph_damping", self.graph_damping, remedy="0.5 is usual.")
        if self.graph_damping >= 1:
            raise InputError(
                f"RetrievalSettings.graph_damping is {self.graph_damping!r}; expected 0 to below 1, the "
                "share of the steps that go on (0.5 is usual)."
            )
        _check_number("RetrievalSettings.rrf_constant", self.rrf_constant, remedy="5 and 60 are usual.")
        _check_number(
            "RetrievalSettings.question_weight", self.question_weight, remedy="Give 0 to leave its lists out."
        )
        if not (self.question_weight or any(self.clue_weights.values())):
            raise InputError(
                "RetrievalSettings has only weights of 0; expected one above 0, or nothing can be ranked. "
                "Raise question_weight (1 is usual)."
            )

    def weight(self, kind: ClueKind | Literal["question"]) -> float:
        """The weight of a ranked list that was found with the question or with a clue of this kind."""
        return float(self.question_weight if kind == "question" else self.clue_weights[kind])

    def _group(self, field: str, defaults: Weights) -> None:
        """Check weights, and fill up those that were left out."""
        given = getattr(self, field)
        unknown = [name for name in given if name not in defaults] if isinstance(given, Mapping) else [given]
        if unknown:
            raise InputError(
                f"RetrievalSettings.{field} has {', '.join(map(repr, unknown))}; expected a mapping from "
                f"some of {', '.join(defaults)} to weights. What is left out keeps its default."
            )
        for name, weight in given.items():
            none = f"for no {_NONE_OF[name]}" if name in _NONE_OF else "to leave the lists out"
            _check_number(f"RetrievalSettings.{field}[{name!r}]", weight, remedy=f"Give 0 {none}.")
        object.__setattr__(self, field, Weights({**defaults, **given}))

    if not TYPE_CHECKING:  # a type checker should not know the old names

        def __getattr__(self, old: str) -> float:
            if old not in _OLD_WEIGHTS:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {old!r}")
            group, name = _OLD_WEIGHTS[old]
            warn_renamed(f"RetrievalSettings.{old}", f"{group}[{name!r}]")
            return getattr(self, group)[name]


def check_whole(name: str, value: object, *, least: int, remedy: str) -> None:
    """Refuse a setting that is no whole number of ``least`` or more.

    Raises:
        InputError: With the name, what was found, what was expected, and the remedy.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {value!r}; expected a whole number of {least} or more. {remedy}")


def _check_number(name: str, value: object, *, remedy: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (isfinite(value) and value >= 0):
        raise InputError(f"{name} is {value!r}; expected a finite number of 0 or more. {remedy}")
