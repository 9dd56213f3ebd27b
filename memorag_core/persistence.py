"""What was memorized and what was chosen for it, as a store keeps them, and back.

In: a corpus with the choices, or what a store kept. Out: values for a store, or the corpus and choices again.
Reads and writes no files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal, TypedDict, TypeVar, cast, get_args

from memorag_core.corpus import Corpus, Order, Reader
from memorag_core.errors import StoreError
from memorag_core.memory.grounding import Passages
from memorag_core.protocols import CountTokens, ShowProgress, Splitter
from memorag_core.retrieval import EntityFinder, Tokenization, VectorSettings
from memorag_core.settings import ChunkSettings, ClueSettings, RetrievalSettings, with_grouped_weights
from memorag_core.store import StoredCorpus, StoredIndex
from memorag_core.types.packed import unpacking

PASSAGES = "passages"
"""The name of the index of passages in a store."""

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


def to_stored(
    corpus: Corpus | None,
    reader: Reader,
    *,
    ratio: int | Literal["adapt"] | None,
    clues: ClueSettings,
    retrieval: RetrievalSettings,
) -> StoredCorpus:
    """A corpus and how it is read and asked, as a store takes them; None for one without documents."""
    maker, model = reader.maker, reader.model
    tensors, header = model.pack(corpus.memory) if corpus else ({}, {})
    indexes = {}
    if corpus:
        packed = {PASSAGES: corpus.passages.pack(), **maker.packed(corpus.index)}
        indexes = {name: StoredIndex(*kept) for name, kept in packed.items()}
    return StoredCorpus(
        documents=corpus.documents if corpus else (),
        chunks=corpus.index.chunks if corpus else (),
        tensors=tensors,
        header=header,
        fingerprint=model.fingerprint,
        settings={
            "ratio": ratio,
            "order": reader.order,
            "tokenization": maker.tokenization,
            "changes": dict(corpus.changes) if corpus else {},
            "chunks": asdict(reader.chunks),
            "clues": asdict(clues),
            "retrieval": asdict(retrieval),
            "vectors": asdict(maker.vectors),
        },
        vectors=corpus.index.vectors if corpus else None,
        indexes=indexes,
    )


def from_stored(stored: StoredCorpus, reader: Reader) -> Corpus | None:
    """The corpus that was stored; None for one without documents.

    Raises:
        StoreError: What was stored cannot be used, or not with this model or embedder.
        InputError: What made the stored index is missing.
    """
    if not stored.documents:
        return None
    kept = {name: (index.arrays, index.header) for name, index in stored.indexes.items()}
    index = reader.maker.unpacked(stored.chunks, stored.vectors, kept)
    with unpacking("The stored memory", "Restore the store from a copy, or memorize the text again."):
        memory = reader.model.unpack(stored.tensors, stored.header)
    if PASSAGES in kept:
        arrays, header = kept[PASSAGES]
        passages = Passages.unpack(arrays, dict(header), stored.documents)
    else:  # written by hand, or by what knows no memory
        passages = Passages.build(stored.documents)
    return Corpus(stored.documents, memory, index, passages, _saved_changes(stored.settings))


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


def _saved_changes(saved: Mapping[str, Any]) -> dict[str, int]:
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


def _saved_settings(kind: type[S], saved: Mapping[str, Any], name: str) -> S:
    try:
        return kind(**with_grouped_weights(saved[name]))  # stores of before have them one by one
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
