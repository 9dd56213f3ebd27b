"""One block of passages: the places at which lines may begin, sorted by the text that follows them.

In: documents, or ranges of their characters. Out: a suffix array of the places where lines may begin, and the
run of it that begins with given bytes. Knows no tokens and no other blocks.

The array is taken from one of all bytes, as divsufsort sorts them, and keeps the places where lines may begin
only: about one number for a word, or for a sign of a script without spaces. All suffixes that begin with the
same bytes stand side by side, so that a line is a run of the array, and what follows it is sorted within.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from memorag_core.memory.grounding.words import APOSTROPHES, POINTS, character, mark
from memorag_core.types import Document, Place

BORDER = b"\xff"
"""What stands behind every document: a byte that no text holds, so that no line goes on into the next one."""

_JOINTS = frozenset(sign.encode() for sign in APOSTROPHES + POINTS)

Window: TypeAlias = tuple[Document, int, int]
"""A document, the first character of it, and the one after the last."""

Starts: TypeAlias = npt.NDArray[np.integer[Any]]


class Run(NamedTuple):
    """The suffixes of a block from ``low`` to ``high``, which begin with the same bytes.

    ``data`` and ``suffixes`` are the block's: a run is looked at at every token.
    """

    block: Block
    data: bytes
    suffixes: memoryview
    low: int
    high: int


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Some documents, or ranges of them, in reading order.

    Attributes:
        documents: a document for every range.
        data: the bytes of all ranges as ``words.mark`` gives them, each with a border behind it.
        starts: where lines may begin, sorted by the bytes that follow; int32, or int64 from 2 GiB on.
        ends: a bit for each byte: whether a line may end with it.
        bases: where every range begins in ``data``.
        known: ascending offsets in ``data`` of some signs, the first of every range included.
        characters: for each of these its character in its document.
    """

    documents: tuple[Document, ...]
    data: bytes
    starts: Starts
    ends: bytes
    bases: npt.NDArray[np.int64]
    known: npt.NDArray[np.int64]
    characters: npt.NDArray[np.int64]
    _suffixes: memoryview = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.starts.flags.writeable = False
        object.__setattr__(self, "_suffixes", self.starts.data)  # its items are read faster than an array's

    @property
    def whole(self) -> Run:
        """All suffixes."""
        return Run(self, self.data, self._suffixes, 0, len(self.starts))

    @property
    def nbytes(self) -> int:
        """Bytes that the block takes beside the documents' texts."""
        arrays = (self.starts, self.bases, self.known, self.characters)
        return len(self.data) + len(self.ends) + sum(array.nbytes for array in arrays)

    def first(self, run: Run, length: int) -> int | None:
        """The first place in reading order at which a line of so many bytes begins and may end; or None."""
        found = self.ending(run, length)
        return int(found.min()) if len(found) else None

    def ending(self, run: Run, length: int) -> Starts:
        """Of a run the places at which a line of so many bytes may end."""
        starts: Starts = self.starts[run.low : run.high]
        last = starts + (length - 1)
        bits = np.frombuffer(self.ends, np.uint8)[last >> 3] >> (last & 7).astype(np.uint8)
        ending: Starts = starts[bits & 1 != 0]
        return ending

    def number(self, start: int) -> int:
        """The number of the document, or range, that holds a place."""
        return int(np.searchsorted(self.bases, start, side="right")) - 1

    def line(self, start: int, length: int) -> tuple[str, Place]:
        """The text of so many bytes from a place on, as it stands in its document, and where."""
        document = self.documents[self.number(start)]
        first, last = (self._character(document.text, place) for place in (start, start + length))
        return document.text[first:last], Place(document.id, first, last)

    def _character(self, text: str, at: int) -> int:
        # Behind a line its range goes on, if only with the border: the last sign known is of the same range.
        nearest = int(np.searchsorted(self.known, at, side="right")) - 1
        known = int(self.known[nearest])
        return character(text, int(self.characters[nearest]), self.data[known:at])


