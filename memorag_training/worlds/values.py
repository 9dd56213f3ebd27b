"""The values of generated worlds, and the concepts they are made of.

In: the concepts stored beside this module. Out: facts, questions, worlds, concepts. Knows no frame, no name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal, TypeAlias

from memorag_training.worlds.templates import Split

QuestionKind: TypeAlias = Literal["trade", "attribute", "place", "thing", "two_hop", "explicit"]
QUESTION_KINDS: tuple[QuestionKind, ...] = ("trade", "attribute", "place", "thing", "two_hop", "explicit")

ConceptKind: TypeAlias = Literal["trade", "attribute", "place", "thing"]


@dataclass(frozen=True, slots=True)
class Fact:
    """A sentence of the document that answers something; ``sentence`` is ``text[start:end]``."""

    sentence: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class WorldQuestion:
    """A question with its evidence in the order of reasoning: where it leads first, then the next hop.

    ``surrogate`` asks the same in the words of the evidence.
    """

    question: str
    kind: QuestionKind
    evidence: tuple[Fact, ...]
    answer: str
    surrogate: str


@dataclass(frozen=True, slots=True)
class World:
    """A document, its facts in the order of the text, and every question that can be asked of it."""

    text: str
    facts: tuple[Fact, ...]
    questions: tuple[WorldQuestion, ...]
    split: Split


@dataclass(frozen=True, slots=True)
class Concept:
    """What goes with what: how a thing is stated and how it is asked for, with no content word in common.

    Of one group at most one concept occurs in a document, so that the answer is unique.
    """

    id: str
    kind: ConceptKind
    group: str
    says: tuple[str, ...]
    asks: tuple[str, ...]


@cache
def load_concepts() -> tuple[Concept, ...]:
    """All concepts, as stored beside this module."""
    raw = (files(__package__) / "concepts.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in raw.splitlines()]
    return tuple(
        Concept(row["id"], row["kind"], row["group"], tuple(row["says"]), tuple(row["asks"])) for row in rows
    )
