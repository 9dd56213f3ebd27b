"""Where a model goes and what it computes in: device, device map, dtype.

In: what the user asked for, and a checkpoint's config. Out: one device, one dtype. Loads nothing.

A memory is one tensor over all layers ([L, B, H, capacity, D]) that its reader writes in place and any number
of askers read at once; it lies on one device, and so do the layers that attend to it. A device map is taken
in the form that transformers has it, as long as it names one device.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import torch

from memorag_core.errors import InputError, UnsupportedModelError

DeviceMap: TypeAlias = str | Mapping[str, Any]
"""A mapping of module names ("" is the whole model) to a device, or "auto"."""

_SPREADING = ("balanced", "balanced_low_0", "sequential")
_LEFT_FREE = 0.9  # of a GPU's free memory, what weights may fill: reading needs the rest at the least


def chosen_device(device: str | torch.device) -> torch.device:
    """The device that was asked for; "auto" is cuda, else mps, else cpu.

    Raises:
        InputError: it is no device.
    """
    if device != "auto":
        return _as_device(device, "The device")
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def chosen_dtype(dtype: str | torch.dtype, config: Mapping[str, Any], device: torch.device) -> torch.dtype:
    """The dtype that was asked for; "auto" is the config's on a GPU, and float32 on a CPU.

    Raises:
        InputError: it is no floating-point dtype.
    """
    if isinstance(dtype, torch.dtype):
        name = str(dtype)
    elif dtype != "auto":
        name = dtype
    elif device.type == "cpu":
        name = "float32"
    else:
        name = config.get("torch_dtype") or config.get("dtype") or "float32"
    found = getattr(torch, str(name).removeprefix("torch."), None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise InputError(f"The dtype is {name!r}; expected 'auto', 'float32', 'bfloat16' or 'float16'.")
    return found


def mapped_device(device_map: DeviceMap, tensors: Iterable[str], *, nbytes: int) -> torch.device:
    """The one device of a device map.

    Args:
        device_map: names of modules and their device, or "auto" for the GPU with the most free memory.
        tensors: names of all tensors of the model.
        nbytes: what the weights will take, for "auto".

    Raises:
        InputError: it names no device, a module that there is not, or leaves one out.
        UnsupportedModelError: it spreads the model over several devices, or would have to.
    """
    if isinstance(device_map, str):
        if device_map in _SPREADING:
            raise _spread(f"device_map={device_map!r} spreads a model over several devices")
        return _roomiest(nbytes) if device_map == "auto" else _as_device(device_map, "The device_map")
    if not isinstance(device_map, Mapping) or not device_map:
        raise InputError(
            f"The device_map is {device_map!r}; expected 'auto' or module names with their devices, such as "
            "{'': 'cuda:0'}."
        )
    names = list(tensors)
    for module in device_map:
        if not any(_inside(name, module) for name in names):
            raise InputError(f"The device_map names {module!r}, which the model does not have.")
    left = [name for name in names if not any(_inside(name, module) for module in device_map)]
    if left:
        raise InputError(
            f"The device_map says nothing of {left[0]} and {len(left) - 1} other tensors. Add the entry '' "
            "for all that is not named."
        )
    devices = {str(_as_device(device, f"The device of {module!r}")) for module, device in device_map.items()}
    if len(devices) > 1:
        raise _spread(f"The device_map spreads the model over {', '.join(sorted(devices))}")
    return torch.device(devices.pop())


def _roomiest(nbytes: int) -> torch.device:
    if not torch.cuda.is_available():
        return chosen_device("auto")
    free = [torch.cuda.mem_get_info(index)[0] for index in range(torch.cuda.device_count())]
    best = max(range(len(free)), key=lambda index: free[index])
    if nbytes > free[best] * _LEFT_FREE:
        raise _spread(
            f"device_map='auto' found no GPU with room for weights of {nbytes / 1e9:.1f} GB (the most that "
            f"is free on one is {free[best] / 1e9:.1f} GB)"
        )
    return torch.device("cuda", best)


def _spread(found: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{found}; supported is one device for the whole model, because a memory and all layers that attend "
        "to it lie together. Make the weights smaller with quantize='int4' or dtype='bfloat16', or compute "
        "on device='cpu'."
    )


def _as_device(device: Any, what: str) -> torch.device:
    if device == "disk":
        raise _spread(f"{what} is 'disk', which keeps a part of the weights out of memory")
    if isinstance(device, int) and not isinstance(device, bool):
        device = f"cuda:{device}"  # as transformers has it
    try:
        found = device if isinstance(device, torch.device) else torch.device(str(device))
    except RuntimeError as error:
        raise InputError(f"{what} is {device!r}; expected 'auto', 'cpu', 'cuda' or the like.") from error
    if found.type == "meta":
        raise InputError(f"{what} is 'meta', which holds no numbers; expected a device that computes.")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found.type == "cuda" and (found.index or 0) >= count:
        raise InputError(f"{what} is {str(found)!r}, but torch sees {count} GPUs here. Use 'cpu' or 'auto'.")
    return found


def _inside(tensor: str, module: str) -> bool:
    return not module or tensor == module or tensor.startswith(f"{module}.")
