"""Generated conversations: somebody tells of friends, things change, and questions leave words out.

In: a seed and a split. Out: turns, and questions with the turns before them, the turns that answer them and
those that did until something changed. Knows no model and no retriever. Names and frames of the splits are
held apart; the splits share what can be told of a person.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from memorag_core.errors import InputError
from memorag_training.worlds import Split
from memorag_training.worlds.names import make_word

Said: TypeAlias = tuple[str, str]
"""A role, "user" or "assistant", and a text."""

FollowUp: TypeAlias = Literal["named", "pronoun", "distant", "described", "ellipsis", "former"]
FOLLOW_UPS: tuple[FollowUp, ...] = ("named", "pronoun", "distant", "described", "ellipsis", "former")
"""What a question leaves out: nothing, after talk of somebody else; the name, which the turn before has;
which a turn some way back has; which no turn before has, only what somebody does; the question itself, which
was asked of another; the name, and it asks what was so before it changed."""


@dataclass(frozen=True, slots=True)
class FollowUpQuestion:
    """A question in a conversation.

    Attributes:
        question: as it is asked.
        kind: what it leaves out.
        history: the turns before it, which are not among those of the conversation.
        evidence: the numbers of the turns that answer it.
        stale: of those that answered it before something changed; for "former", that answer it now.
        whole: the question with nothing left out.
    """

    question: str
    kind: FollowUp
    history: tuple[Said, ...]
    evidence: frozenset[int]
    stale: frozenset[int]
    whole: str


@dataclass(frozen=True, slots=True)
class AskedConversation:
    """Turns in their order, and what is asked after them."""

    turns: tuple[Said, ...]
    questions: tuple[FollowUpQuestion, ...]


@dataclass(frozen=True, slots=True)
class _Theme:
    """Something that can be told of a person.

    ``says`` and ``changes`` hold {who} and {what}, ``asks`` and ``former`` {who} as a subject; ``who`` says
    somebody by it, with {what}. An empty ``values`` stands for invented places.
    """

    values: tuple[str, ...]
    says: tuple[str, ...]
    changes: tuple[str, ...]
    asks: tuple[str, ...]
    former: str = ""
    who: str = ""


_THEMES: Mapping[str, Sequence[_Theme]] = {
    "dev": (
        _Theme(
            (),
            ("{who} lives in {what}.", "{who} has a small flat in {what}."),
            ("{who} has moved to {what}.", "By the way, {who} lives in {what} now."),
            ("where does {who} live?", "which town is {who} in these days?"),
            "where did {who} live before?",
        ),
        _Theme(
            ("nurse", "carpenter", "tax adviser", "pilot", "baker", "gardener", "teacher", "plumber"),
            ("{who} works as a {what}.", "{who} earns a living as a {what}."),
            ("{who} changed careers and is a {what} now.", "News: {who} works as a {what} now."),
            ("what does {who} do for a living?", "what does {who} work as?"),
            "what did {who} work as earlier?",
            "who works as a {what}",
        ),
        _Theme(
            ("bees", "two goats", "a parrot", "an old donkey", "rabbits", "a tortoise", "pigeons", "ducks"),
            ("{who} keeps {what}.", "{who} looks after {what} at home."),
            (),
            ("what animals does {who} keep?", "does {who} have a pet?"),
            who="who keeps {what}",
        ),
        _Theme(
            ("the cello", "the accordion", "the trombone", "the harp", "the oboe", "the banjo", "the flute"),
            ("{who} plays {what}.", "{who} has taken up {what}."),
            (),
            ("which instrument does {who} play?", "what does {who} play?"),
            who="who plays {what}",
        ),
        _Theme(
            ("peanuts", "shellfish", "eggs", "celery", "gluten", "strawberries", "mustard", "sesame"),
            ("{who} is allergic to {what}.", "{who} must not eat {what}."),
            (),
            ("what is {who} allergic to?", "what should {who} not eat?"),
        ),
        _Theme(
            ("a blue van", "an electric bicycle", "a red scooter", "a green estate car", "a black taxi"),
            ("{who} drives {what}.", "{who} gets around in {what}."),
            ("{who} bought {what} to replace the old one.", "{who} drives {what} now."),
            ("what does {who} drive?", "how does {who} get around?"),
            "what did {who} drive before that?",
        ),
    ),
    "test": (
        _Theme(
            (),
            ("{who} is at home in {what}.", "{who} rents a house in {what}."),
            ("{who} left and settled in {what}.", "Since last week {who} is at home in {what}."),
            ("where is {who} at home?", "what place does {who} call home?"),
            "where was {who} at home in the past?",
        ),
        _Theme(
            ("midwife", "welder", "notary", "sailor", "butcher", "florist", "librarian", "surveyor"),
            ("{who} is employed as a {what}.", "The job of {who} is {what}."),
            ("{who} quit and found a post as a {what}.", "{who} is employed as a {what} these days."),
            ("what job does {who} have?", "as what is {who} employed?"),
            "what job did {who} have at first?",
            "with the job of a {what}",
        ),
        _Theme(
            ("geese", "a llama", "three ferrets", "a cockatoo", "snakes", "a pony", "hens", "guinea pigs"),
            ("{who} owns {what}.", "{who} shares the house with {what}."),
            (),
            ("which animals does {who} own?", "what kind of pet does {who} have?"),
            who="who owns {what}",
        ),
        _Theme(
            ("chess", "badminton", "water polo", "darts", "handball", "curling", "croquet", "fencing"),
            ("{who} trains for {what} twice a week.", "{who} is in a club for {what}."),
            (),
            ("which sport does {who} train for?", "what club is {who} in?"),
            who="who trains for {what}",
        ),
        _Theme(
            ("thunder", "spiders", "heights", "dogs", "lifts", "flying", "the dark", "needles"),
            ("{who} is afraid of {what}.", "{who} cannot bear {what}."),
            (),
            ("what is {who} afraid of?", "what can {who} not bear?"),
        ),
        _Theme(
            ("a grey laptop", "a tablet with a keyboard", "a typewriter", "a big desktop", "a tiny netbook"),
            ("{who} writes on {what}.", "{who} does all the letters on {what}."),
            ("{who} got {what} and gave the old one away.", "{who} writes on {what} from now on."),
            ("what does {who} write on?", "on which machine does {who} do the letters?"),
            "what did {who} write on before?",
        ),
    ),
}

_RELATIONS = ("my cousin", "my neighbour", "my old friend", "my colleague", "my aunt's friend", "my landlord")
_MEETINGS: Mapping[str, Sequence[str]] = {
    "dev": ("I ran into {who} this morning.", "{who} called me yesterday.", "I had lunch with {who}."),
    "test": ("{who} wrote to me today.", "Tonight I am seeing {who}.", "I spoke to {who} on the stairs."),
}
_SMALL_TALK: Mapping[str, Sequence[str]] = {
    "dev": (
        "It has been raining all week.",
        "I slept badly and need a coffee.",
        "Remind me to water the plants.",
        "The train was late again this morning.",
        "I am trying to read more in the evenings.",
        "The shop around the corner has closed.",
    ),
    "test": (
        "The heating is broken since Monday.",
        "I baked a cake and it burned.",
        "Tell me something cheerful.",
        "There is a lot of snow outside.",
        "I cannot find my keys anywhere.",
        "The meeting took three hours.",
    ),
}
_REPLIES: Mapping[str, Sequence[str]] = {
    "dev": ("Noted.", "Thanks, I will remember that.", "Good to know about {who}.", "I see."),
    "test": ("All right.", "That is kept in mind.", "So that is how it is with {who}.", "Understood."),
}
_GOES_ON: Mapping[str, Sequence[Said]] = {
    "dev": (("user", "It was nice to talk for a while."), ("assistant", "That sounds pleasant.")),
    "test": (("user", "We had not met in ages."), ("assistant", "How lovely.")),
}


def generate_conversation(
    rng: random.Random, *, split: Literal["dev", "test"], people: int = 8, per_kind: int = 8
) -> AskedConversation:
    """Generate a conversation and questions on it.

    Every person has all that can be told of one, in turns that are shuffled; half of what can change does so
    later on. Between them stand small talk and replies.

    Args:
        rng: Source of chance; equal states give equal conversations.
        split: Which names and frames are used.
        people: That are told of, 2 to 40.
        per_kind: The most questions of each kind.

    Raises:
        InputError: An unknown split, or a number out of range.
    """
    if split not in _THEMES:
        raise InputError(f"split is {split!r}; expected 'dev' or 'test'.")
    if not 2 <= people <= 40 or per_kind < 1:
        raise InputError(
            f"people={people} and per_kind={per_kind}; expected 2 to 40 people and 1 question or more."
        )
    return _Teller(rng, split, people).conversation(per_kind)


@dataclass(slots=True)
class _Told:
    """What was told of a person on one theme: its value, and the number of the turn; the last is true."""

    values: list[str]
    turns: list[int]


class _Teller:
    """Draws one conversation."""

    def __init__(self, rng: random.Random, split: Split, people: int) -> None:
        self.rng = rng
        self.split = split
        self.themes = _THEMES[split]
        words: list[str] = []
        while len(words) < 2 * people:
            word = make_word(rng, split, taken={word[:4].lower() for word in words})
            words.append(word)
        self.people = [" ".join(words[at : at + 2]) for at in range(0, len(words), 2)]
        self.pronouns = [rng.choice(("she", "he")) for _ in self.people]
        self.turns: list[Said] = []
        self.told: dict[tuple[int, int], _Told] = {}

    def conversation(self, per_kind: int) -> AskedConversation:
        facts = [(person, theme) for person in range(len(self.people)) for theme in range(len(self.themes))]
        for person in self.rng.sample(range(len(self.people)), len(self.people)):
            relation = self.rng.choice(_RELATIONS)
            self._say(f"{self.people[person]} is {relation}.", person)
        self.rng.shuffle(facts)
        for fact in facts:
            self._tell(*fact, self.themes[fact[1]].says)
        changing = [fact for fact in facts if self.themes[fact[1]].changes and self.rng.random() < 0.5]
        for fact in self.rng.sample(changing, len(changing)):
            self._tell(*fact, self.themes[fact[1]].changes)
        questions: list[FollowUpQuestion] = []
        for kind in FOLLOW_UPS:
            usable = [fact for fact in facts if self._can(kind, *fact)]
            chosen = self.rng.sample(usable, min(per_kind, len(usable)))
            questions += [self._asked(kind, *fact) for fact in chosen]
        return AskedConversation(tuple(self.turns), tuple(questions))

    def _tell(self, person: int, theme: int, frames: Sequence[str]) -> None:
        told = self.told.setdefault((person, theme), _Told([], []))
        taken = {
            value for (_, other), one in self.told.items() if other == theme for value in one.values[-1:]
        }
        values = self.themes[theme].values
        if values:
            free = [value for value in values if value not in taken] or [
                value for value in values if value not in told.values
            ]
            value = self.rng.choice(free)
        else:
            value = make_word(self.rng, self.split, taken=(), place=True)
        told.values.append(value)
        told.turns.append(len(self.turns))
        self._say(self.rng.choice(frames).format(who=self.people[person], what=value), person)
        if self.rng.random() < 0.3:
            self.turns.append(("user", self.rng.choice(_SMALL_TALK[self.split])))
            self.turns.append(("assistant", self.rng.choice(_REPLIES[self.split][:2])))

    def _say(self, text: str, person: int) -> None:
        reply = self.rng.choice(_REPLIES[self.split]).format(who=self.people[person])
        self.turns += [("user", text), ("assistant", reply)]

    def _can(self, kind: FollowUp, person: int, theme: int) -> bool:
        changed = len(self.told[person, theme].values) > 1
        if kind == "former":
            return changed and bool(self.themes[theme].former)
        return kind != "described" or bool(self._descriptions(person, theme))

    def _descriptions(self, person: int, theme: int) -> list[str]:
        """What tells a person from all others, without the name; not by what is asked."""
        found = []
        for other, told in enumerate(self.themes):
            own = self.told[person, other]
            holders = [one for (who, at), one in self.told.items() if at == other and who != person]
            unique = all(own.values[-1] not in one.values for one in holders)
            if told.who and other != theme and unique and len(own.values) == 1:
                found.append(f"my friend {told.who.format(what=own.values[-1])}")
        return found

    def _asked(self, kind: FollowUp, person: int, theme: int) -> FollowUpQuestion:
        told, frames, draw = self.told[person, theme], self.themes[theme], self.rng.choice
        name, pronoun, meetings = self.people[person], self.pronouns[person], _MEETINGS[self.split]
        other = draw([one for one in range(len(self.people)) if one != person])
        ask = draw(frames.asks)
        whole = _sentence(ask.format(who=name))
        evidence, stale = told.turns[-1:], told.turns[:-1]
        question = draw(("And ", "Remind me: ", "")) + ask.format(who=pronoun)
        reply: Said = ("assistant", draw(_REPLIES[self.split][:2]))
        history: list[Said] = [("user", draw(meetings).format(who=name)), reply]
        if kind == "named":
            history[0] = ("user", draw(meetings).format(who=self.people[other]))
            question = whole
        elif kind == "distant":
            history += _GOES_ON[self.split]
        elif kind == "described":
            history[0] = ("user", draw(meetings).format(who=draw(self._descriptions(person, theme))))
        elif kind == "ellipsis":
            value = self.told[other, theme].values[-1]
            history = [("user", _sentence(ask.format(who=self.people[other]))), ("assistant", f"{value}.")]
            question = f"And {name}?"
        elif kind == "former":
            question, whole = frames.former.format(who=pronoun), _sentence(frames.former.format(who=name))
            evidence, stale = stale, evidence
        history = [(role, _sentence(text)) for role, text in history]
        return FollowUpQuestion(
            _sentence(question), kind, tuple(history), frozenset(evidence), frozenset(stale), whole
        )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
