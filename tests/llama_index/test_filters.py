"""Metadata filters: what may be found, nested as one likes, and what LlamaIndex's operators mean."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.schema import Document, NodeWithScore, TextNode
from llama_index.core.vector_stores import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
)
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

from llama_index_memorag import MemoRAGRetriever
from llama_index_memorag.filters import predicate
from memorag_core import InputError, MemoRAG, RetrievalSettings
from tests.core.doubles import SentenceModel
from tests.llama_index.conftest import QUESTION
from tests.llama_index.doubles import how

WORDS = ("clock", "ferry", "bread", "tower", "granite", "mail", "oven", "birch")
CONDITIONS = [FilterCondition.AND, FilterCondition.OR]
texts = st.lists(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join), min_size=1, max_size=9
)
leaves = st.builds(
    lambda key, operator, value: MetadataFilter(key=key, operator=operator, value=value),
    st.sampled_from(["page", "missing"]),
    st.sampled_from([FilterOperator.EQ, FilterOperator.NE, FilterOperator.GT, FilterOperator.LTE]),
    st.integers(0, 9),
) | st.builds(
    lambda value: MetadataFilter(key="page", operator=FilterOperator.IN, value=value),
    st.lists(st.integers(0, 9), min_size=1, max_size=4),
)
flat = st.builds(
    lambda filters, condition: MetadataFilters(filters=filters, condition=condition),
    st.lists(leaves, max_size=4),
    st.sampled_from(CONDITIONS),
)
nested = st.recursive(
    flat,
    lambda inner: st.builds(
        lambda filters, condition: MetadataFilters(filters=filters, condition=condition),
        st.lists(leaves | inner, min_size=1, max_size=3),
        st.sampled_from(CONDITIONS),
    ),
    max_leaves=4,
)


def page(number: int, operator: FilterOperator = FilterOperator.EQ) -> MetadataFilter:
    return MetadataFilter(key="page", value=number, operator=operator)


def only(*filters: MetadataFilter, condition: FilterCondition = FilterCondition.AND) -> MetadataFilters:
    return MetadataFilters(filters=list(filters), condition=condition)


def documents(found: list[NodeWithScore]) -> list[str]:
    return [str(one.node.ref_doc_id) for one in found]


@given(texts, nested, st.integers(1, 9), st.lists(st.integers(0, 9), min_size=9, max_size=9))
def test_k_of_those_that_pass_come_back_or_all_of_them_in_the_order_of_the_whole_ranking(
    given_texts: list[str], filters: MetadataFilters, k: int, pages: list[int]
) -> None:
    # The question alone, by one retriever: its ranking of all, with the others left out, is the law.
    alone = RetrievalSettings(clue_weights={"span": 0, "query": 0, "answer": 0})
    memorag = MemoRAG(SentenceModel(), retrieval=alone, progress=False)
    given_documents = [
        Document(text=text, id_=str(number), metadata={"page": pages[number]})
        for number, text in enumerate(given_texts)
    ]
    k = min(k, len(given_texts))
    everything = MemoRAGRetriever.from_documents(given_documents, len(given_texts), memorag=memorag)
    passes = predicate(filters)
    allowed = [
        name for name in documents(everything.retrieve("clock tower")) if passes({"page": pages[int(name)]})
    ]
    found = MemoRAGRetriever(memorag, k, filters=filters).retrieve("clock tower")
    assert documents(found) == allowed[:k]


@given(flat, st.fixed_dictionaries({}, optional={"page": st.integers(0, 9), "other": st.text()}))
def test_flat_filters_mean_what_they_mean_in_llama_index(filters: MetadataFilters, metadata: Any) -> None:
    theirs = build_metadata_filter_fn(lambda _: metadata, filters)
    assert predicate(filters)(metadata) == theirs("any")


@given(nested, nested, st.integers(0, 9))
def test_nested_filters_are_joined_as_their_condition_says(
    one: MetadataFilters, other: MetadataFilters, number: int
) -> None:
    metadata = {"page": number}
    parts = predicate(one)(metadata), predicate(other)(metadata)
    for condition, joined in ((FilterCondition.AND, all(parts)), (FilterCondition.OR, any(parts))):
        both = MetadataFilters(filters=[one, other], condition=condition)
        assert predicate(both)(metadata) == joined


@pytest.mark.parametrize(
    ("operator", "value", "metadata", "expected"),
    [
        ("==", "a", {"x": "a"}, True),
        ("!=", "a", {"x": "b"}, True),
        (">", 1, {"x": 2}, True),
        (">=", 2, {"x": 2}, True),
        ("<", 1, {"x": 1}, False),
        ("<=", 1.5, {"x": 1}, True),
        ("in", ["a", "b"], {"x": "b"}, True),
        ("nin", ["a", "b"], {"x": "b"}, False),
        ("contains", "a", {"x": ["a", "c"]}, True),
        ("any", ["a", "z"], {"x": ["a", "c"]}, True),
        ("all", ["a", "z"], {"x": ["a", "c"]}, False),
        ("text_match", "Holt", {"x": "Anna Holt"}, True),
        ("is_empty", None, {"x": []}, True),
        ("is_empty", None, {}, True),
        ("==", "a", {}, False),
    ],
)
def test_every_operator(operator: str, value: Any, metadata: dict[str, Any], expected: bool) -> None:
    one = MetadataFilter(key="x", value=value, operator=FilterOperator(operator))
    assert predicate(only(one))(metadata) is expected


def test_not_passes_what_none_of_its_filters_passes() -> None:
    neither = MetadataFilters(filters=[page(1), page(2)], condition=FilterCondition.NOT)
    assert [predicate(neither)({"page": number}) for number in (1, 2, 3)] == [False, False, True]


async def test_clues_still_find_what_passes_and_async_finds_the_same(memorag: MemoRAG) -> None:
    filters = only(page(3, FilterOperator.GTE))
    retriever = MemoRAGRetriever(memorag, 2, filters=filters)
    found = retriever.retrieve(QUESTION)
    assert documents(found) == ["clocks", "tower"]
    assert how(found[0]).clues
    assert await retriever.aretrieve(QUESTION) == found


async def test_fewer_come_back_where_fewer_pass_and_none_where_none_does(memorag: MemoRAG) -> None:
    assert documents(MemoRAGRetriever(memorag, 3, filters=only(page(2))).retrieve(QUESTION)) == ["bakery"]
    nothing = MemoRAGRetriever(memorag, 3, filters=only(page(99)))
    assert nothing.retrieve(QUESTION) == []
    assert await nothing.aretrieve(QUESTION) == []


@pytest.mark.parametrize("key", ["document_id", "doc_id", "ref_doc_id"])
def test_documents_can_be_chosen_by_their_ids(memorag: MemoRAG, key: str) -> None:
    filters = only(MetadataFilter(key=key, value=["tower", "ferry"], operator=FilterOperator.IN))
    assert set(documents(MemoRAGRetriever(memorag, 4, filters=filters).retrieve(QUESTION))) == {
        "tower",
        "ferry",
    }


def test_the_document_that_nodes_were_cut_from_is_the_reference(model: SentenceModel) -> None:
    document = Document(text="The mail comes at noon.", id_="whole")
    node = TextNode(text="The mail comes at noon.", id_="part")
    node.relationships = {**node.relationships, **_source_of(document)}
    retriever = MemoRAGRetriever.from_documents(
        [node, TextNode(text="Birch burns well.", id_="other")],
        1,
        memorag=MemoRAG(model),
        filters=only(MetadataFilter(key="ref_doc_id", value="whole")),
    )
    (found,) = retriever.retrieve("What burns?")
    assert (found.node.ref_doc_id, found.node.node_id) == ("whole", "part")


def _source_of(document: Document) -> Any:
    from llama_index.core.schema import NodeRelationship

    return {NodeRelationship.SOURCE: document.as_related_node_info()}


def test_filters_see_what_was_inserted_later(memorag: MemoRAG) -> None:
    retriever = MemoRAGRetriever(memorag, 2, filters=only(page(7)))
    assert retriever.retrieve(QUESTION) == []
    retriever.insert(Document(text="Bela mends timepieces too.", id_="bela", metadata={"page": 7}))
    assert documents(retriever.retrieve(QUESTION)) == ["bela"]


def test_a_filter_that_does_not_fit_the_metadata_is_named(memorag: MemoRAG) -> None:
    retriever = MemoRAGRetriever(
        memorag, filters=only(MetadataFilter(key="page", value="three", operator=FilterOperator.GT))
    )
    with pytest.raises(InputError, match="page > 'three' cannot be held against the metadata 1"):
        retriever.retrieve(QUESTION)
