"""Conversations in LlamaIndex: a memory block that remembers what was said, and a retriever that knows it.

In: chat messages; queries that leave out what was said before. Out: text for a prompt; nodes with scores.
Knows no model and no index: turns are read and found by ``memorag_core.Conversation``.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, Literal, NoReturn, Self, SupportsIndex

from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms import ChatMessage
from llama_index.core.llms.llm import LLM
from llama_index.core.memory import BaseMemory, BaseMemoryBlock
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle
from pydantic import ConfigDict, Field, PrivateAttr, field_validator

from llama_index_memorag.holding import HoldsMemory, as_memorag
from llama_index_memorag.nodes import node_of
from memorag_core import Conversation, InputError, MemoRAG, RecalledTurn, RetrievalSettings, Turn

CHARACTERS_A_TOKEN = 4
"""What a token is taken to be where a block is asked to give way: of Chinese, more goes than has to."""

HIDDEN_KEYS = ("session", "turn_id")
"""Metadata of a turn that no LLM is shown."""


class MemoRAGMemoryBlock(BaseMemoryBlock[str]):
    """A block of LlamaIndex's ``Memory`` that reads old messages and recalls what bears on the new ones.

    Messages that leave the short-term memory are read, together and in their order; those without text are
    passed over. What comes back for the last message of the user are lines such as
    ``[2026-11-21 15:04, user] Mara has moved to Graz.``, what fits best first; a line that a newer one of
    them takes the place of ends its brackets with "said anew later". The sessions of ``Memory`` are kept
    apart; without one, ``session`` names it. Messages are read and found in threads, and the loop is free.

    Attributes:
        memorag: What reads the messages; opened on a store, it keeps them. Never shown or dumped.
        session: The session of messages that come without one.
        k: Turns recalled; None leaves it to the settings of ``memorag``.
        reach: Whose turns are recalled, "session" or "all".
        newest: Whether of turns that say the same the newest comes first.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, hide_input_in_errors=True)

    name: str = Field(default="RecalledTurns", description="The name of the memory block.")
    memorag: MemoRAG = Field(repr=False, exclude=True, description="What reads the messages.")
    session: str = Field(default="main", description="The session of messages that come without one.")
    k: int | None = Field(default=None, ge=1, description="Turns recalled; None for the settings' number.")
    reach: Literal["session", "all"] = Field(default="session", description="Whose turns are recalled.")
    newest: bool = Field(default=True, description="Of what says the same, the newest first.")

    _conversations: dict[str, Conversation] = PrivateAttr(default_factory=dict)

    @field_validator("memorag", mode="before")
    @classmethod
    def _is_memorag(cls, value: object) -> MemoRAG:
        return as_memorag(value)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.model_copy()  # memories, models and stores are shared

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(
            "A MemoRAGMemoryBlock cannot be pickled, for it holds a model. Save what was memorized, "
            "memorag.save(path), and make another one where it is needed, from MemoRAG.load(path)."
        )

    def conversation(self, session: str | None = None) -> Conversation:
        """A session in the memory, to look at or to forget; None for the one of ``session``."""
        name = session or self.session
        if name not in self._conversations:
            self._conversations.setdefault(name, Conversation(self.memorag, name, reach=self.reach))
        return self._conversations[name]

    async def _aget(
        self, messages: list[ChatMessage] | None = None, session_id: str | None = None, **block_kwargs: Any
    ) -> str:
        """What bears on the last message of the user; nothing without one."""
        said = _turns(messages or ())
        asked = next((place for place in reversed(range(len(said))) if said[place].role == "user"), None)
        if asked is None:
            return ""
        conversation = self.conversation(session_id)
        found = await conversation.arecall(said[asked].text, said[:asked], k=self.k, newest=self.newest)
        return "\n".join(_line(one) for one in found)

    async def _aput(self, messages: list[ChatMessage]) -> None:
        """Read messages; if that fails, none of a session's is in the memory."""
        sessions: dict[str | None, list[ChatMessage]] = {}
        for message in messages:
            sessions.setdefault(message.additional_kwargs.get("session_id"), []).append(message)
        for session, own in sessions.items():
            turns = _turns(own)
            if turns:
                await self.conversation(session).aextend(turns)

    async def atruncate(self, content: str, tokens_to_truncate: int) -> str | None:
        """The lines that fit best, without so many tokens; None if that leaves none."""
        lines = content.split("\n")
        cut = 0
        while lines and cut < tokens_to_truncate:
            cut += len(lines.pop()) // CHARACTERS_A_TOKEN
        return "\n".join(lines) or None


