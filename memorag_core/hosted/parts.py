"""What stands in one prompt: pieces of a text, gathered from its beginning.

In: pieces with their tokens. Out: spans of pieces, a part each. Knows no text and no model.

The parts follow from the pieces alone, so reading at once or piece by piece gives the same parts: a text that
grows fills up its last part, and may move the end of it to a better border.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from memorag_core.hosted.pieces import Piece

Span: TypeAlias = tuple[int, int]
"""Pieces of a text: from the first to the one after the last."""

_LOOK_BACK = 8  # a paragraph's end is looked for in the last eighth of a part


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
