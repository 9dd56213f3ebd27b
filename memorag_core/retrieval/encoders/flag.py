"""FlagEmbedding's encoders and re-rankers as this package asks for them, their quirks handled.

In: the name or folder of a model, or an object of FlagEmbedding; then texts. Out: vectors, lexical weights,
scores. Does not know of chunks, indexes or clues.

The quirks, as of FlagEmbedding 1.4: several devices start processes, so exactly one is given. An empty list
raises. Texts are cut at 512 tokens unless told, and texts longer than the model's positions fail in a place
far from the cause; any other RuntimeError likewise (see ``inference.guarded``). Its bars do not listen to
TQDM_DISABLE, but are not shown for less than a batch. Its tokenizers must not be used by two threads at once;
so one batch is computed at a time. Without ``sparse_linear.pt`` and ``colbert_linear.pt`` beside the weights,
lexical weights and token vectors come from random numbers, without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from memorag_core.errors import InputError
from memorag_core.protocols import FloatMatrix, TokenWeights
from memorag_core.retrieval.encoders.encode import Encoded
from memorag_core.retrieval.encoders.inference import (
    best_device,
    guarded,
    has_members,
    loaded,
    longest_first,
    name_of,
)
from memorag_core.retrieval.encoders.lengths import PassageLengths, read_limit
from memorag_core.system.locking import Lock

_HEADS = ("sparse_linear.pt", "colbert_linear.pt")


class FlagEmbedder(PassageLengths):
    """An encoder of FlagEmbedding; made by ``flag_embedder``.

    Threads may share it: one encodes at a time. Asked for lexical weights or token vectors, it raises
    ``InputError`` where the model has none.

    Attributes:
        max_tokens: The most tokens of a text that are read; what stands behind them is cut off.
        fingerprint: What says which encoder this is, for JSON.
    """

    fingerprint: Mapping[str, Any]

    def __init__(self, model: Any, *, batch_size: int, max_tokens: int | None) -> None:
        limit = _limit(model, max_tokens, model.passage_max_length)
        super().__init__(model.tokenizer, limit, dressed=self._dressed, lock=Lock())
        self._model = model
        self._batch_size = batch_size
        self.fingerprint = {
            "encoder": "FlagEmbedding",
            "model": name_of(model.model_name_or_path),
            "vocabulary": len(model.tokenizer),
            "max_tokens": self.max_tokens,
        }

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """The vectors of passages; for none, none."""
        rows: list[list[float]] = self._vectors(self._encode(texts, self._model.encode_corpus)).tolist()
        return rows

    def embed_query(self, text: str) -> list[float]:
        """The vector of a query, behind the model's own instruction if it has one."""
        (row,) = self._vectors(self._encode([text], self._model.encode_queries)).tolist()
        return list(row)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """The vectors and the lexical weights of passages in one pass, for the price of either."""
        self._check_heads("lexical weights")
        found = self._encode(texts, self._model.encode_corpus, return_sparse=True)
        return Encoded(self._vectors(found), tuple(_weights(one) for one in found))

    def lexical_documents(self, texts: Sequence[str]) -> list[TokenWeights]:
        """For each passage the weight of each of its token ids, above 0."""
        return list(self._lexical(texts, self._model.encode_corpus))

    def lexical_query(self, text: str) -> TokenWeights:
        """The weights of a query's token ids."""
        return self._lexical([text], self._model.encode_queries)[0]

    def colbert_scores(self, query: str, passages: Sequence[str]) -> list[float]:
        """How well each passage holds the tokens of a query, late interaction; a re-ranker.

        The mean over the query's tokens of the best inner product with any token of the passage (Khattab and
        Zaharia, SIGIR 2020; Chen et al., "BGE M3-Embedding", 2024, section 3.3). Costs a pass over the
        passages.
        """
        self._check_heads("token vectors")
        if not passages:
            return []
        only = {"return_dense": False, "return_colbert_vecs": True}
        (asked,) = self._encode([query], self._model.encode_queries, **only)
        tokens = _float32(asked["colbert_vecs"])  # [Q, E]
        found = self._encode(passages, self._model.encode_corpus, **only)
        return [float((tokens @ _float32(one["colbert_vecs"]).T).max(axis=1).mean()) for one in found]

    def _dressed(self, text: str) -> str:
        instruction = self._model.kwargs.get("passage_instruction_for_retrieval")
        if instruction is None:
            return text
        form = self._model.kwargs.get("passage_instruction_format", "{}{}")
        dressed: str = self._model.get_detailed_instruct(form, instruction, text)
        return dressed

    def _lexical(self, texts: Sequence[str], encode: Callable[..., Any]) -> list[TokenWeights]:
        self._check_heads("lexical weights")
        found = self._encode(texts, encode, return_dense=False, return_sparse=True)
        return [_weights(one) for one in found]

    def _encode(
        self, texts: Sequence[str], encode: Callable[..., Any], **wanted: bool
    ) -> list[Mapping[str, Any]]:
        """For each text what FlagEmbedding says of it, by its names."""
        _check_texts(texts)
        kinds = dict(_DENSE, **wanted) if _is_m3(self._model) else {}

        def ask(batch: list[str]) -> Iterable[Mapping[str, Any]]:
            answer = _asked(self._model, self._lock, encode, batch, max_length=self.max_tokens, **kinds)
            named = answer if isinstance(answer, Mapping) else {"dense_vecs": answer}
            given = {name: rows for name, rows in named.items() if rows is not None}
            return ({name: rows[row] for name, rows in given.items()} for row in range(len(batch)))

        return longest_first(texts, self._batch_size, ask)

    def _vectors(self, found: Sequence[Mapping[str, Any]]) -> FloatMatrix:
        """[N, E]; [0, 0] for no texts."""
        rows = [_float32(one["dense_vecs"]) for one in found]
        return np.stack(rows) if rows else np.empty((0, 0), dtype=np.float32)

    def _check_heads(self, what: str) -> None:
        name = self._model.model_name_or_path
        if not _is_m3(self._model):
            raise InputError(
                f"The model '{name}' is a {type(self._model).__name__}, which has no {what}; bge-m3 and "
                "models tuned from it have them: give one, or use dense vectors and BM25."
            )
        folder = Path(str(getattr(self._model.model.config, "_name_or_path", "")))
        absent = [head for head in _HEADS if folder.is_dir() and not (folder / head).is_file()]
        if absent:
            raise InputError(
                f"The folder '{folder}' has no {' and no '.join(absent)}, without which FlagEmbedding would "
                f"make {what} from random numbers. Give the whole model, or use dense vectors and BM25."
            )


