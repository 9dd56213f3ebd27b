"""Blocks cover each document exactly, are not too long, and end where a reader would pause."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorag_core.errors import InputError
from memorag_core.memory.gist.blocks import checked_documents, cut_blocks
from memorag_core.memory.llm import estimate_tokens
from memorag_core.types import Document
from tests.core.memory.gist.conftest import real_text

SIGNS = st.sampled_from([*"ab .!?\n\n\t\"')。！…", "word ", "Sentence. ", "段落。", "\n\n", " " * 30])
TEXTS = st.lists(SIGNS, min_size=1, max_size=120).map("".join).filter(str.strip)


@given(text=TEXTS, tokens=st.integers(4, 40))
def test_blocks_cover_a_document_exactly_and_each_has_words(text: str, tokens: int) -> None:
    blocks = cut_blocks(Document(text, id="d"), estimate_tokens, tokens=tokens)
    assert blocks[0].start == 0
    assert blocks[-1].end == len(text)
    assert all(one.end == other.start for one, other in pairwise(blocks))
    for block in blocks:
        assert block.document_id == "d"
        assert block.text == text[block.start : block.end]
        assert block.text.strip()
        assert estimate_tokens(block.text.strip()) <= tokens


def test_blocks_of_a_real_text_are_nearly_full_and_end_with_sentences() -> None:
    text = real_text(60_000)
    blocks = cut_blocks(Document(text), estimate_tokens, tokens=1000)
    assert len(text) / 4000 <= len(blocks) <= len(text) / 3200
    assert all(800 <= block.tokens <= 1000 for block in blocks[:-1])
    paragraphs = sum("\n" in block.text[len(block.text.rstrip()) :] for block in blocks)
    assert paragraphs >= 0.8 * len(blocks)
    assert all(block.text.rstrip()[-1] in ".!?:)\"'" or "\n\n" in block.text[-9:] for block in blocks[:-1])


def test_texts_get_free_numbers_and_ids_are_used_once() -> None:
    documents = checked_documents(["one", Document("two", id="1"), "three"], taken={"0"})
    assert [document.id for document in documents] == ["2", "1", "3"]
    for given_twice in ([Document("a"), Document("b")], [Document("a", id="0")]):
        with pytest.raises(InputError, match="id '0' is in use"):
            checked_documents(given_twice, taken={"0"} if len(given_twice) == 1 else ())


@pytest.mark.parametrize("wrong", ["", " \n", [], [""], [Document("x"), " "], 7, [7], "\ud800"])
def test_what_cannot_be_read_is_refused(wrong: object) -> None:
    with pytest.raises(InputError, match=r"expected (words|one or more|a text)|no Unicode"):
        checked_documents(wrong, taken=())  # type: ignore[arg-type]
