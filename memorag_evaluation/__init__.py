"""Measuring: span recall of a memory, and what its clues do for finding the evidence.

In: a beacon model, and texts with known evidence. Out: numbers with their intervals; nothing is judged here.
Read in this direction: metrics -> datasets, passages, chunks, worlds, suites (what is measured on) -> recall,
asking, evidence, tuning, speed (what is measured; emptied is the control) -> ways, oracle, retrieval (ways to
search beside one another; keeping spares encoding twice) -> record, plot (how it is told).
``python -m memorag_evaluation`` runs ``commands``. Stands outside the core and uses its public names.
"""
