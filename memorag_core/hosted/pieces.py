"""A text in pieces that stay whole: sentences, and parts of those that are too long.

In: a text, a way to count tokens. Out: pieces that joined are the text again. Knows no model and no capacity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import regex

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
