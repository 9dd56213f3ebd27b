from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorag_core import InputError
from memorag_evaluation.metrics import (
    Span,
    answer_tokens,
    best_of,
    coverage,
    estimate,
    exact_match,
    is_hit,
    overlap,
    paired_difference,
    share_found,
    token_f1,
)

TEXTS = st.text(alphabet="ab 宋江,.é", max_size=12)
SPANS = st.lists(
    st.tuples(st.integers(0, 30), st.integers(1, 8)).map(lambda pair: (pair[0], pair[0] + pair[1])),
    max_size=6,
)


def characters(spans: list[Span]) -> set[int]:
    return {place for start, end in spans for place in range(start, end)}


# texts ---------------------------------------------------------------------------------------------


def test_words_are_tokens_and_so_is_each_character_of_a_text_without_spaces() -> None:
    assert answer_tokens("Mara Venn's clock, 1806!") == ["mara", "venn", "s", "clock", "1806"]
    assert answer_tokens("宋江在Orrin。") == ["宋", "江", "在", "orrin"]
    assert answer_tokens("ＡＢＣ ﬁne") == ["abc", "fine"]


def test_case_punctuation_and_line_breaks_do_not_break_an_exact_match() -> None:
    assert exact_match("Mara Venn\nrepairs timepieces", "mara venn repairs timepieces.") == 1.0
    assert exact_match("repairs Mara Venn timepieces", "Mara Venn repairs timepieces") == 0.0


def test_f1_counts_shared_words_with_repeats() -> None:
    assert token_f1("the cat the cat", "the cat") == pytest.approx(2 * 2 / 6)
    assert token_f1("山东呼保义", "山东及时雨") == pytest.approx(2 / 5)


@given(TEXTS, TEXTS)
def test_f1_is_symmetric_and_between_nothing_shared_and_the_same_words(one: str, other: str) -> None:
    value = token_f1(one, other)
    assert value == token_f1(other, one)
    words, others = set(answer_tokens(one)), set(answer_tokens(other))
    assert (value > 0) == (bool(words & others) or not words | others)
    assert (value == 1) == (sorted(answer_tokens(one)) == sorted(answer_tokens(other)))


@given(TEXTS)
def test_an_exact_match_has_the_full_f1(text: str) -> None:
    assert exact_match(text, text) == token_f1(text, text) == 1.0


def test_the_best_of_several_accepted_texts_counts() -> None:
    assert best_of(exact_match, "Orrin", ["Dell", "orrin"]) == 1.0
    assert best_of(exact_match, "Orrin", []) == 0.0


# spans ---------------------------------------------------------------------------------------------


@given(SPANS.filter(bool), SPANS)
def test_coverage_is_the_share_of_gold_characters_that_were_found(
    gold: list[Span], found: list[Span]
) -> None:
    wanted = characters(gold)
    assert coverage(gold, found) == pytest.approx(len(wanted & characters(found)) / len(wanted))


@given(SPANS.filter(bool), SPANS, SPANS)
def test_more_spans_never_cover_less(gold: list[Span], found: list[Span], more: list[Span]) -> None:
    assert coverage(gold, found + more) >= coverage(gold, found)


def test_half_of_the_gold_characters_are_a_hit_and_one_less_is_none() -> None:
    assert is_hit([(0, 10)], [(5, 40)]) == 1.0
    assert is_hit([(0, 10)], [(6, 40)]) == 0.0


def test_spans_that_touch_share_nothing() -> None:
    assert overlap((0, 5), (5, 9)) == 0
    assert overlap((0, 6), (5, 9)) == 1


def test_the_share_of_wanted_things_counts_each_once() -> None:
    assert share_found(["a", "b", "a"], ["b", "c"]) == 0.5


def test_gold_without_a_character_is_refused() -> None:
    with pytest.raises(InputError, match="no character"):
        coverage([(3, 3)], [(0, 9)])
    with pytest.raises(InputError, match="at least one thing"):
        share_found([], ["a"])


# intervals -----------------------------------------------------------------------------------------

VALUES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 4)), min_size=1, max_size=30)


@given(VALUES)
def test_an_interval_lies_within_the_means_of_its_clusters_and_repeats_with_its_seed(
    pairs: list[tuple[float, int]],
) -> None:
    values, clusters = [value for value, _ in pairs], [cluster for _, cluster in pairs]
    found = estimate(values, clusters, seed=3, resamples=50)
    assert found == estimate(values, clusters, seed=3, resamples=50)
    assert found.mean == pytest.approx(sum(values) / len(values))
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9
    assert found.values == len(values)


def test_questions_of_one_document_that_go_together_make_the_interval_wider() -> None:
    values = [0.0] * 50 + [1.0] * 50
    documents = [place // 10 for place in range(100)]
    alone = estimate(values, range(100))
    together = estimate(values, documents)
    assert together.high - together.low > 2 * (alone.high - alone.low)
    assert (alone.clusters, together.clusters) == (100, 10)


def test_a_single_document_is_resampled_by_its_questions() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    assert estimate(values, ["one"] * 5) == estimate(values, range(5))


def test_an_interval_covers_the_mean_as_often_as_it_says() -> None:
    # 200 samples of 20 clusters whose true mean is 0.5
    import random

    covered = 0
    for sample in range(200):
        rng = random.Random(sample)
        shares = [rng.random() for _ in range(20)]
        values = [float(rng.random() < share) for share in shares for _ in range(5)]
        found = estimate(values, [place // 5 for place in range(100)], seed=sample, resamples=300)
        covered += found.low <= 0.5 <= found.high
    assert 175 <= covered <= 198


def test_a_difference_is_paired_question_by_question() -> None:
    found = paired_difference([1.0, 0.0, 1.0], [0.5, -0.5, 0.5], [0, 1, 2])
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("values", "clusters", "found"),
    [([], [], "0 values"), ([1.0], [0, 1], "1 values and 2 clusters")],
)
def test_values_without_their_clusters_are_refused(
    values: list[float], clusters: list[int], found: str
) -> None:
    with pytest.raises(InputError, match=found):
        estimate(values, clusters)


def test_settings_out_of_range_and_unpaired_values_are_refused() -> None:
    with pytest.raises(InputError, match="confidence 1"):
        estimate([1.0], [0], confidence=1)
    with pytest.raises(InputError, match="a pair for each"):
        paired_difference([1.0], [1.0, 2.0], [0])
