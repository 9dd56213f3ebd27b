from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorag_core import InputError
from memorag_evaluation.keeping import AT_ONCE, KeptEmbedder
from tests.core.retrieval.conftest import HashedWords

TEXTS = ["Mara mends lanterns.", "The harbour freezes.", "雨が降る。"]


class Counting(HashedWords):
    """Counts what it encodes."""

    def __init__(self, name: str = "one", scale: float = 1.0) -> None:
        super().__init__()
        self.fingerprint = {"model": name}
        self.scale = scale
        self.encoded: list[str] = []

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.encoded += texts
        return [[self.scale * number for number in row] for row in super().embed_documents(texts)]

    def embed_query(self, text: str) -> list[float]:
        self.encoded.append(text)
        return [self.scale * number for number in super().embed_query(text)]


def asked(embedder: KeptEmbedder) -> list[list[float]]:
    return [*embedder.embed_documents(TEXTS), embedder.embed_query(TEXTS[0])]


def test_a_second_run_encodes_nothing_but_the_probe_and_gives_the_same_bits(tmp_path: Path) -> None:
    first = KeptEmbedder(Counting(), tmp_path)
    vectors = asked(first)
    first.keep()
    again = Counting()
    assert asked(KeptEmbedder(again, tmp_path)) == vectors
    assert len(again.encoded) == 1
    np.testing.assert_allclose(vectors[:3], HashedWords().embed_documents(TEXTS), rtol=1e-6)


def test_passages_and_queries_are_kept_apart_and_only_what_is_new_is_encoded(tmp_path: Path) -> None:
    inner = Counting()
    kept = KeptEmbedder(inner, tmp_path)
    kept.embed_documents(TEXTS[:1])
    kept.keep()
    kept.embed_documents([TEXTS[1], TEXTS[0], TEXTS[1]])
    kept.embed_query(TEXTS[0])
    kept.embed_query(TEXTS[0])
    kept.keep()
    kept.keep()
    assert inner.encoded[1:] == [TEXTS[0], TEXTS[1], TEXTS[0]]
    assert sorted(path.name.partition("-")[0] for path in tmp_path.rglob("*.*")) == [
        "passage",
        "passage",
        "query",
    ]


@pytest.mark.parametrize("other", [Counting("two"), Counting(scale=-1.0)])
def test_vectors_of_another_encoder_are_not_used(tmp_path: Path, other: Counting) -> None:
    first = KeptEmbedder(Counting(), tmp_path)
    asked(first)
    first.keep()
    asked(KeptEmbedder(other, tmp_path))
    assert len(other.encoded) == 1 + len(TEXTS) + 1


def test_without_a_folder_vectors_last_as_long_as_the_embedder() -> None:
    inner = Counting()
    kept = KeptEmbedder(inner, None)
    assert asked(kept) == asked(kept)
    kept.keep()
    assert len(inner.encoded) == len(TEXTS) + 1
    assert kept.fingerprint == {"model": "one"}


@given(st.lists(st.text(min_size=1), max_size=6))
def test_texts_are_given_their_vectors_in_their_order(texts: list[str]) -> None:
    kept = KeptEmbedder(HashedWords(), None)
    found = [kept.embed_documents([text])[0] for text in texts]
    assert kept.embed_documents(texts) == found


def test_a_run_that_is_broken_off_loses_the_last_vectors_only(tmp_path: Path) -> None:
    first = KeptEmbedder(HashedWords(), tmp_path)
    for number in range(AT_ONCE + 5):
        first.embed_query(f"question {number}")
    inner = HashedWords()
    again = KeptEmbedder(inner, tmp_path)
    for number in range(AT_ONCE + 5):
        again.embed_query(f"question {number}")
    assert inner.queries == 1 + 5


def test_a_file_that_holds_no_vectors_is_named(tmp_path: Path) -> None:
    kept = KeptEmbedder(HashedWords(), tmp_path)
    asked(kept)
    kept.keep()
    path = next(tmp_path.rglob("query-*.npz"))
    whole = path.read_bytes()
    for broken in (b"", b"no vectors", whole[: len(whole) // 2]):
        path.write_bytes(broken)
        with pytest.raises(InputError, match=r"query-.* holds no kept vectors .* Delete it"):
            KeptEmbedder(HashedWords(), tmp_path)
    np.savez(path, digests=np.zeros((2, 3), dtype=np.uint8), vectors=np.zeros((2, 4), dtype=np.float32))
    with pytest.raises(InputError, match="holds no kept vectors"):
        KeptEmbedder(HashedWords(), tmp_path)
