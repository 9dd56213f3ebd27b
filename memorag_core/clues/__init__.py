"""Clues: a memory is asked about a question, and what it says is read.

In: questions, a memory and its model. Out: clues. Knows nothing of retrieval.
"""

from memorag_core.clues.recall import clues_of, recall

__all__ = ["clues_of", "recall"]
