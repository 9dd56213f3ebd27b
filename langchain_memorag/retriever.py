"""A LangChain retriever over what a MemoRAG has memorized.

In: a question, and how many documents are wanted. Out: LangChain documents, best first, each with its place
in the text, its score and the clues that found it. Knows no model, clue or index: it translates.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from os import PathLike
from typing import Any, Self

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever, LangSmithRetrieverParams
from pydantic import ConfigDict, Field, field_validator

from memorag_core import Document as Source
from memorag_core import Embedder, Evidence, InputError, MemoRAG, MemoryModel


class MemoRAGRetriever(BaseRetriever):
    """Finds evidence with the question and with the clues that a memory of the text gives.

    The documents that come back carry ``id`` (of the chunk) and, in ``metadata``, ``document_id``, ``start``
    and ``end`` (characters of that document), ``score``, ``rank`` (from 1) and ``clues`` (a list of texts),
    beside the metadata the user gave; on the same name those six win.

    Attributes:
        memorag: What was memorized. Left out of ``repr`` and of every serialized form.
        k: Documents returned, unless a call says otherwise: ``retriever.invoke(question, k=2)``. None leaves
            it to ``memorag``: what its settings say (4), or all when there are fewer.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, hide_input_in_errors=True)

    memorag: MemoRAG = Field(repr=False, exclude=True)
    k: int | None = Field(default=None, ge=1)

    @field_validator("memorag", mode="before")
    @classmethod
    def _is_memorag(cls, value: object) -> object:
        if isinstance(value, MemoRAG):
            return value
        raise InputError(
            f"'memorag' is a {type(value).__name__}; expected a memorag_core.MemoRAG that has memorized "
            f"a text. {cls.__name__}.from_texts([...]), .from_documents([...]) and .load(path) make one."
        )

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        metadatas: Iterable[Mapping[str, Any]] | None = None,
        *,
        ids: Iterable[str] | None = None,
        memorag: MemoRAG | None = None,
        k: int | None = None,
    ) -> Self:
        """Memorize texts and return a retriever over them.

        Args:
            texts: The texts.
            metadatas: One mapping for each text.
            ids: One id for each text; without them, the lowest numbers not in use.
            memorag: What reads the texts, added to what it has memorized; without it, a new ``MemoRAG()``.
            k: Documents returned for a question; None leaves it to the settings of ``memorag``.

        Raises:
            InputError: When a text is empty or no text, when an id comes twice, or when ``metadatas`` or
                ``ids`` are not as many as the texts.
        """
        listed = _listed("texts", texts)
        described = [{}] * len(listed) if metadatas is None else _listed("metadatas", metadatas)
        named = [None] * len(listed) if ids is None else _listed("ids", ids)
        for kind, values in (("metadatas", described), ("ids", named)):
            if len(values) != len(listed):
                raise InputError(f"Found {len(listed)} texts and {len(values)} {kind}; expected one each.")
        documents = [
            Document(page_content=_text(text), metadata=dict(metadata), id=name)
            for text, metadata, name in zip(listed, described, named, strict=True)
        ]
        return cls.from_documents(documents, memorag=memorag, k=k)

    @classmethod
    def from_documents(
        cls, documents: Iterable[Document], *, memorag: MemoRAG | None = None, k: int | None = None
    ) -> Self:
        """Memorize LangChain documents and return a retriever over them.

        Ids and metadata are kept; a document without an id gets the lowest number not in use.

        Args:
            documents: The documents, whole or already split.
            memorag: What reads them, added to what it has memorized; without it, a new ``MemoRAG()``.
            k: Documents returned for a question; None leaves it to the settings of ``memorag``.

        Raises:
            InputError: When a document is empty or no LangChain document, or when an id comes twice.
        """
        listed = _listed("documents", documents)
        memorag = MemoRAG() if memorag is None else memorag
        retriever = cls(memorag=memorag, k=k)  # checks both before the long work starts
        memorag.memorize(_sources(listed, taken=[document.id for document in memorag.documents]))
        return retriever

    @classmethod
    def load(
        cls,
        path: str | PathLike[str],
        *,
        model: str | PathLike[str] | MemoryModel | None = None,
        embedder: Embedder | None = None,
        k: int | None = None,
    ) -> Self:
        """Return a retriever over what ``memorag.save(path)`` wrote.

        Args:
            path: The folder.
            model: The memory model that read the text; without it, the bundled one.
            embedder: The embedder the vectors were made with, when there are vectors.
            k: Documents returned for a question; None leaves it to the saved settings.

        Raises:
            StoreError: When the folder is damaged or was written with another model.
        """
        return cls(memorag=MemoRAG.load(path, model, embedder=embedder), k=k)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        return self._find(query, k)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        return await asyncio.to_thread(self._find, query, k)

    def _find(self, query: str, k: int | None) -> list[Document]:
        found = self.memorag.retrieve(query, k=self.k if k is None else k)
        return [_document(evidence) for evidence in found]

    def _get_ls_params(self, **_kwargs: Any) -> LangSmithRetrieverParams:
        return LangSmithRetrieverParams(ls_retriever_name="memorag")


def _document(evidence: Evidence) -> Document:
    """Evidence as LangChain carries it; every value set here can be written as JSON."""
    chunk = evidence.chunk
    return Document(
        id=chunk.id,
        page_content=chunk.text,
        metadata={
            **chunk.metadata,
            "document_id": chunk.document_id,
            "start": chunk.start,
            "end": chunk.end,
            "score": evidence.score,
            "rank": evidence.rank,
            "clues": list(evidence.clues),
        },
    )


def _sources(documents: Sequence[Document], *, taken: Sequence[str]) -> list[Source]:
    """LangChain documents as the core reads them, each with an id of its own."""
    for document in documents:
        if not isinstance(document, Document):
            raise InputError(
                f"Found a {type(document).__name__} among the documents; expected LangChain documents. "
                "Plain texts go to from_texts."
            )
    used = {*taken, *(document.id for document in documents)}
    free = (str(number) for number in count() if str(number) not in used)
    return [
        Source(text=document.page_content, id=document.id or next(free), metadata=dict(document.metadata))
        for document in documents
    ]


def _listed(name: str, values: Iterable[Any]) -> list[Any]:
    if isinstance(values, str | bytes | Mapping | Document) or not isinstance(values, Iterable):
        raise InputError(f"'{name}' is a {type(values).__name__}; expected a list, also for a single one.")
    return list(values)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise InputError(
            f"Found a {type(value).__name__} among the texts; expected str. "
            "LangChain documents go to from_documents."
        )
    return value
