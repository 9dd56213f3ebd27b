"""The control: a memory of no slots, with which the same model is asked the same.

In: a beacon model. Out: a memory that holds nothing of any text. Part of any gain is mere rewording of the
question by a model that knows the world; what is left beyond this control was remembered.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch

from memorag_core.memory.beacon import BeaconMemory, BeaconModel
from memorag_core.memory.beacon.host import Host
from memorag_core.memory.beacon.prefill import empty_block
from memorag_core.memory.beacon.schedule import Stream
from memorag_core.prompts import load_prompts

MemoryState: TypeAlias = Literal["full", "emptied"]
"""Asked with what was read, or with a memory of no slots."""


@torch.inference_mode()
def emptied_memory(model: BeaconModel) -> BeaconMemory:
    """A memory of one row and no slots; the opening of a chat format, where there is one, is still there."""
    opening: list[int] = []
    if model.tokens is not None:
        opening = model.tokens.encode_opening(model.usage.prompts or load_prompts(None))
    if opening and len(opening) < model.window:
        return model.feed(opening).memory
    block = empty_block(Host.of(model.model), Stream(model.window, model.ratio), rows=1)
    return BeaconMemory((block,), tokens=1)  # a model refuses to be asked before it has read something
