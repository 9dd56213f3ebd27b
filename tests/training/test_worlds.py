from __future__ import annotations

import itertools
import random
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import pytest
import Stemmer
from hypothesis import given, settings
from hypothesis import strategies as st

from memorag_core.errors import InputError
from memorag_training.worlds import (
    QUESTION_KINDS,
    Split,
    World,
    WorldQuestion,
    generate_list,
    generate_world,
    load_concepts,
    relations,
    templates,
)
from memorag_training.worlds.names import make_word, split_of_word
from tests.rules import examples

SPLITS: tuple[Split, ...] = ("train", "dev", "test")
IMPLICIT = ("trade", "attribute", "place", "thing", "two_hop")

# Words that say how a sentence is built; prepositions beyond the plainest count as content here.
FUNCTION_WORDS = frozenset(
    """
    a about am an and any are as at be been being but by can could did do does doing for from had has have
    having he her hers him his how i if in into is it its me my of on or our ours she should so such than
    that the their theirs them then there these they this those to us was we were what when where which
    who whom whose why will with would you your yours
    """.split()
)

FRAMES_OF_STATEMENTS = (templates.STATEMENTS, templates.PLACED_STATEMENTS)
FRAMES_OF_IMPLICIT_QUESTIONS = (
    templates.NEED_QUESTIONS,
    templates.ASK_QUESTIONS,
    templates.NEED_DESCRIPTIONS,
    templates.TOWN_OF,
    *templates.ASKING_WORDS.values(),
    *templates.ASK_DESCRIPTIONS.values(),
    *(relation.asks for relation in relations.RELATIONS),
)
FRAMES_HELD_APART = (
    *FRAMES_OF_STATEMENTS,
    templates.NEED_QUESTIONS,
    templates.ASK_QUESTIONS,
    templates.NEED_DESCRIPTIONS,
    templates.TOWN_OF,
    templates.EXPLICIT_DOES,
    templates.EXPLICIT_GAPS,
    templates.FILLERS,
    templates.MENTIONS,
    *templates.ASK_DESCRIPTIONS.values(),
    *(relation.asks for relation in relations.RELATIONS),
)


def content_stems(text: str) -> set[str]:
    stemmer = Stemmer.Stemmer("english")
    words = re.findall(r"[^\W_]+", re.sub(r"\{\w\}|'s\b", " ", text).lower())
    return {stemmer.stemWord(word) for word in words if word not in FUNCTION_WORDS}


def stems_of(texts: Iterable[str]) -> set[str]:
    return set().union(*map(content_stems, texts))


def frames(by_split: Mapping[Split, tuple[str, ...]]) -> Iterator[str]:
    return itertools.chain.from_iterable(by_split.values())


def worlds(split: Split, count: int, characters: int = 4000) -> list[World]:
    rng = random.Random(f"{split} {characters}")
    return [generate_world(rng, split=split, characters=characters) for _ in range(count)]


def implicit_questions(world: World) -> list[WorldQuestion]:
    return [question for question in world.questions if question.kind in IMPLICIT]


def group_of_evidence(question: WorldQuestion) -> str:
    """The group of the concept that the surrogate question states."""
    stated = [
        (text, concept.group)
        for concept in load_concepts()
        for text in concept.says
        if concept.kind == question.kind and f" {text} " in question.surrogate.replace("?", " ")
    ]
    return max(stated, key=lambda pair: len(pair[0]))[1]


@pytest.fixture(scope="module")
def sample() -> dict[Split, list[World]]:
    return {split: worlds(split, 30) for split in SPLITS}


# what is held out ----------------------------------------------------------------------------------


def capitalised(world: World) -> set[str]:
    """The words written with a capital that are not mere openings of a sentence or common names."""
    lower = set(re.findall(r"\b[a-z]+\b", world.text))
    return {word for word in re.findall(r"\b[A-Z][a-z]+\b", world.text) if word.lower() not in lower}


def known_words() -> set[str]:
    texts = itertools.chain(
        *(frames(by_split) for by_split in FRAMES_HELD_APART),
        *(frames(by_split) for by_split in templates.ASKING_WORDS.values()),
        *((*relation.says, *relation.values, relation.gap) for relation in relations.RELATIONS),
        *((*concept.says, *concept.asks) for concept in load_concepts()),
        templates.SEASONS,
    )
    return {word for text in texts for word in re.findall(r"[a-z]+", text.lower())}


