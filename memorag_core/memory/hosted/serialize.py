"""Memories to arrays and a header, and back.

In: memories. Out: arrays by name and JSON-able values, for a store; memories again. Knows no model and no
files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from memorag_core.errors import StoreError
from memorag_core.memory.hosted.memory import HostedMemory
from memorag_core.memory.prompt_chunks import Piece
from memorag_core.types.packed import expect_format

FORMAT = 1

_REMEDY = "Load it with the settings it was made with, or memorize the text again."
_TYPES = {"text": np.uint8, "ends": np.int64, "tokens": np.int64, "documents": np.int64}


def pack(memory: HostedMemory) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """A memory as (arrays by name, JSON-able header).

    The arrays are ``text`` [bytes] uint8, the text in UTF-8; ``ends`` [pieces] int64, where each piece ends
    in it; ``tokens`` [pieces] int64; and ``documents`` [documents] int64, the piece after the last one of
    each. The parts follow from them. All grow at their end, which the header tells a store (``grows``).
    """
    encoded = [piece.text.encode() for piece in memory.pieces]
    arrays: dict[str, npt.NDArray[Any]] = {
        "text": np.frombuffer(b"".join(encoded), dtype=np.uint8),
        "ends": np.cumsum([len(text) for text in encoded], dtype=np.int64),
        "tokens": np.array([piece.tokens for piece in memory.pieces], dtype=np.int64),
        "documents": np.array(memory.ends, dtype=np.int64),
    }
    header = {"format": FORMAT, "capacity": memory.capacity, "overlap": memory.overlap}
    return arrays, header | {"grows": dict.fromkeys(arrays, 0)}


def unpack(
    arrays: Mapping[str, Any], header: Mapping[str, Any], *, capacity: int, overlap: int
) -> HostedMemory:
    """The inverse of ``pack``.

    Args:
        arrays: as ``pack`` gave them.
        header: likewise.
        capacity: the model's.
        overlap: the model's.

    Raises:
        StoreError: they do not fit each other, or the model.
    """
    expect_format(header.get("format"), FORMAT)
    found = header.get("capacity"), header.get("overlap")
    if found != (capacity, overlap):
        raise StoreError(
            f"The memory was made with a capacity and overlap of {found[0]} and {found[1]} tokens; the model "
            f"is set to {capacity} and {overlap}. {_REMEDY}"
        )
    text, ends, tokens, documents = (_array(arrays, name) for name in _TYPES)
    lengths = np.diff(ends, prepend=0)
    if not len(ends) or ends[-1] != len(text) or not _rises(ends):
        raise StoreError(
            f"The pieces of the memory do not cover its text of {len(text)} bytes; expected ends that rise "
            f"to it. {_REMEDY}"
        )
    if len(tokens) != len(ends) or tokens.min() < 0:
        raise StoreError(
            f"The memory has {len(ends)} pieces and {len(tokens)} counts of tokens; expected a count of 0 or "
            f"more for each. {_REMEDY}"
        )
    if not len(documents) or documents[-1] != len(ends) or not _rises(documents):
        raise StoreError(
            f"The documents of the memory do not cover its {len(ends)} pieces; expected ends that rise to "
            f"their number. {_REMEDY}"
        )
    whole = text.tobytes()
    try:
        pieces = tuple(
            Piece(whole[end - length : end].decode(), count)
            for end, length, count in zip(ends.tolist(), lengths.tolist(), tokens.tolist(), strict=True)
        )
    except UnicodeDecodeError as error:
        raise StoreError(f"The text of the memory is no UTF-8: {error}. {_REMEDY}") from error
    return HostedMemory(pieces, capacity, overlap, tuple(documents.tolist()))


def _rises(ends: npt.NDArray[Any]) -> bool:
    """From above 0; compared and not subtracted, for a difference may be too large for its type."""
    return bool(ends[0] > 0 and (ends[1:] > ends[:-1]).all())


def _array(arrays: Mapping[str, Any], name: str) -> npt.NDArray[Any]:
    array = arrays.get(name)
    if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype != _TYPES[name]:
        shape = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise StoreError(
            f"The array {name!r} of the memory is {shape}; expected one row of {np.dtype(_TYPES[name])}. "
            f"{_REMEDY}"
        )
    return array
