"""What makes dense vectors, whichever library it comes from, in one shape.

In: an embedder of LangChain's shape, of LlamaIndex, FlagEmbedding or sentence-transformers, or a function.
Out: an ``Embedder``, and how much it reads where that can be told. Imports none of these libraries, and does
not look at vectors: the dense index checks them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import iscoroutinefunction
from os import PathLike
from typing import Any

from memorag_core.errors import InputError
from memorag_core.protocols import Embedder, TextEncoder
from memorag_core.retrieval.encoders.flag import flag_embedder, is_flag_embedder
from memorag_core.retrieval.encoders.lengths import PassageLengths, read_limit
from memorag_core.retrieval.encoders.sentence import is_sentence_transformer, sentence_transformer
from memorag_core.system.locking import Lock


class LlamaIndexEmbedder:
    """An embedding model of LlamaIndex, by its shape, as an ``Embedder``.

    Attributes:
        model: That model.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector for each passage."""
        vectors: list[list[float]] = self.model.get_text_embedding_batch(list(texts))
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """The vector of a query."""
        vector: list[float] = self.model.get_query_embedding(text)
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
            f"The embedder is an async function; {_EXPECTED}. Give the function that it awaits: where the "
            "loop must go on, it is called on another thread."
        )
    if callable(value) and not hasattr(value, "forward"):  # a bare module of torch takes no texts
        return FunctionEmbedder(value)
    raise InputError(f"The embedder is a {type(value).__name__}; {_EXPECTED}.")


def text_encoder(embedder: Embedder | None) -> TextEncoder | None:
    """What tells how much of a passage an embedder reads; None where nothing does, or there is no limit.

    An embedder that has ``max_tokens`` and ``count_tokens`` tells it itself. ``HuggingFaceEmbeddings`` of
    LangChain and ``HuggingFaceEmbedding`` of LlamaIndex are known by the ``SentenceTransformer`` inside.
    """
    if isinstance(embedder, TextEncoder):
        most = embedder.max_tokens
        return embedder if isinstance(most, int) and not isinstance(most, bool) and most > 0 else None
    holder: Any = embedder.model if isinstance(embedder, LlamaIndexEmbedder) else embedder
    for name in _HOLDING:
        held: Any = getattr(holder, name, None)
        if is_sentence_transformer(held):
            most = read_limit(held, held.tokenizer, wanted=None)
            prompt = max(_prompts(holder, held), key=len, default="")
            # By a copy: the embedder may be using its tokenizer on another thread, and two must not.
            counter = PassageLengths(held.tokenizer, most, dressed=prompt.__add__, lock=Lock(), copied=True)
            return None if most is None else counter
    return None


_HOLDING = ("_client", "client", "_model")
"""Where embedders keep a ``SentenceTransformer``: LangChain's since 0.2 and before, LlamaIndex's."""

_PASSAGES = ("text", "document", "passage", "corpus")
"""Names of prompts for passages: LlamaIndex's, then those of models."""


def _prompts(holder: Any, held: Any) -> list[str]:
    """What may stand before a passage: which of them it is depends on the libraries' versions."""
    own: Mapping[str, str] = held.prompts
    asked = getattr(holder, "encode_kwargs", None) or {}
    if isinstance(asked.get("prompt"), str):
        return [asked["prompt"]]
    names = (asked["prompt_name"],) if "prompt_name" in asked else (held.default_prompt_name, *_PASSAGES)
    return [own[name] for name in names if name in own]
