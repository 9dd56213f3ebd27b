"""What memory a device has to give: found out by asking it, or said by the user.

In: a device, a size in words. Out: bytes. Knows no models.
"""

from __future__ import annotations

import os
import re
from importlib import import_module
from pathlib import Path

import torch

from memorag_core.errors import InputError, MemoRAGError
from memorag_core.memory.device import chosen_device

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}

_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


class MemoryBudgetError(MemoRAGError, MemoryError):
    """A text would take more memory than there is; raised before anything of it is read.

    Attributes:
        needed: bytes that it would take, weights included.
        available: bytes that there are for it.
    """

    def __init__(self, message: str, *, needed: int, available: int) -> None:
        super().__init__(message)
        self.needed = needed
        self.available = available


def planned_device(device: str | torch.device) -> torch.device:
    """The device to plan for, which need not be here; "auto" is the one that a model would be loaded on.

    Raises:
        InputError: torch knows no such device.
    """
    if device == "auto":
        return chosen_device(device)
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise InputError(
            f"The device is {device!r}; expected 'auto', 'cpu', 'cuda', 'cuda:1', 'mps' or the like."
        ) from error


def available_memory(device: str | torch.device = "auto") -> int:
    """Bytes that are free on a device now; what torch keeps for itself and does not use counts as free.

    Raises:
        InputError: the device is not here.
    """
    place = planned_device(device)
    if place.type == "cpu":
        return _free_ram()
    if place.type == "cuda" and (place.index or 0) < torch.cuda.device_count():
        unused = torch.cuda.memory_reserved(place) - torch.cuda.memory_allocated(place)
        return torch.cuda.mem_get_info(place)[0] + unused
    if place.type == "mps" and torch.backends.mps.is_available():
        return max(0, torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    raise InputError(
        f"There is no {str(place)!r} here whose free memory could be asked for. Say how much there is, with "
        "budget='16GB', or plan for a device that is here."
    )


def parse_size(size: str | int) -> int:
    """A size such as 16000000000, "16GB" (decimal) or "16GiB" (binary) in bytes.

    Raises:
        InputError: it is no size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", str(size), re.IGNORECASE)
    if found is None:
        raise InputError(f"The size is {size!r}; expected bytes, or a number with a unit, such as '16GB'.")
    number, unit, binary = found.groups()
    return int(float(number) * (_BINARY if binary else _UNITS)[unit.upper()])


def format_size(size: int) -> str:
    """Bytes in words, decimal: "16.2 GB"."""
    for unit, name in ((10**9, "GB"), (10**6, "MB")):
        if abs(size) >= unit:
            return f"{size / unit:,.{1 if size < 100 * unit else 0}f} {name}"
    return f"{size / 1000:.1f} KB"


def _free_ram() -> int:
    free = _system_ram()
    for limit, used in _CGROUPS:  # a container has less than its machine
        try:
            free = min(free, max(0, int(Path(limit).read_text()) - int(Path(used).read_text())))
        except (OSError, ValueError):
            continue  # none, or no limit ("max")
    return free


def _system_ram() -> int:
    try:
        return int(import_module("psutil").virtual_memory().available)
    except ImportError:  # no dependency of ours
        pass
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
