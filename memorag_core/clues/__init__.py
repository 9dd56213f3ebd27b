"""Clues: a memory is asked about a question, and what it says is read.

In: questions, a memory and its model. Out: clues. Knows nothing of retrieval.
"""

from memorag_core.clues.asking import clues_of, generate_clues, recall
from memorag_core.clues.parsing import parse_clues

__all__ = ["clues_of", "generate_clues", "parse_clues", "recall"]
