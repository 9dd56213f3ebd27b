"""The LlamaIndex query transform: what it adds, how often the memory is asked, what an LLM sees."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.indices.query.query_transform.base import BaseQueryTransform
from llama_index.core.llms import MockLLM
from llama_index.core.prompts import PromptTemplate
from llama_index.core.query_engine import RetrieverQueryEngine, TransformQueryEngine
from llama_index.core.retrievers import TransformRetriever
from llama_index.core.schema import QueryBundle

from llama_index_memorag import ClueEndEvent, ClueStartEvent, MemoRAGQueryTransform
from llama_index_memorag.query_transform import Mode
from memorag_core import Document, InputError, MemoRAG, NothingMemorizedError
from tests.core.doubles import SentenceModel
from tests.llama_index.conftest import QUESTION, remembering
from tests.llama_index.doubles import WordRetriever, listening, nodes, vector_index


def vector_engine() -> BaseQueryEngine:
    return vector_index().as_query_engine(llm=MockLLM(), similarity_top_k=1)  # answers with its prompt


@pytest.fixture
def clues() -> list[str]:
    """The texts that a memory of its own recalls, each once: kinds may agree."""
    return list(dict.fromkeys(clue.text for clue in remembering(SentenceModel()).clues(QUESTION)))


# What becomes of a query


def test_embedding_adds_the_clues_to_the_texts_to_embed_and_keeps_the_question(
    memorag: MemoRAG, clues: list[str]
) -> None:
    assert MemoRAGQueryTransform(memorag).run(QUESTION) == QueryBundle(
        query_str=QUESTION, custom_embedding_strs=[QUESTION, *clues]
    )


def test_append_writes_the_clues_into_the_query_string(memorag: MemoRAG, clues: list[str]) -> None:
    wide = "\n".join([QUESTION, *clues])
    assert MemoRAGQueryTransform(memorag, "append").run(QUESTION) == QueryBundle(
        query_str=wide, custom_embedding_strs=[wide]
    )


@pytest.mark.parametrize("mode", ["embedding", "append"])
def test_a_string_and_a_bundle_of_it_become_the_same(memorag: MemoRAG, mode: Any) -> None:
    transform = MemoRAGQueryTransform(memorag, mode)
    assert transform(QUESTION) == transform(QueryBundle(QUESTION))


@pytest.mark.parametrize("mode", ["embedding", "append"])
def test_what_another_transform_added_stays_and_its_stale_vector_goes(memorag: MemoRAG, mode: Any) -> None:
    bundle = QueryBundle(QUESTION, "lamp.png", [QUESTION, "A hypothetical answer."], embedding=[1.0])
    out = MemoRAGQueryTransform(memorag, mode).run(bundle)
    assert out.image_path == "lamp.png"
    assert "A hypothetical answer." in out.embedding_strs
    assert out.embedding is None
    assert bundle == QueryBundle(QUESTION, "lamp.png", [QUESTION, "A hypothetical answer."], embedding=[1.0])


def test_each_run_gives_a_bundle_of_its_own_since_retrievers_write_into_it(memorag: MemoRAG) -> None:
    transform = MemoRAGQueryTransform(memorag)
    first = transform.run(QUESTION)
    first.embedding = [1.0]
    first.embedding_strs.clear()
    assert transform.run(QUESTION).embedding is None
    assert len(transform.run(QUESTION).embedding_strs) > 1


def test_only_the_kinds_asked_for_are_added(memorag: MemoRAG) -> None:
    spans = dict.fromkeys(clue.text for clue in memorag.clues(QUESTION, kinds=("span",)))
    assert MemoRAGQueryTransform(memorag, kinds=["span"]).run(QUESTION).embedding_strs == [QUESTION, *spans]


# With the user's own index


async def test_a_vector_index_finds_through_the_clues_what_the_question_alone_misses(
    memorag: MemoRAG,
) -> None:
    engine = vector_engine()
    alone = await engine.aquery(QUESTION)
    assert alone.source_nodes[0].node_id != "clocks"
    transformed = TransformQueryEngine(engine, query_transform=MemoRAGQueryTransform(memorag))
    assert transformed.query(QUESTION).source_nodes[0].node_id == "clocks"
    assert (await transformed.aquery(QUESTION)).source_nodes[0].node_id == "clocks"


async def test_the_llm_behind_a_transform_engine_sees_the_question_and_no_clue(memorag: MemoRAG) -> None:
    engine = TransformQueryEngine(vector_engine(), query_transform=MemoRAGQueryTransform(memorag))
    for response in (engine.query(QUESTION), await engine.aquery(QUESTION)):
        assert f"Query: {QUESTION}\n" in str(response)
        assert "Where does it say" not in str(response)  # the surrogate question, a clue


def test_a_lexical_retriever_finds_through_appended_clues_and_the_llm_sees_none(memorag: MemoRAG) -> None:
    words = WordRetriever(nodes())
    assert words.retrieve(QUESTION) == []
    retriever = TransformRetriever(words, MemoRAGQueryTransform(memorag, "append"))
    assert retriever.retrieve(QUESTION)[0].node_id == "clocks"
    response = RetrieverQueryEngine.from_args(retriever, llm=MockLLM()).query(QUESTION)
    assert f"Query: {QUESTION}\n" in str(response)
    assert "Where does it say" not in str(response)


# How often the memory is asked


async def test_an_engine_that_transforms_in_every_step_asks_the_memory_once(
    memorag: MemoRAG, model: SentenceModel
) -> None:
    engine = TransformQueryEngine(vector_engine(), query_transform=MemoRAGQueryTransform(memorag))
    bundle = QueryBundle(QUESTION)
    found = engine.retrieve(bundle)
    asked = model.asked
    assert asked > 0
    engine.synthesize(bundle, found)
    await engine.asynthesize(bundle, found)
    engine.query(QUESTION)
    await engine.aquery(QUESTION)
    assert model.asked == asked


def test_another_question_or_a_longer_memory_asks_again(memorag: MemoRAG, model: SentenceModel) -> None:
    transform = MemoRAGQueryTransform(memorag)
    transform.run(QUESTION)
    once = model.asked
    transform.run("Who bakes?")
    assert model.asked == 2 * once
    newer = "Bela, who mends timepieces, came late."
    memorag.memorize([Document(newer, "bela")])
    assert newer in transform.run(QUESTION).embedding_strs
    assert model.asked == 3 * once


def test_threads_get_the_clues_of_their_own_question(memorag: MemoRAG) -> None:
    transform = MemoRAGQueryTransform(memorag)
    questions = ["Who bakes?", "Who mends timepieces?", "What of the tower?", "What of the ferry?"] * 20
    alone = [MemoRAGQueryTransform(memorag).run(question) for question in questions[:4]] * 20
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(transform.run, questions)) == alone


async def test_arun_asks_in_a_thread_and_the_engine_finds_the_clues_kept(
    gated: tuple[MemoRAG, Event],
) -> None:
    memorag, gate = gated
    transform = MemoRAGQueryTransform(memorag)
    waiting = asyncio.create_task(transform.arun(QUESTION))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    gate.set()  # the loop opens the gate: it cannot, when the question holds it up
    first = await waiting
    gate.clear()  # now the memory answers nobody, and is not needed
    engine = TransformQueryEngine(vector_engine(), query_transform=transform)
    assert (await engine.aquery(QUESTION)).source_nodes[0].node_id == "clocks"
    assert transform.run(QUESTION) == first


async def test_arun_gives_what_run_gives_for_strings_and_bundles(memorag: MemoRAG) -> None:
    modes: tuple[Mode, ...] = ("embedding", "append")
    for mode in modes:
        transform = MemoRAGQueryTransform(memorag, mode)
        bundle = QueryBundle(QUESTION, "lamp.png", [QUESTION, "A hypothetical answer."], embedding=[1.0])
        assert await transform.arun(QUESTION) == transform.run(QUESTION)
        assert await transform.arun(bundle) == transform.run(bundle)


async def test_clues_are_told_of_as_they_are_recalled(memorag: MemoRAG) -> None:
    transform = MemoRAGQueryTransform(memorag, kinds=["span"])
    for _ in range(2):  # asked, and kept
        with listening() as ear:
            await transform.arun(QUESTION)
            transform.run(QUESTION)
        assert [event.kinds for event in ear.of(ClueStartEvent)] == [["span"]] * 2
        ends = [[clue.text for clue in event.clues] for event in ear.of(ClueEndEvent)]
        assert ends == [[clue.text for clue in memorag.clues(QUESTION, kinds=("span",))]] * 2


# Prompts


def test_the_append_prompt_is_shown_and_can_be_changed(memorag: MemoRAG, clues: list[str]) -> None:
    engine = TransformQueryEngine(vector_engine(), query_transform=MemoRAGQueryTransform(memorag, "append"))
    assert engine.get_prompts()["query_transform:append_prompt"].get_template() == "{query_str}\n{clues}"
    engine.update_prompts({"query_transform:append_prompt": PromptTemplate("{clues} -- {query_str}")})
    transform = engine._query_transform
    assert transform.run(QUESTION).query_str == "\n".join(clues) + f" -- {QUESTION}"


def test_a_prompt_may_name_its_variables_otherwise(memorag: MemoRAG, clues: list[str]) -> None:
    prompt = PromptTemplate("{q} | {hints}", template_var_mappings={"query_str": "q", "clues": "hints"})
    transform = MemoRAGQueryTransform(memorag, "append", append_prompt=prompt)
    assert transform.run(QUESTION).query_str == f"{QUESTION} | " + "\n".join(clues)


def test_a_transform_without_a_prompt_shows_none(memorag: MemoRAG) -> None:
    assert MemoRAGQueryTransform(memorag).get_prompts() == {}


@pytest.mark.parametrize(("template", "missing"), [("{query_str}", "clues"), ("{clues}", "query_str")])
def test_a_prompt_that_loses_question_or_clues_is_refused(
    memorag: MemoRAG, template: str, missing: str
) -> None:
    transform = MemoRAGQueryTransform(memorag, "append")
    with pytest.raises(InputError, match=f"no variable {missing}"):
        transform.update_prompts({"append_prompt": PromptTemplate(template)})
    with pytest.raises(InputError, match=f"no variable {missing}"):
        MemoRAGQueryTransform(memorag, "append", append_prompt=PromptTemplate(template))


@given(st.text(min_size=1).filter(str.strip))
def test_any_question_stays_as_it_is(question: str) -> None:
    memorag = MemoRAG(SentenceModel(), progress=False).memorize("{query_str} and {clues} are braces.")
    wide = MemoRAGQueryTransform(memorag, "append").run(question)
    assert wide.query_str.startswith(question)
    assert MemoRAGQueryTransform(memorag).run(question).query_str == question


# Clear errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"memorag": "book.txt"}, "'memorag' is a str"),
        ({"mode": "both"}, "expected one of embedding, append"),
        ({"kinds": ["spans"]}, "Take out 'spans'"),
        ({"kinds": "span"}, "Give a tuple"),
    ],
)
def test_wrong_arguments_are_named(memorag: MemoRAG, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MemoRAGQueryTransform(**{"memorag": memorag, **arguments})


def test_a_question_before_anything_is_memorized_is_an_error(model: SentenceModel) -> None:
    with pytest.raises(NothingMemorizedError):
        MemoRAGQueryTransform(MemoRAG(model)).run(QUESTION)


def test_a_transform_is_not_pickled_for_it_holds_a_model(memorag: MemoRAG) -> None:
    transform = MemoRAGQueryTransform(memorag)
    with pytest.raises(TypeError, match="MemoRAG cannot be pickled"):
        pickle.dumps(transform)
    assert copy.deepcopy(transform).run(QUESTION) == transform.run(QUESTION)


# Signatures


def test_public_signatures_are_as_promised() -> None:
    assert str(inspect.signature(MemoRAGQueryTransform)) == (
        "(memorag: 'MemoRAG', mode: 'Mode' = 'embedding', *, kinds: 'Sequence[ClueKind] | None' = None, "
        "append_prompt: 'BasePromptTemplate | None' = None) -> 'None'"
    )
    assert list(inspect.signature(MemoRAGQueryTransform.arun).parameters) == [
        "self",
        "query_bundle_or_str",
        "metadata",
    ]
    assert issubclass(MemoRAGQueryTransform, BaseQueryTransform)
