"""LlamaIndex's metadata filters over what was memorized.

In: filters, nested or not. Out: a function that says whether a chunk may be found. What an operator means is
LlamaIndex's own function to say, the one of its in-memory vector store; nesting, which that lacks, is here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

from llama_index.core.vector_stores import MetadataFilter, MetadataFilters
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

from llama_index_memorag.nodes import filterable
from memorag_core import Chunk, InputError

Predicate: TypeAlias = Callable[[Mapping[str, Any]], bool]
"""Whether metadata pass."""


def predicate(filters: object) -> Predicate:
    """Filters as a function of metadata.

    Raises:
        InputError: No ``MetadataFilters``.
    """
    if not isinstance(filters, MetadataFilters):
        raise InputError(
            f"'filters' is a {type(filters).__name__}; expected MetadataFilters(filters=[MetadataFilter(key="
            "..., value=...), ...]) of llama_index.core.vector_stores."
        )
    parts = [_leaf(one) if isinstance(one, MetadataFilter) else predicate(one) for one in filters.filters]
    condition = "and" if filters.condition is None else filters.condition.value
    if condition == "or" and parts:  # without a filter all pass, as in LlamaIndex
        return lambda metadata: any(part(metadata) for part in parts)
    if condition == "not":
        return lambda metadata: not any(part(metadata) for part in parts)
    return lambda metadata: all(part(metadata) for part in parts)


def chunks_that_pass(passes: Predicate) -> Callable[[Chunk], bool]:
    """A predicate of chunks, for one search: a document is looked at once, for its chunks share metadata."""
    known: dict[str, bool] = {}

    def where(chunk: Chunk) -> bool:
        if chunk.document_id not in known:
            known[chunk.document_id] = passes(filterable(chunk))
        return known[chunk.document_id]

    return where


def _leaf(one: MetadataFilter) -> Predicate:
    # It looks metadata up by a node's id; what it is given as an id are the metadata themselves.
    judge = cast(
        "Predicate", build_metadata_filter_fn(cast(Any, lambda given: given), MetadataFilters(filters=[one]))
    )

    def passes(metadata: Mapping[str, Any]) -> bool:
        try:
            return bool(judge(metadata))
        except (TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"The filter {one.key} {one.operator.value} {one.value!r:.80} cannot be held against the "
                f"metadata {metadata.get(one.key)!r:.80}: {error}. Give a value of the metadata's own type, "
                "or filter on something that all documents have alike."
            ) from error

    return passes
