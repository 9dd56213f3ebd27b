"""The arithmetic of parts: every token is covered, full parts stay, and questions find their parts."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from memorag_core.memory.partitions import Cut, alike

cuts = st.integers(1, 40).flatmap(
    lambda capacity: st.builds(Cut, st.just(capacity), st.integers(0, capacity - 1))
)


@given(cut=cuts, total=st.integers(1, 300))
def test_parts_cover_every_token_and_overlap_as_asked(cut: Cut, total: int) -> None:
    spans = cut.spans(total)
    assert (spans[0][0], spans[-1][1], len(spans)) == (0, total, cut.parts(total))
    for one, other in pairwise(spans):
        assert one[1] - one[0] == cut.capacity
        assert one[1] - other[0] == cut.overlap
        assert one[1] < other[1]


@given(cut=cuts, total=st.integers(1, 300), more=st.integers(1, 100))
def test_what_was_read_stays_and_only_what_is_new_is_read(cut: Cut, total: int, more: int) -> None:
    before, after = cut.spans(total), cut.spans(total + more)
    growth = cut.growth(total, total + more)
    assert after[: len(before) - 1] == before[:-1]
    held = [*before[:-1], (before[-1][0], growth.rest[1] if growth.rest else before[-1][1])]
    assert [*held, *growth.whole, *((growth.last,) if growth.last else ())] == after
    assert growth.rest is None or growth.rest[0] == total
    assert all(end - start == cut.capacity for start, end in growth.whole)
    assert growth.last is None or growth.last[1] - growth.last[0] < cut.capacity
    read = [span for span in (growth.rest, *growth.whole, growth.last) if span]
    assert sum(end - start for start, end in read) == cut.to_read(total, total + more)


@given(cut=cuts, total=st.integers(1, 200), data=st.data())
def test_the_parts_that_hold_some_tokens_are_those_whose_spans_meet_them(
    cut: Cut, total: int, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, total - 1))
    end = data.draw(st.integers(start + 1, total))
    meet = [part for part, (first, last) in enumerate(cut.spans(total)) if first < end and start < last]
    assert list(cut.holding(start, end, total)) == meet


@given(
    first=st.integers(0, 5),
    rows=st.integers(1, 6),
    wanted=st.lists(st.none() | st.sets(st.integers(0, 11)), min_size=1, max_size=4),
)
def test_every_question_is_put_to_the_rows_it_wants_once(
    first: int, rows: int, wanted: list[set[int] | None]
) -> None:
    asked = [
        (question, first + row)
        for start, stop, questions in alike(range(first, first + rows), wanted)
        for row in range(start, stop)
        for question in questions
    ]
    expected = [
        (question, part)
        for question, parts in enumerate(wanted)
        for part in range(first, first + rows)
        if parts is None or part in parts
    ]
    assert sorted(asked) == sorted(expected)
