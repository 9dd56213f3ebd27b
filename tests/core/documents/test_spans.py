"""Chunks that fit the encoder: all of the text, at its place, and no piece longer than is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from semantic_text_splitter import TextSplitter

from memorag_core.documents import spans as fitting
from memorag_core.documents.chunking import split_document, split_documents
from memorag_core.documents.spans import cut_spans, fit_spans
from memorag_core.errors import InputError
from memorag_core.protocols import TextEncoder
from memorag_core.retrieval.encoders.lengths import PassageLengths
from memorag_core.settings import ChunkSettings
from memorag_core.types import Chunk, Document
from tests.core.texts_of_scripts import (
    CHINESE,
    EMOJI,
    ENGLISH,
    SCRIPTS,
    Bytes,
    byte_pairs,
    signs,
    visible_texts,
)


def reading(tokenizer: Any, most: int | None, *, prompt: str = "") -> PassageLengths:
    return PassageLengths(tokenizer, most, dressed=prompt.__add__)


def cut(text: str, settings: ChunkSettings, encoder: TextEncoder | None) -> tuple[Chunk, ...]:
    return split_documents([Document(text, id="d")], settings, encoder=encoder)[0]


def assert_all_is_there(text: str, chunks: Sequence[Chunk]) -> None:
    covered: set[int] = set()
    for chunk in chunks:
        assert chunk.text == text[chunk.start : chunk.end] == chunk.text.strip() != ""
        covered.update(range(chunk.start, chunk.end))
    assert all(sign.isspace() for place, sign in enumerate(text) if place not in covered)
    assert len({chunk.id for chunk in chunks}) == len(chunks)


@given(text=visible_texts, size=st.integers(1, 80), most=st.integers(3, 60), data=st.data())
def test_every_chunk_is_read_whole_and_no_visible_character_is_lost(
    text: str, size: int, most: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    encoders: list[TextEncoder] = [Bytes(most), reading(byte_pairs(), most), reading(signs(), most)]
    encoder = data.draw(st.sampled_from(encoders))
    settings = ChunkSettings(size=size, overlap=overlap)
    chunks = cut(text, settings, encoder)
    assert_all_is_there(text, chunks)
    for chunk in chunks:
        assert encoder.count_tokens(chunk.text) <= most or len(chunk.text) == 1
        assert len(chunk.text) <= size
    by_characters = cut(text, settings, None)
    if all(encoder.count_tokens(chunk.text) <= most for chunk in by_characters):
        assert chunks == by_characters
    else:
        assert all(one.start < other.start and one.end < other.end for one, other in pairwise(chunks))
    if not overlap:
        assert all(one.end <= other.start for one, other in pairwise(chunks))


@given(drawn=st.lists(visible_texts, min_size=1, max_size=4), most=st.integers(3, 30))
def test_documents_are_cut_together_as_they_are_cut_alone(drawn: list[str], most: int) -> None:
    documents = [Document(text, id=str(number)) for number, text in enumerate(drawn)]
    settings, encoder = ChunkSettings(size=40, overlap=5), reading(byte_pairs(), most)
    together = split_documents(documents, settings, encoder=encoder)
    assert together == tuple(
        split_documents([document], settings, encoder=encoder)[0] for document in documents
    )


@pytest.mark.parametrize("text", SCRIPTS)
@pytest.mark.parametrize("most", [8, 20, 60])
def test_pieces_are_of_about_one_length_and_few(text: str, most: int) -> None:
    encoder = Bytes(most)
    chunks = cut(text * 5, ChunkSettings(size=10_000), encoder)
    assert_all_is_there(text * 5, chunks)
    needed = len((text * 5).encode()) / (most - 2)
    assert len(chunks) <= 3 * needed + 1


# Of which the splitter would look through all that is left, again for each piece.
SHAPES: list[Callable[[int], str]] = [
    lambda n: "a" * n,
    lambda n: "字" * n,
    lambda n: "".join(chr(0x4E00 + place * 7919 % 5000) for place in range(n)),
    lambda n: "他在山上种茶，" * (n // 7),
    lambda n: "word " * (n // 5),
    lambda n: "。" * n,
    lambda n: ".,;" * (n // 3),
    lambda n: "(" * n,
    lambda n: "1234567890" * (n // 10),
    lambda n: "[1]" * (n // 3),
    lambda n: "\n" * n + "end",
    lambda n: "a" + " " * n + "b",
    lambda n: "ab\n" * (n // 3),
    lambda n: EMOJI * (n // len(EMOJI)),
    lambda n: "🇨🇭" * (n // 2),
    lambda n: "e" + "\u0301" * n,
    lambda n: "a\u00ad" * (n // 2),
    lambda n: ENGLISH * (n // len(ENGLISH)),
]


class Handed:
    """The splitter, counting what it is given: it looks at most at all of that for each piece of it."""

    def __init__(self) -> None:
        self.longest = self.work = 0

    def __call__(self, size: int, *, overlap: int) -> Any:
        splitter = TextSplitter(size, overlap=overlap)
        counter = self

        class Counting:
            def chunk_indices(self, text: str) -> list[tuple[int, str]]:
                found = splitter.chunk_indices(text)
                counter.longest = max(counter.longest, len(text))
                counter.work += len(text) * max(len(found), 1)
                return found

        return Counting()


@pytest.mark.parametrize("overlap", [0, 30])
@pytest.mark.parametrize("shape", SHAPES, ids=map(str, range(len(SHAPES))))
def test_the_splitter_is_given_no_more_than_grows_with_the_text_whatever_it_is(
    monkeypatch: pytest.MonkeyPatch, shape: Callable[[int], str], overlap: int
) -> None:
    size, works = 200, []
    for length in (10_000, 40_000):
        handed = Handed()
        monkeypatch.setattr(fitting, "TextSplitter", handed)
        text = shape(length)
        spans = cut_spans(text, size=size, overlap=overlap)
        assert handed.longest <= 8 * size + 512
        works.append(handed.work)
        assert all(0 < end - start <= size for start, end in spans)
        assert all(one[0] < other[0] and one[1] < other[1] for one, other in pairwise(spans))
        covered = {place for start, end in spans for place in range(start, end)}
        assert all(sign.isspace() for place, sign in enumerate(text) if place not in covered)
    assert works[1] <= 5 * works[0]


def at_once(text: str, size: int, overlap: int) -> list[tuple[int, int]]:
    """What the splitter makes of a whole text."""
    spans: list[tuple[int, int]] = []
    for start, piece in TextSplitter(size, overlap=overlap).chunk_indices(text):
        start += len(piece) - len(piece.lstrip())
        end = start + len(piece.strip())
        if start < end and (not spans or end > spans[-1][1]):
            spans.append((start, end))
    return spans


@pytest.mark.parametrize("size", [20, 80, 200, 800])
@pytest.mark.parametrize("overlap", [0, 0.2])
def test_ordinary_texts_come_out_as_if_cut_at_once(size: int, overlap: float) -> None:
    from pydoc_data.topics import topics

    prose = "\n\n".join(topics[name] for name in sorted(topics))[:40_000]
    journey = (Path(__file__).parents[1] / "texts" / "journey.txt").read_text(encoding="utf-8")[:20_000]
    texts = [prose, " ".join(prose.split()), journey, "".join(journey.split())]
    for text in (*texts, *(script * 60 for script in SCRIPTS)):
        repeated = int(overlap * size)
        assert cut_spans(text, size=size, overlap=repeated) == at_once(text, size, repeated)


@given(
    parts=st.lists(
        st.tuples(
            st.one_of(
                st.sampled_from("a|word |。|字|\n|\n\n| |\u0301|🇨🇭|(|. |\x1c|\u00ad".split("|")),
                st.text(min_size=1, max_size=3),
            ),
            st.integers(1, 400),
        ),
        min_size=1,
        max_size=6,
    ),
    size=st.integers(1, 40),
    data=st.data(),
)
def test_long_runs_of_anything_are_cut_without_a_loss(
    parts: list[tuple[str, int]], size: int, data: st.DataObject
) -> None:
    text = "".join(part * times for part, times in parts)
    overlap = data.draw(st.integers(0, size - 1))
    spans = cut_spans(text, size=size, overlap=overlap)
    assert all(0 < end - start <= size for start, end in spans)
    assert all(one[1] < other[1] for one, other in pairwise(spans))
    covered = {place for start, end in spans for place in range(start, end)}
    assert all(sign.isspace() for place, sign in enumerate(text) if place not in covered)


def test_cuts_are_between_sentences_where_these_fit() -> None:
    chunks = cut(ENGLISH * 3, ChunkSettings(size=800), Bytes(120))
    assert len(chunks) > 5
    assert all(chunk.text[-1] in ".;" for chunk in chunks)
    chinese = cut(CHINESE * 5, ChunkSettings(size=800), Bytes(120))
    assert sum(chunk.text[-1] in "。，" for chunk in chinese) == len(chinese)


def test_a_word_without_any_border_is_cut_into_pieces_that_are_nearly_full() -> None:
    word = "abcdefghij" * 500
    for encoder, most in ((Bytes(256), 256), (reading(byte_pairs(), 256), 256)):
        chunks = cut(word, ChunkSettings(size=10_000), encoder)
        assert "".join(chunk.text for chunk in chunks) == word
        assert all(encoder.count_tokens(chunk.text) <= most for chunk in chunks)
        assert len(chunks) <= 1.3 * encoder.count_tokens(word) / (most - 2) + 1


def test_a_sign_of_several_characters_is_cut_only_where_it_would_not_fit() -> None:
    family = "👩‍👩‍👧‍👦"
    fitting = cut(EMOJI, ChunkSettings(size=800), Bytes(40))
    assert all(chunk.text.count("👦") == chunk.text.count("👩") / 2 for chunk in fitting)
    chunks = cut(family, ChunkSettings(size=800), Bytes(8))
    assert "".join(chunk.text for chunk in chunks) == family


def test_a_short_end_goes_with_the_piece_before_it_where_both_fit() -> None:
    text = "a" * 55 + ". " + "b" * 57 + ". " + "c" * 8 + "."
    chunks = cut(text, ChunkSettings(size=800), Bytes(110))
    assert [chunk.text[0] for chunk in chunks] == ["a", "b"]
    assert chunks[1].text.endswith("c.")


def test_overlap_is_kept_in_the_proportion_that_was_asked_for() -> None:
    words = " ".join(f"word{number}" for number in range(200))
    chunks = cut(words, ChunkSettings(size=800, overlap=200), Bytes(200))
    shared = [one.end - other.start for one, other in pairwise(chunks)]
    assert sum(length > 0 for length in shared) > len(shared) / 2
    assert max(shared) <= 200


def test_without_a_limit_nothing_is_counted() -> None:
    class Refusing:
        max_tokens = None

        def count_tokens(self, text: str) -> int:
            raise AssertionError("was asked")

    document = Document(ENGLISH, id="d")
    assert cut(ENGLISH, ChunkSettings(size=30), Refusing()) == split_document(
        document, ChunkSettings(size=30)
    )
    assert cut(ENGLISH, ChunkSettings(size=30), reading(signs(), None)) == split_document(
        document, ChunkSettings(size=30)
    )


def test_a_character_that_does_not_fit_stays_and_the_rest_is_cut() -> None:
    texts = [chunk.text for chunk in cut("ab👩cd", ChunkSettings(size=800), Bytes(5))]
    assert "👩" in texts
    assert "".join(texts) == "ab👩cd"


@pytest.mark.parametrize(
    "encoder", [Bytes(2), Bytes(1), reading(byte_pairs(), 12, prompt="a passage to be found: ")]
)
def test_an_encoder_without_room_for_text_is_refused_with_the_remedy(encoder: TextEncoder) -> None:
    with pytest.raises(InputError, match=r"reads \d+ tokens of a text, and an empty one has \d+.*max_tokens"):
        cut("some text", ChunkSettings(), encoder)


def test_counts_that_are_no_numbers_are_refused() -> None:
    class Listing:
        max_tokens = 5

        def count_tokens(self, text: str) -> Any:
            return [len(text)]

    with pytest.raises(
        InputError, match=r"count_tokens of the Listing gave \[9\] for one text; expected a w"
    ):
        cut("some text", ChunkSettings(), Listing())


def test_spans_that_fit_are_handed_through_and_the_given_ones_left_alone() -> None:
    texts = [ENGLISH, "x" * 40]
    spans = [cut_spans(text, size=50, overlap=0) for text in texts]
    before = [list(own) for own in spans]
    assert fit_spans(texts, spans, Bytes(100), repeated=0.0) == before
    assert fit_spans(texts, spans, Bytes(22), repeated=0.0)[1] == [(0, 18), (18, 29), (29, 40)]
    assert spans == before


def test_a_size_beyond_every_text_leaves_it_in_one_piece() -> None:
    for size in (1 << 31, 1 << 64, 10**40):
        assert cut_spans("One clock. Two doctors.", size=size, overlap=size - 1) == [(0, 23)]
