"""A corpus whose chunks fit its embedder, or are the user's own, through changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from memorag_core import ChunkSettings, Document, InputError
from memorag_core.corpus import Reader
from memorag_core.retrieval import IndexMaker
from tests.core.doubles import SentenceModel, WordEmbedder
from tests.core.texts_of_scripts import CHINESE, ENGLISH


class ByteEmbedder(WordEmbedder):
    """Reads so many bytes of a passage, as it says itself."""

    def __init__(self, max_tokens: int) -> None:
        super().__init__()
        self.max_tokens = max_tokens

    def count_tokens(self, text: str) -> int:
        return len(text.encode())


def reader(embedder: Any = None, **options: Any) -> Reader:
    return Reader(SentenceModel(), IndexMaker(embedder, progress=False), ChunkSettings(size=200), **options)


def lines(text: str) -> Sequence[str]:
    return [line for line in text.splitlines() if line.strip()]


def test_what_is_encoded_is_read_whole_by_the_embedder() -> None:
    embedder = ByteEmbedder(80)
    corpus = reader(embedder).added(None, [ENGLISH, CHINESE])
    assert embedder.encoded == [chunk.text for chunk in corpus.index.chunks]
    assert all(embedder.count_tokens(text) <= 80 for text in embedder.encoded)
    plain = reader(WordEmbedder()).added(None, [ENGLISH, CHINESE])
    assert len(corpus.index.chunks) > len(plain.index.chunks)


def test_documents_that_are_as_they_were_keep_their_chunks_whatever_would_be_cut_now() -> None:
    before = reader().added(None, [Document(ENGLISH, id="e"), Document(CHINESE, id="c")])
    own = reader(splitter=lines)
    after = own.updated(before, Document(CHINESE + "\n又一行。", id="c"))
    assert [chunk for chunk in after.index.chunks if chunk.document_id == "e"] == [
        chunk for chunk in before.index.chunks if chunk.document_id == "e"
    ]
    assert [chunk.text for chunk in after.index.chunks if chunk.document_id == "c"] == lines(
        CHINESE + "\n又一行。"
    )
    more = own.added(after, Document("A line.\nAnother.", id="n"))
    assert [chunk.text for chunk in more.index.chunks[-2:]] == ["A line.", "Another."]
    assert more.index.chunks[:-2] == after.index.chunks
    left = own.without(more, "e")
    assert left is not None
    assert left.index.chunks == tuple(chunk for chunk in more.index.chunks if chunk.document_id != "e")


def test_the_splitter_sees_only_documents_that_are_new_or_changed() -> None:
    seen: list[str] = []

    def noting(text: str) -> list[str]:
        seen.append(text)
        return [text]

    own = reader(splitter=noting)
    corpus = own.added(None, [Document("One.", id="1"), Document("Two.", id="2")])
    corpus = own.updated(corpus, [Document("One.", id="1"), Document("Two!", id="2")])
    own.without(corpus, "1")
    assert seen == ["One.", "Two.", "Two!"]


def test_chunks_that_are_none_change_nothing_and_are_known_before_the_model_reads() -> None:
    own = reader(splitter=lambda text: [(0, 1000)])
    with pytest.raises(InputError, match=r"document '0' is \(0, 1000\); expected 0 <= start < end <= 4"):
        own.added(None, "One.")


def test_a_splitter_that_cannot_be_called_is_refused_before_anything_is_read() -> None:
    with pytest.raises(InputError, match="is an object of type int; expected a function"):
        reader(splitter=800)


def test_own_chunks_too_long_for_the_embedder_are_one_warning_for_all_documents() -> None:
    with pytest.warns(UserWarning, match=r"^2 of 3 chunks") as caught:
        reader(ByteEmbedder(30), splitter=lambda text: [text]).added(None, [ENGLISH, CHINESE, "Short."])
    assert len(caught) == 1
