"""Retrieval: from a question and its clues to the chunks that bear on it.

In: chunks, then a question with clues. Out: evidence, exactly as many chunks as asked for, each with the
places it was found at. The parts, in the order of a query: ``tokens`` (text to lexical tokens), ``sparse``
(BM25) and ``dense`` (vectors) rank the chunks, ``fusion`` joins the rankings, ``index`` holds it together.
Knows no memory model.
"""

from memorag_core.retrieval.index import EvidenceIndex

__all__ = ["EvidenceIndex"]
