"""Generated worlds: documents of facts about invented people, places and things, with implicit questions.

In: a random generator, a split, a length. Out: a ``World``: its text, its facts with their character spans,
and questions whose evidence is known. What "the broken clock" has to do with "repairs timepieces" is a
concept shared by all splits; names and sentence frames are held apart. Implicit questions share no content
word with their evidence. Knows no model, no tokenizer and no retriever.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence

from memorag_core.errors import InputError
from memorag_training.worlds import templates
from memorag_training.worlds.drafts import Cast, Draft, draft_facts, draft_list, filler_sentence
from memorag_training.worlds.questions import ask_all, ask_list
from memorag_training.worlds.templates import Split
from memorag_training.worlds.values import (
    QUESTION_KINDS,
    Concept,
    Fact,
    QuestionKind,
    World,
    WorldQuestion,
    load_concepts,
)

__all__ = [
    "QUESTION_KINDS",
    "Concept",
    "Fact",
    "QuestionKind",
    "Split",
    "World",
    "WorldQuestion",
    "generate_list",
    "generate_world",
    "load_concepts",
]

_MEAN_SENTENCE = 52
"""Characters of a mean sentence with its space; a first guess at the number of sentences."""


def generate_world(
    rng: random.Random,
    *,
    split: Split,
    characters: int | None = None,
    sentences: int | None = None,
    people: int | None = None,
    filler: Sequence[str] = (),
    filler_share: float = 0.2,
) -> World:
    """Generate a document of facts, and the questions that can be asked of it.

    Args:
        rng: Source of chance; equal states give equal worlds.
        split: Which names and frames are used.
        characters: Length of the text; the text ends with the first sentence that reaches it.
        sentences: Length in sentences instead.
        people: How many people have a trade; by default all the document has.
        filler: Sentences of the caller (real prose, say) that are mixed between the facts, beside
            the generator's own.
        filler_share: Share of sentences that are no facts, 0 to 0.9.

    Returns:
        The world. Its questions come in the order of the facts that answer them.

    Raises:
        InputError: Neither or both lengths given, or a value out of range.
    """
    _check(split, characters, sentences, people, filler_share)
    count = sentences if sentences is not None else max(1, round((characters or 0) / _MEAN_SENTENCE))
    cast = Cast(rng, split)
    wanted = max(1, round(count * (1 - filler_share)))
    drafts = draft_facts(cast, wanted, people)
    lines: list[Draft | str] = list(drafts)
    lines.extend(filler_sentence(cast, filler) for _ in range(count - len(drafts)))
    _spread(rng, lines)
    text, placed = _write(lines, cast, filler, characters)
    questions = tuple(ask_all(rng, split, placed))
    return World(text, tuple(fact for _, fact in placed), questions, split)


def generate_list(rng: random.Random, *, split: Split, characters: int) -> World:
    """Generate a list of bare statements ("She repairs timepieces."), each asked for implicitly.

    It has several times the facts of a world of the same length, and nobody's name: what goes with what is
    learned from it, not who did what.

    Args:
        rng: Source of chance.
        split: Which frames of questions are used.
        characters: Length of the text; it ends with the first sentence that reaches it, or when every
            concept has been stated.

    Raises:
        InputError: A value out of range.
    """
    _check(split, characters, None, None, 0)
    text, placed = _write(draft_list(rng, characters), Cast(rng, split), (), None)
    return World(text, tuple(fact for _, fact in placed), tuple(ask_list(rng, split, placed)), split)


def _check(
    split: str, characters: int | None, sentences: int | None, people: int | None, filler_share: float
) -> None:
    if split not in templates.STATEMENTS:
        raise InputError(f"split is {split!r}; expected one of 'train', 'dev', 'test'")
    if (characters is None) == (sentences is None):
        raise InputError(
            f"characters={characters} and sentences={sentences}; give exactly one of them as the length"
        )
    for name, value in (("characters", characters), ("sentences", sentences), ("people", people)):
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}; expected 1 or more")
    if not 0 <= filler_share <= 0.9:
        raise InputError(f"filler_share is {filler_share}; expected a number from 0 to 0.9")


def _spread(rng: random.Random, lines: list[Draft | str]) -> None:
    """Shuffle, then move apart neighbours that tell of the same name."""
    rng.shuffle(lines)
    for index in range(1, len(lines)):
        before, here = lines[index - 1], lines[index]
        if isinstance(before, Draft) and isinstance(here, Draft) and before.name == here.name:
            other = int(rng.random() * len(lines))
            lines[index], lines[other] = lines[other], lines[index]


def _write(
    lines: Sequence[Draft | str], cast: Cast, filler: Sequence[str], characters: int | None
) -> tuple[str, list[tuple[Draft, Fact]]]:
    """Put the sentences one after another, up to the length, and note where the facts stand."""
    pieces: list[str] = []
    placed: list[tuple[Draft, Fact]] = []
    at = 0
    for line in _endless(lines, cast, filler) if characters is not None else lines:
        if pieces:
            pieces.append("\n" if cast.rng.random() < 0.06 else " ")
            at += 1
        sentence = line if isinstance(line, str) else line.sentence()
        if isinstance(line, Draft):
            placed.append((line, Fact(sentence, at, at + len(sentence))))
        pieces.append(sentence)
        at += len(sentence)
        if characters is not None and at >= characters:
            break
    return "".join(pieces), placed


def _endless(lines: Iterable[Draft | str], cast: Cast, filler: Sequence[str]) -> Iterator[Draft | str]:
    yield from lines
    while True:
        yield filler_sentence(cast, filler)
