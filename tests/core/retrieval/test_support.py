"""Lexical support: how much of what a text says one place of the chunks says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorag_core.retrieval import EvidenceIndex
from memorag_core.retrieval.support import lexical_support
from memorag_core.retrieval.tokenization import lexical_tokens
from memorag_core.types import Chunk
from tests.core.retrieval.conftest import chunks_of, corpora, sentences


def support_by_hand(chunks: Sequence[Chunk], text: str) -> float:
    """The definition, by reading every chunk."""
    rows = [set(lexical_tokens(chunk.text)) for chunk in chunks]
    size = len(rows)

    def weight(token: str) -> float:
        holders = sum(token in row for row in rows)
        return math.log(1 + (size - holders + 0.5) / (holders + 0.5))

    wanted = set(lexical_tokens(text))
    if not wanted:
        return 1.0
    places = rows + [
        rows[at] | rows[at + 1]
        for at in range(size - 1)
        if chunks[at].document_id == chunks[at + 1].document_id
    ]
    missing = min(sum(weight(token) for token in wanted - place) for place in places)
    unknown = math.log(1 + (size + 0.5) / 0.5)
    return 1 - missing / (sum(map(weight, wanted)) + unknown)


def support(chunks: Sequence[Chunk], *texts: str) -> tuple[float, ...]:
    return EvidenceIndex.build(chunks).support(texts)


# laws -----------------------------------------------------------------------------------------------


@given(corpora, st.lists(sentences, max_size=4), st.lists(st.sampled_from("abc"), min_size=12, max_size=12))
def test_support_is_what_its_definition_says_whatever_the_documents(
    texts: list[str], asked: list[str], owners: list[str]
) -> None:
    chunks = [
        replace(chunk, document_id=owner) for chunk, owner in zip(chunks_of(texts), owners, strict=False)
    ]
    expected = [support_by_hand(chunks, text) for text in asked]
    assert support(chunks, *asked) == pytest.approx(expected)


@given(corpora, st.data())
def test_what_a_chunk_or_two_neighbours_hold_has_the_support_1(texts: list[str], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(texts) - 1))
    assert support(chunks_of(texts), texts[first], " ".join(texts[first : first + 2])) == pytest.approx(
        [1, 1]
    )


@given(corpora, sentences)
def test_support_is_above_0_and_at_most_1_and_an_unknown_word_more_lowers_it(
    texts: list[str], text: str
) -> None:
    before, after = support(chunks_of(texts), text, f"{text} zyxwvut")
    assert 0 < after < before <= 1


def test_each_text_has_its_own_share_and_none_have_none() -> None:
    chunks = chunks_of(["The baker mends clocks.", "Rain falls."])
    index = EvidenceIndex.build(chunks)
    asked = ["rain", "clocks for a king", "rain", ""]
    assert index.support(asked) == tuple(index.support([text])[0] for text in asked)
    assert index.support([]) == ()
    assert lexical_support(index.bm25, chunks, asked) == index.support(asked)


# what counts ----------------------------------------------------------------------------------------

TOWN = chunks_of(
    ["Mara Venn mends clocks in Orrin.", "The harbour of Dell lies under fog.", "Old Fenn keeps 42 bees."]
)


def test_words_from_all_over_the_text_support_less_than_words_of_one_passage() -> None:
    together, scattered = support(TOWN, "Mara Venn mends clocks.", "Mara Venn keeps bees.")
    assert together == 1
    assert scattered < 0.75


def test_short_answers_are_not_punished_for_being_short() -> None:
    stands, verdict, invented = support(TOWN, "42", "no", "no such harbour anywhere near Tobin")
    assert stands == 1
    assert verdict == 0.5  # may be right, and stands nowhere
    assert invented < verdict


def test_rare_words_decide() -> None:
    chunks = chunks_of([f"The town has a street number {number}." for number in range(20)] + ["Fenn bakes."])
    common, rare = support(chunks, "Fenn has a street.", "The town has a street and Gorgonzola.")
    assert rare < common


def test_a_text_without_content_lacks_nothing() -> None:
    assert support(TOWN, "", "...", "the of and") == (1, 1, 1)
    assert support(chunks_of(["...", "!!"]), "words") == (0.5,)


def test_neighbours_are_of_one_document() -> None:
    apart = [replace(chunk, document_id=str(number)) for number, chunk in enumerate(TOWN)]
    (joined,), (cut,) = support(TOWN, "clocks in the harbour"), support(apart, "clocks in the harbour")
    assert joined == 1 > cut


def test_chinese_is_told_by_signs_and_their_pairs() -> None:
    chunks = chunks_of(["她在港口修理灯笼。", "他在山上种茶。", "船长每天写信。"])
    stands, reworded, invented = support(chunks, "修理灯笼", "港口修理灯笼的人", "皇帝出兵打仗")
    assert stands == pytest.approx(1)
    assert 0.5 < reworded < 1
    assert invented < 0.2
