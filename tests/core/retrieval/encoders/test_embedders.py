from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memorag_core.errors import InputError, MissingExtraError
from memorag_core.retrieval.encoders.embedders import as_embedder
from memorag_core.retrieval.encoders.flag import flag_embedder
from tests.core.retrieval.conftest import HashedWords, chunks_of, dense_of

TEXTS = ["a lantern", "the harbour clock", "she mends the lantern"]


def lengths(texts: list[str]) -> list[list[float]]:
    return [[float(len(text)), 1.0] for text in texts]


def test_what_has_the_shape_already_is_given_back_as_it_is() -> None:
    embedder = HashedWords()
    assert as_embedder(embedder) is embedder


def test_embeddings_of_langchain_are_embedders_as_they_are() -> None:
    embeddings = pytest.importorskip("langchain_core.embeddings")
    fake = embeddings.DeterministicFakeEmbedding(size=8)
    assert as_embedder(fake) is fake
    assert dense_of(chunks_of(TEXTS), as_embedder(fake), backend="numpy").search(["a lantern"], 1)[0]


def test_a_function_makes_vectors_of_passages_and_queries_alike() -> None:
    embedder = as_embedder(lengths)
    assert embedder.embed_documents(TEXTS) == lengths(TEXTS)
    assert embedder.embed_query("four") == [4.0, 1.0]
    assert embedder.embed_documents([]) == []
    as_arrays = as_embedder(lambda texts: np.array(lengths(texts)))
    assert dense_of(chunks_of(TEXTS), as_arrays, backend="numpy").search(["a clock"], 3)[0]
    with pytest.raises(InputError, match="gave 2 vectors for 1 text"):
        as_embedder(lambda texts: [[1.0], [2.0]]).embed_query("a")


def llama_embedding() -> Any:
    """An embedding model of LlamaIndex that tells queries and passages apart."""
    pytest.importorskip("llama_index.core")
    from llama_index.core.embeddings import BaseEmbedding

    class Telling(BaseEmbedding):
        def _get_query_embedding(self, query: str) -> list[float]:
            return [1.0, float(len(query))]

        def _get_text_embedding(self, text: str) -> list[float]:
            return [2.0, float(len(text))]

        async def _aget_query_embedding(self, query: str) -> list[float]:
            return [3.0, float(len(query))]

        async def _aget_text_embedding(self, text: str) -> list[float]:
            return [4.0, float(len(text))]

    return Telling(embed_batch_size=2)


def test_models_of_llama_index_are_asked_by_their_own_methods_for_queries_and_passages() -> None:
    embedder = as_embedder(llama_embedding())
    assert embedder.embed_query("four") == [1.0, 4.0]
    assert embedder.embed_documents(["a", "bb", "ccc"]) == [[2.0, 1.0], [2.0, 2.0], [2.0, 3.0]]
    assert embedder.embed_documents([]) == []


def test_anything_else_is_refused_by_name_with_what_was_expected() -> None:
    import torch

    async def later(texts: list[str]) -> list[list[float]]:
        return []

    for wrong, said in [
        (
            "BAAI/bge-m3",
            r"flag_embedder\('BAAI/bge-m3'\) for bge-m3, or sentence_transformer\('BAAI/bge-m3'\)",
        ),
        (Path("folder"), "does not say what loads it"),
        (HashedWords, r"the class HashedWords; give an object: HashedWords\(\.\.\.\)"),
        (later, "an async function; expected an object with embed_documents"),
        (torch.nn.Linear(2, 2), "is a Linear; expected an object with embed_documents and embed_query"),
        (None, "is a NoneType; expected"),
        ([1.0], "is a list; expected"),
    ]:
        with pytest.raises(InputError, match=said):
            as_embedder(wrong)


def test_a_library_that_is_there_and_cannot_be_imported_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "FlagEmbedding.py").write_text("import what_it_does_not_fit\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "FlagEmbedding", raising=False)
    with pytest.raises(
        MissingExtraError, match=r"is installed and cannot be imported: No module named 'what"
    ):
        flag_embedder("a-name")
