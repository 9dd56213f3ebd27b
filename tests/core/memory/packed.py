"""Memories of any kind, compared by what a store would keep of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import torch

Packed: TypeAlias = tuple[dict[str, Any], Any]
"""A copy of all tensors by name, and the header."""


def packed(model: Any, memory: Any) -> Packed:
    """All that a memory holds, as it is now."""
    tensors, header = model.pack(memory)
    return {name: _copy(tensor) for name, tensor in tensors.items()}, json.loads(json.dumps(header))


def assert_same(found: Packed, expected: Packed, *, exactly: bool = False) -> None:
    """The same header and names; numbers that are computed differ by rounding at most."""
    assert found[1] == expected[1]
    assert_close(found[0], expected[0], exactly=exactly)


def assert_alike(model: Any, found: Any, expected: Any) -> None:
    """The same memory, however its parts stand in blocks: one that was just filled stays alone at first."""
    one, other = packed(model, found), packed(model, expected)
    if not hasattr(found, "row"):
        assert_same(one, other)
        return
    assert_same(_beside_blocks(one), _beside_blocks(other))
    assert found.parts == expected.parts
    for part in range(found.parts):
        assert_same(packed(model, found.row(part)), packed(model, expected.row(part)))


def _beside_blocks(whole: Packed) -> Packed:
    """The text of a memory, and what the header says beside the blocks."""
    tensors, header = whole
    blocks = {name.partition(".")[0] for name in tensors if "." in name}
    rest = {key: value for key, value in header.items() if key not in ("blocks", "grows", "kv")}
    return {name: tensor for name, tensor in tensors.items() if name.partition(".")[0] not in blocks}, rest


def assert_close(found: Mapping[str, Any], expected: Mapping[str, Any], *, exactly: bool = False) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        one, other = torch.as_tensor(found[name]), torch.as_tensor(tensor)
        assert (one.shape, one.dtype) == (other.shape, other.dtype), name
        if exactly or not one.is_floating_point():
            assert torch.equal(one, other), name
        else:
            assert torch.allclose(one, other, atol=2e-4, rtol=1e-3), name


def _copy(tensor: Any) -> Any:
    return np.array(tensor) if isinstance(tensor, np.ndarray) else tensor.clone()
