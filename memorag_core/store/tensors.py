"""Tensors in segments: cut on the axis on which they grow, hashed, written, read and joined again.

In: tensors of torch or arrays of NumPy, and what the manifest says of each slice. Out: safetensors files, and
the same tensors. Decides nothing about which slices are written.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memorag_core.errors import StoreError
from memorag_core.store.folder import advice
from memorag_core.store.layout import REMEDY, Encoding, Quantized, Slice
from memorag_core.store.quantizing import DTYPES, dequantize, quantize

SCALES = ".largest"
"""What is added to a tensor's name for the magnitudes that belong to it when it is quantized."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor as it is stored: itself, or the two that quantizing made of it.

    Attributes:
        raw: by the name in the file; all alike on every axis but the last.
        axis: the one on which it grows; None if it does not.
        quantized: where it is.
    """

    raw: Mapping[str, Any]
    axis: int | None
    quantized: Quantized | None = None

    @property
    def length(self) -> int:
        """Entries on the axis; 0 of a tensor that does not grow."""
        return 0 if self.axis is None else int(next(iter(self.raw.values())).shape[self.axis])

    def part(self, start: int, stop: int) -> Stored:
        """A view of some entries; of a tensor that does not grow always all."""
        if self.axis is None:
            return self
        cut = (slice(None),) * self.axis + (slice(start, stop),)
        return Stored({name: tensor[cut] for name, tensor in self.raw.items()}, self.axis, self.quantized)

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return sum(int(tensor.nbytes) for tensor in self.raw.values())

    def sha256(self) -> str:
        """Of types, shapes and numbers; the same wherever and however the tensor lies in memory."""
        digest = hashlib.sha256()
        for name, tensor in self.raw.items():
            kind = str(tensor.dtype).removeprefix("torch.")
            digest.update(f"{name} {kind} {tuple(tensor.shape)}\n".encode())
            for piece in tensor if tensor.ndim > 2 else [tensor]:  # a layer at a time: little is copied
                digest.update(_bytes(piece))
        return digest.hexdigest()


def as_stored(tensors: Mapping[str, Any], header: Mapping[str, Any], encoding: Encoding) -> dict[str, Stored]:
    """Tensors as they are to be stored.

    Args:
        tensors: by name.
        header: what says how they grow and which are keys and values.
        encoding: how those are to be stored.

    Raises:
        StoreError: the header names an axis that there is not, or numbers cannot be quantized.
    """
    grows: Mapping[str, int] = header.get("grows", {})
    keys_and_values = frozenset(header.get("kv", ())) if encoding != "float" else frozenset()
    stored = {}
    for name, tensor in tensors.items():
        axis = grows.get(name)
        if axis is not None and not 0 <= axis < tensor.ndim:
            raise StoreError(
                f"The tensor {name} was said to grow on axis {axis}; expected one of its {tensor.ndim} axes."
            )
        kind = str(tensor.dtype).removeprefix("torch.")
        if (
            name not in keys_and_values
            or kind not in DTYPES
            or tensor.ndim < 2
            or isinstance(tensor, np.ndarray)
        ):
            stored[name] = Stored({name: tensor}, axis)
            continue
        if axis == tensor.ndim - 1:
            raise StoreError(
                f"The tensor {name} was said to grow on its last axis, over which it is quantized; expected "
                'another, or kv="float".'
            )
        whole, largest = quantize(tensor.detach().cpu(), encoding, name)
        raw = {name: whole, name + SCALES: largest}
        stored[name] = Stored(raw, axis, Quantized(encoding, kind, int(tensor.shape[-1])))
    return stored


def write_tensors(file: Path, tensors: Mapping[str, Any], starts: Mapping[str, int]) -> None:
    """Write torch tensors or NumPy arrays; the file remembers which, so that a reader gets the same kind.

    Args:
        file: where.
        tensors: by the name in the file.
        starts: the first entry of each; in the file, so that equal tensors of two places are two files.

    Raises:
        OSError: the disk refused.
    """
    from safetensors import SafetensorError

    try:
        if all(isinstance(tensor, np.ndarray) for tensor in tensors.values()):
            from safetensors.numpy import save_file as save_arrays

            save_arrays(
                {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in tensors.items()},
                file,
                _about("numpy", starts),
            )
        else:
            from safetensors.torch import save_file

            save_file(
                {name: _alone(tensor) for name, tensor in tensors.items()}, file, _about("torch", starts)
            )
    except SafetensorError as error:
        raise as_os_error(error) from error


def read_raw(segments: Sequence[tuple[Path, Mapping[str, Slice]]]) -> tuple[dict[str, Stored], bool]:
    """What files hold of tensors, joined but not decoded, and whether they were NumPy arrays.

    A tensor that lies in one file is a view of the mapped file, which is read as it is used.

    Raises:
        StoreError: a file is no safetensors file, lacks a tensor, or the slices do not follow on each other.
    """
    from safetensors import SafetensorError, safe_open

    pieces: dict[str, list[tuple[Slice, dict[str, Any]]]] = {}
    kinds: set[str] = set()
    for path, held in segments:
        try:
            with safe_open(path, framework="pt", device="cpu") as file:
                kinds.add(_framework(file.metadata()))
                for name, part in held.items():
                    # Through torch in any case: its tensors are views of the mapped file, NumPy's are copies.
                    names = [name] if part.quantized is None else [name, name + SCALES]
                    raw = {one: file.get_tensor(one) for one in names}
                    pieces.setdefault(name, []).append((part, raw))
        except OSError as error:
            raise StoreError(f"'{path}' cannot be read: {error}. {advice(error)}") from error
        except (SafetensorError, RuntimeError, ValueError) as error:
            raise StoreError(
                f"'{path}' is not a safetensors file with what it should hold: {error}. {REMEDY}"
            ) from error
    if kinds - {"torch", "numpy"} or len(kinds) > 1:
        raise StoreError(
            f"The files of one part hold tensors of {' and '.join(sorted(kinds))}; expected all of torch or "
            f"all of numpy. {REMEDY}"
        )
    return {name: _joined(name, parts) for name, parts in pieces.items()}, kinds == {"numpy"}


def as_os_error(error: Exception) -> OSError:
    """What the disk said to safetensors, which tells of it in its own words only."""
    said = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(said[1]), os.strerror(int(said[1]))) if said else OSError(str(error))


def _about(framework: str, starts: Mapping[str, int]) -> dict[str, str]:
    """What a file says of itself, in one value: safetensors keeps several in no certain order."""
    return {"memorag": json.dumps({"framework": framework, "starts": dict(starts)})}


def _framework(about: Mapping[str, str] | None) -> str:
    try:
        return str(json.loads((about or {})["memorag"])["framework"])
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"it does not say who wrote it ({error!r})") from error


def decoded(stored: Mapping[str, Stored], as_numpy: bool) -> dict[str, Any]:
    """The tensors that ``as_stored`` was given."""
    tensors: dict[str, Any] = {}
    for name, held in stored.items():
        if held.quantized is None:
            tensors[name] = held.raw[name].numpy() if as_numpy else held.raw[name]
        else:
            whole, largest = held.raw[name], held.raw[name + SCALES]
            tensors[name] = dequantize(whole, largest, held.quantized, name)
    return tensors


def _joined(name: str, pieces: Sequence[tuple[Slice, dict[str, Any]]]) -> Stored:
    import torch

    first, raw = pieces[0]
    end = 0
    for part, held in pieces:
        alike = (part.axis, part.quantized) == (first.axis, first.quantized) and part.start == end
        for one, tensor in held.items():
            axis = part.axis
            alike = alike and tensor.dtype == raw[one].dtype and tensor.ndim == raw[one].ndim
            if axis is not None and alike:
                alike = axis < tensor.ndim and tensor.shape[axis] == part.stop - part.start
                alike = alike and _beside(tensor.shape, axis) == _beside(raw[one].shape, axis)
        if not alike or (first.axis is None and len(pieces) > 1):
            raise StoreError(
                f"The segments of the tensor {name} do not follow on each other: entries {part.start} to "
                f"{part.stop} stand where {end} were read. {REMEDY}"
            )
        end = part.stop
    if len(pieces) > 1 and first.axis is not None:
        raw = {one: torch.cat([held[one] for _, held in pieces], first.axis) for one in raw}
    return Stored(raw, first.axis, first.quantized)


def _beside(shape: Sequence[int], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], *shape[axis + 1 :])


def _bytes(tensor: Any) -> Any:
    """The numbers of a tensor as a buffer."""
    if not isinstance(tensor, np.ndarray | np.generic):
        import torch

        tensor = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return np.ascontiguousarray(tensor).reshape(-1).view(np.uint8)


def _alone(tensor: Any) -> Any:
    """The tensor on the CPU in storage of its own: a view of a grown buffer must not bring it along."""
    tensor = tensor.detach().cpu().contiguous()
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()
