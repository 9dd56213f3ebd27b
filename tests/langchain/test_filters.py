"""Only some documents: a function or metadata, at construction, at a call or as a configurable field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.load import dumps
from langchain_core.runnables import ConfigurableField
from langchain_core.vectorstores import InMemoryVectorStore

from langchain_memorag import MemoRAGRetriever
from memorag_core import InputError, MemoRAG
from tests.core.doubles import SentenceModel

TEXTS = {
    "slate": "Tamsin Oakley covers houses with slate.",
    "babies": "Maud Vane delivers babies in the houses of the parish.",
    "tortoise": "Barnaby Rudd keeps a tortoise beside the houses.",
}
METADATA: list[Mapping[str, Any]] = [
    {"year": 2025, "tags": ["roof"]},
    {"year": 2026, "tags": ["care"], "ward": None},
    {"year": 2026, "tags": ["roof"]},
]
QUESTION = "Who covers houses?"


def retriever(**options: Any) -> MemoRAGRetriever:
    return MemoRAGRetriever.from_texts(
        [*TEXTS.values()],
        METADATA,
        ids=[*TEXTS],
        memorag=MemoRAG(SentenceModel(), progress=False),
        **options,
    )


def ids(found: list[Document]) -> list[str]:
    return [document.metadata["document_id"] for document in found]


CASES: list[tuple[Any, set[str]]] = [
    ({"year": 2026}, {"babies", "tortoise"}),
    ({"year": 2026, "tags": ["roof"]}, {"tortoise"}),
    ({"ward": None}, {"babies"}),
    ({"document_id": "slate"}, {"slate"}),
    ({"year": "2026"}, set()),
    ({}, {*TEXTS}),
    (lambda document: document.metadata["year"] < 2026, {"slate"}),
    (lambda document: "tortoise" in document.page_content, {"tortoise"}),
    (lambda _: False, set()),
]


@pytest.mark.parametrize(("wanted", "expected"), CASES)
async def test_only_what_passes_is_found_wherever_the_filter_is_given(
    wanted: Any, expected: set[str]
) -> None:
    plain, chosen = retriever(), retriever(filter=wanted)
    found = chosen.invoke(QUESTION)
    assert {*ids(found)} == expected
    assert [one for one in plain.invoke(QUESTION) if ids([one])[0] in expected] == found
    assert plain.invoke(QUESTION, filter=wanted) == found
    assert await plain.ainvoke(QUESTION, filter=wanted) == found
    assert plain.batch([QUESTION], filter=wanted) == await chosen.abatch([QUESTION]) == [found]
    configurable = plain.configurable_fields(filter=ConfigurableField(id="filter"))
    assert configurable.invoke(QUESTION, {"configurable": {"filter": wanted}}) == found


def test_a_filter_of_a_call_stands_in_place_of_the_retrievers_own() -> None:
    chosen = retriever(filter={"year": 2026}, k=1)
    assert ids(chosen.invoke(QUESTION)) != ["slate"]
    assert ids(chosen.invoke(QUESTION, filter={"year": 2025})) == ["slate"]
    assert ids(chosen.invoke(QUESTION, filter={})) == ["slate"]


def test_what_a_filter_is_given_is_what_is_found_and_cannot_change_what_was_memorized() -> None:
    seen: list[Document] = []

    def look(document: Document) -> bool:
        seen.append(document.model_copy(deep=True))
        document.metadata["tags"].append("seen")
        return True

    chosen = retriever(filter=look)
    found = chosen.invoke(QUESTION)
    assert sorted(ids(found)) == sorted(ids(seen)) == sorted(TEXTS)
    assert all(one in seen for one in found)
    assert [document.metadata["tags"] for document in chosen.memorag.documents] == [
        ["roof"],
        ["care"],
        ["roof"],
    ]


def test_what_a_filter_raises_is_raised() -> None:
    with pytest.raises(KeyError, match="ward"):
        retriever().invoke(QUESTION, filter=lambda document: document.metadata["ward"])


async def _later(_: Document) -> bool:
    return False


@pytest.mark.parametrize(
    ("wanted", "message"),
    [(3, "'filter' is a int"), ("year", "'filter' is a str"), ({1: 2}, "is a dict"), (_later, "async")],
)
def test_what_is_no_filter_is_refused(wanted: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        retriever(filter=wanted)
    with pytest.raises(InputError, match=message):
        retriever().invoke(QUESTION, filter=wanted)


def test_a_filter_that_gives_something_to_be_awaited_is_refused() -> None:
    later = _later(Document(""))
    with pytest.raises(InputError, match="awaited"):
        retriever().invoke(QUESTION, filter=lambda _: later)
    later.close()


def test_a_filter_and_a_retriever_of_ones_own_are_refused_together() -> None:
    store = InMemoryVectorStore.from_texts([*TEXTS.values()], DeterministicFakeEmbedding(size=8))
    with pytest.raises(ValueError, match=re.escape("search_kwargs={'k': 20, 'filter': ...}")):
        retriever(filter={"year": 2026}, base_retriever=store)
    with pytest.raises(InputError, match="'base_retriever' is searched instead"):
        retriever(base_retriever=store).invoke(QUESTION, filter={"year": 2026})


def test_a_filter_is_not_shown() -> None:
    chosen = retriever(filter={"secret": "sk-1"})
    assert "sk-1" not in repr(chosen) + dumps(chosen) + chosen.model_dump_json()