class MemoRAGConversationRetriever(HoldsMemory, BaseRetriever):
    """A retriever for chat engines: what a query leaves out is completed before it is looked up.

    In a ``ContextChatEngine``, which hands queries over as the user wrote them, it needs no LLM: names in the
    messages before, and what the memory has of what was said, complete them. A
    ``CondensePlusContextChatEngine`` completes them with its LLM, and they are left alone here.

    Nodes that are turns of the conversation have ``turn_id``, ``role``, ``session`` and ``time`` in their
    metadata. With ``annotate``, they have what nodes of a ``MemoRAGRetriever`` have then, and, where a newer
    turn that was found says the same, ``superseded_by``.
    """

    def __init__(
        self,
        conversation: Conversation,
        k: int | None = None,
        *,
        memory: BaseMemory | None = None,
        retriever: BaseRetriever | None = None,
        llm: LLM | None = None,
        newest: bool = True,
        annotate: bool = False,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        """Retrieve with what was said before.

        Args:
            conversation: Where turns are found, and names looked up.
            k: Turns returned; None leaves it to the settings. Not with ``retriever``, which has its own.
            memory: The chat engine's own: its messages stand before a query. None takes the last turns of
                the conversation.
            retriever: Gets the completed query instead; its nodes come back. None finds turns.
            llm: Writes the completed query; None does without.
            newest: Whether of turns that say the same the newest comes first.
            annotate: Whether turns say how they were found; then they are other nodes for each query.
            callback_manager: LlamaIndex's, for its own tracing.

        Raises:
            InputError: A value outside of these, or ``k`` and ``retriever``.
        """
        super().__init__(callback_manager=callback_manager)
        for name, value, kind in (
            ("conversation", conversation, Conversation),
            ("memory", memory, BaseMemory),
            ("retriever", retriever, BaseRetriever),
            ("llm", llm, LLM),
        ):
            if not isinstance(value, kind) and (value is not None or name == "conversation"):
                raise InputError(f"'{name}' is a {type(value).__name__}; expected a {kind.__name__}.")
        if k is not None:
            if retriever is not None:
                raise InputError(
                    "k was given with a retriever of your own; expected one of them. Set k there."
                )
            RetrievalSettings(k=k)  # refuses what is no number of turns
        self.conversation = conversation
        self.k = k
        self.newest = newest
        self.annotate = annotate
        self._memory = memory
        self._retriever = retriever
        self._llm = llm

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        before = None if self._memory is None else _turns(self._memory.get_all())
        question, generate = query_bundle.query_str, self._generate()
        if self._retriever is not None:
            return self._retriever.retrieve(self.conversation.standalone(question, before, generate=generate))
        found = self.conversation.recall(question, before, k=self.k, generate=generate, newest=self.newest)
        return [_node(one, annotate=self.annotate) for one in found]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        before = None if self._memory is None else _turns(await self._memory.aget_all())
        question, generate = query_bundle.query_str, self._agenerate()
        if self._retriever is not None:
            alone = await self.conversation.astandalone(question, before, generate=generate)
            return await self._retriever.aretrieve(alone)
        found = await self.conversation.arecall(
            question, before, k=self.k, generate=generate, newest=self.newest
        )
        return [_node(one, annotate=self.annotate) for one in found]

    def _generate(self) -> Callable[[str], str] | None:
        llm = self._llm
        return None if llm is None else lambda prompt: llm.complete(prompt).text

    def _agenerate(self) -> Callable[[str], Coroutine[Any, Any, str]] | None:
        llm = self._llm
        if llm is None:
            return None

        async def generate(prompt: str) -> str:
            return (await llm.acomplete(prompt)).text

        return generate


def _turns(messages: Sequence[ChatMessage]) -> list[Turn]:
    """The messages that have text as turns."""
    texts = ((message.role.value, message.content) for message in messages)
    return [Turn(role, text) for role, text in texts if text and text.strip()]


def _line(found: RecalledTurn) -> str:
    turn = found.turn
    day = turn.time.strftime("%Y-%m-%d %H:%M") if turn.time else ""
    anew = ", said anew later" if found.superseded_by is not None else ""
    return f"[{day}, {turn.role}{anew}] {' '.join(found.evidence.chunk.text.split())}"


def _node(found: RecalledTurn, *, annotate: bool) -> NodeWithScore:
    own: dict[str, Any] = {**found.evidence.chunk.metadata, "turn_id": found.turn.id}
    if annotate and found.superseded_by is not None:
        own["superseded_by"] = found.superseded_by
    evidence = replace(found.evidence, chunk=replace(found.evidence.chunk, metadata=own))
    node = node_of(evidence, annotate=annotate)
    node.node.excluded_llm_metadata_keys = [*node.node.excluded_llm_metadata_keys, *HIDDEN_KEYS]
    return node