def test_no_word_of_a_name_occurs_in_two_splits(sample: dict[Split, list[World]]) -> None:
    known = known_words()
    names = {
        split: {word for world in sample[split] for word in capitalised(world) if word.lower() not in known}
        for split in SPLITS
    }
    assert all(len(names[split]) > 500 for split in SPLITS)
    for one, other in itertools.combinations(SPLITS, 2):
        assert not names[one] & names[other]
    for split in SPLITS:
        assert {split_of_word(word) for word in names[split]} == {split}


@pytest.mark.parametrize("split", SPLITS)
def test_each_split_has_tens_of_thousands_of_names(split: Split) -> None:
    rng = random.Random(3)
    assert len({make_word(rng, split, taken=()) for _ in range(40_000)}) > 15_000
    for place in (False, True):
        word = make_word(rng, split, taken=(), place=place)
        assert word.istitle()
        assert 4 <= len(word) <= 10


def test_no_sentence_frame_occurs_in_two_splits() -> None:
    for by_split in FRAMES_HELD_APART:
        every = list(frames(by_split))
        assert len(every) == len(set(every)), [frame for frame, n in Counter(every).items() if n > 1]


def test_no_frame_of_a_split_returns_in_any_list_of_another() -> None:
    every = {split: {frame for by in FRAMES_HELD_APART for frame in by[split]} for split in SPLITS}
    for one, other in itertools.combinations(SPLITS, 2):
        assert not every[one] & every[other]


@pytest.mark.parametrize(
    "by_split",
    [
        templates.STATEMENTS,
        templates.PLACED_STATEMENTS,
        templates.NEED_QUESTIONS,
        templates.ASK_QUESTIONS,
        {
            split: tuple(ask for relation in relations.RELATIONS for ask in relation.asks[split])
            for split in SPLITS
        },
    ],
    ids=["statements", "placed statements", "needs", "asks", "second hops"],
)
def test_every_kind_of_sentence_has_frames_enough(by_split: Mapping[Split, tuple[str, ...]]) -> None:
    assert len(by_split["train"]) >= 24
    assert len(by_split["dev"]) >= 8
    assert len(by_split["test"]) >= 8


# what is shared ------------------------------------------------------------------------------------


def test_there_are_concepts_enough_and_each_has_several_wordings() -> None:
    counts = Counter(concept.kind for concept in load_concepts())
    assert counts["trade"] >= 60
    assert counts["attribute"] >= 60
    assert counts["place"] >= 30
    assert counts["thing"] >= 30
    for concept in load_concepts():
        assert len(set(concept.says)) >= 3
        assert len(set(concept.asks)) >= 4


def test_no_wording_belongs_to_two_concepts() -> None:
    for side in ("says", "asks"):
        wordings = Counter((c.kind, text) for c in load_concepts() for text in getattr(c, side))
        assert not [wording for wording, count in wordings.items() if count > 1]
    ids = Counter((concept.kind, concept.id) for concept in load_concepts())
    assert max(ids.values()) == 1


# no word in common ---------------------------------------------------------------------------------


def test_a_concept_is_asked_for_in_other_words_than_it_is_stated() -> None:
    for concept in load_concepts():
        assert not stems_of(concept.says) & stems_of(concept.asks), concept.id


def test_no_question_frame_shares_a_content_word_with_any_statement() -> None:
    stated = stems_of(frame for by_split in FRAMES_OF_STATEMENTS for frame in frames(by_split))
    stated |= stems_of(text for concept in load_concepts() for text in concept.says)
    stated |= stems_of(text for r in relations.RELATIONS for text in (*r.says, *r.values))
    for by_split in FRAMES_OF_IMPLICIT_QUESTIONS:
        for frame in frames(by_split):
            assert not content_stems(frame) & stated, frame


def test_no_asking_shares_a_content_word_with_statement_frames_or_relations() -> None:
    stated = stems_of(frame for by_split in FRAMES_OF_STATEMENTS for frame in frames(by_split))
    stated |= stems_of(text for r in relations.RELATIONS for text in (*r.says, *r.values))
    for concept in load_concepts():
        assert not stems_of(concept.asks) & stated, concept.id


@pytest.mark.parametrize("split", SPLITS)
def test_implicit_questions_share_no_content_word_with_any_of_their_evidence(
    split: Split, sample: dict[Split, list[World]]
) -> None:
    asked = 0
    for world in sample[split]:
        for question in implicit_questions(world):
            stems = content_stems(question.question)
            for fact in question.evidence:
                assert not stems & content_stems(fact.sentence), (question.question, fact.sentence)
            asked += 1
    assert asked > 1000


