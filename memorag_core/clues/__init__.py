"""Clues: a memory is asked about a question, and what it says is read.

In: questions, a memory and its model. Out: clues. Knows nothing of retrieval.
"""

from memorag_core.clues.parsing.clue_parser import parse_clues
from memorag_core.clues.recall import clues_of, generate_clues, recall

__all__ = ["clues_of", "generate_clues", "parse_clues", "recall"]
