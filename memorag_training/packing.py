"""Packing of documents and questions into one pass over all windows: pure arithmetic.

In: lengths, window, ratio. Out: a ``Packing``: where every token and beacon stands in one flat sequence, its
position in its stream, and who sees whom. Knows no model and no text.

Reading window by window is a loop because a window sees the beacons of those before it. Layer by layer it
need not be: the beacons of every window are there at once, and a mask keeps each window from the slots that
come after it. So a whole batch of documents, and many questions on each, are one forward call with the
numbers of the window-by-window reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from memorag_core.errors import InputError

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Block:
    """Segments of like shape that attend together: S windows or question rows of up to L places.

    Attributes:
        places: [S, L] index into the flat sequence; padding repeats a place that exists.
        memory_row: [S] the document whose memory each segment sees.
        mask: [S or 1, 1, L, M + L], True where the place (row) sees the slot or the place (column).
        source: [n] index into the flattened [S * L] places, for those that are no padding.
        target: [n] the flat place each of them stands for.
    """

    places: Tensor
    memory_row: Tensor
    mask: Tensor
    source: Tensor
    target: Tensor


@dataclass(frozen=True, slots=True)
class Packing:
    """One flat sequence: raw tokens of the documents, of the questions, then the beacons of both.

    Attributes:
        raw: raw tokens; they come first, documents row by row, then questions row by row.
        beacons: beacons behind them.
        positions: [1, raw + beacons] position in the own stream.
        memory: [B, M] flat places of the beacons that become slots, in slot order.
        memory_shift: [M] slot position minus stream position of those beacons.
        blocks: who attends together.
    """

    raw: int
    beacons: int
    positions: Tensor
    memory: Tensor
    memory_shift: Tensor
    blocks: tuple[Block, ...]

    def to(self, device: torch.device | str) -> Packing:
        """The same packing with its tensors on a device."""
        blocks = tuple(
            Block(*(getattr(block, name).to(device) for name in Block.__slots__)) for block in self.blocks
        )
        return Packing(
            self.raw,
            self.beacons,
            self.positions.to(device),
            self.memory.to(device),
            self.memory_shift.to(device),
            blocks,
        )


@dataclass(frozen=True, slots=True)
class _Window:
    """One window of the document stream: its raw tokens, and behind which of them a beacon stands."""

    start: int
    length: int
    after: Ints  # offsets in the window of the raw tokens that a beacon follows
    slots: int  # slots of memory before the window
    first: int  # position of its first place


def pack(
    documents: int,
    tokens: int,
    *,
    window: int,
    ratio: int,
    questions: Sequence[tuple[int, int]] = (),
    gaps: Sequence[int] = (),
) -> Packing:
    """Lay out documents of one length, and questions on them.

    Args:
        documents: how many documents, B.
        tokens: raw tokens of each, T.
        window: raw tokens in a window.
        ratio: raw tokens for one beacon.
        questions: (document, raw tokens) of each question row; each is an open window of its own behind the
            whole document, with beacons of its own, as when a memory is asked.
        gaps: positions skipped before each window (and before the questions, if one more is given). A gap
            moves all that comes after it, so that a model learns positions beyond its training length.

    Raises:
        InputError: questions on a document that ends inside a window.
    """
    windows = _split(tokens, window, ratio, gaps, last=bool(questions))
    if questions and tokens % window:
        raise InputError(
            f"documents of {tokens} tokens end inside a window of {window}; questions need whole windows."
        )
    beacons_per_document = sum(len(piece.after) for piece in windows)
    question_tokens = sum(length for _, length in questions)
    raw = documents * tokens + question_tokens
    document_beacons = raw  # flat place of the first document beacon
    question_beacons = raw + documents * beacons_per_document
    # Nothing sees the last window's beacons unless a question follows.
    kept = windows if questions else windows[:-1]
    slots = sum(len(piece.after) for piece in kept)
    total_gap = sum(gaps)
    slot_shift = _slot_shift(kept, gaps)

    positions = np.zeros(question_beacons + sum(length // ratio for _, length in questions), dtype=np.int64)
    blocks = [
        _document_block(documents, tokens, windows, document_beacons, beacons_per_document, slots, positions)
    ]
    if questions:
        blocks.append(
            _question_block(
                questions, documents * tokens, question_beacons, ratio, slots, slots + total_gap, positions
            )
        )
    memory = document_beacons + np.arange(documents)[:, None] * beacons_per_document + np.arange(slots)[None]
    return Packing(
        raw=raw,
        beacons=len(positions) - raw,
        positions=torch.from_numpy(positions)[None],
        memory=torch.from_numpy(memory),
        memory_shift=torch.from_numpy(slot_shift),
        blocks=tuple(blocks),
    )


def _split(tokens: int, window: int, ratio: int, gaps: Sequence[int], *, last: bool) -> list[_Window]:
    windows: list[_Window] = []
    slots = moved = 0
    for index, start in enumerate(range(0, tokens, window)):
        length = min(window, tokens - start)
        moved += gaps[index] if index < len(gaps) else 0
        offsets = np.arange(length)
        after = offsets[(start + offsets + 1) % ratio == 0]
        if start + length == tokens and not last:
            after = after[:0]
        windows.append(_Window(start, length, after, slots, slots + moved))
        slots += len(after)
    return windows


def _slot_shift(windows: Sequence[_Window], gaps: Sequence[int]) -> Ints:
    """How far each slot lies from the stream position of its beacon."""
    pieces = []
    for piece in windows:
        order = np.arange(len(piece.after))
        stream = piece.first + piece.after + 1 + order
        # A slot keeps the gaps before its own window: it stands where the window began, closed up.
        pieces.append(piece.first + order - stream)
    return np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.int64)


def _stream_order(length: int, after: Ints) -> Ints:
    """Place in the stream of a segment's entries, raw tokens first, beacons after them."""
    raw = np.arange(length)
    before = np.searchsorted(after, raw, side="left")  # beacons that stand before each raw token
    return np.concatenate((raw + before, after + 1 + np.arange(len(after))))


