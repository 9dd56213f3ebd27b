"""Re-ranking: a slower model reads question and passage together and orders what was found.

In: a question, what retrieval found for it, and a re-ranker. Out: the same, in the re-ranker's order. The
re-ranker is asked with the question alone: a clue is a key that finds passages, and no measure of whether
they answer. Does not know how the passages were found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from inspect import iscoroutinefunction
from math import isfinite
from os import PathLike

from memorag_core.errors import InputError
from memorag_core.protocols import Reranker
from memorag_core.retrieval.encoders.flag import flag_reranker, is_flag_embedder, is_flag_reranker
from memorag_core.retrieval.encoders.sentence import cross_encoder, is_cross_encoder
from memorag_core.types import Evidence, Hit

RERANKER = "reranker"
"""The retriever's name in the Hit that a re-ranker leaves."""


_EXPECTED = (
    "expected a function (query, passages) -> scores, a FlagReranker of FlagEmbedding, or a CrossEncoder of "
    "sentence-transformers"
)


def as_reranker(value: object) -> Reranker:
    """Make a re-ranker of whatever scores passages for a question.

    Args:
        value: A re-ranker object of FlagEmbedding, a ``CrossEncoder``, or anything that can be called with a
            query and passages and gives a score for each passage.

    Raises:
        InputError: Anything else: a name, which says nothing of the library that loads it; a class in place
            of its object; an async function; an embedder.
    """
    if isinstance(value, str | PathLike):
        raise InputError(
            f"The re-ranker is the name {str(value)!r}, which does not say what loads it: give "
            f"flag_reranker({str(value)!r}) or cross_encoder({str(value)!r})."
        )
    if isinstance(value, type):
        raise InputError(
            f"The re-ranker is the class {value.__name__}; give an object: {value.__name__}(...)."
        )
    if is_flag_embedder(value):
        raise InputError(
            f"The re-ranker is a {type(value).__name__}, which is an embedder; {_EXPECTED}. Late interaction "
            "of bge-m3 is flag_embedder(model).colbert_scores."
        )
    if is_flag_reranker(value):
        return flag_reranker(value)
    if is_cross_encoder(value):
        return cross_encoder(value)
    if iscoroutinefunction(value) or not callable(value) or hasattr(value, "forward"):
        kind = "an async function" if iscoroutinefunction(value) else f"a {type(value).__name__}"
        raise InputError(f"The re-ranker is {kind}; {_EXPECTED}.")
    reranker: Reranker = value
    return reranker


def rerank(
    question: str, evidence: Sequence[Evidence], reranker: Reranker, *, k: int | None = None
) -> tuple[Evidence, ...]:
    """Order evidence by a re-ranker.

    Args:
        question: What the re-ranker reads with each passage.
        evidence: Best first; more than is wanted in the end, for the re-ranker to choose from.
        reranker: Called once, with each text once.
        k: How many to keep; None for all.

    Returns:
        ``k`` pieces of evidence, best first, those of equal score in their order before. Their score is the
        re-ranker's, their rank the new one, and a Hit of the retriever "reranker" follows those that found
        them; one of an earlier re-ranking is replaced.

    Raises:
        InputError: ``k`` below 1 or above the number of pieces, an empty question, or scores that are not one
            finite number for each text.
    """
    count = len(evidence) if k is None else k
    if (
        isinstance(count, bool)
        or not isinstance(count, int)
        or not min(1, len(evidence)) <= count <= len(evidence)
    ):
        raise InputError(
            f"k is {k!r}, but {len(evidence)} pieces of evidence were found: give a whole number from 1 to "
            "that, or find more."
        )
    ranking = ordered(question, [one.chunk.text for one in evidence], reranker)[:count]
    return tuple(
        replace(
            evidence[place],
            score=score,
            rank=rank,
            hits=(
                *(hit for hit in evidence[place].hits if hit.retriever != RERANKER),
                Hit(RERANKER, question, "question", rank, score),
            ),
        )
        for rank, (place, score) in enumerate(ranking, start=1)
    )


def ordered(question: str, passages: Sequence[str], reranker: Reranker) -> list[tuple[int, float]]:
    """Order passages by a re-ranker.

    Args:
        question: What the re-ranker reads with each passage.
        passages: What was found, best first. Equal ones are scored once, so that they tie whatever the
            batches.
        reranker: Called once.

    Returns:
        Pairs (place in the passages, score), best first, those of equal score in their order before.

    Raises:
        InputError: An empty question, or scores that are not one finite number for each passage.
    """
    if not isinstance(question, str) or not question.strip():
        raise InputError(f"The question is {question!r}; expected a text that is not empty.")
    texts = list(dict.fromkeys(passages))
    if not texts:
        return []
    answer = reranker(question, texts)
    try:
        scores = [float(score) for score in answer]
    except (TypeError, ValueError):
        raise InputError(
            f"The re-ranker gave a {type(answer).__name__} that is no list of numbers; expected {len(texts)} "
            "numbers, one for each passage."
        ) from None
    if len(scores) != len(texts):
        raise InputError(
            f"The re-ranker gave {len(scores)} scores for {len(texts)} passages; expected one for each."
        )
    wrong = [place for place, score in enumerate(scores) if not isfinite(score)]
    if wrong:
        raise InputError(
            f"The re-ranker gave the score {scores[wrong[0]]} to the passage {texts[wrong[0]][:60]!r}; "
            "expected a finite number. Half precision may be the cause."
        )
    score_of = dict(zip(texts, scores, strict=True))
    places = sorted(range(len(passages)), key=lambda place: -score_of[passages[place]])  # stable
    return [(place, score_of[passages[place]]) for place in places]
