"""A corpus to a store: what is there stays, what is new is written beside it, then one file is replaced.

In: ``StoredCorpus``, a folder or an address. Out: the state after, or, if anything fails, the state before.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from memorag_core import __version__
from memorag_core.errors import InputError, StoreError
from memorag_core.store.advice import advice
from memorag_core.store.layout import (
    ENCODINGS,
    VECTORS,
    WAIT_SECONDS,
    Encoding,
    Manifest,
    Part,
    Slice,
    StoredCorpus,
    StoredFile,
)
from memorag_core.store.manifest import compose, same_identity
from memorag_core.store.places import Place, place_of
from memorag_core.store.reading import manifest_of, read_state
from memorag_core.store.rows import chunk_rows, document_rows
from memorag_core.store.segments import Intact, Kept, keep_rows, keep_tensors
from memorag_core.store.tensors import Stored, as_stored, read_raw, write_tensors

logger = logging.getLogger(__name__)


def save_store(
    path: str | os.PathLike[str],
    corpus: StoredCorpus,
    *,
    kv: Encoding | None = None,
    wait: float = WAIT_SECONDS,
    cache: str | os.PathLike[str] | None = None,
) -> None:
    """Write a corpus to a folder or an address, as a whole or not at all.

    A folder is made when it is missing. Of a store that lies there what has not changed is kept; what the new
    state does not need is removed once it is in place (of a remote store by ``compact`` only). A memory that
    is still mapped from removed files stays usable.

    Args:
        path: a folder, or an address such as "s3://bucket/name".
        corpus: what to write.
        kv: how keys and values are stored: "float" as they are, "int8" or "int4" with a loss; None as the
            store that lies there does, "float" in a new one.
        wait: seconds to wait for another writer; 0 gives up at once.
        cache: where files of remote stores are kept, None for the user's cache folder.

    Raises:
        InputError: an unknown ``kv``, or a ``wait`` below 0.
        StoreError: the folder holds something else, another process keeps writing to it, a value cannot be
            written as JSON, or the disk or the network refused. What was stored before is still there.
        MissingExtraError: a remote store, and what reaches it is not installed.
    """
    with Writer(path, kv=kv, wait=wait, cache=cache) as writer:
        writer.save(corpus)


def compact(
    path: str | os.PathLike[str],
    *,
    wait: float = WAIT_SECONDS,
    cache: str | os.PathLike[str] | None = None,
) -> None:
    """Fold the segments of a store to one file for each part, and remove files that nothing names.

    What it holds is the same afterwards; loading is faster, for all tensors are mapped again.

    Args:
        path: the store's folder, or its address. Nobody else may write to a remote store meanwhile.
        wait: seconds to wait for a writer; 0 gives up at once.
        cache: where files of remote stores are kept, None for the user's cache folder.

    Raises:
        InputError: a ``wait`` below 0.
        StoreError: there is no store, it is damaged, a process keeps writing to it, or the disk or the
            network refused. What was stored before is still there.
        MissingExtraError: a remote store, and what reaches it is not installed.
    """
    place = place_of(path, cache)
    manifest_of(place)  # without a store there is nothing to lock
    with Writer(path, wait=wait, cache=cache) as writer:
        writer.compact()


class Writer:
    """The right to write to a store, held until it is closed."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        kv: Encoding | None = None,
        wait: float = WAIT_SECONDS,
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        """Take the right; the arguments and errors are those of ``save_store``."""
        if kv is not None and kv not in ENCODINGS:
            raise InputError(f"kv is {kv!r}; expected one of {', '.join(ENCODINGS)}, or None.")
        self._kv = kv
        self._place: Place = place_of(path, cache)
        self._sure: frozenset[str] = frozenset()  # files that this writer checked or wrote itself
        with _told(self._place):
            self._place.prepare()
            self._release: Callable[[], None] | None = self._place.lock(wait)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the right back; a second time does nothing."""
        release, self._release = self._release, None
        if release is not None:
            try:
                release()
            except OSError as error:  # it ends with the process; what was changed is changed
                logger.warning("The lock of '%s' could not be given back: %s", self._place, error)

    @property
    def closed(self) -> bool:
        """Whether the right was given back."""
        return self._release is None

    def manifest(self) -> Manifest | None:
        """What lies there; None where nothing does.

        Raises:
            StoreError: it is damaged.
        """
        return manifest_of(self._place) if self._place.exists() else None

    def load(self, fingerprint: Mapping[str, Any]) -> StoredCorpus:
        """What ``load_store`` gives; nobody can change it meanwhile."""
        manifest = manifest_of(self._place)
        corpus = read_state(self._place, manifest, fingerprint)
        self._sure = frozenset(file.name for file in manifest.all_files)
        return corpus

    def save(self, corpus: StoredCorpus, placed: Callable[[], None] = lambda: None) -> None:
        """Write a corpus, as ``save_store`` does.

        Args:
            corpus: what to write.
            placed: called once the store holds it, whatever is raised then (an interrupt may come at any
                moment); it must be good for being called twice. Where it was not called, the store is known,
                or said, not to hold it.
        """
        self._expect_open()
        with _told(self._place), self._place.writing():
            before = _usable(self._place, corpus.fingerprint)
            kv = self._kv or (before.kv if before is not None else "float")
            sure, place = self._sure, self._place

            def intact(file: StoredFile) -> bool:
                return file.name in sure or place.has(file)

            manifest, new = _put_all(place, corpus, before, kv, intact)
            self._publish(manifest, new, placed)

    def compact(self) -> None:
        """Fold the segments, as ``compact`` does."""
        self._expect_open()
        with _told(self._place), self._place.writing():
            before = manifest_of(self._place)
            files: dict[Part, tuple[StoredFile, ...]] = {}
            new: list[StoredFile] = []
            for part, segments in before.files.items():
                files[part] = _folded(self._place, part, segments)
                new += [file for file in files[part] if file not in segments]
            manifest = replace(before, files=files)
            self._publish(manifest, new)
            try:
                self._place.discard(manifest)
            except StoreError as error:
                logger.warning("'%s' is compacted, and its old files still lie there: %s", self._place, error)

    def _publish(
        self, manifest: Manifest, new: Sequence[StoredFile], placed: Callable[[], None] = lambda: None
    ) -> None:
        """Put a manifest in place, and tell of it by what is there afterwards, not by what was raised."""
        state = compose(manifest)
        try:
            self._place.publish(state, new)
            self._adopt(manifest)
            placed()
        except BaseException as error:
            there = self._holds(state)
            if there:
                self._adopt(manifest)
                placed()
            if not isinstance(error, Exception) or there is False:
                raise
            if there is None:
                raise StoreError(
                    f"Whether '{self._place}' was changed is not known: {error} What lies there "
                    "cannot be read either. Open or load it again, and look, before the change is made again."
                ) from error
            logger.warning("'%s' was saved, though what it lies on failed then: %s", self._place, error)

    def _adopt(self, manifest: Manifest) -> None:
        self._sure = frozenset(file.name for file in manifest.all_files)

    def _holds(self, state: bytes) -> bool | None:
        """Whether a manifest is the one in place; None where that cannot be found out."""
        try:
            return self._place.exists() and self._place.manifest_bytes() == state
        except StoreError:
            return None

    def _expect_open(self) -> None:
        if self.closed:
            raise StoreError(
                f"'{self._place}' was closed, and others may write to it now. Expected it to be open: open "
                "it again with MemoRAG.open(path)."
            )


def _usable(place: Place, fingerprint: Mapping[str, Any]) -> Manifest | None:
    """What lies there, if the next state can share files with it; a damaged store is written anew."""
    if not place.exists():
        return None
    try:
        before = manifest_of(place)
    except StoreError:
        return None
    return before if same_identity(before.fingerprint, fingerprint) else None


def _put_all(
    place: Place, corpus: StoredCorpus, before: Manifest | None, kv: Encoding, intact: Intact
) -> tuple[Manifest, list[StoredFile]]:
    """Write what is new; the next manifest, and the files that were put for it."""
    new: list[StoredFile] = []

    def put_rows(part: Part, rows: Sequence[bytes]) -> tuple[StoredFile, ...]:
        kept = keep_rows(rows, before.files.get(part, ()) if before else (), intact)
        start = kept.covered.get("", 0)
        if start == len(rows):
            return kept.files
        file = _put_rows(place, part, rows[start:], start)
        if file.name in {one.name for one in kept.files}:  # the same rows twice: a name stands for one place
            file = _put_rows(place, part, rows, 0)
            kept = Kept((), {})
        new.append(file)
        return (*kept.files, file)

    def put_tensors(part: Part, stored: Mapping[str, Stored]) -> tuple[StoredFile, ...]:
        kept = keep_tensors(stored, before.files.get(part, ()) if before else (), intact)
        starts = {
            name: kept.covered.get(name, 0)
            for name, held in stored.items()
            if name not in kept.covered or kept.covered[name] < held.length
        }
        if not starts:
            return kept.files
        new.append(_put_tensors(place, part, stored, starts))
        return (*kept.files, new[-1])

    files: dict[Part, tuple[StoredFile, ...]] = {
        "documents": put_rows("documents", document_rows(corpus.documents)),
        "chunks": put_rows("chunks", chunk_rows(corpus.chunks, corpus.documents)),
        "memory": put_tensors("memory", as_stored(corpus.tensors, corpus.header, kv)),
    }
    if corpus.vectors is not None:
        vectors = as_stored({VECTORS: corpus.vectors}, {"grows": {VECTORS: 0}}, "float")
        files["vectors"] = put_tensors("vectors", vectors)
    arrays = {
        f"{name}/{array}": held
        for name, index in corpus.indexes.items()
        for array, held in index.arrays.items()
    }
    if arrays:
        files["indexes"] = put_tensors("indexes", as_stored(arrays, {}, "float"))
    manifest = Manifest(
        created_by=f"memorag-adapters {__version__}",
        fingerprint=corpus.fingerprint,
        settings=corpus.settings,
        header=corpus.header,
        kv=kv,
        indexes={name: index.header for name, index in corpus.indexes.items()},
        files=files,
    )
    return manifest, new


def _put_rows(place: Place, part: Part, rows: Sequence[bytes], start: int) -> StoredFile:
    def write(file: Path) -> None:
        with file.open("wb") as out:
            out.writelines(rows)

    return replace(place.put(part, write), rows=(start, start + len(rows)))


def _put_tensors(
    place: Place, part: Part, stored: Mapping[str, Stored], starts: Mapping[str, int]
) -> StoredFile:
    """Write tensors from given entries on."""
    raw: dict[str, Any] = {}
    held: dict[str, Slice] = {}
    for name, start in starts.items():
        whole = stored[name]
        piece = whole.part(start, whole.length)
        raw |= piece.raw
        held[name] = Slice(whole.axis, start, whole.length, piece.sha256(), whole.quantized)
    return replace(place.put(part, lambda file: write_tensors(file, raw, starts)), tensors=held)


def _folded(place: Place, part: Part, segments: Sequence[StoredFile]) -> tuple[StoredFile, ...]:
    """One file for all segments of a part; every byte is checked on the way."""
    paths = [place.fetch(file) for file in segments]
    if len(segments) < 2 and part in ("documents", "chunks"):
        return tuple(segments)
    if part in ("documents", "chunks"):
        rows: list[bytes] = []
        for path in paths:
            with path.open("rb") as lines:
                rows += lines
        return (_put_rows(place, part, rows, 0),)
    stored, as_numpy = read_raw(
        [(path, file.tensors or {}) for path, file in zip(paths, segments, strict=True)]
    )
    if not stored:
        return ()
    if as_numpy:
        stored = {
            name: replace(held, raw={one: tensor.numpy() for one, tensor in held.raw.items()})
            for name, held in stored.items()
        }
    return (_put_tensors(place, part, stored, dict.fromkeys(stored, 0)),)


@contextmanager
def _told(place: Place) -> Iterator[None]:
    """Tell of a disk that refuses as an error of the store."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"Could not save to '{place}': {error}. What was stored there before is unchanged. "
            f"{advice(error)}"
        ) from error
