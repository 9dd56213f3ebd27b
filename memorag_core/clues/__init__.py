"""Clues: a memory is asked about a question, and what it says is read.

In: questions, a memory and its model. Out: clues. Knows nothing of retrieval.
"""

from memorag_core.clues.asking import generate_clues, generate_clues_batch
from memorag_core.clues.parsing import parse_clues

__all__ = ["generate_clues", "generate_clues_batch", "parse_clues"]
