"""Where a line may begin and end in a text, and the text as lines are compared with it.

In: a text, or a range of its characters. Out: its bytes with white space evened, and places among them. Knows
no index and no tokens.

A line begins where a word begins, at an opening mark, or behind white space; it ends behind any sign that is
not white space. Neither place lies inside a word or a grapheme cluster. Words are letters, marks and figures
that follow each other, with an apostrophe between two of them or a point between two figures; signs of
scripts that are written without spaces are words by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import regex

from memorag_core.documents.words import LETTERS, UNSPACED

APOSTROPHES, POINTS = "'’", ".,"
"""What may stand inside a word: between two signs of it, or between two figures."""

STRIDE = 256
"""Signs from one known place of the text to the next; between them places are counted."""

_WINDOW = 1 << 18  # characters that are looked at in one pass, so that a long text takes little room

_LETTERED, _SPACED, _SPACE, _OPENING, _APOSTROPHE, _POINT, _FIGURE, _JOINING = (1 << bit for bit in range(8))
_KINDS = (
    (_LETTERED, f"[{LETTERS}]"),
    # Soft hyphens and joiners stand inside words, as in Persian.
    (_SPACED, rf"[[{LETTERS}\u00ad\u200c\u200d]--[{UNSPACED}]]"),
    (_SPACE, r"[\s\x1c-\x1f]"),  # what str.isspace says
    (_OPENING, r"[\p{Ps}\p{Pi}]"),
    (_APOSTROPHE, f"[{APOSTROPHES}]"),
    (_POINT, f"[{POINTS}]"),
    (_FIGURE, r"\p{Nd}"),
    # Signs that may belong to the cluster of a neighbour. Two others never do without one of these between.
    (
        _JOINING,
        r"[\p{GCB=Extend}\p{GCB=ZWJ}\p{GCB=SpacingMark}\p{GCB=Prepend}\p{GCB=Regional_Indicator}"
        r"\p{GCB=L}\p{GCB=V}\p{GCB=T}]",
    ),
)
_CLUSTER = regex.compile(r"\X")

Codes: TypeAlias = npt.NDArray[np.uint32]
Flags: TypeAlias = npt.NDArray[np.bool_]
Offsets: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Marked:
    """A range of a text as lines are compared with it.

    Attributes:
        data: UTF-8, every run of white space as one space, none at the ends; up to the last place where a
            line may end.
        starts: for each byte whether a line may begin with it.
        ends: for each byte whether a line may end with it.
        known: offsets in ``data`` of some signs, ascending, the first one included.
        characters: for each of these its character in the text.
    """

    data: bytes
    starts: Flags
    ends: Flags
    known: Offsets
    characters: Offsets


def mark(text: str, start: int = 0, end: int | None = None) -> Marked:
    """Mark a range of a text; what stands around it decides about its borders, but is not in it.

    Args:
        text: any.
        start: the first character.
        end: the one after the last; None for the end of the text.
    """
    end = len(text) if end is None else end
    while start < end and text[start].isspace():
        start += 1
    parts = list(_windows(text, start, end))
    if not parts:
        return Marked(b"", np.zeros(0, np.bool_), np.zeros(0, np.bool_), *(np.zeros(0, np.int64),) * 2)
    bases = np.cumsum([0, *(len(part.data) for part in parts)])
    known = np.concatenate([part.known + base for part, base in zip(parts, bases[:-1], strict=True)])
    ends = np.concatenate([part.ends for part in parts])
    size = len(ends) - int(ends[::-1].argmax()) if ends.any() else 0
    held = int(np.searchsorted(known, size))
    return Marked(
        b"".join(part.data for part in parts)[:size],
        np.concatenate([part.starts for part in parts])[:size],
        ends[:size],
        known[:held],
        np.concatenate([part.characters for part in parts])[:held],
    )


def may_stand(text: str, start: int, end: int) -> bool:
    """Whether a line may begin and end with these characters of a text."""
    marked = mark(text, start, end)
    return bool(len(marked.data) and marked.starts[0]) and marked.data == even(text[start:end])


def even(text: str) -> bytes:
    """A line as it is compared: every run of white space as one space, none at the ends."""
    return " ".join(text.split()).encode("utf-8", "surrogatepass")


def character(text: str, at: int, evened: bytes) -> int:
    """The character of a text behind so many evened bytes from the character ``at``."""
    for sign in evened.decode("utf-8", "surrogatepass"):
        at += 1
        if sign == " ":
            while at < len(text) and text[at].isspace():
                at += 1
    return at


def _windows(text: str, start: int, end: int) -> Iterator[Marked]:
    while start < end:
        stop = min(start + _WINDOW, end)
        while stop < end and _joining(text[stop]):
            stop += 1
        yield _window(text, start, stop)
        start = stop


def _window(text: str, start: int, end: int) -> Marked:
    before = start
    while before > 0 and _joining(text[before - 1]):
        before -= 1
    before, behind = max(before - 2, 0), min(end + 2, len(text))
    # What stands at the ends of a text stands beside white space.
    head, tail = " " * (before == 0), " " * (behind == len(text))
    looked = f"{head}{text[before:behind]}{tail}".encode("utf-32-le", "surrogatepass")
    codes = np.frombuffer(looked, "<u4")
    kinds = _kinds()[codes]
    space = kinds & _SPACE != 0
    kept = ~space
    kept[0] = True
    kept[1:] |= ~space[:-1]  # of a run of white space the first
    at = np.flatnonzero(kept)
    codes, kinds, space = np.where(space, np.uint32(ord(" ")), codes)[at], kinds[at], space[at]
    at += before - len(head)
    border = _borders(codes, kinds)
    starts = border & ~space
    starts[1:] &= space[:-1] | (kinds[1:] & (_LETTERED | _OPENING) != 0)
    ends = ~space
    ends[:-1] &= border[1:]
    first, last = np.searchsorted(at, (start, end))
    codes, at, starts, ends = codes[first:last], at[first:last], starts[first:last], ends[first:last]
    sizes = 1 + (codes >= 0x80) + (codes >= 0x800) + (codes >= 0x10000)
    offsets = np.cumsum(sizes) - sizes
    data = _string(codes).encode("utf-8", "surrogatepass")
    flags = np.zeros((2, len(data)), dtype=np.bool_)
    flags[0, offsets[starts]] = True
    flags[1, (offsets + sizes - 1)[ends]] = True
    return Marked(data, flags[0], flags[1], offsets[::STRIDE], at[::STRIDE])


def _borders(codes: Codes, kinds: npt.NDArray[np.uint8]) -> Flags:
    """For each sign whether neither a word nor a cluster goes on from the one before it; the first: no."""
    spaced = kinds & _SPACED != 0
    figure = kinds & _FIGURE != 0
    inside = np.zeros(len(codes), dtype=np.bool_)
    inside[1:] = spaced[:-1] & spaced[1:]
    joint = (kinds[1:-1] & _APOSTROPHE != 0) & spaced[:-2] & spaced[2:]
    joint |= (kinds[1:-1] & _POINT != 0) & figure[:-2] & figure[2:]
    inside[1:-1] |= joint
    inside[2:] |= joint
    border = ~inside
    border[0] = False
    border[_inside_clusters(codes, kinds & _JOINING != 0)] = False
    return border


def _inside_clusters(codes: Codes, joining: Flags) -> Offsets:
    """The signs that do not begin a cluster: only runs with a joining sign are looked at, all at once."""
    runs = joining.copy()
    runs[:-1] |= joining[1:]
    runs[1:] |= joining[:-1]
    at = np.flatnonzero(runs)
    if not len(at):
        return at
    heads = np.flatnonzero(np.diff(at, prepend=-2) > 1)
    heads = np.union1d(heads, _second_flags(codes[at], heads))
    # A line feed belongs to no cluster, so that none goes on from one run to the next.
    looked = np.insert(codes[at], heads, ord("\n"))
    signs = np.insert(at, heads, -1)
    firsts = np.zeros(len(signs), dtype=np.bool_)
    firsts[[found.start() for found in _CLUSTER.finditer(_string(looked))]] = True
    return signs[~firsts & (signs >= 0)]


def _second_flags(codes: Codes, heads: Offsets) -> Offsets:
    """Where a flag follows another: each is two signs, and to find its start among many, all are counted."""
    flag = (codes >= 0x1F1E6) & (codes <= 0x1F1FF)
    number = np.arange(len(codes))
    begins = flag.copy()
    begins[1:] &= ~flag[:-1]
    begins[heads] = flag[heads]
    first = np.maximum.accumulate(np.where(begins, number, 0))
    second: Offsets = number[flag & ~begins & ((number - first) % 2 == 0)]
    return second


def _string(codes: Codes) -> str:
    return codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")


def _joining(sign: str) -> bool:
    return bool(_kinds()[ord(sign)] & _JOINING)


@cache
def _kinds() -> npt.NDArray[np.uint8]:
    """What every character is, looked up once for a process."""
    every = _string(np.arange(0x110000, dtype=np.uint32))
    kinds = np.zeros(len(every), dtype=np.uint8)
    for kind, signs in _KINDS:
        for found in regex.finditer(f"{signs}++", every, regex.V1):
            kinds[found.start() : found.end()] |= kind
    kinds.flags.writeable = False
    return kinds
