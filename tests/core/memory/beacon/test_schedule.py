"""The arithmetic of streams, against counting one token at a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorag_core.errors import InputError
from memorag_core.memory.beacon.schedule import Stream, next_step, steps

streams = st.integers(2, 64).flatmap(
    lambda window: st.builds(
        Stream, st.just(window), st.integers(2, min(32, window)), st.integers(0, 5 * window)
    )
)


def count(stream: Stream) -> tuple[int, list[str]]:
    """Slots, and what stands in the unfinished window, counted token by token."""
    slots, since, inside = 0, 0, list[str]()
    for _ in range(stream.tokens):
        inside.append("raw")
        since += 1
        if since == stream.ratio:
            inside.append("beacon")
            since = 0
        if inside.count("raw") == stream.window:
            slots += inside.count("beacon")
            inside = []
    return slots, inside


@given(streams)
def test_a_stream_stands_where_counting_says(stream: Stream) -> None:
    slots, inside = count(stream)
    assert stream.slots == slots
    assert stream.entries == len(inside)
    assert stream.filled == inside.count("raw")
    assert stream.beacons == inside.count("beacon")


@given(streams, st.integers(0, 300))
def test_steps_end_where_the_stream_is_after_the_tokens(stream: Stream, tokens: int) -> None:
    taken = list(steps(stream, tokens))
    assert sum(step.raw for step in taken) == tokens
    assert (taken[-1].after if taken else stream) == stream.after(tokens)
    assert all(step.closes for step in taken[:-1])
    assert all(step.closes == (step.after.filled == 0) for step in taken)


@given(streams, st.integers(1, 100))
def test_the_entries_of_a_step_follow_those_that_are_there_without_a_hole(
    stream: Stream, tokens: int
) -> None:
    step = next_step(stream, tokens)
    assert sorted(step.entries) == list(range(stream.entries, stream.entries + step.raw + step.beacons))
    assert list(step.entries[: step.raw]) == sorted(step.entries[: step.raw])
    assert list(step.positions) == [stream.slots + entry for entry in step.entries]


@given(streams, st.integers(1, 100))
def test_beacons_stand_where_counting_puts_them(stream: Stream, tokens: int) -> None:
    step = next_step(stream, tokens)
    _, inside = count(stream)
    since = stream.since_beacon
    for _ in range(step.raw):
        inside.append("raw")
        since += 1
        if since == stream.ratio:
            inside.append("beacon")
            since = 0
    places = [at for at, kind in enumerate(inside) if kind == "beacon"]
    assert list(step.window_beacons) == places
    assert list(step.entries[step.raw :]) == places[stream.beacons :]
    assert list(step.window_beacons + step.slot_shift) == list(range(len(places)))


@pytest.mark.parametrize(("window", "ratio", "tokens"), [(8, 1, 0), (8, 9, 0), (8, 4, -1), (0, 2, 0)])
def test_a_stream_that_cannot_be_is_refused(window: int, ratio: int, tokens: int) -> None:
    with pytest.raises(InputError, match="expected"):
        Stream(window, ratio, tokens)
