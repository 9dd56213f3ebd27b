"""What memories of models that compute here have in common on their way to a store and back.

In: keys and values, a text that was read, a model's tensors. Out: tensors by name and JSON-able values; and
the identity of weights. Knows no files and no kind of memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from memorag_core.errors import StoreError
from memorag_core.memory.block_memory import BlockMemory
from memorag_core.memory.kv_cache import KeyValues
from memorag_core.memory.partitions import Cut
from memorag_core.types.packed import whole_number

REMEDY = "Load it with the model and the settings it was made with, or memorize the text again."

_SAMPLED = 4096  # numbers of a tensor that go into the identity; two trained models differ in nearly all


def pack_entries(name: str, entries: KeyValues) -> dict[str, Tensor]:
    """Keys and values [L, B, H, T, D] as ``NAME.keys`` and ``NAME.values``; nothing where T is 0."""
    if not entries.length:
        return {}
    return {f"{name}.keys": entries.keys.contiguous(), f"{name}.values": entries.values.contiguous()}


def unpack_entries(
    tensors: Mapping[str, Any],
    name: str,
    shape: Sequence[int],
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> KeyValues:
    """The inverse of ``pack_entries``, of a shape with T above 0; without a copy where that can be.

    Raises:
        StoreError: there are no such tensors, or they have another shape.
    """
    shape = tuple(shape)
    pair = []
    for kind in ("keys", "values"):
        tensor = tensors.get(f"{name}.{kind}")
        found = tuple(tensor.shape) if isinstance(tensor, Tensor) else None
        if not isinstance(tensor, Tensor) or found != shape:
            raise StoreError(
                f"The tensor {name}.{kind} of the memory has shape {found}; the model expects {shape}. "
                f"{REMEDY}"
            )
        pair.append(tensor.to(device=device, dtype=dtype))
    return KeyValues(*pair)


def pack_text(memory: BlockMemory[Any], cut: Cut | None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What a memory has read and how it was cut: tensors that grow at their end, entries of a header."""
    if memory.text is None:
        return {}, {"capacity": None, "overlap": None, "documents": None}
    tensors, table = memory.text.pack()
    capacity, overlap = (cut.capacity, cut.overlap) if cut is not None else (None, None)
    return tensors, {"capacity": capacity, "overlap": overlap, **table}


def unpack_cut(header: Mapping[str, Any]) -> Cut | None:
    """How the text of a memory was cut, as ``pack_text`` says it; None for one part, and where no text is.

    Raises:
        LookupError, TypeError: the header does not say it; for ``unpacking``, as ``whole_number``.
    """
    if header["capacity"] is None:
        return None
    return Cut(whole_number(header["capacity"], "capacity", 1), whole_number(header["overlap"], "overlap"))


def digest_weights(tensors: Mapping[str, Tensor]) -> str:
    """A hash over names, shapes and evenly spaced numbers of all tensors, the same in any file layout."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        flat = tensors[name].detach().reshape(-1)
        digest.update(f"{name}{tuple(tensors[name].shape)}".encode())
        digest.update(flat[:: max(1, flat.numel() // _SAMPLED)].float().cpu().numpy().tobytes())
    return digest.hexdigest()


def sha256(data: bytes) -> str:
    """A hash of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
