"""What a caller chooses: at construction, at a call, as a configurable field, to the same effect."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from langchain_core.runnables import ConfigurableField
from pydantic import ValidationError

from langchain_memorag import ClueCompressor, MemoRAGClues, MemoRAGRetriever
from memorag_core import InputError, MemoRAG, RetrievalSettings
from tests.langchain.conftest import QUESTION

CHOICES = [
    {"k": 2},
    {"clue_kinds": ("query",)},
    {"clue_kinds": ("query",), "k": 1},
    {"retrieval_settings": {"question_weight": 0.0}},
    {"retrieval_settings": RetrievalSettings(clue_weights={"span": 2.0}, k=3)},
    {"retrieval_settings": {"k": 3}, "k": 2},
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
        for found in retriever.invoke(QUESTION, clue_kinds=["query"], annotate=True)
        for clue in found.metadata["clues"]
    }
    for found in retriever.invoke(QUESTION, clue_kinds=["query"], annotate=True):
        assert all(clue.startswith("Where does it say") for clue in found.metadata["clues"])
    silent = {"clue_weights": {"span": 0, "query": 0, "answer": 0}}
    without = retriever.invoke(QUESTION, retrieval_settings=silent, annotate=True)
    assert not any(found.metadata["clues"] for found in without)


def test_fields_chosen_at_a_call_change_what_was_chosen_before(memorag: MemoRAG) -> None:
    retriever = MemoRAGRetriever(memorag=memorag, retrieval_settings={"k": 2})
    assert len(retriever.invoke(QUESTION, retrieval_settings={"clue_weights": {"span": 1.0}})) == 2
    assert len(retriever.invoke(QUESTION, retrieval_settings=RetrievalSettings(k=3))) == 3


def test_configurable_fields_have_a_schema(memorag: MemoRAG) -> None:
    configurable = MemoRAGRetriever(memorag=memorag).configurable_fields(
        k=ConfigurableField(id="k"),
        clue_kinds=ConfigurableField(id="clue_kinds"),
        retrieval_settings=ConfigurableField(id="retrieval_settings"),
        timeout=ConfigurableField(id="timeout"),
    )
    properties = configurable.get_config_jsonschema()["$defs"]["Configurable"]["properties"]
    assert {"k", "clue_kinds", "retrieval_settings", "timeout"} <= properties.keys()


OLD: dict[str, tuple[str, Any]] = {
    "kinds": ("clue_kinds", ("query",)),
    "retrieval": ("retrieval_settings", {"clue_weights": {"span": 2.0}}),
}


@pytest.mark.parametrize("old", OLD)
async def test_old_names_work_wherever_a_choice_is_made_and_warn_whoever_made_it(
    memorag: MemoRAG, old: str
) -> None:
    new, value = OLD[old]
    given: dict[str, Any] = {old: value}
    plain = MemoRAGRetriever(memorag=memorag)
    chosen = plain.invoke(QUESTION, **{new: value})
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        made = MemoRAGRetriever(memorag=memorag, **given)
        assert getattr(made, old) == getattr(made, new) == value
        configurable = plain.configurable_fields(**{old: ConfigurableField(id="own")})
        found = [
            plain.invoke(QUESTION, **given),
            await plain.ainvoke(QUESTION, **given),
            *plain.batch([QUESTION], **given),
            *await plain.abatch([QUESTION], **given),
        ]
    assert [warning.category for warning in told] == [DeprecationWarning] * 7
    assert {warning.filename for warning in told} == {__file__}
    assert all(f"'{old}' is deprecated; use '{new}'" in str(warning.message) for warning in told)
    assert found == [chosen] * 4
    assert made.invoke(QUESTION) == chosen
    assert configurable.invoke(QUESTION, {"configurable": {"own": value}}) == chosen
    both: dict[str, Any] = {old: value, new: value}
    with pytest.raises(TypeError, match=f"both '{old}' and '{new}'"):
        plain.invoke(QUESTION, **both)
    with pytest.raises(TypeError, match=f"both '{old}' and '{new}'"):
        MemoRAGRetriever(memorag=memorag, **both)


def test_old_names_of_other_fields_and_runnables_work_too(memorag: MemoRAG) -> None:
    beneath = MemoRAGRetriever(memorag=memorag)
    given: dict[str, Any] = {"over": beneath}
    with pytest.warns(DeprecationWarning, match="'over' is deprecated; use 'base_retriever'"):
        assert MemoRAGRetriever(memorag=memorag, **given).base_retriever is beneath
    with pytest.warns(DeprecationWarning, match="MemoRAGRetriever: 'over' is deprecated"):
        configurable = beneath.configurable_fields(over=ConfigurableField(id="store"))
    other = configurable.with_config(configurable={"store": beneath}).invoke(QUESTION)
    assert other == MemoRAGRetriever(memorag=memorag, base_retriever=beneath).invoke(QUESTION)

    given = {"kinds": ["query"]}
    clues = MemoRAGClues(memorag=memorag)
    chosen = clues.invoke(QUESTION, clue_kinds=["query"])
    with pytest.warns(DeprecationWarning, match="'kinds' is deprecated"):
        assert clues.invoke(QUESTION, **given) == chosen
    with pytest.warns(DeprecationWarning, match="'kinds' is deprecated"):
        assert list(clues.stream(QUESTION, **given))
    with pytest.warns(DeprecationWarning, match="'kinds' is deprecated"):
        assert MemoRAGClues(memorag=memorag, **given).invoke(QUESTION) == chosen
    with pytest.warns(DeprecationWarning, match="'kinds' is deprecated"):
        configurable_clues = clues.configurable_fields(kinds=ConfigurableField(id="kinds"))
    assert configurable_clues.invoke(QUESTION, {"configurable": given}) == chosen
    with pytest.warns(DeprecationWarning, match="'kinds' is deprecated"):
        assert ClueCompressor(memorag=memorag, **given).clue_kinds == ("query",)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"clue_kinds": ["spam"]}, "'spam'"),
        ({"clue_kinds": []}, "one or more"),
        ({"clue_kinds": "span"}, r"\('span',\)"),
        ({"retrieval_settings": 3}, "'retrieval_settings' is a int"),
        ({"retrieval_settings": {"span": 3}}, "'span', which RetrievalSettings does not"),
        ({"retrieval_settings": {"clue_weights": {"span": -1}}}, r"clue_weights\['span'\] is -1"),
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
        ({"base_retriever": "a store"}, "'base_retriever' is a str"),
        ({"base_retriever": MemoRAGRetriever}, "made and filled"),
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
    for choice in ({"k": 99}, {"retrieval_settings": {"k": 0}}, {"clue_kinds": ["spam"]}):
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
