"""The plan: what a memory will take on a device, before anything is read or loaded.

In: a model or its name, a number of tokens, a device. Out: a ``MemoryPlan``, or a refusal with remedies. Read
in this direction: ``budget`` (what there is), ``plan`` (what a model with a footprint needs, and what fits),
``planner`` (a plan for any model, loaded or not).
"""