def build_block(windows: Sequence[Window], starts: Starts | None = None) -> Block | None:
    """Index ranges of documents.

    Args:
        windows: in reading order.
        starts: where lines may begin, sorted, if that is known. The order is taken as it is.

    Returns:
        The block; None where the given starts are not those of the windows, in whatever order.
    """
    pieces: list[bytes] = []
    begins: list[npt.NDArray[np.bool_]] = []
    ends: list[npt.NDArray[np.bool_]] = []
    known: list[npt.NDArray[np.int64]] = []
    characters: list[npt.NDArray[np.int64]] = []
    bases: list[int] = []
    border = np.zeros(1, dtype=np.bool_)
    size = 0
    for document, start, end in windows:
        marked = mark(document.text, start, end)
        bases.append(size)
        if not marked.data:
            continue  # white space; the next range begins at the same byte and is found there
        pieces += [marked.data, BORDER]
        begins += [marked.starts, border]
        ends += [marked.ends, border]
        known.append(marked.known + size)
        characters.append(marked.characters)
        size += len(marked.data) + 1
    data = b"".join(pieces)
    flags = np.concatenate([*begins, border[:0]])
    if starts is None:
        starts = _sorted_starts(data, flags)
    elif not _are(starts, flags):
        return None
    empty = np.zeros(0, np.int64)
    return Block(
        tuple(document for document, _, _ in windows),
        data,
        starts,
        np.packbits(np.concatenate([*ends, border[:0]]), bitorder="little").tobytes(),
        np.array(bases, dtype=np.int64),
        np.concatenate([*known, empty]),
        np.concatenate([*characters, empty]),
    )


def narrowed(run: Run, depth: int, text: bytes) -> Run | None:
    """The part of a run that goes on with a text behind its first ``depth`` bytes; None for none."""
    block, data, suffixes, low, high = run
    end = depth + len(text)
    first = suffixes[low]
    found = data[first + depth : first + end]
    if high - low == 1:
        return run if found == text else None
    if found != text:
        if found > text:
            return None
        low = bisect_left(suffixes, text, low + 1, high, key=lambda at: data[at + depth : at + end])
        if low == high:
            return None
        first = suffixes[low]
        if data[first + depth : first + end] != text:
            return None
    last = suffixes[high - 1]
    if data[last + depth : last + end] != text:
        high = bisect_right(suffixes, text, low + 1, high - 1, key=lambda at: data[at + depth : at + end])
    return Run(block, data, suffixes, low, high)


def may_end(run: Run, length: int) -> bool:
    """Whether a line of so many bytes may end at some place of a run that begins with them.

    Whether it may follows from the line and the sign behind it, or the two behind it where the first is an
    apostrophe or a point. So one place is looked at for each that follows, wherever they are the same.
    """
    block, data, suffixes, low, high = run
    ends, last = block.ends, length - 1
    while low < high:
        at = suffixes[low] + last
        if ends[at >> 3] >> (at & 7) & 1:
            return True
        if high - low == 1:
            return False
        size = _sign(data, at + 1)
        if not size:
            return False  # in the middle of a sign
        next_ = data[at + 1 : at + 1 + size]
        if next_ in _JOINTS:
            size += _sign(data, at + 1 + size)
            next_ = data[at + 1 : at + 1 + size]
        low = _behind(run, low, length, next_)
    return False


def continuations(run: Run, depth: int, longest: int) -> Iterator[bytes]:
    """What follows the first ``depth`` bytes of a run, up to ``longest`` bytes or the border; each once."""
    _, data, suffixes, low, high = run
    while low < high:
        at = suffixes[low] + depth
        found = data[at : at + longest]
        yield found.partition(BORDER)[0]
        low = low + 1 if high - low == 1 else _behind(run, low, depth, found)


def _behind(run: Run, low: int, depth: int, text: bytes) -> int:
    """The first suffix from ``low`` on that goes on with more than a text, in the order of bytes."""
    _, data, suffixes, _, high = run
    size = depth + len(text)
    return bisect_right(suffixes, text, low + 1, high, key=lambda at: data[at + depth : at + size])


def _sign(data: bytes, at: int) -> int:
    """The bytes of the sign that begins at a place; 0 where none does."""
    lead = data[at] if at < len(data) else 0xFF
    return (
        1 if lead < 0x80 or lead == 0xFF else 0 if lead < 0xC0 else 2 if lead < 0xE0 else 3 + (lead >= 0xF0)
    )


def _sorted_starts(data: bytes, flags: npt.NDArray[np.bool_]) -> Starts:
    if not data:
        return np.zeros(0, np.int32)
    import pydivsufsort

    every: Starts = pydivsufsort.divsufsort(data)
    # ctypes made its type, which a memoryview does not read; numpy's own of the same name it does.
    return every[flags[every]].astype(np.int32 if every.itemsize == 4 else np.int64)


def _are(starts: Starts, flags: npt.NDArray[np.bool_]) -> bool:
    """Whether numbers are the places that are flagged, each once, in whatever order."""
    if len(starts) != np.count_nonzero(flags) or (len(starts) and (starts.min() < 0)):
        return False
    if len(starts) and starts.max() >= len(flags):
        return False
    seen = np.zeros(len(flags), dtype=np.bool_)
    seen[starts] = True
    return bool((seen == flags).all())
