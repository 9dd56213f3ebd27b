"""A model of Hugging Face on this machine as a chat model: the one under a memory, or one of its own.

In: messages. Out: what the model says to them, token by token. Knows no memory: of a memory model it takes
the language model and the tokenizer, so that weights that are loaded once recall and write.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, NoReturn, SupportsIndex

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LangSmithParams
from langchain_core.language_models.chat_models import agenerate_from_stream, generate_from_stream
from langchain_core.messages import AIMessageChunk, BaseMessage, convert_to_openai_messages
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables.config import run_in_executor
from pydantic import Field

from memorag_core import InputError

if TYPE_CHECKING:
    from memorag_core import BeaconModel, LongContextModel

MAX_NEW_TOKENS = 512

_MARK = "memorag-message-{}-5ec0a1"  # stands for a text in a rendered conversation
_MARKED = re.compile(_MARK.format(r"(\d+)"))


class LocalChatModel(BaseChatModel):
    """Says what a language model of transformers says, decoding greedily; ``local_chat_model`` makes one.

    Messages go through the tokenizer's chat template, or, where it has none, one after the other. A special
    token that is spelled out in a message is text, so that a passage cannot end its turn. Closing a stream,
    or cancelling a task, ends the reply at the next token. Tools are not offered.

    Attributes:
        model: A ``BeaconModel`` or ``LongContextModel`` with a tokenizer; a beacon model speaks as the plain
            model that it was made of. Left out of ``repr`` and of every serialized form.
        model_name: What it is called in traces.
        max_new_tokens: The longest reply; ``finish_reason`` is "length" where it was too short.
    """

    model: Any = Field(repr=False, exclude=True)
    model_name: str
    max_new_tokens: int = Field(default=MAX_NEW_TOKENS, ge=1)

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(
            f"A {type(self).__name__} cannot be pickled, for it holds a model. Make another one where it is "
            "needed, with local_chat_model."
        )

    @property
    def _llm_type(self) -> str:
        return "memorag-local"

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Generator[ChatGenerationChunk]:
        if kwargs:
            raise InputError(
                f"A local model was given {', '.join(kwargs)}; expected messages, and stop words at most. "
                "Give max_new_tokens to local_chat_model; for more there is langchain-huggingface."
            )
        ids = self._ids(messages)
        self._check_room(len(ids))
        with closing(_Reply(self.model, ids, self.max_new_tokens)) as reply:
            for text in _until(reply, stop or ()):
                chunk = ChatGenerationChunk(message=AIMessageChunk(content=text))
                if run_manager is not None:
                    run_manager.on_llm_new_token(text, chunk=chunk)
                yield chunk
            reply.close()
            usage = UsageMetadata(
                input_tokens=len(ids), output_tokens=reply.tokens, total_tokens=len(ids) + reply.tokens
            )
            said = {
                "finish_reason": "length" if reply.cut_off else "stop",
                "model_name": self.model_name,
            }
            yield ChatGenerationChunk(
                message=AIMessageChunk(
                    content="", usage_metadata=usage, response_metadata=said, chunk_position="last"
                )
            )

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        chunks = self._stream(messages, stop, None, **kwargs)
        try:
            while (chunk := await run_in_executor(None, next, chunks, None)) is not None:
                if run_manager is not None:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk
        finally:
            _close(chunks)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return generate_from_stream(self._stream(messages, stop, None, **kwargs))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return await agenerate_from_stream(self._astream(messages, stop, None, **kwargs))

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop, **kwargs)
        params["ls_provider"] = "memorag-local"
        return params

    def _check_room(self, request: int) -> None:
        positions = getattr(self.model.model.config.get_text_config(), "max_position_embeddings", None)
        if positions is not None and request + self.max_new_tokens > positions:
            raise InputError(
                f"The messages have {request} tokens and the reply up to {self.max_new_tokens}; "
                f"{self.model_name!r} was made for {positions} together. Retrieve fewer or shorter passages, "
                "or give local_chat_model a smaller max_new_tokens."
            )

    def _ids(self, messages: Sequence[BaseMessage]) -> list[int]:
        """The prompt."""
        tokenizer, encode = self.model.tokens.tokenizer, self.model.tokens.encode_text
        texts = [str(message.text) for message in messages]
        if not tokenizer.chat_template:
            return [*tokenizer("").input_ids, *encode("\n\n".join(texts)).tolist()]
        turns = [
            {"role": turn["role"], "content": _MARK.format(number)}
            for number, turn in enumerate(convert_to_openai_messages(messages))
        ]
        try:
            rendered = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # templates raise what they like
            raise InputError(
                f"The chat template of the model refuses messages of the roles "
                f"{', '.join(str(turn['role']) for turn in turns)}: {error}. Many know no system message, or "
                "want user and assistant in turn, the user first."
            ) from error
        ids: list[int] = []
        for place, piece in enumerate(_MARKED.split(rendered)):
            if place % 2:  # the number of a message
                ids += encode(texts[int(piece)]).tolist()
            else:
                ids += tokenizer(piece, add_special_tokens=False).input_ids
        return ids


def local_chat_model(
    model: str | os.PathLike[str] | BeaconModel | LongContextModel,
    *,
    max_new_tokens: int = MAX_NEW_TOKENS,
    device: str = "auto",
    dtype: str = "auto",
) -> LocalChatModel:
    """A chat model that runs here: of a memory model that is loaded already, or loaded from files.

    Args:
        model: A ``BeaconModel`` or ``LongContextModel``, whose weights are shared: ``local_chat_model(
            rag.model)``. Or the name or folder of a causal language model of Hugging Face, such as
            "Qwen/Qwen2.5-7B-Instruct"; no code of the checkpoint is run.
        max_new_tokens: The longest reply, in tokens.
        device: Where a model that is loaded here computes; "auto" takes a GPU if there is one.
        dtype: In what precision it does; "auto" is the checkpoint's own on a GPU, float32 on a CPU.

    Raises:
        InputError: Another kind of model or one without tokenizer, ``max_new_tokens`` below 1, or a device or
            dtype for a model that is loaded already.
        CheckpointError: The files are missing or damaged.
        UnsupportedModelError: An architecture that is not known here.
    """
    if not isinstance(max_new_tokens, int) or isinstance(max_new_tokens, bool) or max_new_tokens < 1:
        raise InputError(f"'max_new_tokens' is {max_new_tokens!r}; expected a whole number, 1 or more.")
    if isinstance(model, str | os.PathLike):
        from memorag_core import LongContextModel  # brings torch

        loaded: Any = LongContextModel.from_pretrained(model, device=device, dtype=dtype)
    elif (device, dtype) != ("auto", "auto"):
        raise InputError(
            f"The device is {device!r} and the dtype {dtype!r}, for a {type(model).__name__} that is loaded "
            "already; expected none for it. Give them where it is loaded."
        )
    else:
        loaded = model
    network: Any = getattr(loaded, "model", None)
    tokens = getattr(loaded, "tokens", None)
    if not callable(getattr(network, "generate", None)) or not hasattr(tokens, "encode_text"):
        raise InputError(
            f"The model is a {type(model).__name__}; expected a BeaconModel or LongContextModel with a "
            "tokenizer, or the name or folder of a language model. What a memory without one recalls, "
            "MemoryChatModel says."
        )
    name = network.config.name_or_path or network.config.model_type
    folder = Path(name)  # where it lies on this machine is nothing for traces
    return LocalChatModel(
        model=loaded,
        model_name=folder.name if folder.is_dir() else name,
        max_new_tokens=max_new_tokens,
    )


class _Reply:
    """A reply as it is written, on a thread of its own: an iterator of pieces of text."""

    def __init__(self, model: Any, ids: Sequence[int], longest: int) -> None:
        import torch
        from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList
        from transformers.generation.streamers import TextIteratorStreamer

        reply = self
        network, tokens = model.model, model.tokens
        own = network.generation_config.eos_token_id
        ends = {own} if isinstance(own, int) else {*(own or ())}

        class Stop(StoppingCriteria):
            def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
                reply.tokens = input_ids.shape[1] - len(ids)
                reply.cut_off = reply.tokens >= longest and int(input_ids[0, -1]) not in ends
                return torch.full((1,), reply._closed.is_set(), dtype=torch.bool, device=input_ids.device)

        def write() -> None:
            try:
                prompt = torch.tensor([ids], device=network.device)
                with torch.inference_mode():
                    network.generate(
                        prompt,
                        attention_mask=torch.ones_like(prompt),
                        generation_config=GenerationConfig(
                            do_sample=False,
                            max_new_tokens=longest,
                            eos_token_id=sorted(ends) or None,
                            pad_token_id=next((one for one in (tokens.pad_id, tokens.end_id) if one), 0),
                        ),
                        stopping_criteria=StoppingCriteriaList([Stop()]),
                        streamer=self._streamer,
                    )
            finally:
                self._streamer.end()  # whoever waits for the next piece waits for nothing otherwise

        self.tokens = 0
        self.cut_off = False
        self._closed = Event()
        self._streamer = TextIteratorStreamer(tokens.tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="memorag-local-chat")
        self._written = self._pool.submit(write)

    def __iter__(self) -> Iterator[str]:
        yield from (piece for piece in self._streamer if piece)
        self._written.result()  # raises what was raised there

    def close(self) -> None:
        """End it at the next token, and wait until it has ended."""
        self._closed.set()
        self._pool.shutdown()


def _until(pieces: _Reply, stops: Sequence[str]) -> Iterator[str]:
    """Pieces of text up to the first stop word; what may be the beginning of one is held back."""
    longest = max(map(len, stops), default=1)
    held = ""
    for piece in pieces:
        held += piece
        found = [held.index(stop) for stop in stops if stop in held]
        if found:
            held = held[: min(found)]
            break
        shown = len(held) - longest + 1
        if shown > 0:
            yield held[:shown]
            held = held[shown:]
    if held:
        yield held


def _close(chunks: Generator[Any]) -> None:
    """Close a generator, if no thread is at it; the one that is lets go of it at the next token."""
    with suppress(ValueError):  # it is running
        chunks.close()
