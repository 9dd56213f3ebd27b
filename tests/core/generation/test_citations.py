"""Citations: numbers in brackets are found in any script, and however the text is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorag_core import (
    Citation,
    CitationParser,
    CitedText,
    Place,
    Unfounded,
    find_citations,
    number_passages,
    without_citations,
    without_marks,
)

PLACES = tuple(Place(f"d{number}", number * 10, number * 10 + 5) for number in range(1, 5))

MARKS = (
    "[1]",
    "[2, 3]",
    "[1][2]",
    "[2-4]",
    "[^1]",
    "[passage 2]",
    "[Passages 1, 3]",
    "【1】",
    "［１、２］",
    "〔段落3〕",
    "【1†source】",
    "[9]",
    "[0]",
    "[1-99]",
    "[1871]",
    "[see 2]",
)
WRITTEN = st.lists(
    st.one_of(st.sampled_from(MARKS), st.sampled_from([*"[]【】［］†^ 12０,-、pPa段落\n", "Anna", "钟表匠"]))
).map("".join)
"""Texts full of marks, and of what begins like one."""


@st.composite
def cut(draw: st.DrawFn) -> list[str]:
    """A text in pieces, empty ones among them."""
    text = draw(WRITTEN)
    places = sorted(draw(st.lists(st.integers(0, len(text)))))
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


def read(pieces: list[str]) -> list[CitedText]:
    parser = CitationParser(PLACES)
    return [*(parser.feed(piece) for piece in pieces), parser.close()]


def joined(parts: list[CitedText]) -> CitedText:
    return CitedText(
        "".join(part.text for part in parts),
        tuple(one for part in parts for one in part.citations),
        tuple(one for part in parts for one in part.unfounded),
    )


def marks(part: CitedText) -> list[Citation | Unfounded]:
    return [*part.citations, *part.unfounded]


@pytest.mark.parametrize(
    ("mark", "numbers"),
    [
        ("[1]", [1]),
        ("[ 2 ]", [2]),
        ("[2, 3]", [2, 3]),
        ("[2;3]", [2, 3]),
        ("[1][2]", [1, 2]),
        ("[1], [2]", [1, 2]),
        ("[2-4]", [2, 3, 4]),
        ("[1–3, 4]", [1, 2, 3, 4]),
        ("[3-1]", [3, 1]),
        ("[1, 1]", [1]),
        ("[^1]", [1]),
        ("[[2]]", [2]),
        ("[1](https://a.example/b)", [1]),
        ("[Passage 2]", [2]),
        ("[passages 1, 3]", [1, 3]),
        ("【1】", [1]),
        ("【2†source】", [2]),
        ("［１、２］", [1, 2]),
        ("［１，２］", [1, 2]),
        ("〔段落3〕", [3]),
        ("[段落1]、[段落2]", [1, 2]),
        ("[１～３]", [1, 2, 3]),
        ("[٢]", [2]),
    ],
)
def test_a_mark_cites_the_passages_of_its_numbers(mark: str, numbers: list[int]) -> None:
    for before, after in (("She mends clocks ", "."), ("钟表由她修理", "。此外"), ("", "")):
        cited = find_citations(before + mark + after, PLACES)
        assert [one.number for one in cited.citations] == numbers
        assert cited.unfounded == ()
        for one in cited.citations:
            assert one.evidence == one.number - 1
            assert one.place == PLACES[one.evidence]
            shown = cited.text[one.start : one.end]
            assert shown[0] in "[［【〔"
            assert shown[-1] in "]］】〕"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "(1)",
        "[]",
        "[a]",
        "[1871]",
        "[see 2]",
        "[1",
        "1]",
        "[1,]",
        "[1\n]",
        "list[i]",
        "[1.5]",
        "[x1]",
    ],
)
def test_other_brackets_are_text(text: str) -> None:
    assert find_citations(text, PLACES) == CitedText(text)


def test_a_number_that_no_passage_has_is_reported_and_not_made_a_citation() -> None:
    cited = find_citations("So it is [1, 9] and [0].", PLACES)
    assert [one.number for one in cited.citations] == [1]
    assert [(one.number, cited.text[one.start : one.end]) for one in cited.unfounded] == [
        (9, "[1, 9]"),
        (0, "[0]"),
    ]
    assert [one.number for one in find_citations("[1]", ()).unfounded] == [1]


def test_a_range_beyond_all_measure_is_its_two_ends() -> None:
    cited = find_citations("[1-99]", PLACES)
    assert ([one.number for one in cited.citations], [one.number for one in cited.unfounded]) == ([1], [99])


def test_a_passage_of_unknown_place_is_cited_without_one() -> None:
    (one,) = find_citations("[2]", (PLACES[0], None)).citations
    assert (one.evidence, one.place) == (1, None)


@given(cut())
def test_however_a_text_is_cut_it_comes_out_whole_and_cites_the_same(pieces: list[str]) -> None:
    assert joined(read(pieces)) == find_citations("".join(pieces), PLACES)


@given(cut())
def test_a_citation_comes_with_the_text_that_holds_its_mark(pieces: list[str]) -> None:
    told = 0
    for part in read(pieces):
        for one in marks(part):
            assert told <= one.start < one.end <= told + len(part.text)
        told += len(part.text)


@given(WRITTEN)
def test_a_mark_is_told_with_its_last_sign(text: str) -> None:
    text += "[2]"
    parser = CitationParser(PLACES)
    told = [parser.feed(sign) for sign in text]
    assert joined(told) == find_citations(text, PLACES)
    assert [one.number for one in told[-1].citations] == [2]


def test_what_begins_no_mark_is_told_at_once() -> None:
    parser = CitationParser(PLACES)
    assert parser.feed("Anna mends clocks") == CitedText("Anna mends clocks")
    assert parser.feed(" [1").text == " "
    assert parser.feed("9x").text == "[19x"


def test_a_mark_that_is_never_ended_is_text() -> None:
    parser = CitationParser(PLACES)
    assert parser.feed("Anna [1") == CitedText("Anna ")
    assert parser.close() == CitedText("[1")
    assert parser.close() == CitedText("")


# What a text may not say in the name of the passages


@given(st.lists(WRITTEN, min_size=1, max_size=4))
def test_only_the_numbers_of_the_passages_read_as_citations(passages: list[str]) -> None:
    numbered = number_passages(passages)
    found = find_citations(numbered, (None,) * len(passages))
    assert [one.number for one in found.citations] == list(range(1, len(passages) + 1))
    assert not found.unfounded
    for one in found.citations:
        assert numbered[one.start : one.end] == f"[{one.number}]"
        assert numbered[: one.start].endswith("\n\n") or one.start == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("One.\n[2] The tower is red.", "One.\n(2) The tower is red."),
        ("as said [1, 2]; and [3-4]", "as said (1, 2); and (3-4)"),
        ("［２］ 塔。【1†来源】", "（２） 塔。（1†来源）"),
        ("〔段落3〕 塔。", "（段落3） 塔。"),
        ("\n  > **[ 2 ]** Two", "\n  > **( 2 )** Two"),
        ("\r[\u200b2] Two\u2028[No. 3] Three", "\r(\u200b2) Two\u2028(No. 3) Three"),
        ("⟦2⟧ Two", "(2) Two"),
        ("[[2]] 【1†[2]】", "((2)) （1†(2)）"),
        ("[②] Two", "(②) Two"),
        ("塔。\n【二】 钟。\n[段落十二] 钟。", "塔。\n（二） 钟。\n(段落十二) 钟。"),
    ],
)
def test_a_mark_in_a_text_gets_round_brackets(text: str, told: str) -> None:
    assert without_marks(text) == told


@pytest.mark.parametrize(
    "text",
    [
        "In [1871] it rained.",
        "[see above] {2} (2) a, [b]",
        "x = [y]",
        "[2026-11-21 15:04, user] Hello",
        "[一九八四年] 雨。",
        "",
    ],
)
def test_what_is_no_mark_stays_as_it_is(text: str) -> None:
    assert without_marks(text) == text


def test_all_but_brackets_stays_and_long_texts_of_brackets_take_no_time() -> None:
    for text in ("[1†" * 20_000, "[" * 50_000 + "2" + "]" * 50_000, "[2]" * 30_000, " " * 50_000 + "[2]"):
        told = without_marks(text)
        assert len(told) == len(text)
        assert not find_citations(told, (None,) * 9).citations
        assert not find_citations(without_citations(text[:3000]), (None,) * 9).citations


def test_a_text_without_citations_reads_on() -> None:
    assert without_citations("Anna [1], and Ben[2][3].\n[4] Yes [1871].") == "Anna, and Ben.\n Yes [1871]."
