"""Memories to tensors and a header, and back; and the identity of the model they belong to.

In: memories, a host model. Out: tensors by name and JSON-able values, for a store; memories again. Knows no
files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memorag_core.cut import Cut
from memorag_core.errors import StoreError
from memorag_core.keyvalues import KeyValues
from memorag_core.longcontext.host import Host, text_config
from memorag_core.longcontext.memory import Block, LongContextMemory
from memorag_core.tokens import Tokens

FORMAT = 1

_SAMPLED = 4096  # numbers of a tensor that go into the identity; two trained models differ in nearly all
_REMEDY = "Load it with the model and the settings it was made with, or memorize the text again."


def identity(host: Host, *, tokens: Tokens | None, opening: Sequence[int]) -> dict[str, Any]:
    """What makes two models give the same memories of a text, as JSON-able values."""
    config = text_config(host.model)
    rope = getattr(config, "rope_parameters", None)
    return {
        "kind": "longcontext",
        "model_type": config.model_type,
        "weights": _digest_weights(host.model.state_dict()),
        "tokenizer": _sha256(tokens.fingerprint.encode()) if tokens is not None else None,
        "windows": list(host.layout.windows),
        "rope": json.loads(json.dumps(rope, sort_keys=True, default=str)),
        "opening": _sha256(np.asarray(opening, dtype=np.int64).tobytes()),
    }


def pack(memory: LongContextMemory, cut: Cut) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A memory as (tensors by name, JSON-able header).

    The tensors are ``group.G.keys`` and ``group.G.values`` for each group of layers that keep the same, each
    [L, B, H, T, D] and left out where T is 0, and ``recent`` [T] int64 where the memory can grow in parts.
    Keys are rotated for the positions they were read at.
    """
    tensors: dict[str, Tensor] = {}
    for number, first in enumerate(memory.blocks[0].kept):
        if first.length:
            pieces = [block.kept[number] for block in memory.blocks]
            tensors[f"group.{number}.keys"] = _joined([piece.keys for piece in pieces])
            tensors[f"group.{number}.values"] = _joined([piece.values for piece in pieces])
    grows = memory.recent is not None
    if memory.recent is not None:
        tensors["recent"] = memory.recent.contiguous()
    header = {
        "format": FORMAT,
        "row_tokens": memory.row_tokens,
        "tokens": memory.tokens,
        "rows": [block.rows for block in memory.blocks],
        "capacity": cut.capacity if grows else None,
        "overlap": cut.overlap if grows else None,
    }
    return tensors, header


def unpack(host: Host, cut: Cut, tensors: Mapping[str, Any], header: Mapping[str, Any]) -> LongContextMemory:
    """The inverse of ``pack``, on the host's device; tensors are taken without a copy where they can be.

    Raises:
        StoreError: they do not fit the model, or each other.
    """
    try:
        if header["format"] != FORMAT:
            raise StoreError(
                f"The memory is packed in format {header['format']!r}; this release reads {FORMAT}. Open it "
                "with the release that wrote it, or memorize the text again."
            )
        rows = [int(count) for count in header["rows"]]
        length, tokens = int(header["row_tokens"]), int(header["tokens"])
        made = Cut(header["capacity"], header["overlap"]) if header["capacity"] is not None else None
        if not rows or min(rows) < 1 or length < 1 or tokens < length:
            raise ValueError(f"rows {rows}, row_tokens {length}, tokens {tokens}")
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(
            f"The header of the memory lacks a value or has a wrong one: {error!r}. {_REMEDY}"
        ) from error
    if made is not None and made != cut:
        raise StoreError(f"The memory was cut into parts with {made}; the model is set to {cut}. {_REMEDY}")
    if length > host.positions:
        raise StoreError(
            f"A row of the memory has {length} tokens; the model sees {host.positions}. {_REMEDY}"
        )
    recent = tensors.get("recent")
    if not (made is None and recent is None) and not (
        made is not None and isinstance(recent, Tensor) and recent.ndim == 1 and recent.dtype == torch.int64
    ):
        raise StoreError(f"The memory's last token ids and its header do not fit. {_REMEDY}")
    whole = [_unpacked(host, tensors, number, sum(rows), length) for number in range(len(host.layout.groups))]
    blocks, row = [], 0
    for count in rows:
        kept = tuple(entries.of_rows(row, row + count) for entries in whole)
        blocks.append(Block(length, count, kept, (None,) * len(kept)))
        row += count
    return LongContextMemory(tuple(blocks), tokens, recent)


def _unpacked(host: Host, tensors: Mapping[str, Any], number: int, rows: int, length: int) -> KeyValues:
    group = host.layout.groups[number]
    if not group.kept(length):
        return host.allocate(number, rows=rows, length=0)
    shape = (len(group.layers), rows, group.shape.heads, group.kept(length), group.shape.size)
    pair = []
    for kind in ("keys", "values"):
        tensor = tensors.get(f"group.{number}.{kind}")
        found = tuple(tensor.shape) if isinstance(tensor, Tensor) else None
        if not isinstance(tensor, Tensor) or found != shape:
            raise StoreError(
                f"The tensor group.{number}.{kind} of the memory has shape {found}; the model expects "
                f"{shape}. {_REMEDY}"
            )
        pair.append(tensor.to(device=host.device, dtype=group.shape.dtype))
    return KeyValues(*pair)


def _joined(pieces: Sequence[Tensor]) -> Tensor:
    return pieces[0].contiguous() if len(pieces) == 1 else torch.cat(list(pieces), dim=1)


def _digest_weights(tensors: Mapping[str, Tensor]) -> str:
    """A hash over names, shapes and evenly spaced numbers of all tensors, the same in any file layout."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        flat = tensors[name].detach().reshape(-1)
        digest.update(f"{name}{tuple(tensors[name].shape)}".encode())
        digest.update(flat[:: max(1, flat.numel() // _SAMPLED)].float().cpu().numpy().tobytes())
    return digest.hexdigest()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
