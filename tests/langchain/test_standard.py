"""LangChain's own suites, run on the retriever and on the tools made of it."""

from __future__ import annotations

from typing import Any

from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import BaseTool, create_retriever_tool
from langchain_tests.integration_tests import RetrieversIntegrationTests, ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests

from langchain_memorag import MemoRAGRetriever, memorize_tool
from memorag_core import MemoRAG
from tests.core.doubles import SentenceModel
from tests.langchain.conftest import DOCUMENTS, QUESTION


def _memorag() -> MemoRAG:
    return MemoRAG(SentenceModel(), progress=False).memorize(DOCUMENTS)


def _tool() -> BaseTool:
    return create_retriever_tool(
        MemoRAGRetriever(memorag=_memorag()),
        "island",
        "What is known of the island.",
        response_format="content_and_artifact",
    )


class TestRetriever(RetrieversIntegrationTests):
    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return MemoRAGRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"memorag": _memorag()}

    @property
    def retriever_query_example(self) -> str:
        return QUESTION


class TestToolUnit(ToolsUnitTests):
    @property
    def tool_constructor(self) -> BaseTool:
        return _tool()

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {"query": QUESTION}


class TestTool(ToolsIntegrationTests):
    @property
    def tool_constructor(self) -> BaseTool:
        return _tool()

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {"query": QUESTION}


class TestMemorizeToolUnit(ToolsUnitTests):
    @property
    def tool_constructor(self) -> BaseTool:
        return memorize_tool(MemoRAGRetriever(memorag=_memorag()))

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {"text": "The mill burned down in 1902."}


class TestMemorizeTool(ToolsIntegrationTests):
    @property
    def tool_constructor(self) -> BaseTool:
        return memorize_tool(MemoRAGRetriever(memorag=_memorag()))

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {"text": "The mill burned down in 1902."}
