"""Retrieval: from a question and its clues to the chunks that bear on it.

In: chunks, then a question with clues. Out: evidence, exactly as many chunks as asked for, each with the
places it was found at. Knows no memory model. The parts, in the order of a query:

``queries`` says what is asked and with which weight. ``bm25`` (over ``tokenization``), ``dense`` (vectors,
searched by ``nearest_neighbours`` as ``vector_settings`` says) and ``learned_sparse`` (an encoder's token
weights) rank the chunks, ``filtering`` leaves out what may not be found; ``graph`` (over ``entities``) ranks
those that hang together with the first of them, by ``expansion``. ``fusion`` joins the rankings; ``ranking``
makes evidence of them, by ``rerank`` where there is a re-ranker. ``index`` holds it together, and
``index_builder`` makes, keeps and restores it. ``routing`` and ``support`` ask the index for others.

``external`` puts the same queries to a retriever of the user's own instead. ``encoders`` brings other
libraries' encoders and re-rankers into one shape, and encodes chunks with them.
"""

from memorag_core.retrieval.encoders.embedders import as_embedder, text_encoder
from memorag_core.retrieval.encoders.flag import flag_embedder, flag_reranker
from memorag_core.retrieval.encoders.sentence import cross_encoder, sentence_transformer
from memorag_core.retrieval.entities import EntityFinder, find_entities
from memorag_core.retrieval.external.fan_out import FanOut
from memorag_core.retrieval.external.searchers import as_searcher
from memorag_core.retrieval.index import EvidenceIndex
from memorag_core.retrieval.index_builder import IndexMaker
from memorag_core.retrieval.nearest_neighbours import VectorSettings
from memorag_core.retrieval.rerank import as_reranker, rerank
from memorag_core.retrieval.tokenization import Tokenization

__all__ = [
    "EntityFinder",
    "EvidenceIndex",
    "FanOut",
    "IndexMaker",
    "Tokenization",
    "VectorSettings",
    "as_embedder",
    "as_reranker",
    "as_searcher",
    "cross_encoder",
    "find_entities",
    "flag_embedder",
    "flag_reranker",
    "rerank",
    "sentence_transformer",
    "text_encoder",
]
