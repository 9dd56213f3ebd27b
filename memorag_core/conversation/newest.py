"""The newest statement first, among turns that were found for a question.

In: a question, the turns that were found, best first, and which of them is newer. Out: their order, and for
each whether a newer one says the same. Knows no memory and no index.

The law has two parts. A ranking by newness takes part in the fusion, of the turns that hold the names the
question holds. And of two turns of one speaker that say the same, the newer stands first: they hold the same
of the question's names, and what else they say is more alike than turns found for this question usually are,
by more than a standard deviation. How alike texts are is an encoder's cosine, whatever its scale, or, without
an encoder, the cosine of their words.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import regex

from memorag_core.conversation.followup import folded_names, names_in, unspaced
from memorag_core.retrieval.tokenization import lexical_tokens

Vectors: TypeAlias = npt.NDArray[np.floating[Any]]
Encode: TypeAlias = Callable[[Sequence[str]], Vectors]
"""Texts into unit vectors [N, E]."""


@dataclass(frozen=True, slots=True)
class FoundTurn:
    """A turn that was found.

    Attributes:
        text: what it says, or the part of it that was found.
        role: who says it.
        age: its place among all turns; the higher the newer. Parts of one turn have the same.
    """

    text: str
    role: str
    age: int


@dataclass(frozen=True, slots=True)
class Placed:
    """The number of a found turn, and of the newer one that says the same, if one was found."""

    number: int
    newer: int | None = None


def newest_first(
    question: str,
    found: Sequence[FoundTurn],
    *,
    weight: float,
    constant: float,
    encode: Encode | None = None,
    known: Container[str] = (),
) -> tuple[Placed, ...]:
    """Order what was found.

    Args:
        question: With nothing left out.
        found: Best first.
        weight: Of the ranking by newness, beside 1 for the ranking that is given; 0 leaves it out.
        constant: Of reciprocal rank fusion.
        encode: Makes vectors; None compares words.
        known: Words in small letters that are names; see ``names_in``.

    Returns:
        Each of them once.
    """
    if not found:
        return ()
    subjects = _Subjects(question, found, known)
    order = _fused(found, subjects, weight, constant)
    alike = _alike([_nameless(turn.text, known) for turn in found], encode)
    newer = {
        number: [
            other
            for other in range(len(found))
            if found[other].age > found[number].age
            and found[other].role == found[number].role
            and alike[number, other]
            and subjects.kept(number, other)
        ]
        for number in order
    }
    placed: list[Placed] = []
    left = list(order)
    while left:
        waiting = [other for other in newer[left[0]] if other in left]
        chosen = max(waiting, key=lambda other: found[other].age) if waiting else left[0]
        left.remove(chosen)
        above = newer[chosen]
        placed.append(Placed(chosen, max(above, key=lambda other: found[other].age) if above else None))
    return tuple(placed)


class _Subjects:
    """What question and turns share, by which a turn speaks of what the question asks about.

    Names, where their script marks them; else all signs, so that little is taken for the same.
    """

    def __init__(self, question: str, found: Sequence[FoundTurn], known: Container[str]) -> None:
        if unspaced(question):
            self._asked = frozenset(lexical_tokens(question))
            self._told = [frozenset(lexical_tokens(turn.text)) & self._asked for turn in found]
        else:
            self._asked = folded_names(question, known)
            self._told = [folded_names(turn.text, known) & self._asked for turn in found]
        self._names = not unspaced(question)

    def kept(self, older: int, newer: int) -> bool:
        """Whether the newer turn speaks of all that the older one does."""
        return self._told[older] <= self._told[newer]

    def asked_of(self, number: int) -> bool:
        """Whether a turn holds all names of the question; true where names are not marked."""
        return not self._names or self._told[number] == self._asked


def _fused(found: Sequence[FoundTurn], subjects: _Subjects, weight: float, constant: float) -> list[int]:
    """Reciprocal rank fusion of the given ranking with that by newness."""
    ages = sorted({turn.age for number, turn in enumerate(found) if subjects.asked_of(number)}, reverse=True)
    places = {age: place for place, age in enumerate(ages, start=1)}

    def score(number: int) -> float:
        place = places.get(found[number].age) if subjects.asked_of(number) else None
        return 1 / (constant + number + 1) + (weight / (constant + place) if place else 0.0)

    return sorted(range(len(found)), key=lambda number: (-score(number), number))


def _alike(texts: Sequence[str], encode: Encode | None) -> npt.NDArray[np.bool_]:
    """Which texts are more alike than pairs of them usually are [N, N]."""
    unique = list(dict.fromkeys(texts))
    places = [unique.index(text) for text in texts]
    cosines = _word_cosines(unique) if encode is None else _cosines(encode(unique))
    pairs = cosines[np.triu_indices(len(unique), 1)]
    least = float(pairs.mean() + pairs.std()) if len(pairs) else 1.0
    alike = cosines > max(least, 0.0)
    np.fill_diagonal(alike, True)
    whole: npt.NDArray[np.bool_] = alike[np.ix_(places, places)]
    return whole


def _cosines(vectors: Vectors) -> Vectors:
    made: Vectors = vectors @ vectors.T
    return made


def _word_cosines(texts: Sequence[str]) -> Vectors:
    words = [frozenset(lexical_tokens(text)) for text in texts]
    return np.array(
        [[len(one & other) / max(1.0, (len(one) * len(other)) ** 0.5) for other in words] for one in words]
    )


def _nameless(text: str, known: Container[str]) -> str:
    """A text without its names, so that what is compared is what is said of them."""
    names = names_in(text, known=known)
    bare = regex.sub(r"\L<names>", "", text, names=names) if names else text
    return " ".join(bare.split()) or text
