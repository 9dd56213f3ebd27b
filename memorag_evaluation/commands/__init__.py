"""The commands of ``python -m memorag_evaluation``, a module each: its options, and what it runs.

In: parsed options. Out: a printed table, and a record to be written. ``options`` is what several of them
need.
"""
