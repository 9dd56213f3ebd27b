"""Memories to arrays and a header, and back.

In: memories, and the model that packs what they hold inside. Out: arrays by name and JSON-able values, for a
store; memories again. Knows no files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from memorag_core.errors import StoreError
from memorag_core.memory.gist.memory import Gist, GistMemory
from memorag_core.types.packed import expect_format, unpacking, whole_number

FORMAT = 1

_INNER = "memory."
_REMEDY = "Load it with the settings it was made with, or memorize the text again."
_TABLES: Mapping[str, tuple[Any, int | None]] = {
    "gists.text": (np.uint8, None),
    "gists.ends": (np.int64, None),
    "gists.spans": (np.int64, 2),
    "gists.tokens": (np.int64, 2),
}


def pack(
    memory: GistMemory, inner: tuple[Mapping[str, Any], Mapping[str, Any]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A memory as (arrays by name, JSON-able header).

    The arrays are ``gists.text`` [bytes] uint8, all gists in UTF-8; ``gists.ends`` [gists] int64, where each
    ends in it; ``gists.spans`` [gists, 2] int64, the characters of its block; ``gists.tokens`` [gists, 2]
    int64, of block and gist; and those of the inner memory, their names behind "memory.". They are tensors of
    torch where those of the inner memory are. The header has the documents with how many gists each has.

    Args:
        memory: the memory.
        inner: its inner memory as the model packed it.
    """
    encoded = [gist.text.encode() for gist in memory.gists]
    tables: dict[str, Any] = {
        "gists.text": np.frombuffer(b"".join(encoded), dtype=np.uint8).copy(),
        "gists.ends": np.cumsum([len(text) for text in encoded], dtype=np.int64),
        "gists.spans": np.array([(gist.start, gist.end) for gist in memory.gists], dtype=np.int64),
        "gists.tokens": np.array([(gist.tokens, gist.gist_tokens) for gist in memory.gists], dtype=np.int64),
    }
    tensors, header = inner
    if not all(isinstance(tensor, np.ndarray) for tensor in tensors.values()):
        import torch  # here, for a memory inside may do without

        tables = {name: torch.from_numpy(table) for name, table in tables.items()}
    counts = dict.fromkeys(memory.document_ids, 0)
    for gist in memory.gists:
        counts[gist.document_id] += 1
    own = {
        "format": FORMAT,
        "block_tokens": memory.block_tokens,
        "gist_tokens": memory.gist_tokens_asked,
        "documents": [[name, count] for name, count in counts.items()],
        "memory": dict(header),
        "grows": dict.fromkeys(tables, 0)
        | {_INNER + name: axis for name, axis in header.get("grows", {}).items()},
        "kv": [_INNER + name for name in header.get("kv", ())],
    }
    return tables | {_INNER + name: tensor for name, tensor in tensors.items()}, own


def unpack(
    tensors: Mapping[str, Any],
    header: Mapping[str, Any],
    *,
    block_tokens: int,
    gist_tokens: int,
    unpack_inner: Callable[[Mapping[str, Any], Mapping[str, Any]], Any],
) -> GistMemory:
    """The inverse of ``pack``.

    Args:
        tensors: as ``pack`` gave them.
        header: likewise.
        block_tokens: the model's.
        gist_tokens: the model's.
        unpack_inner: unpacks the inner memory.

    Raises:
        StoreError: they do not fit each other, or the model.
    """
    expect_format(header.get("format"), FORMAT)
    found = header.get("block_tokens"), header.get("gist_tokens")
    if found != (block_tokens, gist_tokens):
        raise StoreError(
            f"The memory has gists of {found[1]} tokens for blocks of {found[0]}; the model is set to "
            f"{gist_tokens} and {block_tokens}. {_REMEDY}"
        )
    if not isinstance(header.get("memory"), Mapping):
        raise StoreError(f"The header lacks that of the inner memory. {_REMEDY}")
    gists = _gists(tensors, header.get("documents"))
    inner = {name.removeprefix(_INNER): tensor for name, tensor in tensors.items() if name.startswith(_INNER)}
    return GistMemory(gists, unpack_inner(inner, header["memory"]), block_tokens, gist_tokens)


def _gists(tensors: Mapping[str, Any], documents: Any) -> tuple[Gist, ...]:
    text, ends, spans, tokens = (_table(tensors, name) for name in _TABLES)
    with unpacking("The table of documents", _REMEDY):
        if any(type(name) is not str for name, _ in documents):
            raise TypeError("an id is no text")
        owners = [
            name for name, count in documents for _ in range(whole_number(count, "a count", 0, len(text)))
        ]
    if not owners or not len(owners) == len(ends) == len(spans) == len(tokens):
        raise StoreError(
            f"The memory has {len(ends)} gists, {len(spans)} spans and {len(tokens)} counts of tokens; "
            f"expected one of each for the {len(owners)} blocks of its documents. {_REMEDY}"
        )
    if ends[-1] != len(text) or ends[0] < 1 or (ends[1:] <= ends[:-1]).any():
        raise StoreError(
            f"The gists do not cover their text of {len(text)} bytes; expected ends that rise to it. "
            f"{_REMEDY}"
        )
    begins = [0] + [
        end if owner == later else 0
        for end, (owner, later) in zip(spans[:-1, 1], pairwise(owners), strict=True)
    ]
    if (spans[:, 0] != begins).any() or (spans[:, 0] >= spans[:, 1]).any() or tokens.min() < 0:
        raise StoreError(
            f"The blocks do not cover their documents; expected one behind the other from 0. {_REMEDY}"
        )
    whole = text.tobytes()
    try:
        return tuple(
            Gist(whole[begin:end].decode(), owner, *span, *counts)
            for (begin, end), owner, span, counts in zip(
                pairwise([0, *ends.tolist()]), owners, spans.tolist(), tokens.tolist(), strict=True
            )
        )
    except UnicodeDecodeError as error:
        raise StoreError(f"The text of the gists is no UTF-8: {error}. {_REMEDY}") from error


def _table(tensors: Mapping[str, Any], name: str) -> npt.NDArray[Any]:
    dtype, columns = _TABLES[name]
    shape = (columns,) if columns is not None else ()
    found = tensors.get(name)
    table = np.asarray(found) if hasattr(found, "dtype") else None
    if table is None or table.dtype != dtype or table.ndim != 1 + len(shape) or table.shape[1:] != shape:
        told = f"{table.dtype} {table.shape}" if table is not None else type(found).__name__
        raise StoreError(
            f"The table {name!r} of the memory is {told}; expected {np.dtype(dtype)} in "
            f"{columns or 'one'} column{'s' if columns else ''}. {_REMEDY}"
        )
    return table
