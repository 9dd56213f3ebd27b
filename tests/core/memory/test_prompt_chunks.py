"""Texts in pieces and parts: nothing is lost, nothing is too long, and growing is the same as reading."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from memorag_core.memory.llm import estimate_tokens
from memorag_core.memory.prompt_chunks import Piece, cut_parts, cut_pieces

SIGNS = st.sampled_from([*"ab .!?\n\n\t\"')。！…", "word ", "Sentence. ", "段落。", "\n\n"])
TEXTS = st.lists(SIGNS, max_size=80).map("".join)


def texts_of(text: str, *, longest: int = 1000) -> list[str]:
    return [piece.text for piece in cut_pieces(text, estimate_tokens, longest=longest)]


def pieces(counts: Sequence[int], *, paragraphs: Sequence[int] = ()) -> list[Piece]:
    """Pieces of so many tokens; those numbered end a paragraph."""
    return [Piece("x.\n" if place in paragraphs else "x. ", count) for place, count in enumerate(counts)]


@given(text=TEXTS, longest=st.integers(1, 9))
@example(text="...", longest=1)
def test_pieces_joined_are_the_text_and_none_is_too_long(text: str, longest: int) -> None:
    found = cut_pieces(text, estimate_tokens, longest=longest)
    assert "".join(piece.text for piece in found) == text
    assert all(piece.text for piece in found)
    assert all(piece.tokens == estimate_tokens(piece.text) <= longest for piece in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two!  Three?", ["One. ", "Two!  ", "Three?"]),
        ('He said "No." Then (so it was.) he left.', ['He said "No." ', "Then (so it was.) ", "he left."]),
        ("第一句。第二句！「第三句。」完", ["第一句。", "第二句！", "「第三句。」", "完"]),
        ("Version 3.5 of a.b\nis out. Yes", ["Version 3.5 of a.b\nis out. ", "Yes"]),
        ("A heading\n\nA text\n \nmore", ["A heading\n\n", "A text\n \n", "more"]),
        ("", []),
    ],
)
def test_a_text_is_cut_behind_its_sentences_and_at_blank_lines(text: str, expected: list[str]) -> None:
    assert texts_of(text) == expected


def test_a_long_sentence_is_halved_at_a_line_else_between_words_else_anywhere() -> None:
    assert texts_of("first line\nlast line", longest=4) == ["first line\n", "last line"]
    assert texts_of("one two three four", longest=3) == ["one two ", "three four"]
    assert texts_of("x" * 20, longest=3) == ["x" * 10, "x" * 10]


def test_a_character_that_counts_for_more_than_is_allowed_stands_alone() -> None:
    assert cut_pieces("ab", lambda text: 5 * len(text), longest=1) == (Piece("a", 5), Piece("b", 5))


@pytest.mark.parametrize(
    "text", ["." * 400_000, ")" * 400_000, " " * 400_000, "x. " * 130_000, "." + "'" * 400_000]
)
def test_no_text_takes_long_to_cut(text: str) -> None:
    began = time.perf_counter()
    assert "".join(texts_of(text)) == text
    assert time.perf_counter() - began < 5


SHAPES = {
    "counts": st.lists(st.integers(0, 40), min_size=1, max_size=60),
    "capacity": st.integers(40, 80),
    "overlap": st.integers(0, 40),
    "paragraphs": st.sets(st.integers(0, 59)),
}


@given(**SHAPES)
def test_parts_cover_all_pieces_in_order_within_capacity_and_overlap(
    counts: list[int], capacity: int, overlap: int, paragraphs: set[int]
) -> None:
    assume(overlap <= capacity // 2)
    spans = cut_parts(pieces(counts, paragraphs=[*paragraphs]), capacity=capacity, overlap=overlap)
    assert spans[0][0] == 0
    assert spans[-1][1] == len(counts)
    for start, end in spans:
        assert start < end
        assert sum(counts[start:end]) <= capacity
    for (start, end), (later_start, later_end) in pairwise(spans):
        assert start < later_start <= end < later_end
        assert sum(counts[later_start:end]) <= overlap


@given(**SHAPES, at=st.integers(1, 59))
def test_a_text_that_grows_keeps_all_parts_but_the_last(
    counts: list[int], capacity: int, overlap: int, paragraphs: set[int], at: int
) -> None:
    assume(overlap <= capacity // 2)
    whole = pieces(counts, paragraphs=[*paragraphs])
    before = cut_parts(whole[:at], capacity=capacity, overlap=overlap)
    after = cut_parts(whole, capacity=capacity, overlap=overlap)
    assert after[: len(before) - 1] == before[:-1]
    assert after[len(before) - 1][0] == before[-1][0]


def test_a_part_is_filled_and_ends_with_a_paragraph_that_ends_near_its_end() -> None:
    assert cut_parts(pieces([5] * 30), capacity=80, overlap=0) == ((0, 16), (16, 30))
    assert cut_parts(pieces([5] * 30, paragraphs=[13]), capacity=80, overlap=0) == ((0, 14), (14, 30))
    assert cut_parts(pieces([5] * 30, paragraphs=[12]), capacity=80, overlap=0) == ((0, 16), (16, 30))


def test_a_part_begins_with_the_last_pieces_of_the_one_before() -> None:
    assert cut_parts(pieces([5] * 30), capacity=80, overlap=12) == ((0, 16), (14, 30))
    assert cut_parts(pieces([5] * 16 + [76]), capacity=80, overlap=12) == ((0, 16), (16, 17))


def test_a_piece_beyond_the_capacity_is_a_part_by_itself() -> None:
    assert cut_parts(pieces([5, 90, 5]), capacity=80, overlap=10) == ((0, 1), (1, 2), (2, 3))
