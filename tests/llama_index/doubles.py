"""What the tests of the LlamaIndex adapter share: an embedding, retrievers, an LLM with a script, an ear."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, TypeVar

from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    CompletionResponse,
    LLMMetadata,
)
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.instrumentation import root_dispatcher  # type: ignore[attr-defined]  # no __all__
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.base import BaseEvent  # type: ignore[attr-defined]
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from pydantic import Field

from llama_index_memorag import FoundNode
from tests.llama_index.conftest import DOCUMENTS

EMPTY_WORDS = {"who", "the", "is", "in", "what"}
E = TypeVar("E")


def how(found: NodeWithScore) -> FoundNode:
    """A node with how it was found."""
    assert isinstance(found, FoundNode)
    return found


class WordEmbedding(BaseEmbedding):
    """Each word has a fixed place in the vector: texts are near when they share words."""

    def _get_text_embedding(self, text: str) -> list[float]:
        vector = [0.0] * 512
        for word in set(re.findall(r"\w+", text.casefold())) - EMPTY_WORDS:
            vector[int.from_bytes(sha256(word.encode()).digest()[:2]) % 512] = 1.0
        vector[0] += 0.01  # no text is at right angles to all others
        return vector

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


def nodes() -> list[TextNode]:
    return [
        TextNode(text=document.text, id_=document.id, metadata=dict(document.metadata))
        for document in DOCUMENTS
    ]


def vector_index(given: Sequence[TextNode] | None = None) -> VectorStoreIndex:
    return VectorStoreIndex(
        list(given if given is not None else nodes()),
        embed_model=WordEmbedding(),
        storage_context=StorageContext.from_defaults(),
    )


class WordRetriever(BaseRetriever):
    """Ranks by shared words, as a lexical retriever does; ``before`` may fail or take its time."""

    def __init__(
        self, given: Sequence[TextNode] | None = None, *, before: Callable[[str], object] | None = None
    ) -> None:
        super().__init__()
        self.nodes = list(given if given is not None else nodes())
        self.before = before
        self.asked: list[str] = []

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        query = query_bundle.query_str
        self.asked.append(query)
        if self.before is not None:
            self.before(query)
        words = set(re.findall(r"\w+", query.casefold())) - EMPTY_WORDS
        scores = [len(words & set(re.findall(r"\w+", node.text.casefold()))) for node in self.nodes]
        best = sorted(range(len(scores)), key=lambda place: -scores[place])
        return [
            NodeWithScore(node=self.nodes[place], score=float(scores[place]))
            for place in best
            if scores[place]
        ]


class AwaitedRetriever(WordRetriever):
    """Has an async method of its own."""

    awaited = 0

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        self.awaited += 1
        return self._retrieve(query_bundle)


class ScriptedLLM(FunctionCallingLLM):
    """Calls its first tool with ``query``, then answers with what the tool said."""

    query: str
    heard: list[str] = Field(default_factory=list)

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(is_chat_model=True, is_function_calling_model=True, model_name="scripted")

    def _prepare_chat_with_tools(self, tools: Any, *_args: Any, **_kwargs: Any) -> dict[str, Any]:
        return {"messages": [], "tools": [tool.metadata.get_name() for tool in tools]}

    def get_tool_calls_from_response(
        self, response: ChatResponse, *_args: Any, **_kwargs: Any
    ) -> list[ToolSelection]:
        found: list[ToolSelection] = response.message.additional_kwargs.get("calls", [])
        return found

    async def achat_with_tools(self, tools: Any, *_args: Any, **kwargs: Any) -> ChatResponse:
        return self._step(tools, kwargs["chat_history"])

    async def astream_chat_with_tools(self, tools: Any, *_args: Any, **kwargs: Any) -> ChatResponseAsyncGen:
        async def one() -> AsyncGenerator[ChatResponse, None]:
            yield self._step(tools, kwargs["chat_history"])

        return one()

    def _step(self, tools: Any, history: list[ChatMessage]) -> ChatResponse:
        said = [message.content or "" for message in history if message.role.value == "tool"]
        self.heard += said
        if said:
            return ChatResponse(message=ChatMessage(role="assistant", content=f"It says: {said[-1]}"))
        call = ToolSelection(
            tool_id="1", tool_name=tools[0].metadata.get_name(), tool_kwargs={"input": self.query}
        )
        return ChatResponse(
            message=ChatMessage(role="assistant", content="", additional_kwargs={"calls": [call]})
        )

    def complete(self, prompt: str, formatted: bool = False, **_kwargs: Any) -> CompletionResponse:
        return CompletionResponse(text=prompt)

    async def acomplete(self, prompt: str, formatted: bool = False, **_kwargs: Any) -> CompletionResponse:
        return CompletionResponse(text=prompt)

    def chat(self, messages: Any, **_kwargs: Any) -> ChatResponse:
        text = "\n".join(message.content or "" for message in messages)
        return ChatResponse(message=ChatMessage(role="assistant", content=text))

    async def achat(self, messages: Any, **kwargs: Any) -> ChatResponse:
        return self.chat(messages, **kwargs)

    def stream_chat(self, messages: Any, **_kwargs: Any) -> Any:
        raise NotImplementedError

    async def astream_chat(self, messages: Any, **_kwargs: Any) -> Any:
        raise NotImplementedError

    def stream_complete(self, prompt: str, formatted: bool = False, **_kwargs: Any) -> Any:
        raise NotImplementedError

    async def astream_complete(self, prompt: str, formatted: bool = False, **_kwargs: Any) -> Any:
        raise NotImplementedError


class Ear(BaseEventHandler):
    """Keeps the events it hears, in their order."""

    events: list[Any] = Field(default_factory=list)

    def handle(self, event: BaseEvent, **_kwargs: Any) -> None:
        self.events.append(event)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]


@contextmanager
def listening() -> Iterator[Ear]:
    """An ear at LlamaIndex's root dispatcher."""
    ear = Ear()
    root_dispatcher.add_event_handler(ear)
    try:
        yield ear
    finally:
        root_dispatcher.event_handlers.remove(ear)


def slow(seconds: float, *, where: str) -> Callable[[str], None]:
    """Takes its time over queries that hold a text."""

    def before(query: str) -> None:
        if where in query:
            time.sleep(seconds)

    return before


def failing(error: Exception, *, where: str = "") -> Callable[[str], None]:
    """Raises on queries that hold a text."""

    def before(query: str) -> None:
        if where in query:
            raise error

    return before
