from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorag_core.errors import InputError
from memorag_core.protocols import TokenWeights
from memorag_core.retrieval.encoders.encode import Encoded, encode_chunks
from tests.core.retrieval.conftest import HashedWords, chunks_of, corpora
from tests.core.retrieval.weighing import BothAtOnce, WeighedWords


@given(corpora, st.integers(1, 5), st.sampled_from([WeighedWords, BothAtOnce]))
def test_both_are_what_each_alone_would_be_in_any_batches(
    texts: list[str], batch_size: int, kind: type[WeighedWords]
) -> None:
    chunks, embedder = chunks_of(texts), kind()
    both = encode_chunks(chunks, embedder, weights=True, batch_size=batch_size, progress=False)
    assert np.array_equal(both.vectors, encode_chunks(chunks, HashedWords(), progress=False).vectors)
    assert list(both.weights) == embedder.lexical_documents(texts)
    alone = encode_chunks(chunks, embedder, vectors=False, weights=True, batch_size=batch_size)
    assert alone.weights == both.weights
    assert alone.vectors.shape == (0, 0)


class FewWeights(WeighedWords):
    def lexical_documents(self, texts: Sequence[str]) -> list[TokenWeights]:
        return super().lexical_documents(texts)[:1]


class Growing(BothAtOnce):
    def encode(self, texts: Sequence[str]) -> Encoded:
        self.dimensions += 1
        return super().encode(texts)


def test_what_cannot_be_is_a_clear_error() -> None:
    two = chunks_of(["a lantern", "a boat"])
    with pytest.raises(InputError, match="no chunks to encode"):
        encode_chunks([], BothAtOnce(), weights=True)
    with pytest.raises(InputError, match="batch_size is 0"):
        encode_chunks(two, BothAtOnce(), weights=True, batch_size=0)
    with pytest.raises(InputError, match="a HashedWords gives none"):
        encode_chunks(two, HashedWords(), weights=True)
    with pytest.raises(InputError, match="weights of 1 texts for the chunks from number 0; expected 2"):
        encode_chunks(two, FewWeights(), weights=True)
    with pytest.raises(InputError, match="vectors of 34 numbers for the chunks from number 1, but of 33"):
        encode_chunks(two, Growing(), weights=True, batch_size=1)