def _document_block(
    documents: int,
    tokens: int,
    windows: Sequence[_Window],
    first_beacon: int,
    beacons_per_document: int,
    slots: int,
    positions: Ints,
) -> Block:
    width = max(piece.length + len(piece.after) for piece in windows)
    places = np.zeros((documents, len(windows), width), dtype=np.int64)
    valid = np.zeros((len(windows), width), dtype=bool)
    mask = np.zeros((len(windows), width, slots + width), dtype=bool)
    rows = np.arange(documents)[:, None]
    beacon = 0
    for index, piece in enumerate(windows):
        count = piece.length + len(piece.after)
        flat = np.concatenate(
            (
                rows * tokens + piece.start + np.arange(piece.length)[None],
                first_beacon + rows * beacons_per_document + beacon + np.arange(len(piece.after))[None],
            ),
            axis=1,
        )
        order = _stream_order(piece.length, piece.after)
        positions[flat] = piece.first + order
        places[:, index, :count] = flat
        places[:, index, count:] = flat[:, :1]
        valid[index, :count] = True
        mask[index, :, : piece.slots] = True
        mask[index, :count, slots : slots + count] = order[None, :] <= order[:, None]
        mask[index, count:, slots] = True  # padding must see something, or its softmax is not a number
        beacon += len(piece.after)
    valid_all = np.broadcast_to(valid, places.shape)
    return _block(
        places.reshape(-1, width),
        valid_all.reshape(-1, width),
        np.repeat(np.arange(documents), len(windows)),
        np.tile(mask, (documents, 1, 1)),
    )


def _question_block(
    questions: Sequence[tuple[int, int]],
    first_raw: int,
    first_beacon: int,
    ratio: int,
    slots: int,
    first_position: int,
    positions: Ints,
) -> Block:
    longest = max(length for _, length in questions)
    width = longest + longest // ratio
    places = np.zeros((len(questions), width), dtype=np.int64)
    valid = np.zeros((len(questions), width), dtype=bool)
    local = np.zeros((len(questions), width, width), dtype=bool)
    raw, beacon = first_raw, first_beacon
    for index, (_, length) in enumerate(questions):
        after = np.arange(ratio - 1, length, ratio)
        count = length + len(after)
        order = _stream_order(length, after)
        flat = np.concatenate((raw + np.arange(length), beacon + np.arange(len(after))))
        positions[flat] = first_position + order
        places[index, :count], places[index, count:] = flat, flat[0]
        valid[index, :count] = True
        local[index, :count, :count] = order[None, :] <= order[:, None]
        local[index, count:, 0] = True
        raw += length
        beacon += len(after)
    seen = np.ones((len(questions), width, slots), dtype=bool)
    rows = np.asarray([document for document, _ in questions], dtype=np.int64)
    return _block(places, valid, rows, np.concatenate((seen, local), axis=2))


def _block(places: Ints, valid: Bools, rows: Ints, mask: Bools) -> Block:
    source = np.flatnonzero(valid.reshape(-1))
    return Block(
        places=torch.from_numpy(places),
        memory_row=torch.from_numpy(rows),
        mask=torch.from_numpy(mask)[:, None],
        source=torch.from_numpy(source),
        target=torch.from_numpy(places.reshape(-1)[source]),
    )
