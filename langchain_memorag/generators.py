"""A memory as a chat model, so that it can stand where an LLM stands.

In: messages. Out: the memory's own answer to the last of them. Knows no chain and no provider.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.caches import BaseCache
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LangSmithParams
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import Field

from langchain_memorag.fields import WithMemory
from memorag_core import Clue, InputError, Recall


class MemoryChatModel(WithMemory, BaseChatModel):
    """Answers from memory alone: no LLM, no search, no evidence; what it says was recalled and may be wrong.

    It is asked the last message, which must be the user's; what was said before is left aside. The reply is
    the memory's best draft answer, and an empty text where it remembers nothing. ``response_metadata`` holds
    its ``score`` (the mean natural-log probability of its tokens, 0 is certainty), ``part`` (of the memory),
    ``tokens`` that were generated for all drafts, ``seconds``, and ``source``, which is "memory".

    Which draft is the best is known when all are there, so a stream gives the text in one piece. A task that
    is cancelled ends the asking at the next token. Stop words end the text; tools are not for a memory.

    Attributes:
        memorag: What was memorized. Left out of ``repr``, traces and every serialized form.
        cache: Of LangChain's; off, unless told: a memory that reads on says something else to the same words.
    """

    cache: BaseCache | bool | None = Field(default=False, exclude=True)

    @property
    def _llm_type(self) -> str:
        return "memorag"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        recalled = self.memorag.recall_clues([_asked(messages, kwargs)], kinds=("answer",))
        return _result(recalled[0], stop)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        recalled = await self.memorag.arecall_clues([_asked(messages, kwargs)], kinds=("answer",))
        return _result(recalled[0], stop)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        chunk = _chunk(self._generate(messages, stop, None, **kwargs))
        if run_manager is not None:
            run_manager.on_llm_new_token(chunk.text, chunk=chunk)
        yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        chunk = _chunk(await self._agenerate(messages, stop, None, **kwargs))
        if run_manager is not None:
            await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
        yield chunk

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop, **kwargs)
        params["ls_provider"] = "memorag"
        params.setdefault("ls_model_name", "memory")
        return params


def _asked(messages: Sequence[BaseMessage], kwargs: Mapping[str, Any]) -> str:
    """The question in messages."""
    if kwargs:
        raise InputError(
            f"A memory was given {', '.join(kwargs)}; expected messages, and stop words at most. "
            "Leave it out."
        )
    last = messages[-1] if messages else None
    if isinstance(last, HumanMessage) and last.text.strip():
        return str(last.text)
    found = "no message" if last is None else f"one of type {last.type!r} with the text {last.text!r:.80}"
    raise InputError(f"The last message is {found}; expected the user's question, a HumanMessage with text.")


def _result(recalled: Recall, stop: Sequence[str] | None) -> ChatResult:
    best: Clue | None = max(recalled.clues, key=lambda clue: clue.score, default=None)
    metadata: dict[str, Any] = {"source": "memory", "tokens": recalled.tokens, "seconds": recalled.seconds}
    if best is not None:
        metadata |= {"score": best.score, "part": best.part}
    text = "" if best is None else best.text
    text = text[: min((text.index(word) for word in stop or () if word in text), default=len(text))]
    message = AIMessage(text, response_metadata=metadata)
    return ChatResult(generations=[ChatGeneration(message=message)])


def _chunk(result: ChatResult) -> ChatGenerationChunk:
    message = result.generations[0].message
    return ChatGenerationChunk(
        message=AIMessageChunk(content=message.content, response_metadata=message.response_metadata)
    )