class FlagScorer:
    """A re-ranker of FlagEmbedding; made by ``flag_reranker``. Threads may share it, one scores at a time.

    Attributes:
        max_tokens: The most tokens of a query and a passage together; the passage's end is cut off.
        fingerprint: What says which re-ranker this is, for JSON.
    """

    max_tokens: int
    fingerprint: Mapping[str, Any]

    def __init__(self, model: Any, *, batch_size: int, max_tokens: int | None) -> None:
        self.max_tokens = _limit(model, max_tokens, model.max_length)
        self._model = model
        self._batch_size = batch_size
        self._lock = Lock()
        self.fingerprint = {
            "reranker": "FlagEmbedding",
            "model": name_of(model.model_name_or_path),
            "max_tokens": self.max_tokens,
        }

    def __call__(self, query: str, passages: Sequence[str]) -> list[float]:
        """One score a passage, the higher the better; logits, unless the object given normalises them."""
        _check_texts([query, *passages])

        def ask(batch: list[str]) -> list[float]:
            pairs = [(query, passage) for passage in batch]
            score = self._model.compute_score
            answer = _asked(self._model, self._lock, score, pairs, max_length=self.max_tokens)
            scores: list[float] = np.atleast_1d(np.asarray(answer, dtype=np.float64)).tolist()
            return scores

        return longest_first(passages, self._batch_size, ask)


def flag_embedder(
    model: str | PathLike[str] | object,
    *,
    device: str | None = None,
    half: bool | None = None,
    batch_size: int = 32,
    max_tokens: int | None = None,
) -> FlagEmbedder:
    """An encoder of FlagEmbedding: bge-m3 by its name or folder, or any of its embedders as an object.

    Args:
        model: "BAAI/bge-m3", the folder of a model of that kind, or an object such as ``FlagModel(...)``.
        device: One device, such as "cuda:0"; None takes the first GPU or the CPU. Not for an object.
        half: Whether to compute in 16 bits; None does on NVIDIA's GPUs only. Not for an object.
        batch_size: Texts in one pass; FlagEmbedding takes fewer where GPU memory runs out.
        max_tokens: Read no more tokens of a text than so many; None for all that the model reads (8,192 for
            bge-m3).

    Raises:
        InputError: No embedder of FlagEmbedding, an object on several devices, a device or ``half`` beside an
            object, ``half`` on a CPU, or a number that cannot be.
        MissingExtraError: FlagEmbedding is not installed.
    """
    found = _loaded(model, "BGEM3FlagModel", "Encoding with bge-m3", device, half, batch_size)
    if not is_flag_embedder(found):
        raise InputError(
            f"The model is a {type(model).__name__}; expected the name or folder of a bge-m3, or an embedder "
            "of FlagEmbedding. as_embedder takes other kinds."
        )
    return FlagEmbedder(found, batch_size=batch_size, max_tokens=max_tokens)