# facts and questions -------------------------------------------------------------------------------


@settings(max_examples=examples(60), deadline=None)
@given(seed=st.integers(0, 2**32), split=st.sampled_from(SPLITS), characters=st.integers(1, 5000))
def test_every_fact_stands_where_it_says_and_every_evidence_is_a_fact(
    seed: int, split: Split, characters: int
) -> None:
    world = generate_world(random.Random(seed), split=split, characters=characters)
    for fact in world.facts:
        assert world.text[fact.start : fact.end] == fact.sentence
    assert [fact.start for fact in world.facts] == sorted(fact.start for fact in world.facts)
    for question in world.questions:
        assert set(question.evidence) <= set(world.facts)
        assert len(set(question.evidence)) == (2 if question.kind == "two_hop" else 1)


@pytest.mark.parametrize("split", SPLITS)
def test_the_answer_stands_in_the_last_evidence_and_nowhere_in_the_implicit_question(
    split: Split, sample: dict[Split, list[World]]
) -> None:
    for question in (q for world in sample[split] for q in world.questions):
        assert question.answer.lower() in question.evidence[-1].sentence.lower()
        if question.kind in IMPLICIT:
            assert question.answer.lower() not in question.question.lower()


@pytest.mark.parametrize("split", SPLITS)
def test_no_question_has_two_answers_in_one_world(split: Split, sample: dict[Split, list[World]]) -> None:
    for world in sample[split]:
        answers: dict[str, set[str]] = {}
        for question in world.questions:
            answers.setdefault(question.question, set()).add(question.answer)
        assert all(len(found) == 1 for found in answers.values())


@pytest.mark.parametrize("split", SPLITS)
def test_of_every_group_of_concepts_a_world_states_at_most_one(
    split: Split, sample: dict[Split, list[World]]
) -> None:
    for world in sample[split]:
        groups = Counter(
            group_of_evidence(question)
            for question in world.questions
            if question.kind in IMPLICIT and question.kind != "two_hop"
        )
        assert groups
        assert max(groups.values()) == 1


def test_two_hops_meet_in_a_name_that_the_question_withholds(sample: dict[Split, list[World]]) -> None:
    known = known_words()
    for split in SPLITS:
        for world in sample[split]:
            names = {word for word in capitalised(world) if word.lower() not in known}
            for question in world.questions:
                if question.kind != "two_hop":
                    continue
                first, second = (names & set(re.findall(r"\w+", f.sentence)) for f in question.evidence)
                assert first & second
                assert not names & set(re.findall(r"\w+", question.question))


@pytest.mark.parametrize("split", SPLITS)
def test_a_surrogate_question_shares_words_with_each_of_its_evidence(
    split: Split, sample: dict[Split, list[World]]
) -> None:
    for question in (q for world in sample[split] for q in world.questions):
        for fact in question.evidence:
            assert content_stems(question.surrogate) & content_stems(fact.sentence)


@pytest.mark.parametrize("split", SPLITS)
def test_the_two_facts_of_a_long_way_mostly_stand_well_apart(
    split: Split, sample: dict[Split, list[World]]
) -> None:
    gaps = [
        abs(question.evidence[0].start - question.evidence[1].start)
        for world in sample[split]
        for question in world.questions
        if question.kind == "two_hop"
    ]
    assert sum(gap > 200 for gap in gaps) > 0.85 * len(gaps)


@pytest.mark.parametrize("split", SPLITS)
def test_every_kind_of_question_is_asked(split: Split, sample: dict[Split, list[World]]) -> None:
    kinds = Counter(question.kind for world in sample[split] for question in world.questions)
    assert set(kinds) == set(QUESTION_KINDS)
    assert min(kinds.values()) > 30


# length, chance, filler ----------------------------------------------------------------------------


@settings(max_examples=examples(60), deadline=None)
@given(seed=st.integers(0, 2**32), split=st.sampled_from(SPLITS), characters=st.integers(1, 6000))
def test_a_text_ends_with_the_sentence_that_reaches_its_length(
    seed: int, split: Split, characters: int
) -> None:
    text = generate_world(random.Random(seed), split=split, characters=characters).text
    assert len(text) >= characters
    last = max(text.rfind(". ", 0, characters), text.rfind(".\n", 0, characters))
    assert not re.search(r"\.\s", text[max(last + 2, characters) :])


