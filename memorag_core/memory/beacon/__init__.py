"""The beacon memory model (Activation Beacon, arXiv 2401.03462; MemoRAG, arXiv 2409.05591).

In: texts or token ids. Out: memories and what is recalled from them. Read in this direction:
schedule (arithmetic) -> cache (the memory as a value) -> attention -> prefill, generate -> partitions ->
model.
"""

from __future__ import annotations

from memorag_core.memory.beacon.cache import BeaconMemory
from memorag_core.memory.beacon.checkpoint import load_checkpoint, save_checkpoint
from memorag_core.memory.beacon.model import BeaconModel
from memorag_core.memory.beacon.settings import BeaconSettings
from memorag_core.memory.token_model import Feed

__all__ = ["BeaconMemory", "BeaconModel", "BeaconSettings", "Feed", "load_checkpoint", "save_checkpoint"]
