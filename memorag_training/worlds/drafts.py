"""What a world says: who and what there is in a document, and which facts hold of it.

In: a random generator, a split, a number of facts. Out: drafts, sentences without a place in the text yet.
Knows no question.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar

from memorag_training.worlds import templates
from memorag_training.worlds.names import make_word
from memorag_training.worlds.relations import RELATIONS, Relation
from memorag_training.worlds.templates import Split, Subject
from memorag_training.worlds.values import Concept, ConceptKind, load_concepts

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Draft:
    """A sentence before it has a place in the text: what it says of which name."""

    subject: Subject
    name: str
    frame: str
    verb: str
    place: str = ""
    concept: Concept | None = None
    say: int = 0
    relation: Relation | None = None
    target: str = ""

    def sentence(self) -> str:
        """The sentence, capitalised."""
        text = self.frame.format(n=self.name, v=self.verb, p=self.place)
        return text[0].upper() + text[1:]


@dataclass(slots=True)
class Cast:
    """The names of one document and the concepts not yet used in it."""

    rng: random.Random
    split: Split
    taken: set[str] = field(default_factory=set)
    people: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    described: set[str] = field(default_factory=set)

    def word(self, *, place: bool = False) -> str:
        """A word that no name of the document has yet."""
        while True:
            word = make_word(self.rng, self.split, taken=_lexicon_prefixes(), place=place)
            if word not in self.taken:
                self.taken.add(word)
                return word

    def person(self) -> str:
        """A new person, of one word or two."""
        name = self.word()
        if self.rng.random() < 0.7:
            name = f"{name} {self.word()}"
        self.people.append(name)
        return name

    def place(self) -> str:
        """A new place, of one word or, seldom, two."""
        name = self.word(place=True)
        if self.rng.random() < 0.12:
            name = f"{name} {self.word(place=True)}"
        self.places.append(name)
        return name

    def other_person(self, name: str) -> str:
        """Somebody else: known to the document or mentioned for the first time."""
        known = pick(self.rng, self.people)
        return known if known != name and self.rng.random() < 0.5 else self.person()

    def some_place(self, name: str = "") -> str:
        """Another place than ``name``, known or new."""
        if self.places and self.rng.random() < 0.6:
            known = pick(self.rng, self.places)
            if known != name:
                return known
        return self.place()


@cache
def _lexicon_prefixes() -> frozenset[str]:
    """Beginnings of the words of the lexicon: no name looks like one of them."""
    texts = [text for concept in load_concepts() for text in (*concept.says, *concept.asks)]
    for frames in (
        templates.STATEMENTS,
        templates.PLACED_STATEMENTS,
        templates.NEED_QUESTIONS,
        templates.ASK_QUESTIONS,
        templates.NEED_DESCRIPTIONS,
        templates.TOWN_OF,
        templates.EXPLICIT_DOES,
        templates.FILLERS,
        templates.MENTIONS,
        *templates.ASKING_WORDS.values(),
        *templates.ASK_DESCRIPTIONS.values(),
        *(relation.asks for relation in RELATIONS),
    ):
        texts.extend(frame for split in frames.values() for frame in split)
    for relation in RELATIONS:
        texts.extend((*relation.says, *relation.values, relation.gap))
    return frozenset(word[:4] for text in texts for word in re.findall(r"[a-z]{4,}", text.lower()))


@cache
def _concepts_of(kind: ConceptKind) -> tuple[Concept, ...]:
    return tuple(concept for concept in load_concepts() if concept.kind == kind)


@cache
def _relations_of(subject: Subject) -> tuple[Relation, ...]:
    return tuple(relation for relation in RELATIONS if relation.subject == subject)


def pick(rng: random.Random, items: Sequence[_T]) -> _T:
    """One of the items; several times faster than ``rng.choice``."""
    return items[int(rng.random() * len(items))]


_SUBJECTS: Mapping[ConceptKind, Subject] = {
    "trade": "person",
    "attribute": "person",
    "place": "place",
    "thing": "thing",
}


class _Deck:
    """The concepts of one document, shuffled; each group is dealt once."""

    def __init__(self, rng: random.Random) -> None:
        self._used: set[str] = set()
        self._piles: dict[ConceptKind, list[Concept]] = {}
        for kind in ("trade", "attribute", "place", "thing"):
            pile = list(_concepts_of(kind))
            rng.shuffle(pile)
            self._piles[kind] = pile

    def deal(self, kind: ConceptKind) -> Concept | None:
        pile = self._piles[kind]
        while pile:
            concept = pile.pop()
            if concept.group not in self._used:
                self._used.add(concept.group)
                return concept
        return None


def draft_facts(cast: Cast, wanted: int, people: int | None) -> list[Draft]:
    """Exactly ``wanted`` facts: subject after subject, each with a concept first and then its relations."""
    rng = cast.rng
    deck = _Deck(rng)
    drafts: list[Draft] = []
    made = 0
    while len(drafts) < wanted:
        chance = rng.random()
        if chance < 0.7 or not drafts:
            drafts.extend(_person(cast, deck, trade=people is None or made < people))
            made += 1
        elif chance < 0.85:
            drafts.extend(_place(cast, deck, cast.some_place()))
        else:
            drafts.extend(_thing(cast, deck))
    return drafts[:wanted]


def draft_list(rng: random.Random, characters: int) -> list[Draft]:
    """Bare statements until their sentences have so many characters together, or no concept is left."""
    deck = _Deck(rng)
    drafts: list[Draft] = []
    kinds: list[ConceptKind] = ["trade", "attribute", "place", "thing"]
    length = 0
    while length < characters and kinds:
        kind = pick(rng, kinds)
        concept = deck.deal(kind)
        if concept is None:
            kinds.remove(kind)
            continue
        subject = _SUBJECTS[kind]
        frame = pick(rng, templates.BARE_STATEMENTS[subject])
        drafts.append(Draft(subject, "", frame, pick(rng, concept.says), concept=concept))
        length += len(drafts[-1].sentence()) + 1
    return drafts


def _statement(rng: random.Random, split: Split, *, placed: bool = False) -> str:
    return pick(rng, (templates.PLACED_STATEMENTS if placed else templates.STATEMENTS)[split])


def _person(cast: Cast, deck: _Deck, *, trade: bool) -> Iterator[Draft]:
    """A new person: a trade or an attribute (or both) first, then what ties the person to others."""
    rng, name = cast.rng, cast.person()
    here = ""
    kinds: list[ConceptKind] = ["trade", "attribute"] if rng.random() < 0.6 else ["trade"]
    if not trade or rng.random() < 0.3:
        kinds = ["attribute"]
    rng.shuffle(kinds)
    for kind in kinds:
        concept = deck.deal(kind)
        if concept is None:
            continue
        if kind == "trade" and rng.random() < 0.4:
            here = cast.some_place()
        yield _concept_draft(cast, "person", name, concept, place=here if kind == "trade" else "")
    chosen = rng.sample(_relations_of("person"), 1 + int(rng.random() * 3))
    for relation in chosen:
        if not (here and relation.id == "residence"):
            yield _relation_draft(cast, name, relation)
    if here and rng.random() < 0.7:
        yield from _place(cast, deck, here)


def _place(cast: Cast, deck: _Deck, name: str) -> Iterator[Draft]:
    """A place, unless it was described before: its feature, then its relations."""
    if name in cast.described:
        return
    cast.described.add(name)
    concept = deck.deal("place")
    if concept is not None:
        yield _concept_draft(cast, "place", name, concept)
    for relation in cast.rng.sample(_relations_of("place"), 1 + int(cast.rng.random() * 2)):
        yield _relation_draft(cast, name, relation)


def _thing(cast: Cast, deck: _Deck) -> Iterator[Draft]:
    """A new thing with a name of its own: what it is, then its relations."""
    concept = deck.deal("thing")
    if concept is None:
        return
    name = f"the {cast.word()}"
    yield _concept_draft(cast, "thing", name, concept)
    for relation in cast.rng.sample(_relations_of("thing"), 1 + int(cast.rng.random() * 2)):
        yield _relation_draft(cast, name, relation)


def _concept_draft(cast: Cast, subject: Subject, name: str, concept: Concept, *, place: str = "") -> Draft:
    say = int(cast.rng.random() * len(concept.says))
    frame = _statement(cast.rng, cast.split, placed=bool(place))
    return Draft(subject, name, frame, concept.says[say], place, concept, say)


def _relation_draft(cast: Cast, name: str, relation: Relation) -> Draft:
    rng = cast.rng
    if relation.target == "value":
        target = pick(rng, relation.values)
    elif relation.symmetric:
        target = cast.person()
    elif relation.target == "person":
        target = cast.other_person(name)
    elif relation.id == "river":
        target = f"the {cast.word(place=True)}"
    else:
        target = cast.some_place(name)
    say = int(rng.random() * len(relation.says))
    verb = relation.says[say].format(o=target)
    frame = _statement(rng, cast.split)
    return Draft(relation.subject, name, frame, verb, say=say, relation=relation, target=target)


def filler_sentence(cast: Cast, filler: Sequence[str]) -> str:
    """A sentence that states no fact: of the caller, of the generator, or a mere mention of a name."""
    rng = cast.rng
    if filler and rng.random() < 0.5:
        return " ".join(pick(rng, filler).split())
    if cast.people and rng.random() < 0.15:
        frame, name = pick(rng, templates.MENTIONS[cast.split]), pick(rng, cast.people)
    else:
        frame, name = pick(rng, templates.FILLERS[cast.split]), ""
    place = cast.some_place() if "{p}" in frame else ""
    return frame.format(p=place, n=name, t=pick(rng, templates.SEASONS))
