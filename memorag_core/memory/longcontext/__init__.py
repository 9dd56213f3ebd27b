"""Long-context models as memory: any decoder-only causal language model whose KV cache is the memory.

In: texts or token ids. Out: memories and what is recalled from them. Read in this direction:
layout (what the layers see) -> host (the model) -> attention -> prefill, generate -> partitions -> model.
"""

from __future__ import annotations

from memorag_core.memory.longcontext.memory import LongContextMemory
from memorag_core.memory.longcontext.model import LongContextModel
from memorag_core.memory.token_model import Feed

__all__ = ["Feed", "LongContextMemory", "LongContextModel"]
