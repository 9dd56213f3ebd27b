"""In the parts of LlamaIndex that take a retriever: engines, fusion, routers, tools, agents."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core import get_response_synthesizer
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ToolCallResult
from llama_index.core.base.base_selector import BaseSelector, SelectorResult, SingleSelection
from llama_index.core.llms import MockLLM
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.prompts.mixin import PromptDictType
from llama_index.core.query_engine import (
    RetrieverQueryEngine,
    RouterQueryEngine,
    TransformQueryEngine,
)
from llama_index.core.retrievers import QueryFusionRetriever, RouterRetriever, TransformRetriever
from llama_index.core.schema import QueryBundle
from llama_index.core.tools import QueryEngineTool, RetrieverTool, ToolMetadata

from llama_index_memorag import MemoRAGQueryTransform, MemoRAGRetriever
from memorag_core import MemoRAG
from tests.core.doubles import SentenceModel
from tests.llama_index.conftest import QUESTION
from tests.llama_index.doubles import ScriptedLLM, WordRetriever, how, nodes, vector_index

EVIDENCE = "Anna Holt repairs every clock"


class Second(BaseSelector):
    """Chooses the second of what there is."""

    def _get_prompts(self) -> PromptDictType:
        return {}

    def _update_prompts(self, prompts: PromptDictType) -> None:
        pass

    def _select(self, choices: Any, query: QueryBundle) -> SelectorResult:
        return SelectorResult(selections=[SingleSelection(index=1, reason="It is the second.")])

    async def _aselect(self, choices: Any, query: QueryBundle) -> SelectorResult:
        return self._select(choices, query)


@pytest.fixture
def retriever(memorag: MemoRAG) -> MemoRAGRetriever:
    return MemoRAGRetriever(memorag, 1)


async def test_in_an_engine_with_a_postprocessor_and_any_synthesizer(retriever: MemoRAGRetriever) -> None:
    for mode in ("compact", "refine", "tree_summarize"):
        engine = RetrieverQueryEngine(
            retriever,
            get_response_synthesizer(llm=MockLLM(), response_mode=mode),  # type: ignore[arg-type]
            node_postprocessors=[SimilarityPostprocessor(similarity_cutoff=0.0)],
        )
        for response in (engine.query(QUESTION), await engine.aquery(QUESTION)):
            assert [one.node.ref_doc_id for one in response.source_nodes] == ["clocks"]
            assert EVIDENCE in str(response)


async def test_around_an_engine_a_transform_asks_once_for_all_its_steps(
    retriever: MemoRAGRetriever, model: SentenceModel
) -> None:
    inner = RetrieverQueryEngine.from_args(retriever, llm=MockLLM())
    engine = TransformQueryEngine(inner, MemoRAGQueryTransform(retriever.memorag))
    assert EVIDENCE in str(engine.query(QUESTION))
    assert EVIDENCE in str(await engine.aquery(QUESTION))
    assert model.asked == 1


async def test_around_a_retriever_a_transform_widens_what_it_searches_for(memorag: MemoRAG) -> None:
    wide = TransformRetriever(WordRetriever(), MemoRAGQueryTransform(memorag, "append"))
    assert wide.retrieve(QUESTION)[0].node_id == "clocks"
    assert (await wide.aretrieve(QUESTION))[0].node_id == "clocks"


@pytest.mark.parametrize("mode", ["simple", "reciprocal_rerank", "relative_score", "dist_based_score"])
async def test_fused_with_a_vector_index(memorag: MemoRAG, mode: str) -> None:
    def fused(**how: Any) -> QueryFusionRetriever:
        return QueryFusionRetriever(
            [MemoRAGRetriever(memorag, 2), vector_index().as_retriever(similarity_top_k=2)],
            llm=MockLLM(),
            num_queries=1,
            similarity_top_k=4,
            mode=mode,  # type: ignore[arg-type]
            **how,
        )

    found = fused(use_async=False).retrieve(QUESTION)
    assert any(EVIDENCE in one.node.get_content() for one in found)
    assert [one.node_id for one in await fused().aretrieve(QUESTION)] == [one.node_id for one in found]


def test_fused_over_an_index_its_nodes_are_the_indexs_own(memorag: MemoRAG) -> None:
    index = vector_index()
    fused = QueryFusionRetriever(
        [MemoRAGRetriever(memorag, 4, over=index), index.as_retriever(similarity_top_k=4)],
        llm=MockLLM(),
        num_queries=1,
        similarity_top_k=9,
        mode="reciprocal_rerank",  # type: ignore[arg-type]
        use_async=False,
    )
    assert len(fused.retrieve(QUESTION)) == len(nodes())  # each once: both find the same nodes


async def test_chosen_by_routers(retriever: MemoRAGRetriever) -> None:
    tools = [
        RetrieverTool.from_defaults(WordRetriever(), description="Other things."),
        RetrieverTool.from_defaults(retriever, description="The island."),
    ]
    router = RouterRetriever(Second(), tools, llm=MockLLM())
    assert router.retrieve(QUESTION)[0].node.ref_doc_id == "clocks"
    assert (await router.aretrieve(QUESTION))[0].node.ref_doc_id == "clocks"
    engines = [
        QueryEngineTool(
            RetrieverQueryEngine.from_args(one, llm=MockLLM()),
            ToolMetadata(description="A source.", name=name),
        )
        for name, one in (("other", WordRetriever()), ("island", retriever))
    ]
    engine = RouterQueryEngine(Second(), engines, llm=MockLLM(), summarizer=_unused_summarizer())
    assert EVIDENCE in str(engine.query(QUESTION))
    assert EVIDENCE in str(await engine.aquery(QUESTION))


def _unused_summarizer() -> Any:
    from llama_index.core.response_synthesizers import TreeSummarize

    return TreeSummarize(llm=MockLLM())


async def test_a_tool_asks_what_the_retriever_asks(retriever: MemoRAGRetriever, model: SentenceModel) -> None:
    found = retriever.retrieve(QUESTION)
    tool = RetrieverTool.from_defaults(retriever)
    assert tool.call(QUESTION).raw_output == found
    assert (await tool.acall(QUESTION)).raw_output == found
    assert model.asked == 1


async def test_as_tools_that_keep_clues_from_the_llm(retriever: MemoRAGRetriever) -> None:
    engine = RetrieverQueryEngine.from_args(retriever, llm=MockLLM())
    for tool in (
        RetrieverTool.from_defaults(retriever, name="island", description="The island."),
        QueryEngineTool.from_defaults(engine, name="island", description="The island."),
    ):
        for said in (tool.call(QUESTION), await tool.acall(QUESTION)):
            assert EVIDENCE in str(said)
            assert "Where does it say" not in str(said)


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("kind", ["retriever", "engine"])
async def test_in_a_workflow_agent(retriever: MemoRAGRetriever, kind: str, streaming: bool) -> None:
    llm = ScriptedLLM(query=QUESTION)
    tool: Any = RetrieverTool.from_defaults(retriever, name="island", description="The island.")
    if kind == "engine":
        engine = RetrieverQueryEngine.from_args(retriever, llm=MockLLM())
        tool = QueryEngineTool.from_defaults(engine, name="island", description="The island.")
    agent = FunctionAgent(tools=[tool], llm=llm, streaming=streaming)
    answer: Any = await agent.run(QUESTION)
    assert EVIDENCE in str(answer)
    assert len(llm.heard) == 1
    assert [call.tool_name for call in answer.tool_calls] == ["island"]


async def test_in_a_workflow_of_agents_whose_tool_shows_the_nodes(retriever: MemoRAGRetriever) -> None:
    tool = RetrieverTool.from_defaults(retriever, name="island", description="The island.")
    agent = FunctionAgent(name="guide", description="Knows.", tools=[tool], llm=ScriptedLLM(query=QUESTION))
    handler = AgentWorkflow(agents=[agent], root_agent="guide").run(user_msg=QUESTION)
    results = [event async for event in handler.stream_events() if isinstance(event, ToolCallResult)]
    assert EVIDENCE in str(await handler)
    (found,) = results[0].tool_output.raw_output
    assert how(found).clues
