from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorag_core import Document, InputError
from memorag_evaluation.chunks import sentence_chunks, sentence_spans, word_chunks
from memorag_training.worlds import generate_world

TEXTS = st.text(alphabet='abC .!?"\n。宋', min_size=1, max_size=60).filter(lambda text: bool(text.strip()))


@given(TEXTS, st.integers(1, 5))
def test_every_visible_character_is_in_exactly_one_chunk_of_either_kind(text: str, size: int) -> None:
    document = Document(text, "d")
    for chunks in (
        word_chunks(document, words=size, characters=size),
        sentence_chunks(document, sentences=size),
    ):
        assert all(chunk.text == text[chunk.start : chunk.end] for chunk in chunks)
        assert all(one.end <= other.start for one, other in pairwise(chunks))
        assert "".join("".join(chunk.text for chunk in chunks).split()) == "".join(text.split())
        assert all(chunk.text == chunk.text.strip() for chunk in chunks)
        assert len({chunk.id for chunk in chunks}) == len(chunks)


def test_a_chunk_has_two_hundred_words_and_the_last_one_the_rest() -> None:
    chunks = word_chunks(Document(" ".join(["word"] * 450), "d"))
    assert [len(chunk.text.split()) for chunk in chunks] == [200, 200, 50]


def test_a_text_without_spaces_is_cut_by_characters() -> None:
    chunks = word_chunks(Document("宋江在山东。" * 60, "d"))
    assert [len(chunk.text) for chunk in chunks] == [300, 60]


def test_sentences_end_with_their_marks_and_quotation_marks() -> None:
    text = 'He said "Go!" She went.  In 1806? Yes\nNext line 3.5 km. 宋江来了。晁盖走了。'
    assert [text[start:end] for start, end in sentence_spans(text)] == [
        'He said "Go!"',
        "She went.",
        "In 1806?",
        "Yes",
        "Next line 3.5 km.",
        "宋江来了。",
        "晁盖走了。",
    ]


def test_every_fact_of_a_generated_world_is_a_sentence() -> None:
    world = generate_world(random.Random(1), split="test", characters=6000)
    assert {(fact.start, fact.end) for fact in world.facts} <= set(sentence_spans(world.text))


def test_sizes_below_one_and_empty_documents_are_refused() -> None:
    with pytest.raises(InputError, match="size of a chunk is 0"):
        word_chunks(Document("a", "d"), words=0)
    with pytest.raises(InputError, match="no visible character"):
        sentence_chunks(Document(" \n", "d"))
