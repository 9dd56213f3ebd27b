"""What a user chooses: the keywords of ``MemoRAG``, which of them a store keeps, and the memory model.

In: choices, or what a store kept of them. Out: JSON-able settings, or the choices again. Reads no files.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal, TypedDict, TypeVar, cast, get_args

from memorag_core.corpus import Order
from memorag_core.errors import InputError, StoreError
from memorag_core.memory.bundled import bundled_path
from memorag_core.protocols import CountTokens, MemoryModel, ShowProgress, Splitter
from memorag_core.retrieval import EntityFinder, Tokenization, VectorSettings
from memorag_core.settings import ChunkSettings, ClueSettings, RetrievalSettings

S = TypeVar("S", ChunkSettings, ClueSettings, RetrievalSettings, VectorSettings)

_SETTINGS: Mapping[str, type[Any]] = {
    "chunks": ChunkSettings,
    "clues": ClueSettings,
    "retrieval": RetrievalSettings,
    "vectors": VectorSettings,
}
_NAMED: Mapping[str, Any] = {"order": Order, "tokenization": Tokenization}


class Choices(TypedDict, total=False):
    """What ``MemoRAG`` takes beside the model; it says what each of them means."""

    embedder: Any
    reranker: Any
    ratio: int | Literal["adapt"] | None
    device: str
    dtype: str
    chunks: ChunkSettings | None
    splitter: Splitter | None
    clues: ClueSettings | None
    retrieval: RetrievalSettings | None
    vectors: VectorSettings | None
    tokenization: Tokenization | None
    entities: EntityFinder | None
    count_tokens: CountTokens
    order: Order | None
    progress: ShowProgress


def to_save(
    *,
    ratio: int | Literal["adapt"] | None,
    order: Order,
    tokenization: Tokenization,
    changes: Mapping[str, int],
    **settings: ChunkSettings | ClueSettings | RetrievalSettings | VectorSettings,
) -> dict[str, Any]:
    """What a store keeps of the choices, as JSON-able values."""
    return {
        "ratio": ratio,
        "order": order,
        "tokenization": tokenization,
        "changes": dict(changes),
        **{name: asdict(value) for name, value in settings.items()},
    }


def with_saved(given: Choices, saved: Mapping[str, Any] | None, *, names_model: bool) -> Choices:
    """The choices on opening a store: what was not chosen is as it was saved.

    Args:
        given: What the user chose now; None is no choice.
        saved: What the store kept; None for a new one.
        names_model: Whether the memory model is loaded by its name, so that the saved ratio applies.

    Raises:
        StoreError: A saved value that this release does not know and for which nothing was given.
    """
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    for name, kind in _SETTINGS.items() if saved is not None else ():
        if name not in chosen:
            chosen[name] = _saved_settings(kind, saved or {}, name)
    for name, choice in _NAMED.items() if saved is not None else ():
        if name not in chosen:
            chosen[name] = _saved_name(saved or {}, name, get_args(choice))
    if names_model and "ratio" not in chosen:
        chosen["ratio"] = _saved_ratio(saved or {})
    return cast(Choices, chosen)


def saved_changes(saved: Mapping[str, Any]) -> dict[str, int]:
    """How often each changed document was updated.

    Raises:
        StoreError: The store says something else.
    """
    changes = saved.get("changes", {})
    if not isinstance(changes, dict) or not all(type(count) is int for count in changes.values()):
        raise StoreError(
            f"The saved counts of changes are {changes!r}; expected a number for each changed document. "
            "Restore the folder from a copy, or memorize the text again and save it."
        )
    return changes


def names_model(model: object) -> bool:
    """Whether the model is said by its name or folder, or left to the package, so that it is loaded here."""
    return model is None or isinstance(model, str | os.PathLike)


def memory_model(model: Any, ratio: int | Literal["adapt"] | None, device: str, dtype: str) -> MemoryModel:
    """The memory model that was chosen; one that is only named is loaded.

    Raises:
        InputError: No memory model, or how to load one that is loaded already.
        CheckpointError: The checkpoint is damaged or missing.
        UnsupportedModelError: The checkpoint needs a computation that this package lacks.
    """
    if names_model(model):
        from memorag_core.memory.beacon import BeaconModel  # here, for it loads torch and transformers

        path = bundled_path() if model is None else model
        return BeaconModel.from_pretrained(path, ratio=ratio, device=device, dtype=dtype)
    # Methods only: asking for the fingerprint might read all the weights.
    if not all(callable(getattr(model, name, None)) for name in ("memorize", "recollect", "pack", "unpack")):
        raise InputError(
            f"The model is a {type(model).__name__}; expected a memory model (memorag_core.MemoryModel), the "
            f"name or folder of a checkpoint, or None for the bundled model."
        )
    if ratio is not None or (device, dtype) != ("auto", "auto"):
        raise InputError(
            "ratio, device and dtype say how to load a model, but a loaded one was given. Give them where it "
            "is loaded: BeaconModel.from_pretrained(name, ratio=..., device=..., dtype=...)."
        )
    loaded: MemoryModel = model
    return loaded


def _saved_settings(kind: type[S], saved: Mapping[str, Any], name: str) -> S:
    try:
        return kind(**saved[name])
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise StoreError(
            f"The saved settings for {name} are {saved.get(name)!r}, unknown to this release: {error} "
            f"Give them on loading: MemoRAG.load(path, {name}={kind.__name__}(...))."
        ) from error


def _saved_name(saved: Mapping[str, Any], name: str, known: tuple[str, ...]) -> str:
    value: str = saved.get(name, known[0])
    if value not in known:
        raise StoreError(
            f"The saved {name} is {value!r}; expected one of {', '.join(known)}. Give it on loading: "
            f"MemoRAG.load(path, {name}={known[0]!r})."
        )
    return value


def _saved_ratio(saved: Mapping[str, Any]) -> int | Literal["adapt"] | None:
    ratio = saved.get("ratio")
    if ratio is None or ratio == "adapt" or type(ratio) is int:
        return ratio
    raise StoreError(
        f"The saved ratio is {ratio!r}; expected a whole number, 'adapt' or nothing. Give it on loading."
    )
