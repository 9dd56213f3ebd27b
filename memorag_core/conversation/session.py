"""A conversation over an appending memory: turns in, and what bears on a question out, the newest first.

In: turns of one session or of many, then questions that may leave out what the turns before them say. Out:
questions that stand alone, and the turns that bear on them. Knows the pipeline, whose memory it appends to;
how a question is completed and which of two statements stands first is for ``followup`` and ``newest``.

A turn is a document: its text, and its role, session and time in the metadata. So a turn is read once and
behind all others, it is saved where the pipeline saves, and a reading that fails changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from inspect import isawaitable
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np

from memorag_core.conversation.followup import (
    MOST_NAMES,
    Said,
    asks_of_person,
    last_said,
    left_out,
    names_in,
    recent_names,
    standalone_reply,
    standalone_request,
    with_last_question,
    with_names,
)
from memorag_core.conversation.newest import FoundTurn, Vectors, newest_first
from memorag_core.conversation.turns import History, Turn, Turns, as_turn, check_text, document_of, placed
from memorag_core.errors import InputError, NothingMemorizedError
from memorag_core.memorag import MemoRAG
from memorag_core.protocols import Embedder, Generate
from memorag_core.retrieval.encoders.encode import unit_rows
from memorag_core.settings import check_whole
from memorag_core.types import Document, Evidence, Recall

AsyncGenerate: TypeAlias = Callable[[str], Awaitable[str]]
"""The user's own LLM as one that is awaited: a prompt in, its text out."""

Reach: TypeAlias = Literal["session", "all"]
"""Whose turns a question finds: those of its own session, or of all of them."""

FOUND = 12
"""Turns among which the newest comes first, or ``k`` if that is more. Of 10, 12 and 16 on generated
conversations: fewer miss the newer statement, more bring in what the question is not about."""

NEWNESS = 0.75
"""Weight of the ranking by newness, beside 1 for what was found. Of weights from 0 to 1, the highest with
which BM25 found no less of what never changed."""

_CONSTANT = 5.0  # of reciprocal rank fusion, as RetrievalSettings has it
_ENCODED = 4096  # texts whose vectors are kept


@dataclass(frozen=True, slots=True)
class RecalledTurn:
    """A turn that bears on a question.

    Attributes:
        turn: The whole of it.
        evidence: The part of it that was found. ``rank`` is its place in the result, ``score`` is how well it
            fits the question, without regard to newness.
        superseded_by: The id of a newer turn that was found and says the same, maybe otherwise; None if there
            is none. It stands above this one, unless it is no longer among the best.
    """

    turn: Turn
    evidence: Evidence
    superseded_by: str | None = None


