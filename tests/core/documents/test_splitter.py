"""Chunks of the user's own: taken as they are, found in the text again, or refused with the remedy."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorag_core.documents import splitter as splitting
from memorag_core.documents.chunking import split_documents
from memorag_core.documents.spans import cut_spans
from memorag_core.documents.splitter import check_splitter, own_spans
from memorag_core.errors import InputError
from memorag_core.settings import ChunkSettings
from memorag_core.types import Document
from tests.core.texts_of_scripts import CHINESE, ENGLISH, SCRIPTS, Bytes, visible_texts

TEXT = "One came.  Two went.\nThree stayed. Two went. Four slept."


@given(text=visible_texts, size=st.integers(1, 40), data=st.data())
def test_pairs_are_taken_as_they_are_and_texts_of_the_same_places_are_found(
    text: str, size: int, data: st.DataObject
) -> None:
    spans = cut_spans(text, size=size, overlap=0)
    shuffled = data.draw(st.permutations(spans))
    assert own_spans(text, lambda _: shuffled, "d") == spans
    around = data.draw(st.sampled_from(["", " ", "\n\n", "\u3000"]))
    found = own_spans(text, lambda _: [around + text[start:end] + around for start, end in spans], "d")
    assert [text[start:end] for start, end in found] == [text[start:end] for start, end in spans]
    assert found[0] == spans[0]


@given(text=visible_texts, size=st.integers(2, 40), data=st.data())
def test_texts_that_overlap_are_found_in_their_order(text: str, size: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(1, size - 1))
    spans = cut_spans(text, size=size, overlap=overlap)
    spans = [one for one, other in pairwise([*spans, (len(text), 0)]) if one[0] < other[0]]
    found = own_spans(text, lambda _: [text[start:end] for start, end in spans], "d")
    assert [text[start:end] for start, end in found] == [text[start:end] for start, end in spans]
    assert all(one[0] < other[0] for one, other in pairwise(found))


def test_repeated_texts_are_found_behind_their_predecessors_and_not_inside_them() -> None:
    chunks = ["One came.  Two went.", "Three stayed.", "Two went.", "Four slept."]
    found = own_spans(TEXT, lambda _: chunks, "d")
    assert [TEXT[start:end] for start, end in found] == chunks
    assert found[2][0] > found[1][1]
    inside = ["He said yes. Then he left.", "yes.", "No."]
    text = "He said yes. Then he left. yes. No."
    assert own_spans(text, lambda _: inside, "d") == [(0, 26), (27, 31), (32, 35)]
    assert own_spans("a b. b. c", lambda text: text.split("."), "d") == [(0, 3), (5, 6), (8, 9)]
    sliding = "x x x x x x"
    assert own_spans(sliding, lambda _: ["x x x"] * 4, "d") == [(0, 5), (2, 7), (4, 9), (6, 11)]
    assert own_spans(sliding, lambda _: ["x x x"] * 2, "d") == [(0, 5), (6, 11)]


def test_white_space_that_a_splitter_has_changed_does_not_count() -> None:
    found = own_spans(TEXT, lambda _: ["\nOne came. Two went. ", "Three\n\nstayed."], "d")
    assert [TEXT[start:end] for start, end in found] == ["One came.  Two went.", "Three stayed."]


@pytest.mark.parametrize("text", SCRIPTS)
@pytest.mark.parametrize("overlap", [0, 8])
def test_the_splitter_of_llama_index_fits_as_it_is(text: str, overlap: int) -> None:
    parser = pytest.importorskip("llama_index.core.node_parser")
    splitter = parser.SentenceSplitter(
        chunk_size=24, chunk_overlap=overlap, tokenizer=list, include_metadata=False
    )
    text = text * 3
    given_ = splitter.split_text(text)
    assert len(given_) > 3
    (chunks,) = split_documents([Document(text)], ChunkSettings(), splitter=splitter.split_text)
    assert ["".join(chunk.text.split()) for chunk in chunks] == ["".join(one.split()) for one in given_]
    covered = {place for chunk in chunks for place in range(chunk.start, chunk.end)}
    assert all(sign.isspace() for place, sign in enumerate(text) if place not in covered)


def test_chunks_are_slices_with_the_documents_metadata_and_parts_of_the_text_may_be_in_none() -> None:
    document = Document(TEXT, id="d", metadata={"page": 3})
    (chunks,) = split_documents([document], ChunkSettings(size=1), splitter=lambda text: [(0, 11), (11, 20)])
    assert [(chunk.id, chunk.text) for chunk in chunks] == [
        ("d:0-11", "One came.  "),
        ("d:11-20", "Two went."),
    ]
    assert all(chunk.metadata == {"page": 3} and chunk.document_id == "d" for chunk in chunks)


def test_whole_numbers_of_other_kinds_will_do() -> None:
    pairs: Any = [[np.int64(0), np.int64(8)], (11, 14)]
    found = own_spans(TEXT, lambda _: pairs, "d")
    assert found == [(0, 8), (11, 14)]
    assert all(type(number) is int for span in found for number in span)


@pytest.mark.parametrize(
    ("chunks", "found"),
    [
        ([], r"gave no chunks for document 'd', which has 56 characters; expected at least one"),
        ("One came.", r"gave 'One came.' for document 'd'; expected a list"),
        (b"One", r"gave b'One' for"),
        (None, r"gave None for"),
        (iter(["One"]), r"gave <list_iterator"),
        ({"One came."}, r"gave \{'One came.'\} for"),
        (["One", (0, 3)], r"Chunk 0 .* is 'One'; expected a list"),
        ([(0, 3), "One"], r"Chunk 1 .* is 'One'; expected a list"),
        ([(0, 3), None], r"Chunk 1 .* is None"),
        ([(0, 3, 4)], r"is \(0, 3, 4\); expected"),
        ([(0.0, 3.0)], r"is \(0\.0, 3\.0\); expected"),
        ([(False, True)], r"is \(False, True\)"),
        ([(3, 3)], r"Chunk 0 .* is \(3, 3\); expected 0 <= start < end <= 56"),
        ([(5, 3)], r"is \(5, 3\); expected 0 <= start"),
        ([(-2, 3)], r"is \(-2, 3\)"),
        ([(0, 57)], r"is \(0, 57\); .*not bytes or tokens"),
        ([(9, 11)], r"is \(9, 11\), where there is only white space"),
        ([(0, 3), (0, 3)], r"chunk \(0, 3\) of document 'd' twice"),
        (["One", " \n"], r"Chunk 1 .* is empty; expected text"),
        (["Seven came."], r"Chunk 0 .* is not in its text: 'Seven came\.'\. Expected slices"),
        (
            ["Three stayed.", "One came."],
            r"Chunk 1 .* is not in its text behind character 21, where chunk 0 starts: 'One came\.'",
        ),
        (["Four slept.", "Four slept."], r"Chunk 1 .* behind character 45"),
        (["y" * 100], r"'y{59}\.\.\.\. Expected"),
    ],
)
def test_what_are_no_chunks_of_the_text_is_refused_with_the_remedy(chunks: Any, found: str) -> None:
    with pytest.raises(InputError, match=found):
        own_spans(TEXT, lambda _: chunks, "d")


def test_what_cannot_be_called_on_a_text_is_refused_with_the_remedy() -> None:
    class TextSplitter:
        def split_text(self, text: str) -> list[str]:
            return [text]

    check_splitter(TextSplitter().split_text)
    check_splitter(lambda text: [text])
    with pytest.raises(InputError, match=r"object of type TextSplitter; .*splitter=splitter\.split_text"):
        check_splitter(TextSplitter())
    with pytest.raises(InputError, match=r"is the class TextSplitter; expected a function"):
        check_splitter(TextSplitter)
    with pytest.raises(InputError, match=r"object of type int; .*None to cut by ChunkSettings"):
        check_splitter(800)


def test_own_chunks_that_are_too_long_stay_as_they_are_and_a_warning_counts_them() -> None:
    documents = [Document(ENGLISH, id="e"), Document(CHINESE, id="c")]
    with pytest.warns(UserWarning, match=r"^2 of 2 chunks .* more tokens \(up to \d+\) than the 60 that"):
        cut = split_documents(
            documents, ChunkSettings(), encoder=Bytes(60), splitter=lambda text: [(0, len(text))]
        )
    assert [[chunk.text for chunk in own] for own in cut] == [[ENGLISH], [CHINESE]]


@pytest.mark.filterwarnings("error")
def test_own_chunks_that_fit_are_no_reason_for_a_warning() -> None:
    for encoder in (None, Bytes(None), Bytes(1000)):
        cut = split_documents(
            [Document(TEXT)], ChunkSettings(), encoder=encoder, splitter=lambda text: [text]
        )
        assert [[chunk.text for chunk in own] for own in cut] == [[TEXT]]


def test_an_error_of_the_splitter_comes_out_as_it_was() -> None:
    def failing(text: str) -> list[str]:
        raise LookupError("no model for these sentences")

    with pytest.raises(LookupError, match="no model for these sentences"):
        own_spans(TEXT, failing, "d")


@given(
    st.text("ab", max_size=30), st.text("ab", min_size=1, max_size=4), st.integers(0, 31), st.integers(0, 31)
)
def test_looking_backwards_finds_what_python_does(text: str, want: str, start: int, end: int) -> None:
    start, end = sorted((min(start, len(text)), min(end, len(text))))
    assert splitting._rfind(text[::-1], want, start, end) == text.rfind(want, start, end)


def test_long_chunks_of_a_text_that_repeats_itself_are_located() -> None:
    # Python's rfind would compare most of a chunk at each of a million places.
    first, second = "a" * 1_000_000 + "b" + "a" * 999_000, "c" + "a" * 1_000_000
    text = f"{first} {second}"
    spans = own_spans(text, lambda _: [first, second], "d")
    assert spans == [(0, len(first)), (len(first) + 1, len(text))]
