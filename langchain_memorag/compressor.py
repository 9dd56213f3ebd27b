"""Documents that any retriever found, in the order in which the clues of a memory would have them.

In: documents and a question. Out: the same documents, best first. Searches nothing but these documents.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.runnables import ensure_config
from pydantic import ConfigDict, Field

from langchain_memorag.callbacks import AsyncRuns, Runs
from langchain_memorag.documents import found_metadata
from langchain_memorag.fields import WithRetrieval
from memorag_core import Chunk, EvidenceIndex, QueryOptions, QueryPipeline, Recall


class ClueCompressor(WithRetrieval, BaseDocumentCompressor):
    """Re-ranks documents by the question and by the clues that a memory recalls for it.

    They are ranked as chunks of ``memorag`` are: by BM25 over these documents, and by vectors where
    ``memorag`` has an embedder; the rankings of the question and of each clue are fused. Where nothing
    tells documents apart, they stay in the order in which they came. Each document keeps its id and
    metadata, and gets ``score``, ``rank`` (from 1) and ``clues`` (those that found it).

    Attributes:
        memorag: What was memorized. Left out of ``repr`` and of every serialized form.
        top_n: Documents kept; None keeps all.
        clue_kinds: Kinds of clue to ask for; None takes those of the settings of ``memorag``.
        retrieval_settings: How rankings are joined: settings in place of those of ``memorag``, or only the
            fields that differ. What takes a whole corpus (a graph, neighbours, a budget) has no meaning here.
        annotate: Whether the metadata say how a document was found; then it is another one for each question.
    """

    model_config = ConfigDict(extra="forbid")

    top_n: int | None = Field(default=None, ge=1)

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """The best of the documents, best first.

        Args:
            documents: What was found, best first. Those without text are left out.
            query: The question.
            callbacks: Hear of the asking.

        Raises:
            InputError: A blank question.
            NothingMemorizedError: There is nothing to recall.
        """
        some = _with_text(documents)
        if not some:
            return []
        (recall,) = self._pipeline().recall([query], Runs([ensure_config({"callbacks": callbacks})]))
        return self._ranked(some, recall)

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """``compress_documents`` that leaves the event loop free."""
        some = _with_text(documents)
        if not some:
            return []
        runs = AsyncRuns([ensure_config({"callbacks": callbacks})])
        (recall,) = await self._pipeline().arecall([query], runs)
        return await asyncio.to_thread(self._ranked, some, recall)

    def _pipeline(self) -> QueryPipeline:
        return self.memorag.pipeline(QueryOptions(clue_kinds=self.clue_kinds))

    def _ranked(self, documents: Sequence[Document], recall: Recall) -> list[Document]:
        chunks = [
            Chunk(str(place), document.page_content, str(place), 0, len(document.page_content))
            for place, document in enumerate(documents)
        ]
        own = self._settings()
        weights = {**own.retriever_weights, "graph": 0, "learned_sparse": 0}
        settings = replace(own, budget=None, neighbours=0, order="rank", retriever_weights=weights)
        index = EvidenceIndex.build(chunks, self.memorag.embedder, progress=False)
        best = index.retrieve(recall.question, recall.clues, k=len(chunks), settings=settings)
        ranked = []
        for one in best[: self.top_n]:
            document = documents[int(one.chunk.id)]
            found = found_metadata(one) if self.annotate else {}
            ranked.append(document.model_copy(update={"metadata": {**document.metadata, **found}}))
        return ranked


def _with_text(documents: Sequence[Document]) -> list[Document]:
    return [document for document in documents if document.page_content.strip()]
