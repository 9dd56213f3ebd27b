"""A LlamaIndex query transform that widens a query with clues from memory.

In: a query bundle. Out: a new query bundle that a retriever over the user's own index finds more with. Knows
no index, and not which retriever comes next; that is what ``mode`` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias, get_args

from llama_index.core.indices.query.query_transform.base import BaseQueryTransform
from llama_index.core.prompts import BasePromptTemplate, PromptTemplate
from llama_index.core.schema import QueryBundle

from llama_index_memorag.callbacks import Events, arecall_clues, asked, recall_clues
from llama_index_memorag.holding import HoldsMemory, as_memorag
from memorag_core import ClueKind, InputError, MemoRAG, QueryOptions, QueryPipeline, Recall

Mode: TypeAlias = Literal["embedding", "append"]
"""Where the clues go: beside the question among the texts to embed, or into the query string itself."""

APPEND_PROMPT = PromptTemplate("{query_str}\n{clues}")
"""How ``append`` writes a query: the question, then one clue a line."""


class MemoRAGQueryTransform(HoldsMemory, BaseQueryTransform):
    """Asks the memory for clues about a question and hands them to the retriever that comes next.

    ``mode="embedding"`` leaves the query string alone and adds the clues to the texts to embed, which an
    embedding retriever averages into one vector. Lexical retrievers see no clue; an LLM that answers later
    sees the user's question. Right for ``TransformQueryEngine``.

    ``mode="append"`` writes the clues into the query string, for retrievers that read nothing else (BM25,
    keyword tables, hybrid search). ``TransformQueryEngine`` hands that string to the LLM as well; wrapped
    around the retriever alone, with ``TransformRetriever``, it stays out of the LLM's sight.

    An engine may run its transform at every step of one query; ``memorag`` keeps the clues of the latest
    questions, so the memory is asked once. LlamaIndex has no async method for transforms: an engine runs them
    on the event loop, also in ``aquery``, and ``TransformRetriever`` its retriever too. ``await
    transform.arun(question)`` beforehand asks the memory in a thread, and the engine then finds the clues
    kept. ``MemoRAGRetriever(memorag, over=index)`` never holds up the loop, and searches with each clue.
    """

    def __init__(
        self,
        memorag: MemoRAG,
        mode: Mode = "embedding",
        *,
        kinds: Sequence[ClueKind] | None = None,
        append_prompt: BasePromptTemplate | None = None,
    ) -> None:
        """Take clues from ``memorag``.

        Args:
            memorag: What was memorized: the texts the index was built from.
            mode: Where the clues go; see the class.
            kinds: Kinds of clues to ask for; without it, those of ``memorag``'s settings.
            append_prompt: How ``append`` writes a query; a template with ``query_str`` and ``clues``.

        Raises:
            InputError: On a value outside of these.
        """
        super().__init__()
        if mode not in get_args(Mode):
            raise InputError(f"mode is {mode!r}; expected one of {', '.join(get_args(Mode))}.")
        self._memorag = as_memorag(memorag)
        self._mode = mode
        self._settings = asked(self._memorag, kinds)
        self._append_prompt = _checked(APPEND_PROMPT if append_prompt is None else append_prompt)

    async def arun(
        self, query_bundle_or_str: str | QueryBundle, metadata: dict[str, Any] | None = None
    ) -> QueryBundle:
        """``run`` that leaves the event loop free: the memory is asked in a thread."""
        bundle = query_bundle_or_str
        if isinstance(bundle, str):
            bundle = QueryBundle(bundle, custom_embedding_strs=[bundle])  # as run makes it
        return self._widened(bundle, await arecall_clues(self._pipeline(), bundle.query_str, self._events()))

    def _run(self, query_bundle: QueryBundle, metadata: dict[str, Any]) -> QueryBundle:
        recalled = recall_clues(self._pipeline(), query_bundle.query_str, self._events())
        return self._widened(query_bundle, recalled)

    def _pipeline(self) -> QueryPipeline:
        return self._memorag.pipeline(QueryOptions(clue_settings=self._settings))

    def _events(self) -> Events:
        return Events(self._memorag, self._settings.kinds)

    def _widened(self, query_bundle: QueryBundle, recalled: Recall) -> QueryBundle:
        question = query_bundle.query_str
        clues = dict.fromkeys(clue.text for clue in recalled.clues)
        embedded = query_bundle.embedding_strs
        if self._mode == "append" and clues:
            wide = self._append_prompt.format(query_str=question, clues="\n".join(clues))
            embedded = [wide, *(text for text in embedded if text != question)]
        else:
            wide = question
            embedded = list(dict.fromkeys([*embedded, *clues]))
        # A vector of the question alone no longer fits; retrievers write the new one into this bundle.
        return replace(query_bundle, query_str=wide, custom_embedding_strs=embedded, embedding=None)

    def _get_prompts(self) -> dict[str, BasePromptTemplate]:
        return {"append_prompt": self._append_prompt} if self._mode == "append" else {}

    def _update_prompts(self, prompts: dict[str, BasePromptTemplate]) -> None:
        if "append_prompt" in prompts:
            self._append_prompt = _checked(prompts["append_prompt"])


def _checked(prompt: BasePromptTemplate) -> BasePromptTemplate:
    mapped = prompt.template_var_mappings or {}
    missing = [name for name in ("query_str", "clues") if mapped.get(name, name) not in prompt.template_vars]
    if missing:
        raise InputError(
            f"append_prompt has no variable {' and no '.join(missing)}; expected a template with both, "
            f"such as {APPEND_PROMPT.template!r}."
        )
    return prompt
