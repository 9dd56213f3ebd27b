"""Gist memory: an LLM condenses blocks of the text, and a memory model of another kind reads the gists.

In: texts and questions. Out: memories and what is recalled from them. Read in this direction:
blocks (text at its borders) -> condensing (requests, replies), local_condenser, journal -> memory ->
serialize -> model.
"""

from __future__ import annotations

from memorag_core.memory.gist.condensing import Condenser, Task
from memorag_core.memory.gist.local_condenser import local_condenser
from memorag_core.memory.gist.memory import Gist, GistMemory
from memorag_core.memory.gist.model import GistModel

__all__ = ["Condenser", "Gist", "GistMemory", "GistModel", "Task", "local_condenser"]
