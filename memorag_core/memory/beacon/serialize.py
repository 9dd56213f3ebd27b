"""Memories to tensors and a header, and back; and the identity of the model they belong to.

In: memories, a host model. Out: tensors by name and JSON-able values, for a store; memories again. Knows no
    files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from memorag_core.errors import InputError, StoreError
from memorag_core.memory.beacon.cache import BeaconMemory, Block, KeyValues
from memorag_core.memory.beacon.host import Host
from memorag_core.memory.beacon.layers import beacon_parameters
from memorag_core.memory.beacon.schedule import Stream
from memorag_core.memory.beacon.settings import BeaconSettings
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


def identity(
    model: PreTrainedModel,
    settings: BeaconSettings,
    *,
    ratio: int,
    tokens: Tokens | None,
    opening: Sequence[int],
) -> dict[str, Any]:
    """What makes two models give the same memories of a text, as JSON-able values."""
    rope = dict(model.config.rope_parameters)
    return {
        "kind": "beacon",
        "model_type": model.config.model_type,
        "weights": digest_weights(_named_tensors(model)),
        "tokenizer": sha256(tokens.fingerprint.encode()) if tokens is not None else None,
        "window": settings.window,
        "ratio": ratio,
        "params": list(settings.params),
        "rope": {name: rope[name] for name in sorted(rope)},
        "opening": sha256(np.asarray(opening, dtype=np.int64).tobytes()),
    }


def pack(memory: BeaconMemory, cut: Cut | None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A memory as (tensors by name, JSON-able header).

    The tensors of block N are ``N.slots.keys``, ``N.slots.values``, ``N.tail.keys`` and ``N.tail.values``,
    each [L, B, H, T, D] and left out where T is 0; beside them ``ids`` and ``marks`` [T] int32, the
    ``ReadText`` of a memory of text. Slot keys are rotated for positions 0, 1, 2, ..., tail keys for the
    positions after them.

    For a store the header says which tensors grow at the end of which axis (``grows``: the slots of a block
    of one row, the rows of others, the text) and which may be stored quantized (``kv``: the slots, which are
    most of a long text's memory).
    """
    tensors: dict[str, Tensor] = {}
    for number, block in enumerate(memory.blocks):
        for name, entries in (("slots", block.slots), ("tail", block.tail)):
            tensors |= pack_entries(f"{number}.{name}", entries)
    slots = [name for name in tensors if ".slots." in name]
    grows = {name: 3 if tensors[name].shape[1] == 1 else 1 for name in slots}
    text, table = pack_text(memory, cut)
    header = {
        "format": FORMAT,
        "window": memory.stream.window,
        "ratio": memory.ratio,
        "tokens": memory.tokens,
        "blocks": [{"rows": block.rows, "tokens": block.stream.tokens} for block in memory.blocks],
        "grows": grows | dict.fromkeys(text, 0),
        "kv": slots,
        **table,
    }
    return tensors | text, header


def unpack(
    host: Host,
    cut: Cut | None,
    *,
    window: int,
    head: int,
    tensors: Mapping[str, Any],
    header: Mapping[str, Any],
) -> BeaconMemory:
    """The inverse of ``pack``, on the host's device; tensors are taken without a copy where they can be.

    Args:
        host: the model.
        cut: how it cuts texts.
        window: raw tokens in a window.
        head: tokens that stand before the text of every part.
        tensors: as packed.
        header: likewise.

    Raises:
        StoreError: they do not fit the model, or each other.
    """
    with unpacking("The header of the memory", _REMEDY):
        expect_format(header["format"], FORMAT)
        start = Stream(whole_number(header["window"], "window"), whole_number(header["ratio"], "ratio"))
        places = [
            (whole_number(block["rows"], "rows", 1), start.after(whole_number(block["tokens"], "tokens", 1)))
            for block in header["blocks"]
        ]
        tokens = whole_number(header["tokens"], "tokens", 1)
        made = unpack_cut(header)
        told = header["documents"] is not None
        if not places:
            raise TypeError("there are no blocks")
    if start.window != window or (made is not None and made != cut):
        raise StoreError(
            f"The memory was made with a window of {start.window} and {made or 'no parts'}; the model has a "
            f"window of {window} and {cut or 'no parts'}. {_REMEDY}"
        )
    blocks = tuple(
        Block(
            stream,
            _unpacked(host, tensors, f"{number}.slots", rows, stream.slots),
            _unpacked(host, tensors, f"{number}.tail", rows, stream.entries),
        )
        for number, (rows, stream) in enumerate(places)
    )
    text = None
    if told:
        rows_tokens = [stream.tokens - head for rows, stream in places for _ in range(rows)]
        text = ReadText.unpack(tensors, header, rows_tokens, made, vocabulary=host.vocabulary)
        tokens = head + len(text)
    try:
        return BeaconMemory(blocks, tokens, text)
    except InputError as error:
        raise StoreError(f"The blocks of the memory do not fit each other: {error} {_REMEDY}") from error


def _unpacked(host: Host, tensors: Mapping[str, Any], name: str, rows: int, length: int) -> KeyValues:
    empty = host.allocate(rows=rows, length=0)
    if not length:
        return empty
    layers, _, heads, _, size = empty.keys.shape
    shape = (layers, rows, heads, length, size)
    return unpack_entries(tensors, name, shape, device=host.device, dtype=host.dtype)


def _named_tensors(model: PreTrainedModel) -> dict[str, Tensor]:
    """All tensors of a model, those of beacons by their names in a checkpoint."""
    tensors: dict[str, Tensor] = {name: parameter.data for name, parameter in beacon_parameters(model)}
    return tensors | {name: tensor for name, tensor in model.state_dict().items() if ".twin." not in name}
