"""A LangChain retriever over what a MemoRAG has memorized, which LangChain's indexing API can fill.

In: questions, and what a caller chooses. Out: LangChain documents, best first, on request with how they were
found. Knows no model, clue or index: it translates.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Any, Self, TypedDict, Unpack

from langchain_core.callbacks import (
    AsyncCallbackManager,
    AsyncCallbackManagerForRetrieverRun,
    CallbackManager,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document
from langchain_core.indexing import DeleteResponse, DocumentIndex, UpsertResponse
from langchain_core.retrievers import BaseRetriever, LangSmithRetrieverParams
from langchain_core.runnables import RunnableConfig, RunnableSerializable
from langchain_core.runnables.config import get_config_list
from langchain_core.runnables.utils import AnyConfigurableField
from langchain_core.vectorstores import VectorStore
from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from langchain_memorag.base_retriever import CallbacksOfQuery, checked_base_retriever, fan_out
from langchain_memorag.callbacks import AsyncRuns, Runs, begin_retrieval, end_retrieval, rounds, wanted
from langchain_memorag.documents import (
    evidence_document,
    listed,
    listed_ids,
    memorized_document,
    sources,
)
from langchain_memorag.fields import Filter, WithRetrieval, checked_filter, chosen, chunks_that_pass, renamed
from memorag_core import (
    ClueKind,
    FanOut,
    InputError,
    MemoRAG,
    MemoryModel,
    QueryOptions,
    QueryPipeline,
    QueryResult,
    RetrievalSettings,
)


class RetrieverOptions(TypedDict, total=False):
    """What every way to make a retriever takes; see the attributes of ``MemoRAGRetriever``."""

    k: int | None
    clue_kinds: Sequence[ClueKind] | None
    retrieval_settings: RetrievalSettings | Mapping[str, Any] | None
    annotate: bool
    filter: Filter | None
    base_retriever: BaseRetriever | VectorStore | None
    concurrency: int
    timeout: float | None
    tags: list[str] | None
    metadata: dict[str, Any] | None
    name: str | None


class Choice(TypedDict, total=False):
    """What can be given at a call, ``retriever.invoke(question, k=2)``; None is no choice.

    Attributes:
        k: Documents for each question.
        clue_kinds: Kinds of clue to ask for.
        retrieval_settings: How rankings are joined.
        annotate: Whether documents say how they were found.
        filter: Which documents may be found, in place of the retriever's own filter.
    """

    k: int | None
    clue_kinds: Sequence[ClueKind] | None
    retrieval_settings: RetrievalSettings | Mapping[str, Any] | None
    annotate: bool | None
    filter: Filter | None


class MemoRAGRetriever(WithRetrieval, DocumentIndex):
    """Finds evidence with the question and with the clues that a memory of the text gives.

    The documents that come back carry ``id`` (of the chunk) and, in ``metadata``, ``document_id``, ``start``
    and ``end`` (characters of that document), beside the metadata the user gave; on the same name those three
    win. What a retriever of your own found comes back as it was. So a passage is the same document for every
    question that finds it, for fusion and for de-duplication.

    With ``annotate``, the metadata have ``score``, ``rank`` (from 1) and ``clues`` (a list of texts) too,
    over all others, and so have those of what ``base_retriever`` found, with ``document_id``, ``start`` and
    ``end`` where it does not say them itself, and with ``failures`` where some of the searches failed.

    What ``Choice`` names can be given at a call too, ``retriever.invoke(question, k=2)``, and all attributes
    made configurable fields. ``batch`` and ``abatch`` put all questions to the memory in one pass, or, where
    the config has ``max_concurrency``, that many at a time.

    LangChain's indexing API (``langchain_core.indexing.index``) takes it as its destination.

    Attributes:
        memorag: What was memorized. Left out of ``repr`` and of every serialized form; so are ``filter`` and
            ``base_retriever``.
        k: Documents returned. None leaves it to ``memorag``: what its settings say (4), or all when there
            are fewer.
        clue_kinds: Kinds of clue to ask for; None takes those of the settings of ``memorag``.
        retrieval_settings: How the rankings of question and clues are joined: settings in place of those of
            ``memorag``, or only the fields that differ, ``{"question_weight": 0.5}``.
        annotate: Whether the metadata of documents say how they were found; see above.
        base_retriever: A retriever or a vector store of LangChain, which is searched with the question and
            each clue, instead of the chunks of what was memorized. A retriever decides itself how many
            documents it gives to a search.
        filter: Find only some documents: a function from a document (a chunk as it would be found, not
            annotated) to whether it may be, or the metadata that it must have, ``{"year": 2026}``. ``k``
            documents come back where as many pass, else all that do. The clues are recalled from the whole
            memory.
        concurrency: The most searches of ``base_retriever`` at once, in a call.
        timeout: Seconds that each of them has; None waits as long as it takes. A search that fails or takes
            longer is left out, and told of by the log, by the custom event "memorag_search_failed", and, with
            ``annotate``, in the metadata of what the others found. Only if all fail is it an error.
    """

    model_config = ConfigDict(extra="forbid")

    k: int | None = Field(default=None, ge=1)
    base_retriever: Any = Field(default=None, repr=False, exclude=True)
    filter: Any = Field(default=None, repr=False, exclude=True)
    concurrency: int = Field(default=FanOut.CONCURRENCY, ge=1)
    timeout: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @field_validator("base_retriever", mode="before")
    @classmethod
    def _is_base_retriever(cls, value: Any) -> Any:
        return checked_base_retriever(value)

    @field_validator("filter", mode="before")
    @classmethod
    def _is_filter(cls, value: Any, others: ValidationInfo) -> Any:
        return checked_filter(value, others.data.get("base_retriever"))

    def configurable_fields(
        self, **kwargs: AnyConfigurableField
    ) -> RunnableSerializable[str, list[Document]]:
        """LangChain's; takes old names of fields too."""
        return super().configurable_fields(**renamed("MemoRAGRetriever", kwargs))

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        metadatas: Iterable[Mapping[str, Any]] | None = None,
        *,
        ids: Iterable[str] | None = None,
        memorag: MemoRAG | None = None,
        **options: Unpack[RetrieverOptions],
    ) -> Self:
        """Memorize texts and return a retriever over them.

        Args:
            texts: The texts.
            metadatas: One mapping for each text.
            ids: One id for each text; without them, the lowest numbers not in use.
            memorag: What reads the texts, added to what it has memorized; without it, a new ``MemoRAG()``.
            **options: The retriever's other attributes.

        Raises:
            InputError: When a text is empty or no text, when an id comes twice, when metadata are no mapping
                or hold what JSON cannot, or when ``metadatas`` or ``ids`` are not as many as the texts.
        """
        given = listed("texts", texts)
        described = [{}] * len(given) if metadatas is None else listed("metadatas", metadatas)
        named = [None] * len(given) if ids is None else listed("ids", ids)
        for kind, values in (("metadatas", described), ("ids", named)):
            if len(values) != len(given):
                raise InputError(f"Found {len(given)} texts and {len(values)} {kind}; expected one each.")
        documents = [
            Document(page_content=_text(text), metadata=_metadata(metadata), id=name)
            for text, metadata, name in zip(given, described, named, strict=True)
        ]
        return cls.from_documents(documents, memorag=memorag, **options)

    @classmethod
    def from_documents(
        cls,
        documents: Iterable[Document],
        *,
        memorag: MemoRAG | None = None,
        **options: Unpack[RetrieverOptions],
    ) -> Self:
        """Memorize LangChain documents and return a retriever over them.

        Ids and metadata are kept; a document without an id gets the lowest number not in use.

        Args:
            documents: The documents, whole or already split. They are memorized, and nothing is added to
                what is searched instead (``base_retriever``).
            memorag: What reads them, added to what it has memorized; without it, a new ``MemoRAG()``.
            **options: The retriever's other attributes.

        Raises:
            InputError: When a document is empty or no LangChain document, when an id comes twice, or when
                metadata hold what JSON cannot.
        """
        given = listed("documents", documents)
        memorag = MemoRAG() if memorag is None else memorag
        retriever = cls(memorag=memorag, **_given(options))  # checks all before the long work starts
        memorag.memorize(sources(given))
        return retriever

    @classmethod
    def load(
        cls,
        path: str | PathLike[str],
        *,
        model: str | PathLike[str] | MemoryModel | None = None,
        embedder: Any = None,
        reranker: Any = None,
        **options: Unpack[RetrieverOptions],
    ) -> Self:
        """Return a retriever over what ``memorag.save(path)`` wrote.

        ``MemoRAG.load`` takes more choices: ``MemoRAGRetriever(memorag=MemoRAG.load(path, ...))``.

        Args:
            path: The folder.
            model: The memory model that read the text; without it, the bundled one.
            embedder: The embedder the vectors were made with, when there are vectors.
            reranker: What orders the first of what was found.
            **options: The retriever's other attributes; those left out leave it to the saved settings.

        Raises:
            StoreError: When the folder is damaged or was written with another model.
        """
        memorag = MemoRAG.load(path, model, embedder=embedder, reranker=reranker)
        return cls(memorag=memorag, **_given(options))

    def batch(
        self,
        inputs: list[str],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[list[Document]]:
        """``invoke`` for many questions, which are put to the memory together.

        Args:
            inputs: The questions.
            config: For all, or one for each. Where it has ``max_concurrency``, that many questions are put
                to the memory at a time.
            return_exceptions: Give the error of a question in its place instead of raising it.
            **kwargs: What can be given at a call; see ``Choice``.

        Returns:
            For each question what ``invoke`` returns.
        """
        choice = chosen("MemoRAGRetriever.batch", kwargs, Choice.__annotations__)
        found: list[Any] = []
        for some, configs in rounds(inputs, get_config_list(config, len(inputs))):
            managers = [
                begin_retrieval(CallbackManager, self, one, config)
                for one, config in zip(some, configs, strict=True)
            ]
            runs = Runs([{"callbacks": manager.get_child()} for manager in managers])
            outcomes: list[Any]
            try:
                results = self._pipeline(choice, runs.of_query).run_outcomes(some, runs)
                outcomes = [
                    one if isinstance(one, Exception) else self._documents(one, choice) for one in results
                ]
            except BaseException as error:
                outcomes = [error] * len(some)
            for manager, outcome in zip(managers, outcomes, strict=True):
                end_retrieval(manager, outcome)
            found += wanted(outcomes, return_exceptions=return_exceptions)
        return found

    async def abatch(
        self,
        inputs: list[str],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[list[Document]]:
        """``batch`` that leaves the event loop free."""
        choice = chosen("MemoRAGRetriever.abatch", kwargs, Choice.__annotations__)
        found: list[Any] = []
        for some, configs in rounds(inputs, get_config_list(config, len(inputs))):
            managers = [
                await begin_retrieval(AsyncCallbackManager, self, one, config)
                for one, config in zip(some, configs, strict=True)
            ]
            runs = AsyncRuns([{"callbacks": manager.get_child()} for manager in managers])
            outcomes: list[Any]
            try:
                results = await self._pipeline(choice, runs.of_query).arun_outcomes(some, runs)
                outcomes = [
                    one if isinstance(one, Exception) else self._documents(one, choice) for one in results
                ]
            except BaseException as error:
                outcomes = [error] * len(some)
            for manager, outcome in zip(managers, outcomes, strict=True):
                await end_retrieval(manager, outcome)
            found += wanted(outcomes, return_exceptions=return_exceptions)
        return found

    def add_documents(self, documents: Iterable[Document]) -> list[str]:
        """Memorize documents; those whose ids are there already take the place of what had them.

        All of them are read in one go; of several with one id, the last. Documents that are there as they are
        cost nothing. Those without an id get the lowest number that is free at that moment.

        Returns:
            Their ids, in the order of the documents.

        Raises:
            InputError: When a document is empty or no LangChain document, or when metadata hold what JSON
                cannot (a ``datetime``, a ``Path``, an array). Nothing has changed then.
        """
        given = listed("documents", documents)
        read = sources(given)
        latest = {one.id: place for place, one in enumerate(given) if one.id}
        places = [place for place, one in enumerate(given) if latest.get(one.id, place) == place]
        if not places:
            return []
        added = self.memorag.change(put=[read[place] for place in places]).put
        ids = dict(zip(places, added, strict=True))
        return [ids.get(place, one.id) for place, one in enumerate(given)]

    async def aadd_documents(self, documents: Iterable[Document]) -> list[str]:
        """``add_documents`` that leaves the event loop free."""
        return await asyncio.to_thread(self.add_documents, documents)

    def upsert(self, items: Sequence[Document], /, **kwargs: Any) -> UpsertResponse:
        """``add_documents``, as LangChain's indexing API calls it; what fails is raised."""
        chosen("MemoRAGRetriever.upsert", kwargs)
        return UpsertResponse(succeeded=self.add_documents(items), failed=[])

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> DeleteResponse:
        """Forget documents. Ids that are not there are passed over, and not counted.

        What stands behind the first of them is read again, once for all of them.

        Args:
            ids: Of documents (``document_id`` of what is found), not of chunks.
            **kwargs: None; they are in LangChain's signature.

        Raises:
            InputError: No ids, or something else than texts.
        """
        chosen("MemoRAGRetriever.delete", kwargs)
        if ids is None:
            raise InputError("Found no ids to delete; expected a list of document ids. Give delete([...]).")
        named = dict.fromkeys(listed_ids(ids))
        change = self.memorag.change(delete=lambda there: [one.id for one in there if one.id in named])
        gone = [name for name in named if name in change.deleted]
        return DeleteResponse(succeeded=gone, num_deleted=len(gone), failed=[], num_failed=0)

    def get(self, ids: Sequence[str], /, **kwargs: Any) -> list[Document]:
        """Whole documents of what was memorized, by their ids, in its order; unknown ids are passed over."""
        chosen("MemoRAGRetriever.get", kwargs)
        named = set(listed_ids(ids))
        return [memorized_document(one) for one in self.memorag.documents if one.id in named]

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **choice: Unpack[Choice]
    ) -> list[Document]:
        own = chosen("MemoRAGRetriever.invoke", choice, Choice.__annotations__)
        runs = Runs([{"callbacks": run_manager.get_child()}])
        return self._documents(self._pipeline(own, runs.of_query).run([query], runs)[0], own)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **choice: Unpack[Choice]
    ) -> list[Document]:
        own = chosen("MemoRAGRetriever.ainvoke", choice, Choice.__annotations__)
        runs = AsyncRuns([{"callbacks": run_manager.get_child()}])
        return self._documents((await self._pipeline(own, runs.of_query).arun([query], runs))[0], own)

    def _pipeline(self, choice: Mapping[str, Any], callbacks: CallbacksOfQuery) -> QueryPipeline:
        """What holds for a call: what it says, else what the retriever says, else the settings."""
        beneath = self.base_retriever
        if beneath is not None:
            beneath = fan_out(beneath, callbacks, concurrency=self.concurrency, timeout=self.timeout)
        passing = checked_filter(choice.get("filter"), beneath)
        return self.memorag.pipeline(
            QueryOptions(
                k=choice.get("k", self.k),
                clue_kinds=choice.get("clue_kinds", self.clue_kinds),
                retrieval_settings=self._settings(choice.get("retrieval_settings")),
                base_retriever=beneath,
                filter=chunks_that_pass(self.filter if passing is None else passing),
            )
        )

    def _documents(self, result: QueryResult, choice: Mapping[str, Any]) -> list[Document]:
        annotate, failures = choice.get("annotate", self.annotate), result.findings.failures
        return [
            evidence_document(
                one, source=self.memorag.document_of(one.chunk), annotate=annotate, failures=failures
            )
            for one in result.findings.evidence
        ]

    def _get_ls_params(self, **_kwargs: Any) -> LangSmithRetrieverParams:
        params = LangSmithRetrieverParams(ls_retriever_name="memorag")
        if isinstance(self.base_retriever, VectorStore):
            params["ls_vector_store_provider"] = type(self.base_retriever).__name__
        return params


def _given(options: RetrieverOptions) -> dict[str, Any]:
    """Options as pydantic takes them, which checks each."""
    return {**options}


def _metadata(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(
            f"Found a {type(value).__name__} among the metadatas; expected a mapping for each text."
        )
    return dict(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise InputError(
            f"Found a {type(value).__name__} among the texts; expected str. "
            "LangChain documents go to from_documents."
        )
    return value
