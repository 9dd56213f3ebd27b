"""A memory model by its name: what a user gives as the model of a ``MemoRAG``.

In: a name, a folder, nothing, or a model. Out: the model, loaded where it was only named.
"""

from __future__ import annotations

import os
from typing import Any, Literal

from memorag_core.errors import InputError
from memorag_core.memory.bundled import bundled_path
from memorag_core.protocols import MemoryModel


def names_model(model: object) -> bool:
    """Whether the model is said by its name or folder, or left to the package, so that it is loaded here."""
    return model is None or isinstance(model, str | os.PathLike)


def memory_model(model: Any, ratio: int | Literal["adapt"] | None, device: str, dtype: str) -> MemoryModel:
    """The memory model that was chosen; one that is only named is loaded.

    Raises:
        InputError: No memory model, or how to load one that is loaded already.
        CheckpointError: The checkpoint is damaged or missing.
        UnsupportedModelError: The checkpoint needs a computation that this package lacks.
    """
    if names_model(model):
        from memorag_core.memory.beacon import BeaconModel  # here, for it loads torch and transformers

        path = bundled_path() if model is None else model
        return BeaconModel.from_pretrained(path, ratio=ratio, device=device, dtype=dtype)
    # Methods only: asking for the fingerprint might read all the weights.
    if not all(callable(getattr(model, name, None)) for name in ("memorize", "recollect", "pack", "unpack")):
        raise InputError(
            f"The model is a {type(model).__name__}; expected a memory model (memorag_core.MemoryModel), the "
            f"name or folder of a checkpoint, or None for the bundled model."
        )
    if ratio is not None or (device, dtype) != ("auto", "auto"):
        raise InputError(
            "ratio, device and dtype say how to load a model, but a loaded one was given. Give them where it "
            "is loaded: BeaconModel.from_pretrained(name, ratio=..., device=..., dtype=...)."
        )
    loaded: MemoryModel = model
    return loaded
