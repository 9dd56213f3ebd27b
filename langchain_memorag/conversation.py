"""Conversations in LangChain: a chat history that is a memory, and a retriever that knows what was said.

In: messages; questions with the messages before them. Out: the messages again; documents. Knows no model and
no index: turns are read and found by ``memorag_core.Conversation``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.documents import Document
from langchain_core.language_models import LanguageModelLike
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    convert_to_messages,
    message_to_dict,
    messages_from_dict,
)
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda

from langchain_memorag.documents import evidence_document
from memorag_core import Conversation, InputError, MemoRAG, RecalledTurn, RetrievalSettings, Turn

MESSAGE = "langchain_message"
"""Metadata name under which a turn keeps the whole message; documents that are found leave it out."""

Inputs: TypeAlias = str | Mapping[str, Any]
"""A question; or a mapping with the question as ``input`` or ``question``, and with ``chat_history``."""

_ROLES = {"human": "user", "ai": "assistant"}
_QUESTIONS = ("input", "question")


class MemoRAGChatHistory(BaseChatMessageHistory):
    """The messages of a session, each read into a memory as a turn.

    Messages come out as they went in: with their ids, tool calls and whatever else they hold. What is read of
    a message is its text; of one without text its tool calls, or what kinds of content it has. New messages
    are read together, and only they are; if that fails, none of them is in the history. For
    ``RunnableWithMessageHistory``, give ``MemoRAGChatHistory.of_sessions(memorag)``.

    Attributes:
        conversation: The session, for recalling what was said long ago.
        last: How many of the last messages ``messages`` gives; None for all. With a number, a prompt does not
            grow with the conversation, and older messages are for retrieval.
    """

    def __init__(self, conversation: Conversation, *, last: int | None = None) -> None:
        """Go on with a session, or begin one.

        Args:
            conversation: The session.
            last: The messages that ``messages`` gives.

        Raises:
            InputError: No conversation, or ``last`` below 1.
        """
        super().__init__()
        self.conversation = _conversation(conversation)
        if last is not None and (isinstance(last, bool) or not isinstance(last, int) or last < 1):
            raise InputError(f"last is {last!r}; expected a whole number of 1 or more, or None for all.")
        self.last = last

    @classmethod
    def of_sessions(
        cls,
        memorag: MemoRAG,
        *,
        reach: Literal["session", "all"] = "session",
        last: int | None = None,
    ) -> Callable[[str], MemoRAGChatHistory]:
        """A function from the name of a session to its history, all in one memory.

        Args:
            memorag: What reads the messages; opened on a store, it keeps them.
            reach: Whose turns a question finds; see ``Conversation``.
            last: The messages that ``messages`` gives.

        Raises:
            InputError: No MemoRAG, an unknown reach, or ``last`` below 1.
        """
        cls(Conversation(memorag, reach=reach), last=last)  # wrong choices are refused now
        known: dict[str, MemoRAGChatHistory] = {}

        def history(session_id: str) -> MemoRAGChatHistory:
            if session_id not in known:
                known.setdefault(session_id, cls(Conversation(memorag, session_id, reach=reach), last=last))
            return known[session_id]

        return history

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]  # read, not set
        """The messages, from the oldest to the newest."""
        return [_message(turn) for turn in self.conversation.turns(self.last)]

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Read messages into memory, behind those there are.

        Raises:
            InputError: Something else among them, or a message that JSON cannot hold.
        """
        turns = [_turn(message) for message in messages]
        if turns:
            self.conversation.extend(turns)

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """``add_messages`` that leaves the event loop free."""
        turns = [_turn(message) for message in messages]
        if turns:
            await self.conversation.aextend(turns)

    def clear(self) -> None:
        """Forget the session."""
        self.conversation.forget_session()


def conversation_retriever(
    conversation: Conversation,
    retriever: Runnable[str, list[Document]] | None = None,
    *,
    llm: LanguageModelLike | None = None,
    k: int | None = None,
    newest: bool = True,
    annotate: bool = False,
) -> Runnable[Inputs, list[Document]]:
    """A history-aware retriever: a question and the messages before it in, documents out.

    Its input is a mapping with the question as ``input`` or ``question``, and the messages before it as
    ``chat_history``, in whatever form LangChain takes messages; or the question alone. Without messages the
    question is taken as it is. With them, what it leaves out is completed: by the LLM, or, without one, by
    the names in the messages and by what the memory has of what was said. It goes where the retriever of
    LangChain's ``create_history_aware_retriever`` goes.

    Documents that are turns of the conversation have ``document_id``, ``start``, ``end``, ``turn_id``,
    ``role``, ``session`` and ``time`` in their metadata. With ``annotate``, they have what documents of a
    ``MemoRAGRetriever`` have then, and, where a newer turn that was found says the same, ``superseded_by``.

    Args:
        conversation: Where turns are found, and names looked up.
        retriever: Gets the completed question instead; its documents come back. None finds turns.
        llm: A chat model or another LLM that writes the completed question; None does without.
        k: Turns returned; None leaves it to the settings. Not with ``retriever``, which has its own.
        newest: Whether of turns that say the same the newest comes first.
        annotate: Whether turns say how they were found; then they are others for each question.

    Raises:
        InputError: At once, no conversation, no runnable, ``k`` below 1 or with ``retriever``. At a call, no
            question in the input.
        MemoRAGError: At a call, an empty text of the LLM.
    """
    _conversation(conversation)
    for name, value in (("retriever", retriever), ("llm", llm)):
        if value is not None and not isinstance(value, Runnable):
            raise InputError(f"'{name}' is a {type(value).__name__}; expected a LangChain runnable.")
    if k is not None:
        if retriever is not None:
            raise InputError("k was given with a retriever of your own; expected one of them. Set k there.")
        RetrievalSettings(k=k)  # refuses what is no number of turns

    def alone(inputs: Inputs, config: RunnableConfig) -> str:
        question, before = _asked(inputs)
        return conversation.standalone(question, before, generate=_generate(llm, config))

    async def aalone(inputs: Inputs, config: RunnableConfig) -> str:
        question, before = _asked(inputs)
        return await conversation.astandalone(question, before, generate=_agenerate(llm, config))

    def find(inputs: Inputs, config: RunnableConfig) -> list[Document]:
        question, before = _asked(inputs)
        generate = _generate(llm, config)
        found = conversation.recall(question, before, k=k, generate=generate, newest=newest)
        return _documents(found, annotate=annotate)

    async def afind(inputs: Inputs, config: RunnableConfig) -> list[Document]:
        question, before = _asked(inputs)
        generate = _agenerate(llm, config)
        found = await conversation.arecall(question, before, k=k, generate=generate, newest=newest)
        return _documents(found, annotate=annotate)

    if retriever is None:
        return RunnableLambda(find, afunc=afind, name="memorag_conversation")
    rewriting: Runnable[Inputs, str] = RunnableLambda(alone, afunc=aalone, name="memorag_standalone")
    return (rewriting | retriever).with_config(run_name="memorag_conversation")