@settings(max_examples=examples(40), deadline=None)
@given(seed=st.integers(0, 2**32), sentences=st.integers(1, 120), share=st.floats(0, 0.9))
def test_a_length_in_sentences_is_kept_and_so_is_the_share_of_filler(
    seed: int, sentences: int, share: float
) -> None:
    world = generate_world(random.Random(seed), split="dev", sentences=sentences, filler_share=share)
    assert len(re.split(r"(?<=\.)\s", world.text)) == sentences
    assert len(world.facts) == max(1, round(sentences * (1 - share)))


@pytest.mark.parametrize("sentences", [1, 2, 3])
def test_even_the_shortest_world_asks_an_implicit_question(sentences: int) -> None:
    for seed in range(50):
        world = generate_world(random.Random(seed), split="train", sentences=sentences)
        assert implicit_questions(world)


@given(seed=st.integers(0, 2**32), split=st.sampled_from(SPLITS))
@settings(max_examples=20, deadline=None)
def test_equal_chance_gives_equal_worlds_and_leaves_the_global_chance_alone(seed: int, split: Split) -> None:
    before = random.getstate()
    one = generate_world(random.Random(seed), split=split, characters=800)
    assert one == generate_world(random.Random(seed), split=split, characters=800)
    assert one != generate_world(random.Random(seed + 1), split=split, characters=800)
    assert random.getstate() == before


def test_sentences_of_the_caller_are_mixed_in_as_they_are() -> None:
    mine = ("Call me Ishmael\nif you please.", "The sea was grey.")
    world = generate_world(random.Random(0), split="train", characters=3000, filler=mine, filler_share=0.5)
    assert world.text.count("Call me Ishmael if you please.") > 3
    assert world.text.count("The sea was grey.") > 3
    assert not {"Call me Ishmael if you please.", "The sea was grey."} & {f.sentence for f in world.facts}


def test_as_many_people_have_a_trade_as_asked_for() -> None:
    for seed in range(10):
        world = generate_world(random.Random(seed), split="test", characters=6000, people=3)
        assert sum(question.kind == "trade" for question in world.questions) <= 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one"),
        ({"characters": 100, "sentences": 3}, "exactly one"),
        ({"characters": 0}, "characters is 0; expected 1 or more"),
        ({"sentences": -1}, "sentences is -1; expected 1 or more"),
        ({"sentences": 3, "people": 0}, "people is 0; expected 1 or more"),
        ({"sentences": 3, "filler_share": 1.0}, "filler_share is 1.0; expected a number from 0 to 0.9"),
    ],
)
def test_an_impossible_request_says_what_was_expected(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        generate_world(random.Random(0), split="train", **arguments)  # type: ignore[arg-type]


def test_an_unknown_split_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="split is 'valid'; expected one of 'train', 'dev', 'test'"):
        generate_world(random.Random(0), split="valid", sentences=3)  # type: ignore[arg-type]


def test_a_megabyte_of_worlds_takes_seconds() -> None:
    rng, start, characters = random.Random(0), time.process_time(), 0
    while characters < 200_000:
        characters += len(generate_world(rng, split="train", characters=6000).text)
    assert time.process_time() - start < 2  # a tenth of a second where nothing else runs


# lists ---------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), split=st.sampled_from(SPLITS), characters=st.integers(1, 6000))
def test_a_list_states_each_concept_once_and_asks_for_every_one(
    seed: int, split: Split, characters: int
) -> None:
    listed = generate_list(random.Random(seed), split=split, characters=characters)
    subjects = stems_of(frame for frames in templates.BARE_STATEMENTS.values() for frame in frames)
    assert len(listed.facts) == len(listed.questions)
    assert len({question.surrogate for question in listed.questions}) == len(listed.questions)
    for fact, question in zip(listed.facts, listed.questions, strict=True):
        assert listed.text[fact.start : fact.end] == fact.sentence
        assert question.evidence == (fact,)
        assert not content_stems(question.question) & (content_stems(fact.sentence) - subjects)
    groups = Counter(group_of_evidence(question) for question in listed.questions)
    assert max(groups.values()) == 1


def test_a_list_ends_when_everything_has_been_said() -> None:
    listed = generate_list(random.Random(1), split="train", characters=10**6)
    assert len(listed.facts) == len({concept.group for concept in load_concepts()})


def test_a_list_without_length_is_refused() -> None:
    with pytest.raises(InputError, match="characters"):
        generate_list(random.Random(1), split="train", characters=0)
