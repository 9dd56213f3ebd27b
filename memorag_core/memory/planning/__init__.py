"""The plan: what a memory will take on a device, before anything is read or loaded.

In: a model or its name, a number of tokens, a device. Out: a ``MemoryPlan``, or a refusal with remedies. Read
in this direction: budget (what there is) and sources (what a model is) -> planning (what it needs).
"""

from __future__ import annotations

from memorag_core.memory.planning.budget import MemoryBudgetError, available_memory, format_size, parse_size
from memorag_core.memory.planning.plan import MemoryPlan, RatioPlan, check_documents, check_plan, plan_memory
from memorag_core.memory.planning.sources import count_tokens

__all__ = [
    "MemoryBudgetError",
    "MemoryPlan",
    "RatioPlan",
    "available_memory",
    "check_documents",
    "check_plan",
    "count_tokens",
    "format_size",
    "parse_size",
    "plan_memory",
]
