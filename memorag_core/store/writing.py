"""A corpus to a store: what is there stays, what is new is written beside it, then one file is replaced.

In: ``StoredCorpus``, a folder or an address. Out: the state after, or, if anything fails, the state before.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Self

from memorag_core.errors import InputError, StoreError
from memorag_core.store.folder import advice, saved_by_another
from memorag_core.store.jsontext import document_rows
from memorag_core.store.layout import (
    ENCODINGS,
    MANIFEST,
    WAIT_SECONDS,
    Encoding,
    Manifest,
    Part,
    StoredCorpus,
    StoredFile,
)
from memorag_core.store.manifest import compose, expect_known, same_identity, state_hash
from memorag_core.store.reading import Place, manifest_of, place_of, read_state
from memorag_core.store.segments import folded, put_all

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

    A folder is made when it is missing. A store that lies there is replaced, whatever it holds: what has not
    changed is kept of it; what the new state does not need is removed once it is in place (of a remote store
    by ``compact`` only). A memory that is still mapped from removed files stays usable.

    Args:
        path: a folder, or an address such as "s3://bucket/name".
        corpus: what to write.
        kv: how keys and values are stored: "float" as they are, "int8" or "int4" with a loss; None as the
            store that lies there does, "float" in a new one.
        wait: seconds to wait for another writer; 0 gives up at once.
        cache: where files of remote stores are kept, None for the user's cache folder.

    Raises:
        InputError: an unknown ``kv``, or a ``wait`` below 0.
        StoreError: the folder holds something else, or a store that cannot be read (of a newer release, or
            damaged), another process keeps writing to it, a value cannot be written as JSON, or the disk or
            the network refused. What was stored before is still there.
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


_INHERITED: list[Callable[[], None]] = []
"""What would let go of locks of the process that this one was forked from; never called, nor collected."""


class Writer:
    """The right to write to a store, held until it is closed, by the process that took it.

    It knows the state that it read or wrote last, and changes no other one.
    """

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
        self._tried: bytes | None = None  # a manifest of which it is not known whether it is in place
        self._process = os.getpid()
        with _told(self._place):
            self._place.prepare()
            self._release: Callable[[], None] | None = self._place.lock(wait)
            try:
                self._state = self._place.state()
                self._manifest = self._known(self._state)
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the right back; a second time does nothing."""
        release, self._release = self._release, None
        if release is None:
            return
        if os.getpid() != self._process:  # a lock is shared by a process and its forks: it would let go there
            _INHERITED.append(release)
            return
        try:
            release()
        except OSError as error:  # it ends with the process; what was changed is changed
            logger.warning("The lock of '%s' could not be given back: %s", self._place, error)

    @property
    def closed(self) -> bool:
        """Whether the right was given back."""
        return self._release is None

    @property
    def place(self) -> str:
        """Where the store lies; the same for all ways to write its path."""
        return str(self._place)

    @property
    def state(self) -> frozenset[str]:
        """The hash of the state that this writer read or wrote last; empty where there was none."""
        return _hashes(self._state)

    @property
    def tried(self) -> frozenset[str]:
        """The hash of a state that it tried to write, where it is not known whether it did."""
        return _hashes(self._tried)

    def manifest(self) -> Manifest | None:
        """What lies there; None where nothing does."""
        return self._manifest

    def load(self, fingerprint: Mapping[str, Any]) -> StoredCorpus:
        """What ``load_store`` gives; nobody can change it meanwhile."""
        manifest = self._manifest or manifest_of(self._place)
        corpus = read_state(self._place, manifest, fingerprint)
        self._sure = frozenset(file.name for file in manifest.all_files)
        return corpus

    def expect_nothing_lost(self, corpus: StoredCorpus, states: Collection[str]) -> None:
        """Refuse to replace what lies there by what it is not a part of.

        Args:
            corpus: what is to be saved.
            states: the hashes of the states at this place that the corpus came from; empty for none.

        Raises:
            StoreError: another state lies there, and the corpus came from one of this place, or lacks a
                document or all vectors of it, or is of another model.
        """
        if self._state is None or self._manifest is None or state_hash(self._state) in states:
            return
        if states:
            raise saved_by_another(self._place, "process or machine")
        with _told(self._place):
            lost = self._lost(self._manifest, corpus)
        if lost:
            raise StoreError(
                f"'{self._place}' holds a memory {lost}, and was left as it is. Expected one that this one "
                "was loaded from or saved as, or that is part of it. Load or open that one and make the "
                "change there, save to another place, or replace it with save(path, overwrite=True)."
            )

    def save(self, corpus: StoredCorpus, placed: Callable[[], None] = lambda: None) -> None:
        """Write a corpus, as ``save_store`` does; what another writer put there meanwhile is not replaced.

        Args:
            corpus: what to write.
            placed: called once the store holds it, whatever is raised then (an interrupt may come at any
                moment); it must be good for being called twice. Where it was not called, the store is known,
                or said, not to hold it.
        """
        with self._changing():
            before = self._manifest
            if before is not None and not same_identity(before.fingerprint, corpus.fingerprint):
                before = None  # nothing of it can be shared
            kv = self._kv or (before.kv if before is not None else "float")
            manifest, new = put_all(
                self._place,
                corpus,
                before,
                kv,
                intact=lambda file: file.name in self._sure or self._place.has(file),
            )
            self._publish(manifest, new, placed)

    def compact(self) -> None:
        """Fold the segments, as ``compact`` does."""
        with self._changing():
            before = self._manifest or manifest_of(self._place)
            files: dict[Part, tuple[StoredFile, ...]] = {}
            new: list[StoredFile] = []
            for part, segments in before.files.items():
                files[part] = folded(self._place, part, segments)
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
        self._tried = state = compose(manifest)
        try:
            self._place.publish(state, new, self._state)
            self._adopt(state)
            placed()
        except BaseException as error:
            there = self._holds(state)
            if there:
                self._adopt(state)
                placed()
            if not isinstance(error, Exception) or there is False:
                raise
            if there is None and isinstance(error, StoreError):  # the place says what it knows
                raise
            if there is None:
                raise StoreError(
                    f"Whether '{self._place}' was changed is not known: {error} What lies there "
                    "cannot be read either. Open or load it again, and look, before the change is made again."
                ) from error
            logger.warning("'%s' was saved, though what it lies on failed then: %s", self._place, error)

    def _adopt(self, state: bytes) -> None:
        manifest = self._known(state)
        self._state, self._manifest, self._tried = state, manifest, None
        self._sure = frozenset(file.name for file in manifest.all_files) if manifest else frozenset()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Room for a change, made from the state that this writer knows, or refused before it begins."""
        self._expect_open()
        with _told(self._place):
            if self._tried is not None and self._place.state() == self._tried:  # it was in place all the same
                self._adopt(self._tried)
            self._place.expect(self._state)
            with self._place.writing():
                yield

    def _known(self, state: bytes | None) -> Manifest | None:
        return None if state is None else expect_known(state, f"{self._place}/{MANIFEST}")

    def _lost(self, there: Manifest, corpus: StoredCorpus) -> str:
        """What a corpus lacks of a state, in words; empty where nothing."""
        if not there.files["documents"]:
            return ""
        if not same_identity(there.fingerprint, corpus.fingerprint):
            return "of another model"
        if "vectors" in there.files and corpus.vectors is None:
            return "with vectors, which this one has not"
        have = set(document_rows(corpus.documents))
        for file in there.files["documents"]:
            with self._place.fetch(file).open("rb") as rows:
                if not have.issuperset(rows):
                    return "with other documents"
        return ""

    def _holds(self, state: bytes) -> bool | None:
        """Whether a manifest is the one in place; None where that cannot be found out."""
        try:
            return self._place.state() == state
        except StoreError:
            return None

    def _expect_open(self) -> None:
        if os.getpid() != self._process:
            raise StoreError(
                f"'{self._place}' was opened by the process {self._process}, and this is {os.getpid()}, "
                "which was forked from it. Expected changes by the process that opened it: make them there, "
                "or open the store here when that one has closed it."
            )
        if self.closed:
            raise StoreError(
                f"'{self._place}' was closed, and others may write to it now. Expected it to be open: open "
                "it again with MemoRAG.open(path)."
            )


def _hashes(state: bytes | None) -> frozenset[str]:
    return frozenset() if state is None else frozenset({state_hash(state)})


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
