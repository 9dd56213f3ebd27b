"""Generated worlds to measure on: documents of so many tokens, with questions of every kind.

In: a seed, a split that was never trained on, and a function that counts tokens. Out: documents with their
questions. Knows no model.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from memorag_core.errors import InputError
from memorag_core.types import Document
from memorag_evaluation.chunks import sentence_spans
from memorag_training.worlds import QUESTION_KINDS, QuestionKind, Split, WorldQuestion, generate_world

CountTokens: TypeAlias = Callable[[str], int]

ONE_HOP: tuple[QuestionKind, ...] = ("trade", "attribute", "place", "thing")
"""The kinds of implicit question that one sentence answers."""

_CHARACTERS = 6
"""Characters generated for each token: more than any tokenizer needs for one; the rest is cut off."""


@dataclass(frozen=True, slots=True)
class AskedWorld:
    """A generated document, and the questions on it that its text answers in full."""

    document: Document
    questions: tuple[WorldQuestion, ...]


def kind_groups(found: Sequence[str]) -> Mapping[str, frozenset[str]]:
    """The rows of a table over questions of these kinds: one-hop implicit ones together, each, and all."""
    kinds = list(dict.fromkeys((*(kind for kind in QUESTION_KINDS if kind in found), *found)))
    groups: dict[str, frozenset[str]] = {}
    if sum(kind in ONE_HOP for kind in kinds) > 1:
        groups["one_hop"] = frozenset(ONE_HOP)
    groups |= {kind: frozenset((kind,)) for kind in kinds}
    if len(kinds) > 1:
        groups["all"] = frozenset(kinds)
    return groups


def draw_worlds(
    count_tokens: CountTokens,
    *,
    count: int,
    tokens: int,
    split: Split,
    seed: int,
    per_kind: int | None = None,
) -> tuple[AskedWorld, ...]:
    """Generate documents that end with the last sentence within so many tokens.

    Args:
        count_tokens: The tokens of a text, by the model's own tokenizer.
        count: Documents.
        tokens: The most tokens of a document.
        split: Which names, frames and pairings are used.
        seed: Equal seeds give equal worlds; the n-th world does not depend on how many there are.
        per_kind: The most questions of each kind on a document, drawn by the seed; None for all.

    Raises:
        InputError: A number below 1, or fewer tokens than a sentence has.
    """
    for name, value in (
        ("count", count),
        ("tokens", tokens),
        ("per_kind", 1 if per_kind is None else per_kind),
    ):
        if value < 1:
            raise InputError(f"{name} is {value}; expected 1 or more.")
    return tuple(
        _draw(count_tokens, tokens, split, per_kind, place, random.Random(f"{seed}/{split}/{tokens}/{place}"))
        for place in range(count)
    )


def _draw(
    count_tokens: CountTokens, tokens: int, split: Split, per_kind: int | None, place: int, rng: random.Random
) -> AskedWorld:
    world = generate_world(rng, split=split, characters=tokens * _CHARACTERS)
    ends = [end for _, end in sentence_spans(world.text)]
    kept = bisect_right(ends, tokens, key=lambda end: count_tokens(world.text[:end]))
    if not kept:
        raise InputError(f"A document of {tokens} tokens holds no sentence; give more tokens.")
    text = world.text[: ends[kept - 1]]
    answered = [asked for asked in world.questions if all(fact.end <= len(text) for fact in asked.evidence)]
    return AskedWorld(Document(text, f"{split}-{tokens}-{place}"), _chosen(answered, per_kind, rng))


def _chosen(
    questions: Sequence[WorldQuestion], per_kind: int | None, rng: random.Random
) -> tuple[WorldQuestion, ...]:
    # The same words may be asked of two facts (both acquaintances of one person); neither is the answer then.
    texts = [asked.question for asked in questions]
    unique = [asked for asked in questions if texts.count(asked.question) == 1]
    if per_kind is None:
        return tuple(unique)
    kept: list[WorldQuestion] = []
    for kind in QUESTION_KINDS:
        same = [asked for asked in unique if asked.kind == kind]
        kept.extend(rng.sample(same, min(per_kind, len(same))))
    return tuple(kept)
