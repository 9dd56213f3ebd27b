"""Which files of the state before stay part of the next one, and what is written beside them.

In: what a store holds and what it should hold. Out: the files that make up the next state, the new ones
written, and its manifest. Puts no manifest in place.

A file is kept where its content stands at the same place in the new state. What follows becomes one new file;
it takes in the files before it that are less than twice its size. So sizes fall by half at least from each
file to the next: their number is logarithmic, and a byte is written again that often at most. A file of which
less than half is still used is not kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from memorag_core import __version__
from memorag_core.store.jsontext import chunk_rows, document_rows
from memorag_core.store.layout import VECTORS, Encoding, Manifest, Part, Slice, StoredCorpus, StoredFile
from memorag_core.store.reading import Place
from memorag_core.store.tensors import Stored, as_stored, read_raw, write_tensors

SLACK = 4096
"""Bytes of a file that do not count as unused: its header."""

Intact = Callable[[StoredFile], bool]
"""Whether a file of the state before can be relied on."""


def put_all(
    place: Place, corpus: StoredCorpus, before: Manifest | None, kv: Encoding, intact: Intact
) -> tuple[Manifest, list[StoredFile]]:
    """Write what is new of a corpus.

    Args:
        place: where.
        corpus: what the next state holds.
        before: the state before, of which files are kept; None for none.
        kv: how keys and values are stored.
        intact: whether a file of the state before can be relied on.

    Returns:
        The manifest of the next state, and the files that were put for it.

    Raises:
        StoreError: a value cannot be stored.
        OSError: the disk refused.
    """
    old = before.files if before else {}
    new: list[StoredFile] = []

    def put_rows(part: Part, rows: Sequence[bytes]) -> tuple[StoredFile, ...]:
        kept = _keep_rows(rows, old.get(part, ()), intact)
        start = kept.covered.get("", 0)
        if start == len(rows):
            return kept.files
        file = _put_rows(place, part, rows[start:], start)
        if file.name in {one.name for one in kept.files}:  # the same rows twice: a name stands for one place
            file = _put_rows(place, part, rows, 0)
            kept = _Kept((), {})
        new.append(file)
        return (*kept.files, file)

    def put_tensors(part: Part, stored: Mapping[str, Stored]) -> tuple[StoredFile, ...]:
        kept = _keep_tensors(stored, old.get(part, ()), intact)
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


def folded(place: Place, part: Part, segments: Sequence[StoredFile]) -> tuple[StoredFile, ...]:
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


@dataclass(frozen=True, slots=True)
class _Kept:
    """What stays.

    Attributes:
        files: in order, each with what is still used of it.
        covered: for each tensor in them the entries that they hold; rows have the name "".
    """

    files: tuple[StoredFile, ...]
    covered: Mapping[str, int]


def _keep_rows(rows: Sequence[bytes], before: Sequence[StoredFile], intact: Intact) -> _Kept:
    """The files of JSON lines that hold the first of these rows."""
    files: list[StoredFile] = []
    done = 0
    for file in before:
        if file.rows is None or file.rows[0] != done or file.rows[1] > len(rows):
            break
        lines = rows[done : file.rows[1]]
        if sum(map(len, lines)) != file.size or _sha256(lines) != file.sha256 or not intact(file):
            break
        files.append(file)
        done = file.rows[1]
    new = sum(map(len, rows[done:]))
    while files and new and files[-1].size < 2 * new:
        file = files.pop()
        new += file.size
        done = file.rows[0] if file.rows else 0
    return _Kept(tuple(files), {"": done} if files else {})


def _keep_tensors(stored: Mapping[str, Stored], before: Sequence[StoredFile], intact: Intact) -> _Kept:
    """The files of tensors that hold the first entries of these."""
    files: list[tuple[StoredFile, int]] = []
    covered: dict[str, int] = {}
    for file in before:
        used = {
            name: held
            for name, held in (file.tensors or {}).items()
            if _same(held, stored.get(name), covered.get(name))
        }
        nbytes = sum(stored[name].part(held.start, held.stop).nbytes for name, held in used.items())
        if used and 2 * nbytes + SLACK >= file.size and intact(file):
            files.append((replace(file, tensors=used), nbytes))
            covered |= {name: held.stop for name, held in used.items()}
    new = sum(
        held.part(covered.get(name, 0), held.length).nbytes
        for name, held in stored.items()
        if held.axis is not None or name not in covered
    )
    while files and new and files[-1][1] < 2 * new:
        new += files.pop()[1]
    covered = {name: held.stop for file, _ in files for name, held in (file.tensors or {}).items()}
    return _Kept(tuple(file for file, _ in files), covered)


def _same(held: Slice, stored: Stored | None, covered: int | None) -> bool:
    """Whether a slice of a file stands next in a tensor."""
    if stored is None or (held.axis, held.quantized) != (stored.axis, stored.quantized):
        return False
    if (
        held.start != (covered or 0)
        or held.stop > stored.length
        or (held.axis is None and covered is not None)
    ):
        return False
    return stored.part(held.start, held.stop).sha256() == held.sha256


def _sha256(lines: Sequence[bytes]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line)
    return digest.hexdigest()
