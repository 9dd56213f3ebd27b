"""Hosted models as memory: any chat model behind an API that reads the text in its prompt.

In: texts and questions. Out: memories and what is recalled from them. Read in this direction:
memory (text in parts that stand in one prompt each) -> serialize -> model.
"""

from __future__ import annotations

from memorag_core.memory.hosted.memory import HostedMemory
from memorag_core.memory.hosted.model import HostedModel

__all__ = ["HostedMemory", "HostedModel"]
