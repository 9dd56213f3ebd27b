"""FlagEmbedding's encoders and re-rankers as this package asks for them, their quirks handled.

In: the name or folder of a model, or an object of FlagEmbedding; then texts. Out: vectors, lexical weights,
scores. Does not know of chunks, indexes or clues.

The quirks, as of FlagEmbedding 1.4: several devices start processes, so exactly one is given. An empty list
raises. Texts are cut at 512 tokens unless told, and texts longer than the model's positions fail in a place
far from the cause; any other RuntimeError likewise (see ``inference.guarded``). Its bars do not listen to
TQDM_DISABLE, but are not shown for less than a batch. Without ``sparse_linear.pt`` and ``colbert_linear.pt``
beside the weights, lexical weights and token vectors come from random numbers, without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from memorag_core.errors import InputError, MissingExtraError
from memorag_core.protocols import FloatMatrix, TokenWeights
from memorag_core.retrieval.encoders.inference import (
    ForwardError,
    best_device,
    check_batch_size,
    guarded,
    has_members,
    name_of,
    read_limit,
    without_bars,
)
from memorag_core.retrieval.encoders.lengths import PassageLengths
from memorag_core.system.locking import Lock

_HEADS = ("sparse_linear.pt", "colbert_linear.pt")


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """What one pass says of N texts: ``vectors`` [N, E] float32, and the lexical weights of each."""

    vectors: FloatMatrix
    weights: tuple[TokenWeights, ...]


class FlagEmbedder:
    """An encoder of FlagEmbedding; made by ``flag_embedder``.

    Threads may share it: one encodes at a time, for its tokenizer must not be used by two at once.

    Attributes:
        max_tokens: The most tokens of a text that are read; what stands behind them is cut off.
        fingerprint: What says which encoder this is, for JSON.
    """

    max_tokens: int
    fingerprint: Mapping[str, Any]

    def __init__(self, model: Any, *, batch_size: int, max_tokens: int | None) -> None:
        check_batch_size(batch_size)
        _check_one_device(model)
        self._model = model
        self._batch_size = batch_size
        self._lock = Lock()
        limit = read_limit(model.model, model.tokenizer, wanted=max_tokens)
        self.max_tokens = int(model.passage_max_length) if limit is None else limit
        self._lengths = PassageLengths(
            model.tokenizer, self.max_tokens, dressed=self._dressed, lock=self._lock
        )
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
        """The vectors and the lexical weights of passages in one pass, for the price of either.

        Raises:
            InputError: The model has no lexical weights.
        """
        self._check_heads("lexical weights")
        found = self._encode(texts, self._model.encode_corpus, return_sparse=True)
        return Encoded(self._vectors(found), tuple(_weights(one) for one in found))

    def lexical_documents(self, texts: Sequence[str]) -> list[TokenWeights]:
        """For each passage the weight of each of its token ids, above 0.

        Raises:
            InputError: The model has no lexical weights.
        """
        return list(self._lexical(texts, self._model.encode_corpus))

    def lexical_query(self, text: str) -> TokenWeights:
        """The weights of a query's token ids.

        Raises:
            InputError: The model has no lexical weights.
        """
        return self._lexical([text], self._model.encode_queries)[0]

    def colbert_scores(self, query: str, passages: Sequence[str]) -> list[float]:
        """How well each passage holds the tokens of a query, late interaction; a re-ranker.

        The mean over the query's tokens of the best inner product with any token of the passage (Khattab and
        Zaharia, SIGIR 2020; Chen et al., "BGE M3-Embedding", 2024, section 3.3). Costs a pass over the
        passages.

        Raises:
            InputError: The model has no token vectors.
        """
        self._check_heads("token vectors")
        if not passages:
            return []
        only = {"return_dense": False, "return_colbert_vecs": True}
        (asked,) = self._encode([query], self._model.encode_queries, **only)
        tokens = _float32(asked["colbert_vecs"])  # [Q, E]
        found = self._encode(passages, self._model.encode_corpus, **only)
        return [float((tokens @ _float32(one["colbert_vecs"]).T).max(axis=1).mean()) for one in found]

    def count_tokens(self, text: str) -> int:
        """The tokens that a passage has for this encoder, special ones and instruction included."""
        return self._lengths.count_tokens(text)

    def too_long(self, texts: Sequence[str]) -> dict[int, int]:
        """The places of the passages that are not read whole, and the tokens of each."""
        return self._lengths.too_long(texts)

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
        found: dict[int, Mapping[str, Any]] = {}
        # Texts of about one length share a pass, so that little of it is padding.
        order = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
        for start in range(0, len(order), self._batch_size):
            places = order[start : start + self._batch_size]
            with self._lock:
                answer = _asked(
                    self._model,
                    lambda places=places: encode(  # type: ignore[misc]
                        [texts[place] for place in places],
                        batch_size=len(places) + 1,  # above the number of texts: no bar
                        max_length=self.max_tokens,
                        **kinds,
                    ),
                )
            named = answer if isinstance(answer, Mapping) else {"dense_vecs": answer}
            for row, place in enumerate(places):
                found[place] = {name: rows[row] for name, rows in named.items() if rows is not None}
        return [found[place] for place in range(len(texts))]

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
        check_batch_size(batch_size)
        _check_one_device(model)
        self._model = model
        self._batch_size = batch_size
        self._lock = Lock()
        limit = read_limit(model.model, model.tokenizer, wanted=max_tokens)
        self.max_tokens = int(model.max_length) if limit is None else limit
        self.fingerprint = {
            "reranker": "FlagEmbedding",
            "model": name_of(model.model_name_or_path),
            "max_tokens": self.max_tokens,
        }

    def __call__(self, query: str, passages: Sequence[str]) -> list[float]:
        """One score a passage, the higher the better; logits, unless the object given normalises them."""
        _check_texts([query, *passages])
        scores: dict[int, float] = {}
        order = sorted(range(len(passages)), key=lambda place: -len(passages[place]))
        for start in range(0, len(order), self._batch_size):
            places = order[start : start + self._batch_size]
            pairs = [(query, passages[place]) for place in places]
            with self._lock:
                answer = _asked(
                    self._model,
                    lambda pairs=pairs: self._model.compute_score(  # type: ignore[misc]
                        pairs, batch_size=len(pairs) + 1, max_length=self.max_tokens
                    ),
                )
            scores |= zip(places, np.atleast_1d(np.asarray(answer, dtype=np.float64)).tolist(), strict=True)
        return [scores[place] for place in range(len(passages))]


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
    loaded = _loaded(model, "BGEM3FlagModel", "Encoding with bge-m3", device, half, batch_size)
    if not is_flag_embedder(loaded):
        raise InputError(
            f"The model is a {type(model).__name__}; expected the name or folder of a bge-m3, or an embedder "
            "of FlagEmbedding. as_embedder takes other kinds."
        )
    return FlagEmbedder(loaded, batch_size=batch_size, max_tokens=max_tokens)


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
    loaded = _loaded(model, "FlagReranker", "Re-ranking with FlagEmbedding", device, half, batch_size)
    if not is_flag_reranker(loaded):
        raise InputError(
            f"The model is a {type(model).__name__}; expected a name, a folder, or a re-ranker of "
            "FlagEmbedding. as_reranker takes other kinds."
        )
    return FlagScorer(loaded, batch_size=batch_size, max_tokens=max_tokens)


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
    check_batch_size(batch_size)
    if isinstance(model, str | PathLike):
        try:
            import FlagEmbedding
        except ImportError as error:
            raise MissingExtraError("FlagEmbedding", "flag", purpose) from error
        place = device or best_device()
        with without_bars():
            make = getattr(FlagEmbedding, kind)
            return make(str(model), devices=place, use_fp16=_half(half, place), batch_size=batch_size)
    if device is not None or half is not None:
        raise InputError(
            "A device or half was given beside an object, which has been loaded already; "
            "give them where the object is made, or give the model's name or folder here."
        )
    return model


def _asked(model: Any, ask: Callable[[], Any]) -> Any:
    """Ask FlagEmbedding, and raise what the model raised rather than what became of it."""
    try:
        with guarded(model.model):
            return ask()
    except ForwardError as error:
        raise error.cause from None


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


def _check_one_device(model: Any) -> None:
    if len(model.target_devices) != 1:
        raise InputError(
            f"The {type(model).__name__} was made for the devices {', '.join(model.target_devices)}, and "
            'FlagEmbedding starts a process for each; make it with one: devices="cuda:0".'
        )


def _check_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        found = "one text" if isinstance(texts, str) else "something that is no text"
        raise InputError(f"Found {found} where a list of texts was expected.")
