"""A store to a corpus, after every byte of it was checked; and where a store lies.

In: a folder or an address, a model's fingerprint. Out: ``StoredCorpus``. It runs no code that lies in a file,
and holds no more than the files do.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from memorag_core.errors import InputError, StoreError
from memorag_core.protocols import FloatMatrix
from memorag_core.store.folder import LocalFolder, advice
from memorag_core.store.jsontext import parse, parse_chunk, parse_document
from memorag_core.store.layout import (
    MANIFEST,
    REMEDY,
    VECTORS,
    Manifest,
    StoredCorpus,
    StoredFile,
    StoredIndex,
)
from memorag_core.store.manifest import expect_same_model, parse_manifest, state_hash
from memorag_core.store.remote import RemoteFolder
from memorag_core.store.tensors import decoded, read_raw
from memorag_core.system.disk import taken_in_unicode

Place: TypeAlias = LocalFolder | RemoteFolder
"""Where a store lies; both have the same methods."""

_SHORTENED = re.compile(r"([a-z][a-z0-9+.-]+):/[^/]")


def place_of(path: str | os.PathLike[str], cache: str | os.PathLike[str] | None = None) -> Place:
    """The place that a path or an address means now; it stays that one.

    Args:
        path: a folder, or an address with a protocol: "s3://bucket/name", "memory://name".
        cache: where the files of remote stores are kept; None for the user's cache folder.

    Raises:
        InputError: it names no place.
        StoreError: a protocol that nobody knows.
        MissingExtraError: what speaks it is not installed.
    """
    if isinstance(path, str) and "://" in path:
        return RemoteFolder.at(path, cache)
    if isinstance(path, os.PathLike) and (found := _SHORTENED.match(os.fspath(path))):
        raise InputError(
            f"path is {path!r}; a Path drops a slash of an address. Expected a folder, or the address as "
            f"text: '{found[1]}://...'."
        )
    return LocalFolder(taken_in_unicode(path))


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """What a store says about itself, without opening its other files.

    Raises:
        InputError, MissingExtraError: as ``place_of``.
        StoreError: likewise, or there is no store, or its manifest is damaged or of another format version.
    """
    return manifest_of(place_of(path))


def manifest_of(place: Place) -> Manifest:
    """The manifest in place."""
    return parse_manifest(_state_of(place), f"{place}/{MANIFEST}")


def _state_of(place: Place) -> bytes:
    state = place.state()
    if state is None:
        raise StoreError(
            f"There is no saved memory at '{place}' (no {MANIFEST}). Expected a folder or an address that "
            "save wrote to."
        )
    return state


def load_store(
    path: str | os.PathLike[str],
    fingerprint: Mapping[str, Any],
    *,
    cache: str | os.PathLike[str] | None = None,
) -> StoredCorpus:
    """Read a store that was made with the model of this fingerprint, after checking every byte of it.

    Tensors that lie in one file, as they were, are mapped: they take memory only as they are used.

    Args:
        path: as ``place_of`` takes it.
        fingerprint: the identity of the model that will use the memory.
        cache: likewise.

    Raises:
        InputError, MissingExtraError: as ``place_of``.
        StoreError: likewise, or the store was made with another model, is damaged or incomplete, or of
            another format version.
    """
    return StoreReader(path, cache=cache).load(fingerprint)


class StoreReader:
    """A store that is read: its place is taken once, and what was read last is known.

    Attributes:
        manifest: of the state that was found on opening, or loaded since.
    """

    def __init__(self, path: str | os.PathLike[str], *, cache: str | os.PathLike[str] | None = None) -> None:
        """Find the store; the arguments and errors are those of ``load_store``."""
        self._place = place_of(path, cache)
        self._read()

    @property
    def place(self) -> str:
        """Where the store lies; the same for all ways to write its path."""
        return str(self._place)

    @property
    def state(self) -> str:
        """The hash of the state that was found on opening, or loaded since."""
        return state_hash(self._state)

    def load(self, fingerprint: Mapping[str, Any]) -> StoredCorpus:
        """What ``load_store`` gives."""
        while True:
            try:
                self._read()
                corpus = read_state(self._place, self.manifest, fingerprint)
                self._place.keep(self._state)
                return corpus
            except StoreError:
                if _state_of(self._place) == self._state:
                    raise
                # Somebody saved here meanwhile and removed the files of the state we were reading.

    def _read(self) -> None:
        self._state = _state_of(self._place)
        self.manifest = parse_manifest(self._state, f"{self._place}/{MANIFEST}")


def read_state(place: Place, manifest: Manifest, fingerprint: Mapping[str, Any]) -> StoredCorpus:
    """The corpus that a manifest describes."""
    expect_same_model(manifest.fingerprint, fingerprint, place)
    paths = {file.name: place.fetch(file) for file in manifest.all_files}
    documents = tuple(parse_document(row, path) for row, path in _rows(manifest.files["documents"], paths))
    by_id = {document.id: document for document in documents}
    _expect_once("document", [document.id for document in documents], place)
    chunks = tuple(parse_chunk(row, by_id, path) for row, path in _rows(manifest.files["chunks"], paths))
    _expect_once("chunk", [chunk.id for chunk in chunks], place)
    vectors = None
    if "vectors" in manifest.files:
        vectors = _vectors(_tensors(manifest.files["vectors"], paths), len(chunks), place)
    return StoredCorpus(
        documents=documents,
        chunks=chunks,
        tensors=_tensors(manifest.files["memory"], paths),
        header=manifest.header,
        fingerprint=manifest.fingerprint,
        settings=manifest.settings,
        vectors=vectors,
        indexes=_indexes(manifest, paths),
    )


def _expect_once(what: str, ids: Sequence[str], place: Place) -> None:
    if len(set(ids)) < len(ids):
        twice = next(name for name, count in Counter(ids).items() if count > 1)
        raise StoreError(f"'{place}' holds the {what} {twice!r:.80} more than once. {REMEDY}")


def _indexes(manifest: Manifest, paths: Mapping[str, Path]) -> dict[str, StoredIndex]:
    arrays: dict[str, dict[str, Any]] = {name: {} for name in manifest.indexes}
    for name, array in _tensors(manifest.files.get("indexes", ()), paths).items():
        index, _, own = name.partition("/")
        if index not in arrays or not isinstance(array, np.ndarray):
            raise StoreError(f"The array '{name}' is of an index that the manifest does not name. {REMEDY}")
        arrays[index][own] = array
    return {name: StoredIndex(arrays[name], header) for name, header in manifest.indexes.items()}


def _rows(files: Sequence[StoredFile], paths: Mapping[str, Path]) -> Iterator[tuple[dict[str, Any], Path]]:
    done = 0
    for file in files:
        path, before = paths[file.name], done
        try:
            with path.open("rb") as lines:
                for line in lines:
                    yield parse(line, path), path
                    done += 1
        except OSError as error:  # removed since it was checked
            raise StoreError(f"'{path}' cannot be read: {error}. {advice(error)}") from error
        if file.rows != (before, done):
            raise StoreError(
                f"'{path}' has the rows {before} to {done}, and the manifest says {file.rows}. {REMEDY}"
            )


def _tensors(files: Sequence[StoredFile], paths: Mapping[str, Path]) -> dict[str, Any]:
    return decoded(*read_raw([(paths[file.name], file.tensors or {}) for file in files]))


def _vectors(tensors: Mapping[str, Any], chunks: int, place: Place) -> FloatMatrix:
    vectors = tensors.get(VECTORS)
    if not isinstance(vectors, np.ndarray) or vectors.dtype != np.float32 or vectors.ndim != 2:
        raise StoreError(f"'{place}' holds no float32 matrix named '{VECTORS}'. {REMEDY}")
    if len(vectors) != chunks:
        raise StoreError(f"'{place}' holds {len(vectors)} vectors for {chunks} chunks. {REMEDY}")
    return vectors
