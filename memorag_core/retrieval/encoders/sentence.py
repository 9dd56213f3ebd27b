"""sentence-transformers' encoders and cross-encoders as this package asks for them.

In: the name or folder of a model, or an object of sentence-transformers; then texts. Out: vectors, scores.
Does not know of chunks, indexes or clues.

The quirks: a tokenizer that states no length lets texts reach the model that are longer than its positions,
which then fails; so no more is read than there are positions for. Cross-encoders squeeze their scores into 0
to 1, where the best ones become equal; so the scores are taken before that. Tokenizers must not be used by
two threads at once; so one list of texts is encoded at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import Any

import numpy as np

from memorag_core.errors import InputError
from memorag_core.retrieval.encoders.inference import (
    best_device,
    has_members,
    loaded,
    name_of,
)
from memorag_core.retrieval.encoders.lengths import PassageLengths, read_limit
from memorag_core.system.locking import Lock

_PASSAGE_PROMPTS = ("document", "passage", "corpus")
"""The names under which models keep what stands before passages, in the order in which they are looked up."""


class SentenceEmbedder(PassageLengths):
    """An encoder of sentence-transformers; made by ``sentence_transformer``. Threads may share it.

    Attributes:
        max_tokens: The most tokens of a text that are read; None for models without a limit.
        fingerprint: What says which encoder this is, for JSON.
    """

    fingerprint: Mapping[str, Any]

    def __init__(
        self,
        model: Any,
        *,
        query_prompt: str | None,
        passage_prompt: str | None,
        batch_size: int,
        max_tokens: int | None,
    ) -> None:
        limit = read_limit(model, model.tokenizer, wanted=max_tokens)
        super().__init__(model.tokenizer, limit, dressed=self._dressed, lock=Lock())
        self._model = model
        self._batch_size = batch_size
        self._query_prompt = query_prompt
        self._passage_prompt = passage_prompt
        self.fingerprint = {
            "encoder": "sentence-transformers",
            "model": _name(model),
            "query_prompt": query_prompt,
            "passage_prompt": passage_prompt,
            "max_tokens": self.max_tokens,
        }

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """The vectors of passages, as the model gives them; for none, none."""
        return self._encode(self._model.encode_document, texts, self._passage_prompt)

    def embed_query(self, text: str) -> list[float]:
        """The vector of a query."""
        (row,) = self._encode(self._model.encode_query, [text], self._query_prompt)
        return row

    def _dressed(self, text: str) -> str:
        if self._passage_prompt is not None:
            return self._passage_prompt + text
        own = self._model.prompts
        prompt: str = next((own[name] for name in _PASSAGE_PROMPTS if name in own), "")
        return prompt + text

    def _encode(self, encode: Any, texts: Sequence[str], prompt: str | None) -> list[list[float]]:
        if not texts:
            return []
        with self._lock, _reading(self._model, self.max_tokens):
            vectors = encode(
                list(texts),
                prompt=prompt,
                batch_size=self._batch_size,
                show_progress_bar=False,
                convert_to_numpy=True,
            )
        rows: list[list[float]] = np.asarray(vectors, dtype=np.float32).tolist()
        return rows


class CrossScorer:
    """A cross-encoder as a re-ranker; made by ``cross_encoder``. Threads may share it.

    Attributes:
        max_tokens: The most tokens of a query and a passage together; None for no limit.
        fingerprint: What says which re-ranker this is, for JSON.
    """

    max_tokens: int | None
    fingerprint: Mapping[str, Any]

    def __init__(self, model: Any, *, batch_size: int, max_tokens: int | None) -> None:
        labels = getattr(model, "num_labels", 1)
        if labels != 1:
            raise InputError(
                f"The cross-encoder gives {labels} numbers for a pair; a re-ranker gives one. Take a model "
                "that was trained for ranking, with num_labels=1."
            )
        self._model = model
        self._batch_size = batch_size
        self._lock = Lock()
        self.max_tokens = read_limit(model, model.tokenizer, wanted=max_tokens)
        self.fingerprint = {
            "reranker": "sentence-transformers",
            "model": _name(model),
            "max_tokens": self.max_tokens,
        }

    def __call__(self, query: str, passages: Sequence[str]) -> list[float]:
        """One score a passage before any squeezing (logits), the higher the better."""
        if not passages:
            return []
        from torch.nn import Identity

        with self._lock, _reading(self._model, self.max_tokens):
            scores = self._model.predict(
                [(query, passage) for passage in passages],
                batch_size=self._batch_size,
                show_progress_bar=False,
                activation_fn=Identity(),
                convert_to_numpy=True,
            )
        found: list[float] = np.asarray(scores, dtype=np.float64).reshape(-1).tolist()
        return found


def sentence_transformer(
    model: str | PathLike[str] | object,
    *,
    device: str | None = None,
    query_prompt: str | None = None,
    passage_prompt: str | None = None,
    batch_size: int = 32,
    max_tokens: int | None = None,
) -> SentenceEmbedder:
    """An encoder of sentence-transformers by its name or folder, or as an object.

    Its vectors are as the model makes them; the dense index brings them to length 1.

    Args:
        model: A name ("sentence-transformers/all-MiniLM-L6-v2"), a folder, or a ``SentenceTransformer``.
        device: Such as "cuda:0"; None takes the first GPU or the CPU. Not for an object.
        query_prompt: What stands before a query, such as "query: "; None leaves it to the model.
        passage_prompt: What stands before a passage; None leaves it to the model.
        batch_size: Texts in one pass.
        max_tokens: Read no more tokens of a text than so many; None for all that the model reads.

    Raises:
        InputError: No such object, a device beside an object, or a number that cannot be.
        MissingExtraError: sentence-transformers is not installed.
    """
    purpose = "Encoding with sentence-transformers"
    found = _loaded(model, "SentenceTransformer", purpose, device, batch_size)
    if not is_sentence_transformer(found):
        raise InputError(
            f"The model is a {type(model).__name__}; expected a name, a folder or a SentenceTransformer. "
            "as_embedder takes other kinds."
        )
    return SentenceEmbedder(
        found,
        query_prompt=query_prompt,
        passage_prompt=passage_prompt,
        batch_size=batch_size,
        max_tokens=max_tokens,
    )


def cross_encoder(
    model: str | PathLike[str] | object,
    *,
    device: str | None = None,
    batch_size: int = 32,
    max_tokens: int | None = None,
) -> CrossScorer:
    """A cross-encoder of sentence-transformers as a re-ranker.

    Args:
        model: A name such as "cross-encoder/ms-marco-MiniLM-L6-v2", a folder, or a ``CrossEncoder``.
        device: Such as "cuda:0"; None takes the first GPU or the CPU. Not for an object.
        batch_size: Passages in one pass.
        max_tokens: Read no more tokens of query and passage than so many; None for all that the model reads.

    Raises:
        InputError: No such object, one that gives several numbers for a pair, a device beside an object, or a
            number that cannot be.
        MissingExtraError: sentence-transformers is not installed.
    """
    found = _loaded(model, "CrossEncoder", "Re-ranking with a cross-encoder", device, batch_size)
    if not is_cross_encoder(found):
        raise InputError(
            f"The model is a {type(model).__name__}; expected a name, a folder or a CrossEncoder. "
            "as_reranker takes other kinds."
        )
    return CrossScorer(found, batch_size=batch_size, max_tokens=max_tokens)


def is_sentence_transformer(value: object) -> bool:
    """Whether an object has the shape of a ``SentenceTransformer``."""
    return has_members(value, "encode_query", "encode_document", "max_seq_length", "tokenizer", "prompts")


def is_cross_encoder(value: object) -> bool:
    """Whether an object has the shape of a ``CrossEncoder``."""
    return has_members(value, "predict", "rank", "tokenizer")


def _loaded(model: object, kind: str, purpose: str, device: str | None, batch_size: int) -> Any:
    def make(library: Any, name: str) -> Any:
        return getattr(library, kind)(name, device=device or best_device())

    package, extra = "sentence_transformers", "sentence-transformers"
    return loaded(model, package, extra, purpose, make, batch_size=batch_size, device=device)


@contextmanager
def _reading(model: Any, most: int | None) -> Iterator[None]:
    """Let a model read no more than so many tokens of a text, and be as it was."""
    before = model.max_seq_length if most is not None else None
    if most is None or before == most:
        yield
        return
    model.max_seq_length = most
    try:
        yield
    finally:
        model.max_seq_length = before


def _name(model: Any) -> str:
    """What the model was loaded from, as it says itself; empty where it does not."""
    card = getattr(model, "model_card_data", None)
    said = getattr(card, "base_model", None) or getattr(getattr(model, "config", None), "_name_or_path", None)
    return name_of(said) if said else ""
