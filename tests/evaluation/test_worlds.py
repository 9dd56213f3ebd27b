from __future__ import annotations

from collections import Counter

import pytest

from memorag_core import InputError
from memorag_evaluation.worlds import draw_worlds, kind_groups


def words(text: str) -> int:
    return len(text.split())


def test_a_world_fills_its_tokens_up_to_a_sentence_and_answers_all_its_questions() -> None:
    for world in draw_worlds(words, count=5, tokens=200, split="test", seed=0):
        text = world.document.text
        assert 170 <= words(text) <= 200
        assert world.questions
        for asked in world.questions:
            assert all(text[fact.start : fact.end] == fact.sentence for fact in asked.evidence)


def test_a_world_depends_on_the_seed_and_its_place_but_not_on_how_many_there_are() -> None:
    some = draw_worlds(words, count=2, tokens=120, split="test", seed=3)
    assert draw_worlds(words, count=4, tokens=120, split="test", seed=3)[:2] == some
    assert draw_worlds(words, count=2, tokens=120, split="test", seed=4) != some
    assert draw_worlds(words, count=2, tokens=120, split="dev", seed=3) != some
    assert some[0].document.text != some[1].document.text


def test_the_questions_of_a_kind_are_limited_and_no_wording_is_asked_twice() -> None:
    (world,) = draw_worlds(words, count=1, tokens=1500, split="test", seed=0, per_kind=3)
    assert max(Counter(asked.kind for asked in world.questions).values()) == 3
    (full,) = draw_worlds(words, count=1, tokens=1500, split="test", seed=0)
    texts = [asked.question for asked in full.questions]
    assert len(set(texts)) == len(texts) > len(world.questions)
    assert {asked.question for asked in world.questions} <= set(texts)


def test_kinds_are_told_in_one_order_with_the_implicit_ones_together_and_all_last() -> None:
    groups = kind_groups(["explicit", "trade", "two_hop", "thing", "trade"])
    assert list(groups) == ["one_hop", "trade", "thing", "two_hop", "explicit", "all"]
    assert groups["one_hop"] == {"trade", "attribute", "place", "thing"}
    assert groups["all"] == {"trade", "thing", "two_hop", "explicit"}
    assert list(kind_groups(["longdep", "shortdep"])) == ["longdep", "shortdep", "all"]
    assert list(kind_groups(["all"])) == ["all"]


@pytest.mark.parametrize(
    ("count", "tokens", "per_kind", "said"),
    [
        (0, 9, None, "count is 0"),
        (1, 0, None, "tokens is 0"),
        (1, 9, 0, "per_kind is 0"),
        (1, 1, None, "no sentence"),
    ],
)
def test_numbers_out_of_range_are_refused(count: int, tokens: int, per_kind: int | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        draw_worlds(words, count=count, tokens=tokens, split="test", seed=0, per_kind=per_kind)
