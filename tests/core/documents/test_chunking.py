"""Documents and chunks: every visible character is kept, at its place."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorag_core.documents.chunking import as_documents, split_document
from memorag_core.errors import InputError
from memorag_core.settings import ChunkSettings
from memorag_core.types import Document
from tests.core.texts_of_scripts import CHINESE, ENGLISH, JAPANESE, visible_texts

SPANISH = "En un lugar de la Mancha, de cuyo nombre no quiero acordarme, vivía un hidalgo. ¿Quién era?"


@given(text=visible_texts, size=st.integers(1, 60), data=st.data())
def test_a_chunk_is_a_slice_of_its_document_and_no_visible_character_is_lost(
    text: str, size: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    document = Document(text, id="d", metadata={"title": "t"})
    chunks = split_document(document, ChunkSettings(size=size, overlap=overlap))
    covered: set[int] = set()
    for chunk in chunks:
        assert chunk.text == text[chunk.start : chunk.end]
        assert chunk.text == chunk.text.strip() != ""
        assert chunk.id == f"d:{chunk.start}-{chunk.end}"
        assert chunk.document_id == "d"
        assert chunk.metadata == {"title": "t"}
        covered.update(range(chunk.start, chunk.end))
    assert all(sign.isspace() for place, sign in enumerate(text) if place not in covered)
    assert len({chunk.id for chunk in chunks}) == len(chunks)
    starts = [chunk.start for chunk in chunks]
    assert starts == sorted(starts)
    if not overlap:
        assert all(one.end <= other.start for one, other in pairwise(chunks))


@pytest.mark.parametrize("text", [ENGLISH, CHINESE, JAPANESE, SPANISH])
@pytest.mark.parametrize("size", [20, 60, 800])
def test_chunks_keep_to_their_size_and_end_with_sentences_where_these_fit(text: str, size: int) -> None:
    chunks = split_document(Document(text), ChunkSettings(size=size))
    assert all(len(chunk.text) <= size for chunk in chunks)
    if size >= 60 and text is not JAPANESE:
        assert sum(chunk.text[-1] in ".?。" for chunk in chunks) >= len(chunks) - 2


def test_a_short_text_is_one_chunk_without_the_space_around_it() -> None:
    (chunk,) = split_document(Document("\n  Mara Venn.  \n", id="a"), ChunkSettings())
    assert (chunk.id, chunk.text, chunk.start, chunk.end) == ("a:3-13", "Mara Venn.", 3, 13)


def test_overlap_repeats_the_end_of_the_chunk_before() -> None:
    text = "One came. Two went. Three stayed. Four slept. Five woke. Six left."
    chunks = split_document(Document(text), ChunkSettings(size=30, overlap=15))
    assert all(one.start < other.start < one.end < other.end for one, other in pairwise(chunks))


def test_plain_texts_are_numbered_around_the_ids_that_are_taken() -> None:
    assert as_documents("one") == (Document("one", id="0"),)
    documents = as_documents(["one", Document("two", id="0"), "three"], taken={"1"})
    assert [document.id for document in documents] == ["2", "0", "3"]
    assert [document.text for document in documents] == ["one", "two", "three"]


def test_documents_without_an_id_are_numbered_as_texts_are_and_never_have_one_that_is_there() -> None:
    documents = as_documents([Document("one"), "two", Document("three", id="2"), Document("four")])
    assert [document.id for document in documents] == ["0", "1", "2", "3"]
    assert as_documents([Document("x"), Document("y", id="0")], known={"0", "1"}) == (
        Document("x", id="2"),
        Document("y", id="0"),
    )
    assert all(type(document.id) is str for document in documents)


def test_a_document_is_handed_through_as_a_copy_that_is_shared_with_nobody() -> None:
    tags = ["a"]
    document = Document("text", id="x", metadata={"page": 3, "tags": tags})
    for given_ in (document, (document,)):
        (copied,) = as_documents(given_)
        assert copied == document
        tags.append("b")
        assert copied.metadata["tags"] == ["a"]
        tags.pop()


class _Foreign:
    page_content = "text"


@pytest.mark.parametrize(
    ("given_", "found"),
    [
        ("", r"'0' is empty: found 0 characters"),
        (" \n\u3000 ", r"'0' is empty: found 4 characters, none of them visible"),
        ([], r"no documents; expected at least one"),
        (["a", ""], r"'1' is empty"),
        (b"bytes", r"Found bytes.*data\.decode"),
        ([b"bytes"], r"Document 0 is of type bytes"),
        (Path("book.txt"), r"Path, expected .*path\.read_text"),
        ([Path("book.txt")], r"read_text"),
        ([_Foreign()], r"_Foreign; expected .*page_content"),
        (3, r"Found int, expected"),
        (None, r"Found NoneType"),
        ([Document("a", id="0"), Document("b", id="0")], r"Document 1 has the id '0', which is in use"),
        ([Document("a", id="x", metadata={"at": {1}})], r"metadata of document 'x' hold a set at 'at'"),
        (["a", Document("  b c\n", metadata={"at": {1}})], r"metadata of document 1, 'b c', hold a set"),
        ([Document("a", id="")], r"has the id ''; expected a text"),
        ([Document("a", id=3)], r"has the id 3; expected a text"),  # type: ignore[arg-type]
        ([Document(None)], r"a text of type NoneType"),  # type: ignore[arg-type]
        ("half \ud83d pair", r"half of a surrogate pair at character 5"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_remedy(given_: Any, found: str) -> None:
    with pytest.raises(InputError, match=found):
        as_documents(given_)


def test_a_taken_id_is_refused() -> None:
    with pytest.raises(InputError, match=r"'a', which is in use; expected an id of its own"):
        as_documents([Document("text", id="a")], taken=("a",))


def test_an_empty_document_is_not_split() -> None:
    with pytest.raises(InputError, match="is empty"):
        split_document(Document(" "), ChunkSettings())
