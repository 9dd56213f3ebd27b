"""A text in pieces that stay whole, and runs of them that stand in one prompt.

In: a text, a way to count tokens. Out: pieces that joined are the text again, and spans of them: its parts.
Knows no model.

A piece is a sentence, or some of one that is too long. The parts follow from the pieces alone, so reading at
once or piece by piece gives the same parts: a text that grows fills up its last part, and may move the end of
it to a better border.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import regex

Span: TypeAlias = tuple[int, int]
"""Pieces of a text: from the first to the one after the last."""

_LOOK_BACK = 8  # a paragraph's end is looked for in the last eighth of a part

# The end of a sentence with its closing marks, or a blank line, and the white space behind it. A run of marks
# is looked at once, from its start, so that a line of a million dots takes no longer than a million letters.
_BORDER = regex.compile(
    r"(?:(?<![.!?…])[.!?…]++[\p{Pe}\p{Pf}\"'*_]*+(?=\s)|[。！？]++[\p{Pe}\p{Pf}\"']*+|\n[^\S\n]*+\n)\s*+"
)
_LINE = regex.compile(r"\n\s*+")
_SPACE = regex.compile(r"\s++")


@dataclass(frozen=True, slots=True)
class Piece:
    """A sentence or less, with the white space behind it."""

    text: str
    tokens: int

    @property
    def ends_paragraph(self) -> bool:
        """Whether a line ends with it."""
        return "\n" in self.text[len(self.text.rstrip()) :]


def cut_pieces(text: str, count: Callable[[str], int], *, longest: int) -> tuple[Piece, ...]:
    """Cut a text at the ends of its sentences.

    A sentence of more than ``longest`` tokens is halved, at a line's end or between words where it has any,
    until its pieces are short enough or single characters.
    """
    return tuple(Piece(part, tokens) for part, tokens in _cut(text, count, longest))


def cut_parts(pieces: Sequence[Piece], *, capacity: int, overlap: int) -> tuple[Span, ...]:
    """Gather pieces into parts.

    A part takes pieces while it holds at most ``capacity`` tokens. If more follow, it ends with the last
    paragraph that ends in its last eighth, if any. The next part begins with the last pieces of the one
    before, of at most ``overlap`` tokens together, fewer if the first new piece needs the room.

    Args:
        pieces: one or more.
        capacity: tokens of a part. A piece that has more is a part by itself.
        overlap: tokens that a part may repeat, at most half of the capacity.
    """
    spans: list[Span] = []
    start = read = 0  # the first piece of a part, and its first that no part before it has
    while True:
        end, held = start + 1, pieces[start].tokens
        while end < len(pieces) and held + pieces[end].tokens <= capacity:
            held += pieces[end].tokens
            end += 1
        if end == len(pieces):
            return (*spans, (start, end))
        end = _paragraph_end(pieces, read, end, capacity // _LOOK_BACK)
        spans.append((start, end))
        room = min(overlap, capacity - pieces[end].tokens)
        before, start, read = start, end, end
        while start - 1 > before and pieces[start - 1].tokens <= room:
            start -= 1
            room -= pieces[start].tokens


def _paragraph_end(pieces: Sequence[Piece], read: int, end: int, reach: int) -> int:
    """The last end of a paragraph behind ``read`` that gives away at most ``reach`` tokens; else ``end``."""
    at = end
    while at > read and reach >= 0:
        if pieces[at - 1].ends_paragraph:
            return at
        at -= 1
        reach -= pieces[at].tokens
    return end


def _cut(text: str, count: Callable[[str], int], longest: int) -> Iterator[tuple[str, int]]:
    start = 0
    for end in (*(found.end() for found in _BORDER.finditer(text)), len(text)):
        if start < end:
            yield from _short(text[start:end], count, longest)
        start = end


def _short(text: str, count: Callable[[str], int], longest: int) -> Iterator[tuple[str, int]]:
    todo = [text]
    while todo:
        part = todo.pop()
        tokens = count(part)
        if tokens <= longest or len(part) == 1:
            yield part, tokens
        else:
            middle = _middle(part)
            todo += [part[middle:], part[:middle]]


def _middle(text: str) -> int:
    """The place nearest to the middle behind a line's end, else behind a space, else the middle."""
    half = len(text) // 2
    for border in (_LINE, _SPACE):
        # Only the half around the middle, so that every cut makes the text much shorter.
        found = border.finditer(text, len(text) // 4, len(text) * 3 // 4)
        ends = [match.end() for match in found if 0 < match.end() < len(text)]
        if ends:
            return min(ends, key=lambda end: abs(end - half))
    return half
