"""Where lines may begin and end, held against the rules written down once more."""

from __future__ import annotations

import sys
from unittest.mock import patch

import numpy as np
import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st

from memorag_core.memory.grounding import words
from memorag_core.memory.grounding.words import Marked, even, mark
from tests.core.memory.grounding.corpora import borders, evened, texts


def places(marked: Marked) -> tuple[list[int], list[int]]:
    """Starts and ends as characters of the evened text."""
    before = [len(marked.data[:at].decode()) for at in np.flatnonzero(marked.starts)]
    behind = [len(marked.data[: at + 1].decode()) for at in np.flatnonzero(marked.ends)]
    return before, behind


@given(texts)
@example("Don't say 3.5, he said: “the king's” (don' 3. 5).")
@example("说：“你好”，《红楼梦》第3回。")
@example(" \u0301abc \u0600")
@example("🇩🇪🇫🇷🇩 👩\u200d👩\u200d👧\u200d")
def test_lines_begin_and_end_where_words_and_clusters_do(text: str) -> None:
    marked = mark(text)
    starts, ends = borders(evened(text))
    last = max(ends, default=0)
    assert marked.data == evened(text)[:last].encode()
    assert places(marked) == ([at for at in starts if at < last], ends)


@given(texts, st.integers(1, 5), st.integers(1, 4))
def test_a_text_is_the_same_in_windows_of_any_length(text: str, window: int, stride: int) -> None:
    whole = mark(text)
    with patch.object(words, "_WINDOW", window), patch.object(words, "STRIDE", stride):
        windows = mark(text)
    assert whole.data == windows.data
    assert places(whole) == places(windows)
    for known, at in zip(windows.known, windows.characters, strict=True):
        assert words.character(text, len(text) - len(text.lstrip()), whole.data[:known]) == at


@given(texts, st.data())
def test_a_range_has_the_borders_of_the_text_that_lie_in_it(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    marked = mark(text, start, end)

    def real(inside: Marked, first: int) -> tuple[set[int], set[int]]:
        while first < len(text) and text[first].isspace():
            first += 1
        return (
            {words.character(text, first, inside.data[:at]) for at in np.flatnonzero(inside.starts)},
            {words.character(text, first, inside.data[: at + 1]) for at in np.flatnonzero(inside.ends)},
        )

    starts, ends = real(mark(text), 0)
    ends = {at for at in ends if start < at <= end}
    starts = {at for at in starts if start <= at < max(ends, default=0)}
    assert real(marked, start) == (starts, ends)


@given(texts)
def test_places_of_the_original_text_are_borders_of_its_clusters(text: str) -> None:
    marked = mark(text)
    clusters = {found.start() for found in regex.finditer(r"\X", text)} | {len(text)}
    first = len(text) - len(text.lstrip())
    for at in (*np.flatnonzero(marked.starts), *np.flatnonzero(marked.ends) + 1):
        assert words.character(text, first, marked.data[:at]) in clusters


def test_flags_without_end_are_parted_in_pairs() -> None:
    # Told at once: from each of them back to the first would take hours.
    starts, ends = places_of("🇨🇭" * 100_000 + " 🇩")
    assert starts == [0, 200_001]
    assert ends == [*range(2, 200_001, 2), 200_002]


@given(st.lists(st.sampled_from("🇦 🇧 a \u0301 \u200d 👩 \u0600 。".split(" ")), max_size=20).map("".join))
def test_clusters_of_flags_are_those_of_unicode(text: str) -> None:
    codes = np.frombuffer(text.encode("utf-32-le"), "<u4")
    inside = words._inside_clusters(codes, words._kinds()[codes] & words._JOINING != 0)
    begins = {found.start() for found in regex.finditer(r"\X", text)}
    assert set(inside.tolist()) == set(range(len(text))) - begins


def test_white_space_is_what_str_split_takes_for_it() -> None:
    every = [chr(code) for code in range(sys.maxunicode + 1)]
    kinds = words._kinds()
    assert [sign for sign in every if kinds[ord(sign)] & words._SPACE] == [s for s in every if s.isspace()]


@pytest.mark.parametrize("text", ["", " \n\t ", "\u3000"])
def test_white_space_alone_has_no_lines(text: str) -> None:
    assert mark(text).data == b""
    assert even(text) == b""


def test_half_a_surrogate_pair_is_a_sign_like_others() -> None:
    assert places_of("a \ud800 b") == ([0, 2, 4], [1, 3, 5])


def places_of(text: str) -> tuple[list[int], list[int]]:
    marked = mark(text)
    read = marked.data.decode("utf-8", "surrogatepass")
    assert len(read) == len(text)
    sizes = np.cumsum([0, *(len(sign.encode("utf-8", "surrogatepass")) for sign in read)])
    starts = np.searchsorted(sizes, np.flatnonzero(marked.starts)).tolist()
    return starts, np.searchsorted(sizes, np.flatnonzero(marked.ends) + 1).tolist()
