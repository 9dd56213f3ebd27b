"""What a caller chooses: at construction, at a call, as a configurable field, to the same effect."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.runnables import ConfigurableField
from pydantic import ValidationError

from langchain_memorag import MemoRAGClues, MemoRAGRetriever
from memorag_core import InputError, MemoRAG, RetrievalSettings
from tests.langchain.conftest import QUESTION

CHOICES = [
    {"k": 2},
    {"kinds": ("query",)},
    {"kinds": ("query",), "k": 1},
    {"retrieval": {"question_weight": 0.0}},
    {"retrieval": RetrievalSettings(clue_weights={"span": 2.0}, k=3)},
    {"retrieval": {"k": 3}, "k": 2},
]


@pytest.mark.parametrize("choice", CHOICES)
async def test_a_choice_has_the_same_effect_wherever_it_is_made(
    memorag: MemoRAG, choice: dict[str, Any]
) -> None:
    plain = MemoRAGRetriever(memorag=memorag)
    chosen = MemoRAGRetriever(memorag=memorag, **choice).invoke(QUESTION)
    assert plain.invoke(QUESTION, **choice) == chosen
    assert await plain.ainvoke(QUESTION, **choice) == chosen
    assert plain.bind(**choice).batch([QUESTION]) == [chosen]
    assert (await plain.abatch([QUESTION], **choice)) == [chosen]
    fields = {name: ConfigurableField(id=name) for name in choice}
    configurable = plain.configurable_fields(**fields)
    assert configurable.invoke(QUESTION, {"configurable": choice}) == chosen
    assert configurable.with_config(configurable=choice).batch([QUESTION, QUESTION]) == [chosen] * 2
    assert configurable.invoke(QUESTION) == plain.invoke(QUESTION)


def test_choices_reach_the_result(memorag: MemoRAG) -> None:
    retriever = MemoRAGRetriever(memorag=memorag)
    assert {
        clue
        for found in retriever.invoke(QUESTION, kinds=["query"], annotate=True)
        for clue in found.metadata["clues"]
    }
    for found in retriever.invoke(QUESTION, kinds=["query"], annotate=True):
        assert all(clue.startswith("Where does it say") for clue in found.metadata["clues"])
    silent = {"clue_weights": {"span": 0, "query": 0, "answer": 0}}
    without = retriever.invoke(QUESTION, retrieval=silent, annotate=True)
    assert not any(found.metadata["clues"] for found in without)


def test_fields_chosen_at_a_call_change_what_was_chosen_before(memorag: MemoRAG) -> None:
    retriever = MemoRAGRetriever(memorag=memorag, retrieval={"k": 2})
    assert len(retriever.invoke(QUESTION, retrieval={"clue_weights": {"span": 1.0}})) == 2
    assert len(retriever.invoke(QUESTION, retrieval=RetrievalSettings(k=3))) == 3


def test_configurable_fields_have_a_schema(memorag: MemoRAG) -> None:
    configurable = MemoRAGRetriever(memorag=memorag).configurable_fields(
        k=ConfigurableField(id="k"),
        kinds=ConfigurableField(id="kinds"),
        retrieval=ConfigurableField(id="retrieval"),
        timeout=ConfigurableField(id="timeout"),
    )
    schema = configurable.get_config_jsonschema()
    assert {"k", "kinds", "retrieval", "timeout"} <= schema["$defs"]["Configurable"]["properties"].keys()


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"kinds": ["spam"]}, "'spam'"),
        ({"kinds": []}, "one or more"),
        ({"kinds": "span"}, r"\('span',\)"),
        ({"retrieval": 3}, "'retrieval' is a int"),
        ({"retrieval": {"span": 3}}, "'span', which RetrievalSettings does not"),
        ({"retrieval": {"clue_weights": {"span": -1}}}, r"clue_weights\['span'\] is -1"),
    ],
)
def test_a_choice_that_cannot_be_used_is_named(
    memorag: MemoRAG, choice: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        MemoRAGRetriever(memorag=memorag, **choice)
    with pytest.raises(InputError, match=message):
        MemoRAGRetriever(memorag=memorag).invoke(QUESTION, **choice)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"over": "a store"}, "'over' is a str"),
        ({"over": MemoRAGRetriever}, "made and filled"),
        ({"concurrency": 0}, "greater than or equal to 1"),
        ({"timeout": 0}, "greater than 0"),
        ({"timeout": float("nan")}, "finite"),
        ({"top_k": 3}, "Extra inputs"),
    ],
)
def test_an_attribute_that_cannot_be_used_is_named(
    memorag: MemoRAG, choice: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        MemoRAGRetriever(memorag=memorag, **choice)


def test_what_cannot_be_had_is_refused_before_the_memory_is_asked(memorag: MemoRAG) -> None:
    retriever = MemoRAGRetriever(memorag=memorag)
    asked = memorag.model.asked  # type: ignore[attr-defined]
    for choice in ({"k": 99}, {"retrieval": {"k": 0}}, {"kinds": ["spam"]}):
        with pytest.raises(InputError):
            retriever.invoke(QUESTION, **choice)
        with pytest.raises(InputError):
            retriever.batch([QUESTION], **choice)
    assert memorag.model.asked == asked  # type: ignore[attr-defined]


@pytest.mark.parametrize("question", [3, {"question": QUESTION}, None, "", " "])
def test_a_question_that_is_none_is_named(memorag: MemoRAG, question: Any) -> None:
    for runnable in (MemoRAGRetriever(memorag=memorag), MemoRAGClues(memorag=memorag)):
        with pytest.raises(InputError, match="question"):
            runnable.invoke(question)
