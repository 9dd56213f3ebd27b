"""Spans of texts at good borders, short enough for an encoder to read whole.

In: texts, sizes in characters, and an encoder that counts tokens. Out: spans in the order of each text,
without white space at their ends, which together hold every visible character. Knows no documents and no
model.

Texts are cut by characters, which is fast, and the encoder counts what came out, many at once. Only what is
too long is cut again, into as many pieces as its tokens ask for, until all of them fit.

The splitter looks for the ends of words and sentences in all of the text that is left, again for each piece,
which takes the square of the length where there are none. So it is given windows of a few pieces each, and of
these the pieces whose end does not depend on where the window ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from typing import Protocol, TypeAlias, runtime_checkable

from semantic_text_splitter import TextSplitter

from memorag_core.errors import InputError
from memorag_core.protocols import TextEncoder

Span: TypeAlias = tuple[int, int]
"""Characters of a text: the first, and the one after the last."""

_MARGIN = 1.05
"""Room for pieces of one length that differ in tokens: aiming at the limit itself would halve many again."""


_MOST = 1 << 31
"""Characters: more than any text has. The splitter counts in machine words."""

_WINDOW_PIECES, _AHEAD = 4, 512
"""Pieces of the full size that a window holds, and the characters besides that tell where a sentence ends: in
"fig. 3 a" it is what follows the figure. Ordinary texts come out as if cut at once."""


@runtime_checkable
class _Batched(Protocol):
    """An encoder that is quicker with many texts; those of this package are."""

    def too_long(self, texts: Sequence[str]) -> Mapping[int, int]: ...


def cut_spans(text: str, *, size: int, overlap: int) -> list[Span]:
    """Cut a text between paragraphs, sentences, words or characters, at the best that the size allows.

    Args:
        text: Anything.
        size: The most characters of a span.
        overlap: The most characters that a span repeats from the one before it; less than ``size``.
    """
    spans: list[Span] = []
    for start, piece in _pieces_of(text, size, overlap):
        start += len(piece) - len(piece.lstrip())  # Python knows a few more white spaces than the splitter
        end = start + len(piece.strip())
        if start < end and (not spans or end > spans[-1][1]):  # else white space, or overlap, and no more
            spans.append((start, end))
    return spans


def _pieces_of(text: str, size: int, overlap: int) -> Iterator[tuple[int, str]]:
    """What the splitter makes of a text, in time that grows with its length: places and pieces."""
    size, overlap = min(size, _MOST), min(overlap, _MOST - 1)
    splitter = TextSplitter(size, overlap=overlap)
    window = _WINDOW_PIECES * size + _AHEAD
    settled = window - 2 * size - _AHEAD // 2  # a piece that starts up to here sees enough of what follows it
    start = 0
    while start + window < len(text):
        after = start + window
        for place, piece in splitter.chunk_indices(text[start : start + window]):
            if place > settled:
                after = start + place
                break
            yield start + place, piece
        start = after  # a piece begins here, or all that follows the last one in the window is white space
        while start < len(text) and text[start].isspace():
            start += 1
    for place, piece in splitter.chunk_indices(text[start:]):
        yield start + place, piece


def fit_spans(
    texts: Sequence[str], spans: Sequence[Sequence[Span]], encoder: TextEncoder, *, repeated: float
) -> list[list[Span]]:
    """Cut what an encoder would not read whole into pieces that it does, between sentences where it can be.

    Args:
        texts: One or more.
        spans: Of each text, in its order, as ``cut_spans`` gives them.
        encoder: Counts tokens. Without a limit nothing is cut.
        repeated: How much of a piece it may repeat from the one before, from 0 to below 1.

    Returns:
        For each text its spans. Each fits, except for a single character that has more tokens than that.

    Raises:
        InputError: The encoder has no room for any text, or counts in something other than whole numbers.
    """
    room: int | None = None  # for text, beside special tokens
    fitted = [list(own) for own in spans]
    unsure = [(number, span) for number, own in enumerate(spans) for span in own]
    cut: set[int] = set()
    while unsure:
        long = too_long([texts[number][start:end] for number, (start, end) in unsure], encoder)
        pieces: dict[tuple[int, Span], list[Span]] = {}
        for place, tokens in long.items():
            room = _room(encoder) if room is None else room
            number, (start, end) = unsure[place]
            if end - start > 1:
                share = room / (_MARGIN * tokens)
                pieces[unsure[place]] = _pieces(texts[number], (start, end), share, repeated)
        changed = {number for number, _ in pieces}
        cut |= changed
        for number in changed:
            fitted[number] = [
                piece for span in fitted[number] for piece in pieces.get((number, span), (span,))
            ]
        unsure = [(number, piece) for (number, _), found in pieces.items() for piece in found]
    return [_in_order(own) if number in cut else own for number, own in enumerate(fitted)]


def too_long(texts: Sequence[str], encoder: TextEncoder) -> Mapping[int, int]:
    """The texts that an encoder would not read whole: the place of each, and its tokens.

    Raises:
        InputError: The encoder counts in something other than whole numbers.
    """
    if encoder.max_tokens is None:
        return {}
    if isinstance(encoder, _Batched):
        return encoder.too_long(texts)
    counts = ((place, _counted(encoder, text)) for place, text in enumerate(texts))
    return {place: tokens for place, tokens in counts if tokens > encoder.max_tokens}


def _counted(encoder: TextEncoder, text: str) -> int:
    tokens = encoder.count_tokens(text)
    if isinstance(tokens, bool) or not isinstance(tokens, int):
        raise InputError(
            f"count_tokens of the {type(encoder).__name__} gave {tokens!r} for one text; expected a whole "
            "number. Without count_tokens and max_tokens, chunks are cut by characters alone."
        )
    return tokens


def _room(encoder: TextEncoder) -> int:
    most, taken = encoder.max_tokens or 0, _counted(encoder, "")
    if taken >= most:
        raise InputError(
            f"The encoder reads {most} tokens of a text, and an empty one has {taken}: its special tokens "
            "and what stands before every passage. Expected room for text: raise max_tokens, or shorten the "
            "instruction."
        )
    return most - taken


def _pieces(text: str, span: Span, share: float, repeated: float) -> list[Span]:
    """A span of two characters or more in pieces of about such a share of it, and of half of it at most."""
    start, end = span
    length = end - start
    size = max(1, min(ceil(length / 2), int(length * share)))
    found = cut_spans(text[start:end], size=size, overlap=int(repeated * size))
    if len(found) > 2 and found[-1][1] - found[-1][0] <= size // 2 and found[-2][0] > 0:
        # Good borders left over a short end. With the piece before it, it may fit: that is counted next.
        found[-2:] = [(found[-2][0], found[-1][1])]
    return [(start + first, start + last) for first, last in found]


def _in_order(spans: Sequence[Span]) -> list[Span]:
    """Spans without those that lie in others, which pieces of overlapping spans may do."""
    kept: list[Span] = []
    for span in spans:
        if kept and span[1] <= kept[-1][1]:
            continue
        while kept and kept[-1][0] >= span[0]:
            kept.pop()
        kept.append(span)
    return kept
