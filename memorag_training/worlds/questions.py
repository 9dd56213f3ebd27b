"""What can be asked of a world: implicitly, explicitly, and over two hops.

In: the drafts of a document with their facts. Out: questions with evidence, answer and surrogate. Knows
nothing of how the drafts came about.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from memorag_training.worlds import templates
from memorag_training.worlds.drafts import Draft, pick
from memorag_training.worlds.relations import Relation
from memorag_training.worlds.templates import Split
from memorag_training.worlds.values import Fact, WorldQuestion


def ask_all(
    rng: random.Random, split: Split, placed: Sequence[tuple[Draft, Fact]]
) -> Iterator[WorldQuestion]:
    """Every fact asked for: implicitly, explicitly, and as the second hop after each way to its name."""
    ways: dict[str, list[tuple[Draft, Fact]]] = {}
    for draft, fact in placed:
        if draft.concept is not None:
            ways.setdefault(draft.name, []).append((draft, fact))
            if draft.place:
                ways.setdefault(draft.place, []).append((draft, fact))
    for draft, fact in placed:
        if draft.concept is not None:
            yield _implicit(rng, split, draft, fact)
        yield _explicit(rng, split, draft, fact)
        if draft.relation is not None:
            for first, first_fact in ways.get(draft.name, ()):
                yield _two_hop(rng, split, first, first_fact, draft, fact)


def ask_list(
    rng: random.Random, split: Split, placed: Sequence[tuple[Draft, Fact]]
) -> Iterator[WorldQuestion]:
    """Every stated concept asked for implicitly; there is no name to answer with."""
    for draft, fact in placed:
        yield _implicit(rng, split, draft, fact)


def _ask_of(rng: random.Random, draft: Draft) -> str:
    assert draft.concept is not None
    return pick(rng, draft.concept.asks)


def _asked(frame: str, **slots: str) -> str:
    text = frame.format(**slots)
    return text[0].upper() + text[1:]


def _implicit(rng: random.Random, split: Split, draft: Draft, fact: Fact) -> WorldQuestion:
    assert draft.concept is not None
    kind, ask = draft.concept.kind, _ask_of(rng, draft)
    if kind == "trade":
        question = _asked(pick(rng, templates.NEED_QUESTIONS[split]), x=ask)
    else:
        word = pick(rng, templates.ASKING_WORDS[draft.subject][split])
        question = _asked(pick(rng, templates.ASK_QUESTIONS[split]), w=word, a=ask)
    return WorldQuestion(question, kind, (fact,), draft.name, _surrogate(draft))


def _surrogate(draft: Draft) -> str:
    """The explicit question for a stated concept."""
    word = {"person": "Who", "place": "Which place", "thing": "Which thing"}[draft.subject]
    return f"{word} {draft.verb} in {draft.place}?" if draft.place else f"{word} {draft.verb}?"


def _gap(relation: Relation, say: int) -> str:
    return relation.says[say].format(o=relation.gap)


def _explicit(rng: random.Random, split: Split, draft: Draft, fact: Fact) -> WorldQuestion:
    if draft.relation is not None:
        gap = f"{draft.name} {_gap(draft.relation, draft.say)}"
        surrogate, answer = _asked("{g}?", g=gap), draft.target
        if rng.random() < 0.5:
            question = _asked(pick(rng, draft.relation.asks[split]), d=draft.name)
        else:
            question = _asked(pick(rng, templates.EXPLICIT_GAPS[split]), g=gap)
        return WorldQuestion(question, "explicit", (fact,), answer, surrogate)
    assert draft.concept is not None
    if draft.concept.kind == "trade" and rng.random() < 0.5:
        question = _asked(pick(rng, templates.EXPLICIT_DOES[split]), n=draft.name)
        return WorldQuestion(question, "explicit", (fact,), draft.verb, f"What does {draft.name} do?")
    word = pick(rng, templates.ASKING_WORDS[draft.subject][split])
    question = _asked(pick(rng, templates.ASK_QUESTIONS[split]), w=word, a=draft.verb)
    return WorldQuestion(question, "explicit", (fact,), draft.name, _surrogate(draft))


def _two_hop(
    rng: random.Random, split: Split, first: Draft, first_fact: Fact, second: Draft, fact: Fact
) -> WorldQuestion:
    assert first.concept is not None
    assert second.relation is not None
    ask = _ask_of(rng, first)
    if first.concept.kind == "trade":
        described = pick(rng, templates.NEED_DESCRIPTIONS[split]).format(x=ask)
    else:
        described = pick(rng, templates.ASK_DESCRIPTIONS[first.subject][split]).format(a=ask)
    link = {"person": "who", "place": "which", "thing": "which"}[first.subject]
    bridge = f"{first.name}, {link} {first.verb},"
    if first.place and first.place == second.name:
        described = pick(rng, templates.TOWN_OF[split]).format(d=described)
        bridge = f"{first.place}, where {first.name} {first.verb},"
    question = _asked(pick(rng, second.relation.asks[split]), d=described)
    surrogate = _asked("{b} {g}?", b=bridge, g=_gap(second.relation, second.say))
    return WorldQuestion(question, "two_hop", (first_fact, fact), second.target, surrogate)