def _generate(llm: LanguageModelLike | None, config: RunnableConfig) -> Callable[[str], str] | None:
    if llm is None:
        return None
    writer = llm | StrOutputParser()
    return lambda prompt: writer.invoke(prompt, config)


def _agenerate(llm: LanguageModelLike | None, config: RunnableConfig) -> Any:
    if llm is None:
        return None
    writer = llm | StrOutputParser()

    async def generate(prompt: str) -> str:
        return await writer.ainvoke(prompt, config)

    return generate


def _asked(inputs: Inputs) -> tuple[str, list[Turn]]:
    """The question, and the turns before it."""
    if isinstance(inputs, str):
        return inputs, []
    given = [inputs[name] for name in _QUESTIONS if name in inputs] if isinstance(inputs, Mapping) else []
    if not given or not isinstance(given[0], str):
        found = f"the keys {', '.join(map(repr, inputs))}" if isinstance(inputs, Mapping) else repr(inputs)
        raise InputError(
            f"The input has {found}; expected a question, or a mapping with a text as 'input' or "
            "'question', and messages as 'chat_history'."
        )
    history = inputs.get("chat_history") or []
    turns = (Turn(_role(message), message.text) for message in convert_to_messages(history))
    return given[0], [turn for turn in turns if turn.text.strip()]


def _documents(found: Iterable[RecalledTurn], *, annotate: bool) -> list[Document]:
    documents = []
    for one in found:
        kept = {name: value for name, value in one.evidence.chunk.metadata.items() if name != MESSAGE}
        kept["turn_id"] = one.turn.id
        if annotate and one.superseded_by is not None:
            kept["superseded_by"] = one.superseded_by
        chunk = replace(one.evidence.chunk, metadata=kept)
        documents.append(evidence_document(replace(one.evidence, chunk=chunk), annotate=annotate))
    return documents


def _turn(message: BaseMessage) -> Turn:
    if not isinstance(message, BaseMessage):
        raise InputError(
            f"Found a {type(message).__name__} among the messages; expected LangChain messages: "
            "HumanMessage('...')."
        )
    kept = message_to_dict(message)
    try:
        json.dumps(kept, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"A {type(message).__name__} holds what JSON cannot ({error}); expected messages that can be "
            "saved. Take it out of additional_kwargs, response_metadata or artifact."
        ) from error
    return Turn(_role(message), _text(message), metadata={MESSAGE: kept})


def _message(turn: Turn) -> BaseMessage:
    kept = turn.metadata.get(MESSAGE)
    if kept is not None:
        return messages_from_dict([json.loads(json.dumps(kept))])[0]  # of its own, whatever is done to it
    kinds: Mapping[str, type[BaseMessage]] = {
        "user": HumanMessage,
        "assistant": AIMessage,
        "system": SystemMessage,
    }
    if turn.role in kinds:
        return kinds[turn.role](content=turn.text, id=turn.id)
    return ChatMessage(role=turn.role, content=turn.text, id=turn.id)


def _role(message: BaseMessage) -> str:
    return message.role if isinstance(message, ChatMessage) else _ROLES.get(message.type, message.type)


def _text(message: BaseMessage) -> str:
    """What is read of a message, never blank."""
    if message.text.strip():
        return str(message.text)
    calls = getattr(message, "tool_calls", None) or ()
    said = [f"{call['name']}({json.dumps(call['args'], ensure_ascii=False)})" for call in calls]
    kinds = [
        str(block.get("type", "content")) if isinstance(block, dict) else "text"
        for block in (message.content if isinstance(message.content, list) else ())
    ]
    return "\n".join(said) or f"[{', '.join(kinds) or 'no text'}]"


def _conversation(value: object) -> Conversation:
    if isinstance(value, Conversation):
        return value
    raise InputError(
        f"'conversation' is a {type(value).__name__}; expected a memorag_core.Conversation: "
        "Conversation(MemoRAG(), 'session')."
    )
