"""A LangChain retriever over what a MemoRAG has memorized, which LangChain's indexing API can fill.

In: questions, and what a caller chooses. Out: LangChain documents, best first, on request with how they were
found. Knows no model, clue or index: it translates.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Any, Self, TypedDict, Unpack, cast

from langchain_core.callbacks import (
    AsyncCallbackManagerForRetrieverRun,
    BaseCallbackManager,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document
from langchain_core.indexing import DeleteResponse, DocumentIndex, UpsertResponse
from langchain_core.retrievers import LangSmithRetrieverParams
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import get_config_list
from langchain_core.vectorstores import VectorStore
from pydantic import ConfigDict, Field, field_validator, model_validator

from langchain_memorag.callbacks import AsyncRuns, Runs
from langchain_memorag.choosing import ChoosesRetrieval, changed, checked_kinds, checked_retrieval, refuse
from langchain_memorag.documents import (
    evidence_document,
    listed,
    listed_ids,
    memorized_document,
    sources,
)
from langchain_memorag.editing import put, take_out
from langchain_memorag.filters import Filter, check_filtered, checked_filter, chunks_that_pass
from langchain_memorag.holding import HoldsMemory
from langchain_memorag.over import Over, checked_over, fan_out
from langchain_memorag.runs import (
    abegin_retrieval,
    aend_retrieval,
    begin_retrieval,
    end_retrieval,
    only,
    raised,
    rounds,
)
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
    kinds: Sequence[ClueKind] | None
    retrieval: RetrievalSettings | Mapping[str, Any] | None
    annotate: bool
    filter: Filter | None
    over: Over | None
    concurrency: int
    timeout: float | None
    tags: list[str] | None
    metadata: dict[str, Any] | None
    name: str | None


class Choice(TypedDict, total=False):
    """What can be given at a call, ``retriever.invoke(question, k=2)``; None is no choice.

    Attributes:
        k: Documents for each question.
        kinds: Kinds of clue to ask for.
        retrieval: How rankings are joined.
        annotate: Whether documents say how they were found.
        filter: Which documents may be found, in place of the retriever's own filter.
    """

    k: int | None
    kinds: Sequence[ClueKind] | None
    retrieval: RetrievalSettings | Mapping[str, Any] | None
    annotate: bool | None
    filter: Filter | None


class MemoRAGRetriever(HoldsMemory, ChoosesRetrieval, DocumentIndex):
    """Finds evidence with the question and with the clues that a memory of the text gives.

    The documents that come back carry ``id`` (of the chunk) and, in ``metadata``, ``document_id``, ``start``
    and ``end`` (characters of that document), beside the metadata the user gave; on the same name those three
    win. What a retriever of your own found (``over``) comes back as it was. So a passage is the same document
    for every question that finds it, for fusion and for de-duplication.

    With ``annotate``, the metadata have ``score``, ``rank`` (from 1) and ``clues`` (a list of texts) too,
    over all others, and so have those of what ``over`` found, with ``document_id``, ``start`` and ``end``
    where it does not say them itself, and with ``failures`` where some of the searches failed.

    ``k``, ``kinds``, ``retrieval``, ``annotate`` and ``filter`` can be given at a call too,
    ``retriever.invoke(question, k=2)``, and all of them made configurable fields. ``batch`` and ``abatch``
    put all questions to the memory in one pass, or, where the config has ``max_concurrency``, that many at a
    time.

    LangChain's indexing API (``langchain_core.indexing.index``) takes it as its destination.

    Attributes:
        memorag: What was memorized. Left out of ``repr`` and of every serialized form.
        k: Documents returned. None leaves it to ``memorag``: what its settings say (4), or all when there
            are fewer.
        kinds: Kinds of clue to ask for; None takes those of the settings of ``memorag``.
        retrieval: How the rankings of question and clues are joined: settings in place of those of
            ``memorag``, or only the fields that differ, ``{"question_weight": 0.5}``.
        annotate: Whether the metadata of documents say how they were found; see above.
        filter: Find only some documents: a function from a document (a chunk as it would be found, not
            annotated) to whether it may be, or the metadata that it must have, ``{"year": 2026}``. ``k``
            documents come back where as many pass, else all that do. The clues are recalled from the whole
            memory. Left out of ``repr`` and of every serialized form.
        over: A retriever or a vector store of LangChain, which is searched with the question and each
            clue, instead of the chunks of what was memorized. A retriever decides itself how many documents
            it gives to a search. Left out of ``repr`` and of every serialized form.
        concurrency: The most searches of ``over`` at once, in a call.
        timeout: Seconds that each search of ``over`` has; None waits as long as it takes. A search that
            fails or takes longer is left out, and told of by the log, by the custom event
            "memorag_search_failed", and, with ``annotate``, in the metadata of what the others found. Only if
            all fail is it an error.
    """

    model_config = ConfigDict(extra="forbid")

    k: int | None = Field(default=None, ge=1)
    filter: Any = Field(default=None, repr=False, exclude=True)
    over: Any = Field(default=None, repr=False, exclude=True)
    concurrency: int = Field(default=FanOut.CONCURRENCY, ge=1)
    timeout: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @field_validator("over", mode="before")
    @classmethod
    def _is_over(cls, value: Any) -> Any:
        return checked_over(value)

    @field_validator("filter", mode="before")
    @classmethod
    def _is_filter(cls, value: Any) -> Any:
        return checked_filter(value)

    @model_validator(mode="after")
    def _filters_what_was_memorized(self) -> Self:
        check_filtered(self.filter, self.over)
        return self

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
                what is searched instead (``over``).
            memorag: What reads them, added to what it has memorized; without it, a new ``MemoRAG()``.
            **options: The retriever's other attributes.

        Raises:
            InputError: When a document is empty or no LangChain document, when an id comes twice, or when
                metadata hold what JSON cannot.
        """
        given = listed("documents", documents)
        memorag = MemoRAG() if memorag is None else memorag
        retriever = cls(memorag=memorag, **_fields(options))  # checks all before the long work starts
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
        return cls(memorag=memorag, **_fields(options))

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
        refuse("MemoRAGRetriever.batch", kwargs, besides=Choice)
        found: list[Any] = []
        for some, configs in rounds(inputs, get_config_list(config, len(inputs))):
            runs = begin_retrieval(self, some, configs)
            outcomes: list[list[Document] | Exception] = []
            try:
                outcomes += self._found(some, runs, cast(Choice, kwargs))
            except Exception as error:
                outcomes += [error] * len(runs)
            except BaseException as error:
                end_retrieval(runs, [error] * len(runs))
                raise
            end_retrieval(runs, outcomes)
            if not return_exceptions:
                raised(outcomes)
            found += outcomes
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
        refuse("MemoRAGRetriever.abatch", kwargs, besides=Choice)
        found: list[Any] = []
        for some, configs in rounds(inputs, get_config_list(config, len(inputs))):
            runs = await abegin_retrieval(self, some, configs)
            outcomes: list[list[Document] | Exception] = []
            try:
                outcomes += await self._afound(some, runs, cast(Choice, kwargs))
            except Exception as error:
                outcomes += [error] * len(runs)
            except BaseException as error:
                await aend_retrieval(runs, [error] * len(runs))
                raise
            await aend_retrieval(runs, outcomes)
            if not return_exceptions:
                raised(outcomes)
            found += outcomes
        return found

    def add_documents(self, documents: Iterable[Document]) -> list[str]:
        """Memorize documents; those whose ids are there already take the place of what had them.

        All of them are read in one go. Documents that are there as they are cost nothing.

        Returns:
            Their ids, in the order of the documents.

        Raises:
            InputError: When a document is empty or no LangChain document, or when metadata hold what JSON
                cannot (a ``datetime``, a ``Path``, an array). Nothing has changed then.
        """
        return put(self.memorag, documents)

    async def aadd_documents(self, documents: Iterable[Document]) -> list[str]:
        """``add_documents`` that leaves the event loop free."""
        return await asyncio.to_thread(put, self.memorag, documents)

    def upsert(self, items: Sequence[Document], /, **kwargs: Any) -> UpsertResponse:
        """``add_documents``, as LangChain's indexing API calls it; what fails is raised."""
        refuse("MemoRAGRetriever.upsert", kwargs)
        return UpsertResponse(succeeded=put(self.memorag, items), failed=[])

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> DeleteResponse:
        """Forget documents. Ids that are not there are passed over, and not counted.

        What stands behind the first of them is read again, once for all of them.

        Args:
            ids: Of documents (``document_id`` of what is found), not of chunks.
            **kwargs: None; they are in LangChain's signature.

        Raises:
            InputError: No ids.
        """
        refuse("MemoRAGRetriever.delete", kwargs)
        if ids is None:
            raise InputError("Found no ids to delete; expected a list of document ids. Give delete([...]).")
        gone = take_out(self.memorag, ids)
        return DeleteResponse(succeeded=gone, num_deleted=len(gone), failed=[], num_failed=0)

    def get(self, ids: Sequence[str], /, **kwargs: Any) -> list[Document]:
        """Whole documents of what was memorized, by their ids, in its order; unknown ids are passed over."""
        refuse("MemoRAGRetriever.get", kwargs)
        wanted = set(listed_ids(ids))
        return [memorized_document(one) for one in self.memorag.documents if one.id in wanted]

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **choice: Unpack[Choice]
    ) -> list[Document]:
        refuse("MemoRAGRetriever.invoke", choice, besides=Choice)
        return only(self._found([query], [run_manager], choice))

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **choice: Unpack[Choice]
    ) -> list[Document]:
        refuse("MemoRAGRetriever.ainvoke", choice, besides=Choice)
        return only(await self._afound([query], [run_manager], choice))

    def _found(
        self, questions: Sequence[str], managers: Sequence[CallbackManagerForRetrieverRun], choice: Choice
    ) -> list[list[Document] | Exception]:
        """For each question its documents, best first, or its error, in the run that it came with."""
        runs = Runs([{"callbacks": manager.get_child()} for manager in managers])
        results = self._pipeline(choice, runs.of_query).run_outcomes(questions, runs)
        return [self._documents(result, choice) for result in results]

    async def _afound(
        self,
        questions: Sequence[str],
        managers: Sequence[AsyncCallbackManagerForRetrieverRun],
        choice: Choice,
    ) -> list[list[Document] | Exception]:
        """``_found`` that leaves the event loop free."""
        runs = AsyncRuns([{"callbacks": manager.get_child()} for manager in managers])
        results = await self._pipeline(choice, runs.of_query).arun_outcomes(questions, runs)
        return [self._documents(result, choice) for result in results]

    def _pipeline(self, choice: Choice, callbacks: Mapping[str, BaseCallbackManager]) -> QueryPipeline:
        """What holds for a call: what it says, else what the retriever says, else the settings."""
        k, kinds, wanted = choice.get("k"), choice.get("kinds"), checked_filter(choice.get("filter"))
        wanted = self.filter if wanted is None else wanted
        check_filtered(wanted, self.over)
        settings = changed(self.memorag.retrieval, self.retrieval)
        over = None
        if self.over is not None:
            over = fan_out(self.over, callbacks, concurrency=self.concurrency, timeout=self.timeout)
        return self.memorag.pipeline(
            QueryOptions(
                k=self.k if k is None else k,
                clue_kinds=self.kinds if kinds is None else checked_kinds(kinds),
                retrieval_settings=changed(settings, checked_retrieval(choice.get("retrieval"))),
                base_retriever=over,
                filter=chunks_that_pass(wanted),
            )
        )

    def _documents(self, result: QueryResult | Exception, choice: Choice) -> list[Document] | Exception:
        if isinstance(result, Exception):
            return result
        annotate, found = choice.get("annotate"), result.findings
        return [
            evidence_document(
                one,
                source=self.memorag.document_of(one.chunk),
                annotate=self.annotate if annotate is None else annotate,
                failures=found.failures,
            )
            for one in found.evidence
        ]

    def _get_ls_params(self, **_kwargs: Any) -> LangSmithRetrieverParams:
        params = LangSmithRetrieverParams(ls_retriever_name="memorag")
        if isinstance(self.over, VectorStore):
            params["ls_vector_store_provider"] = type(self.over).__name__
        return params


def _fields(options: RetrieverOptions) -> dict[str, Any]:
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
