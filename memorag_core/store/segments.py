"""Which files of the state before stay part of the next one, and what is written beside them.

In: what a store holds and what it should hold. Out: the files to keep, and from where on the rest is new.
Reads and writes nothing.

A file is kept where its content stands at the same place in the new state. What follows becomes one new file;
it takes in the files before it that are less than twice its size. So sizes fall by half at least from each
file to the next: their number is logarithmic, and a byte is written again that often at most. A file of which
less than half is still used is not kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from memorag_core.store.layout import Slice, StoredFile
from memorag_core.store.tensors import Stored

SLACK = 4096
"""Bytes of a file that do not count as unused: its header."""

Intact = Callable[[StoredFile], bool]
"""Whether a file of the state before can be relied on."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What stays.

    Attributes:
        files: in order, each with what is still used of it.
        covered: for each tensor in them the entries that they hold; rows have the name "".
    """

    files: tuple[StoredFile, ...]
    covered: Mapping[str, int]


def keep_rows(rows: Sequence[bytes], before: Sequence[StoredFile], intact: Intact) -> Kept:
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
    return Kept(tuple(files), {"": done} if files else {})


def keep_tensors(stored: Mapping[str, Stored], before: Sequence[StoredFile], intact: Intact) -> Kept:
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
    return Kept(tuple(file for file, _ in files), covered)


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