def flag_reranker(
    model: str | PathLike[str] | object,
    *,
    device: str | None = None,
    half: bool | None = None,
    batch_size: int = 32,
    max_tokens: int | None = None,
) -> FlagScorer:
    """A re-ranker of FlagEmbedding: "BAAI/bge-reranker-v2-m3", such a folder, or an object of its own.

    Args:
        model: A name, a folder, or an object such as ``FlagReranker(...)``.
        device: One device; None takes the first GPU or the CPU. Not for an object.
        half: Whether to compute in 16 bits; None does on NVIDIA's GPUs only. Not for an object.
        batch_size: Passages in one pass.
        max_tokens: Read no more tokens of query and passage than so many; None for all that the model reads.

    Raises:
        InputError: As ``flag_embedder``.
        MissingExtraError: FlagEmbedding is not installed.
    """
    found = _loaded(model, "FlagReranker", "Re-ranking with FlagEmbedding", device, half, batch_size)
    if not is_flag_reranker(found):
        raise InputError(
            f"The model is a {type(model).__name__}; expected a name, a folder, or a re-ranker of "
            "FlagEmbedding. as_reranker takes other kinds."
        )
    return FlagScorer(found, batch_size=batch_size, max_tokens=max_tokens)


def is_flag_embedder(value: object) -> bool:
    """Whether an object has the shape of FlagEmbedding's embedders."""
    return has_members(value, "encode_corpus", "encode_queries", "target_devices", "tokenizer", "model")


def is_flag_reranker(value: object) -> bool:
    """Whether an object has the shape of FlagEmbedding's re-rankers."""
    shaped = has_members(value, "compute_score", "target_devices", "tokenizer", "model")
    return shaped and not is_flag_embedder(value)


_DENSE = {"return_dense": True, "return_sparse": False, "return_colbert_vecs": False}


def _loaded(
    model: object, kind: str, purpose: str, device: str | None, half: bool | None, batch_size: int
) -> Any:
    """A model by its name or folder, on one device: several would start processes. Or the object given."""

    def make(library: Any, name: str) -> Any:
        place = device or best_device()
        return getattr(library, kind)(name, devices=place, use_fp16=_half(half, place), batch_size=batch_size)

    return loaded(
        model, "FlagEmbedding", "flag", purpose, make, batch_size=batch_size, device=device, half=half
    )


def _limit(model: Any, wanted: int | None, otherwise: Any) -> int:
    """The most tokens that a model reads, after seeing that it is on one device."""
    if len(model.target_devices) != 1:
        raise InputError(
            f"The {type(model).__name__} was made for the devices {', '.join(model.target_devices)}, and "
            'FlagEmbedding starts a process for each; make it with one: devices="cuda:0".'
        )
    limit = read_limit(model.model, model.tokenizer, wanted=wanted)
    return int(otherwise) if limit is None else limit


def _asked(
    model: Any, lock: AbstractContextManager[object], ask: Callable[..., Any], batch: list[Any], **how: Any
) -> Any:
    with lock, guarded(model.model):
        return ask(batch, batch_size=len(batch) + 1, **how)  # above the number of texts: no bar


def _weights(found: Mapping[str, Any]) -> TokenWeights:
    return {int(token): float(weight) for token, weight in found["lexical_weights"].items()}


def _float32(values: Any) -> FloatMatrix:
    return np.asarray(values, dtype=np.float32)


def _is_m3(model: object) -> bool:
    return hasattr(model, "compute_lexical_matching_score")


def _half(half: bool | None, device: str) -> bool:
    if half and device == "cpu":
        raise InputError("half is True on a CPU, where 16 bits are slow or fail; give None, or a GPU.")
    return device.startswith("cuda") if half is None else half


def _check_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        found = "one text" if isinstance(texts, str) else "something that is no text"
        raise InputError(f"Found {found} where a list of texts was expected.")