class Conversation:
    """One session of a conversation, in a memory that may hold others and other documents.

    Any number of threads may ask while one adds. Sessions in one memory are read by one model, so clues of
    one may come up in another; people who must not learn of each other get a memory each.

    Attributes:
        rag: What reads and finds.
        session: The name of the session.
        reach: Whose turns a question finds.
        last: How many of the last turns stand before a question, where no others are given.
    """

    def __init__(
        self, rag: MemoRAG, session: str = "main", *, reach: Reach = "session", last: int = 4
    ) -> None:
        """Go on with a session, or begin one; nothing is read yet.

        Args:
            rag: Opened on a store (``MemoRAG.open``), it saves every turn before it can be asked for.
            session: Its name.
            reach: "session", so that nothing of another is found, or "all", as for one person's assistant.
            last: The last turns that may say what a question leaves out, 0 for none.

        Raises:
            InputError: No MemoRAG, a blank session, an unknown reach, a number below 0.
        """
        if not isinstance(rag, MemoRAG):
            raise InputError(f"Found a {type(rag).__name__}; expected a MemoRAG: Conversation(MemoRAG()).")
        check_text("session", session)
        if reach not in get_args(Reach):
            raise InputError(f"reach is {reach!r}; expected one of {', '.join(get_args(Reach))}.")
        check_whole("last", last, least=0, remedy="0 leaves questions as they are.")
        self.rag = rag
        self.session = session
        self.reach: Reach = reach
        self.last = last
        self._turns = Turns()
        self._vectors: dict[str, Any] = {}

    def add(
        self,
        role: str,
        text: str,
        *,
        time: datetime | None = None,
        id: str | None = None,  # noqa: A002  # as of a Document
    ) -> Turn:
        """Append a turn; only it is read. See ``extend``."""
        return self.extend([Turn(role, text, id, time)])[0]

    async def aadd(
        self,
        role: str,
        text: str,
        *,
        time: datetime | None = None,
        id: str | None = None,  # noqa: A002
    ) -> Turn:
        """``add`` in a thread."""
        return (await self.aextend([Turn(role, text, id, time)]))[0]

    def extend(self, turns: History) -> tuple[Turn, ...]:
        """Append turns, which are read together; if anything fails, nothing has changed.

        Args:
            turns: In the order in which they were said. One without a time is said now, or with the last turn
                of the session if that has a later time.

        Returns:
            The turns as they were added, with id, time and session.

        Raises:
            InputError: No turns, one without text or role, an id in use, a time without a zone or before that
                of the turn before it, a turn of another session, or metadata with a name that a turn has.
        """
        given = [as_turn(turn) for turn in turns]
        if not given:
            raise InputError("There are no turns, so no documents to add; expected at least one turn.")
        added: list[Turn] = []

        def documents(there: tuple[Document, ...]) -> list[Document]:
            before = [*self._turns.of(there).of_session(self.session).values()]
            at = before[-1].time if before else None
            taken = {document.id for document in there}
            for turn in given:
                if turn.id in taken:
                    raise InputError(
                        f"A turn has the id {turn.id!r}, which is in use; expected one of its own. Leave it "
                        "out for a new one."
                    )
                added.append(placed(turn, self.session, at))
                at = added[-1].time
            return [document_of(turn) for turn in added]

        self.rag.change(put=documents)
        return tuple(added)

    async def aextend(self, turns: History) -> tuple[Turn, ...]:
        """``extend`` in a thread; once begun, it goes on to its end, whoever waits for it."""
        return await asyncio.to_thread(self.extend, turns)

    def forget(self, ids: str | Collection[str]) -> None:
        """Take turns of this session out of the memory; what stands behind them is read again.

        Raises:
            InputError: No id, or one that is no turn of this session.
        """
        wanted = {ids} if isinstance(ids, str) else set(ids)

        def checked(there: tuple[Document, ...]) -> set[str]:
            unknown = wanted.difference(self._turns.of(there).of_session(self.session))
            if unknown or not wanted:
                raise InputError(
                    f"The session {self.session!r} has no turn with the id "
                    f"{', '.join(map(repr, sorted(unknown))) or '(none was given)'}; expected ids of its own "
                    "turns, as turns() gives them."
                )
            return wanted

        self.rag.change(delete=checked)

    def forget_session(self) -> int:
        """Take all turns of this session out of the memory.

        Returns:
            How many there were.
        """
        change = self.rag.change(delete=lambda there: [*self._turns.of(there).of_session(self.session)])
        return len(change.deleted)

    def turns(self, last: int | None = None) -> tuple[Turn, ...]:
        """The turns of this session, from the oldest to the newest; with ``last``, so many at the end."""
        own = tuple(self._state().of_session(self.session).values())
        return own if last is None else own[len(own) - min(last, len(own)) :]

    def sessions(self) -> tuple[str, ...]:
        """The names of all sessions in the memory, in the order of their first turns."""
        return tuple(dict.fromkeys(cast(str, turn.session) for turn in self._state().by_id.values()))

    def standalone(
        self, question: str, history: History | None = None, *, generate: Generate | None = None
    ) -> str:
        """A question with what it leaves out.

        With a language model, it writes the question. Without one, a question that refers to what was said is
        given, in brackets, the names of the turns that it goes on with; where they have none, what the user
        said last, or, for a person, the names of the turn that the memory finds for that. A question that is
        only a name is asked as the user asked last. A question that refers to nothing stays as it is.

        Args:
            question: As it was asked.
            history: The turns before it; None for the last ones of the session.
            generate: The user's LLM, a prompt in, text out; it is asked only if there are turns.

        Returns:
            The question, as it was where nothing seems left out.

        Raises:
            InputError: A blank question, a turn that is none, or an LLM that gives something else than text.
            MemoRAGError: The LLM gave an empty text.
        """
        before = self._before(question, history)
        if generate is not None:
            if not before:
                return question
            return standalone_reply(generate(standalone_request(question, before)), question)
        alone = self._completed(question, before)
        if alone is None:
            probe = last_said(before)
            alone = self._with_recalled(question, before, self._recalled(probe))
        return alone

    async def astandalone(
        self,
        question: str,
        history: History | None = None,
        *,
        generate: Generate | AsyncGenerate | None = None,
    ) -> str:
        """``standalone`` that leaves the event loop free; an LLM that can be awaited is awaited."""
        before = self._before(question, history)
        if generate is not None:
            if not before:
                return question
            request = standalone_request(question, before)
            reply: object = await asyncio.to_thread(generate, request)
            if isawaitable(reply):
                reply = await reply
            return standalone_reply(reply, question)
        alone = await asyncio.to_thread(self._completed, question, before)
        if alone is None:
            recalled = await self._arecalled(last_said(before))
            alone = await asyncio.to_thread(self._with_recalled, question, before, recalled)
        return alone

    def recall(
        self,
        question: str,
        history: History | None = None,
        *,
        k: int | None = None,
        generate: Generate | None = None,
        newest: bool = True,
    ) -> tuple[RecalledTurn, ...]:
        """The turns that bear on a question, best first, and of those that say the same the newest first.

        The question is completed as ``standalone`` does, and finds turns with the clues that the memory gives
        for it. A turn that says no more than the question is left out. Where no turn has a word of question
        or clues, those that were said last come back, with a score of 0 and no ``hits`` in their evidence; an
        embedder finds what is said in other words.

        Args:
            question: As it was asked.
            history: See ``standalone``.
            k: How many; None takes the settings of ``rag``. Of their shape of a result, nothing else counts.
            generate: See ``standalone``.
            newest: False leaves newness aside, for questions of what was so before.

        Returns:
            At most ``k``, fewer where there are fewer; none before there are turns.

        Raises:
            InputError: ``k`` below 1, or as ``standalone``.
            MemoRAGError: As ``standalone``.
        """
        k = self._checked_k(k)
        alone = self.standalone(question, history, generate=generate)
        return self._found(question, alone, self._recalled(alone), k, newest)

    async def arecall(
        self,
        question: str,
        history: History | None = None,
        *,
        k: int | None = None,
        generate: Generate | AsyncGenerate | None = None,
        newest: bool = True,
    ) -> tuple[RecalledTurn, ...]:
        """``recall`` that leaves the event loop free; cancelling it ends the asking at the next token."""
        k = self._checked_k(k)
        alone = await self.astandalone(question, history, generate=generate)
        recalled = await self._arecalled(alone)
        return await asyncio.to_thread(self._found, question, alone, recalled, k, newest)

    def _state(self) -> Turns:
        """The turns of the memory as it is now."""
        self._turns = state = self._turns.of(self.rag.documents)
        return state

    def _before(self, question: str, history: History | None) -> list[Said]:
        """The turns before a question as pairs."""
        check_text("question", question)
        if history is None:
            return [(turn.role, turn.text) for turn in self.turns(self.last)]
        given = [as_turn(turn) for turn in history]
        last = given[len(given) - min(self.last, len(given)) :]
        return [(turn.role, turn.text) for turn in last if turn.text.strip()]

    def _completed(self, question: str, before: Sequence[Said]) -> str | None:
        """The question completed by the turns before it; None where the memory has to be asked."""
        missing = left_out(question, before)
        if missing == "nothing":
            return question
        if missing == "question":
            return with_last_question(question, before)
        names = recent_names(before, known=self._state().known, question=question)
        return with_names(question, names) if names else None

    def _with_recalled(self, question: str, before: Sequence[Said], recalled: Recall) -> str:
        """The question with what was said last, or with the name that the memory has for a person in it."""
        said = last_said(before)
        if not asks_of_person(question, before):
            return f"{question.rstrip()} ({said})"
        state = self._state()
        names = [clue.text for clue in recalled.clues if clue.kind == "entity"]
        for evidence in self._evidence(recalled, 1) if not names else ():
            names += names_in(evidence.chunk.text, known=state.known)
        return with_names(question, names[:MOST_NAMES]) if names else f"{question.rstrip()} ({said})"

    def _recalled(self, question: str) -> Recall:
        if not self._own():
            return Recall(question)
        try:
            return self._within_reach(self.rag.recall_clues([question])[0])
        except NothingMemorizedError:  # all was forgotten meanwhile
            return Recall(question)

    async def _arecalled(self, question: str) -> Recall:
        if not await asyncio.to_thread(self._own):
            return Recall(question)
        try:
            return self._within_reach((await self.rag.arecall_clues([question]))[0])
        except NothingMemorizedError:
            return Recall(question)

    def _within_reach(self, recalled: Recall) -> Recall:
        """Without clues that stand in what is out of reach; where the others come from is not known."""
        own = self._own()
        kept = [clue for clue in recalled.clues if clue.place is None or clue.place.document_id in own]
        return replace(recalled, clues=tuple(kept))

    def _own(self) -> Mapping[str, Turn]:
        """The turns within reach, by id, from the oldest to the newest."""
        state = self._state()
        return state.by_id if self.reach == "all" else state.of_session(self.session)

    def _checked_k(self, k: int | None) -> int:
        return self.rag.retrieval.k if k is None else replace(self.rag.retrieval, k=k).k

    def _evidence(self, recalled: Recall, count: int, besides: str = "") -> list[Evidence]:
        """What turns within reach say to a question, at most so many pieces, best first.

        Args:
            recalled: The question and its clues.
            count: The most pieces.
            besides: A text that is nothing new.
        """
        own = self._own()
        wanted = count
        while own:
            # As settings, and not as k, which would be refused where turns are forgotten meanwhile.
            settings = replace(self.rag.retrieval, k=wanted, budget=None, neighbours=0, order="rank")
            try:
                found = self.rag.find_evidence([recalled], settings=settings)[0].evidence
            except NothingMemorizedError:  # all were
                break
            kept = [
                one
                for one in found
                if one.chunk.document_id in own and one.chunk.text.strip().casefold() != besides
            ]
            if len(kept) >= count or len(found) < wanted or len(found) >= len(self.rag.chunks):
                hit = [one for one in kept if one.hits]
                return hit[:count] if hit else self._latest(kept, own, count)
            wanted *= 4  # the others are of other sessions
        return []

    def _latest(self, found: Sequence[Evidence], own: Mapping[str, Turn], count: int) -> list[Evidence]:
        """What was said last, where nothing that was said has a word of the question; ``hits`` are empty."""
        ages = {name: age for age, name in enumerate(own)}
        order = sorted(found, key=lambda one: -ages[one.chunk.document_id])
        return [replace(one, rank=rank) for rank, one in enumerate(order[:count], start=1)]

    def _found(
        self, question: str, alone: str, recalled: Recall, k: int, newest: bool
    ) -> tuple[RecalledTurn, ...]:
        """The best turns, in their order."""
        evidence = self._evidence(recalled, max(k, FOUND), question.strip().casefold())
        state = self._state()
        # Without those that were forgotten meanwhile.
        evidence = [one for one in evidence if one.chunk.document_id in state.by_id]
        turns = [state.by_id[one.chunk.document_id] for one in evidence]
        if not newest:
            return tuple(RecalledTurn(turn, one) for turn, one in zip(turns[:k], evidence[:k], strict=True))
        ages = {name: age for age, name in enumerate(state.by_id)}
        order = newest_first(
            alone,
            [
                FoundTurn(one.chunk.text, turn.role, ages[one.chunk.document_id])
                for turn, one in zip(turns, evidence, strict=True)
            ],
            weight=NEWNESS,
            constant=_CONSTANT,
            encode=None if self.rag.embedder is None else self._encode,
            known=state.known,
        )
        return tuple(
            RecalledTurn(
                turns[place.number],
                replace(evidence[place.number], rank=rank),
                None if place.newer is None else turns[place.newer].id,
            )
            for rank, place in enumerate(order[:k], start=1)
        )

    def _encode(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of texts [N, E]; those of the same texts are kept."""
        known = self._vectors  # once, for another thread may begin anew at any moment
        kept = {text: known[text] for text in texts if text in known}
        new = [text for text in dict.fromkeys(texts) if text not in kept]
        if new:
            embedder = cast(Embedder, self.rag.embedder)
            made = unit_rows(embedder.embed_documents(new), len(new), "turns")
            kept |= dict(zip(new, made, strict=True))
            if len(self._vectors) + len(new) > _ENCODED:
                self._vectors = {}
            self._vectors.update({text: kept[text] for text in new})
        return np.stack([kept[text] for text in texts])
