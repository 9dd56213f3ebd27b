"""Grounded recall: an index of all passages of a corpus, and decoding that is held to it.

In: documents, a tokenizer, logits. Out: replies whose lines stand in the documents, and where. Knows no model
and no memory.
"""

from __future__ import annotations

from memorag_core.memory.grounding.constraint import GroundedLine, SpanConstraint, ranked_tokens
from memorag_core.memory.grounding.passages import Passages
from memorag_core.memory.grounding.vocabulary import Vocabulary

__all__ = ["GroundedLine", "Passages", "SpanConstraint", "Vocabulary", "ranked_tokens"]
