"""What makes dense vectors, whichever library it comes from, in one shape.

In: an embedder of LangChain's shape, of LlamaIndex, FlagEmbedding or sentence-transformers, or a function.
Out: an ``Embedder``, to be called or awaited. Imports none of these libraries, and does not look at vectors:
the dense index checks them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from inspect import iscoroutinefunction
from os import PathLike
from typing import Any

from memorag_core.errors import InputError
from memorag_core.protocols import Embedder
from memorag_core.retrieval.flag import flag_embedder, is_flag_embedder
from memorag_core.retrieval.sentence import is_sentence_transformer, sentence_transformer


class LlamaIndexEmbedder:
    """An embedding model of LlamaIndex, by its shape, as an ``Embedder``."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector for each passage."""
        vectors: list[list[float]] = self._model.get_text_embedding_batch(list(texts))
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """The vector of a query."""
        vector: list[float] = self._model.get_query_embedding(text)
        return vector

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector for each passage, by the model's own async method."""
        vectors: list[list[float]] = await self._model.aget_text_embedding_batch(list(texts))
        return vectors

    async def aembed_query(self, text: str) -> list[float]:
        """The vector of a query, by the model's own async method."""
        vector: list[float] = await self._model.aget_query_embedding(text)
        return vector


class FunctionEmbedder:
    """A function from a list of texts to their vectors, the same for passages and queries."""

    def __init__(self, function: Callable[[list[str]], Any]) -> None:
        self._function = function

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector for each passage; for none, the function is not called."""
        if not texts:
            return []
        vectors: list[list[float]] = self._function(list(texts))
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """The vector of a query."""
        vectors = self._function([text])
        if len(vectors) != 1:
            raise InputError(f"The embedding function gave {len(vectors)} vectors for 1 text; expected one.")
        vector: list[float] = vectors[0]
        return vector


_EXPECTED = (
    "expected an object with embed_documents and embed_query (LangChain's shape), an embedding model of "
    "LlamaIndex, an embedder of FlagEmbedding, a SentenceTransformer, or a function from a list of texts to "
    "their vectors"
)


def as_embedder(value: object) -> Embedder:
    """Make an embedder of whatever makes vectors.

    Args:
        value: An object with ``embed_documents`` and ``embed_query``, which is given back as it is; an
            embedding model of LlamaIndex (by ``get_text_embedding_batch`` and ``get_query_embedding``); an
            embedder object of FlagEmbedding; a ``SentenceTransformer``; or a function from a list of texts to
            their vectors.

    Raises:
        InputError: Anything else: a name, which says nothing of the library that loads it; a class in place
            of its object; an async function.
    """
    if isinstance(value, str | PathLike):
        raise InputError(
            f"The embedder is the name {str(value)!r}, which does not say what loads it: give "
            f"flag_embedder({str(value)!r}) for bge-m3, or sentence_transformer({str(value)!r})."
        )
    if isinstance(value, type):
        raise InputError(
            f"The embedder is the class {value.__name__}; give an object: {value.__name__}(...)."
        )
    if isinstance(value, Embedder):
        return value
    if all(hasattr(value, name) for name in ("get_text_embedding_batch", "get_query_embedding")):
        return LlamaIndexEmbedder(value)
    if is_flag_embedder(value):
        return flag_embedder(value)
    if is_sentence_transformer(value):
        return sentence_transformer(value)
    if iscoroutinefunction(value):
        raise InputError(
            f"The embedder is an async function; {_EXPECTED}. For asynchronous encoding give an object with "
            "aembed_documents and aembed_query beside the two."
        )
    if callable(value) and not hasattr(value, "forward"):  # a bare module of torch takes no texts
        return FunctionEmbedder(value)
    raise InputError(f"The embedder is a {type(value).__name__}; {_EXPECTED}.")


async def aembed_documents(embedder: Embedder, texts: Sequence[str]) -> list[list[float]]:
    """Encode passages without holding up the event loop: by ``aembed_documents``, or else in a thread."""
    own = getattr(embedder, "aembed_documents", None)
    if own is None:
        return await asyncio.to_thread(embedder.embed_documents, list(texts))
    vectors: list[list[float]] = await own(list(texts))
    return vectors


async def aembed_query(embedder: Embedder, text: str) -> list[float]:
    """Encode a query without holding up the event loop: by ``aembed_query``, or else in a thread."""
    own = getattr(embedder, "aembed_query", None)
    if own is None:
        return await asyncio.to_thread(embedder.embed_query, text)
    vector: list[float] = await own(text)
    return vector
