"""Memories to tensors and a header, and back; and the identity of the model they belong to.

In: memories, a host model. Out: tensors by name and JSON-able values, for a store; memories again. Knows no
files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from memorag_core.errors import InputError, StoreError
from memorag_core.memory.kv_cache import KeyValues
from memorag_core.memory.longcontext.host import Host, text_config
from memorag_core.memory.longcontext.memory import Block, LongContextMemory
from memorag_core.memory.partitions import Cut
from memorag_core.memory.serialize import REMEDY as _REMEDY
from memorag_core.memory.serialize import (
    digest_weights,
    pack_entries,
    pack_text,
    sha256,
    unpack_cut,
    unpack_entries,
)
from memorag_core.memory.tokenized_text import ReadText
from memorag_core.memory.tokenizer import Tokens
from memorag_core.types.packed import expect_format, unpacking, whole_number

FORMAT = 1


def identity(host: Host, *, tokens: Tokens | None, opening: Sequence[int]) -> dict[str, Any]:
    """What makes two models give the same memories of a text, as JSON-able values."""
    config = text_config(host.model)
    rope = getattr(config, "rope_parameters", None)
    return {
        "kind": "longcontext",
        "model_type": config.model_type,
        "weights": digest_weights(host.model.state_dict()),
        "tokenizer": sha256(tokens.fingerprint.encode()) if tokens is not None else None,
        "windows": list(host.layout.windows),
        "rope": json.loads(json.dumps(rope, sort_keys=True, default=str)),
        "opening": sha256(np.asarray(opening, dtype=np.int64).tobytes()),
    }


def pack(memory: LongContextMemory, cut: Cut) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A memory as (tensors by name, JSON-able header).

    The tensors of block N are ``N.group.G.keys`` and ``N.group.G.values`` for each group of layers that keep
    the same, each [L, B, H, T, D] and left out where T is 0; beside them ``ids`` and ``marks`` [T] int32,
    the ``ReadText`` of a memory of text. Keys are rotated for the positions they were read at.

    For a store the header says which tensors grow at the end of which axis (``grows``: the entries of a block
    of one row in groups that keep all of them, the rows of other blocks, the text) and which are keys and
    values, which may be stored quantized (``kv``).
    """
    tensors: dict[str, Tensor] = {}
    grows: dict[str, int] = {}
    for number, block in enumerate(memory.blocks):
        for group, entries in enumerate(block.kept):
            named = pack_entries(f"{number}.group.{group}", entries)
            tensors |= named
            if block.rows > 1 or entries.length == block.tokens:  # a group with a window slides on
                grows |= dict.fromkeys(named, 1 if block.rows > 1 else 3)
    text, table = pack_text(memory, cut)
    header = {
        "format": FORMAT,
        "tokens": memory.tokens,
        "blocks": [{"rows": block.rows, "tokens": block.tokens} for block in memory.blocks],
        "grows": grows | dict.fromkeys(text, 0),
        "kv": list(tensors),
        **table,
    }
    return tensors | text, header


def unpack(
    host: Host, cut: Cut, *, head: int, tensors: Mapping[str, Any], header: Mapping[str, Any]
) -> LongContextMemory:
    """The inverse of ``pack``, on the host's device; tensors are taken without a copy where they can be.

    Args:
        host: the model.
        cut: how it cuts texts.
        head: tokens that stand before the text of every part.
        tensors: as packed.
        header: likewise.

    Raises:
        StoreError: they do not fit the model, or each other.
    """
    with unpacking("The header of the memory", _REMEDY):
        expect_format(header["format"], FORMAT)
        places = [
            (whole_number(block["rows"], "rows", 1), whole_number(block["tokens"], "tokens", 1))
            for block in header["blocks"]
        ]
        tokens = whole_number(header["tokens"], "tokens", 1)
        made = unpack_cut(header)
        told = header["documents"] is not None
        if not places or tokens < places[0][1]:
            raise TypeError(f"blocks {header['blocks']}, tokens {tokens}")
    if made is not None and made != cut:
        raise StoreError(f"The memory was cut into parts with {made}; the model is set to {cut}. {_REMEDY}")
    longest = max(length for _, length in places)
    if longest > host.positions:
        raise StoreError(
            f"A row of the memory has {longest} tokens; the model sees {host.positions}. {_REMEDY}"
        )
    blocks = []
    for number, (rows, length) in enumerate(places):
        kept = tuple(
            _unpacked(host, tensors, f"{number}.group.{group}", group, rows, length)
            for group in range(len(host.layout.groups))
        )
        blocks.append(Block(length, rows, kept, (None,) * len(kept)))
    text = None
    if told:
        text = ReadText.unpack(
            tensors,
            header,
            [length - head for rows, length in places for _ in range(rows)],
            made,
            vocabulary=text_config(host.model).vocab_size,
        )
        tokens = head + len(text)
    try:
        return LongContextMemory(tuple(blocks), tokens, text)
    except InputError as error:
        raise StoreError(f"The blocks of the memory do not fit each other: {error} {_REMEDY}") from error


def _unpacked(
    host: Host, tensors: Mapping[str, Any], name: str, number: int, rows: int, length: int
) -> KeyValues:
    group = host.layout.groups[number]
    if not group.kept(length):
        return host.allocate(number, rows=rows, length=0)
    shape = (len(group.layers), rows, group.shape.heads, group.kept(length), group.shape.size)
    return unpack_entries(tensors, name, shape, device=host.device, dtype=group.shape.dtype)
