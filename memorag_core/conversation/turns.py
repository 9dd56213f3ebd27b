"""Turns of a conversation as documents, and back.

In: turns, or documents of any kind. Out: documents that keep role, session and time in their metadata; the
turns among documents, from the oldest to the newest. Knows no memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeAlias, cast
from uuid import uuid4

from memorag_core.conversation.followup import Said, folded_names
from memorag_core.errors import InputError
from memorag_core.types import Document
from memorag_core.types.metadata import FrozenDict, json_frozen

KEYS = ("role", "session", "time")
"""What a turn has in the metadata of its document, beside its own metadata."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation.

    Attributes:
        role: Who says it: "user", "assistant", or any other name.
        text: What is said.
        id: Its own; None, before it is added, for a new one.
        time: When it was said, with a time zone; None, before it is added, for the time of adding.
        session: The session that it belongs to; None, before it is added.
        metadata: Whatever else is to be kept with it, as JSON; of a turn that was added, a copy that cannot
            be changed.
    """

    role: str
    text: str
    id: str | None = None
    time: datetime | None = None
    session: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


History: TypeAlias = Sequence[Turn | Said]
"""Turns, or pairs of role and text, in the order in which they were said."""


@dataclass(frozen=True, slots=True)
class Turns:
    """The turns among documents.

    Attributes:
        documents: that were looked at.
        by_id: the turns, from the oldest to the newest; of equal times the one that was added first.
        names: of each turn, the words in small letters of names within its sentences.
        known: those of all turns.
    """

    documents: tuple[Document, ...] = ()
    by_id: Mapping[str, Turn] = field(default_factory=dict)
    names: Mapping[str, frozenset[str]] = field(default_factory=dict)
    known: frozenset[str] = frozenset()

    def of(self, documents: tuple[Document, ...]) -> Turns:
        """The turns among other documents; what is known of those that stayed is kept."""
        if documents is self.documents:
            return self
        old = {document.id: document for document in self.documents}
        turns: list[Turn] = []
        names: dict[str, frozenset[str]] = {}
        for document in documents:
            stayed = old.get(document.id) is document
            turn = self.by_id.get(document.id) if stayed else turn_of(document)
            if turn is not None:
                turns.append(turn)
                names[document.id] = self.names[document.id] if stayed else folded_names(turn.text)
        turns.sort(key=lambda turn: cast(datetime, turn.time))
        known = frozenset[str]().union(*names.values())
        return Turns(documents, {cast(str, turn.id): turn for turn in turns}, names, known)

    def of_session(self, session: str) -> dict[str, Turn]:
        """The turns of one session, by id."""
        return {name: turn for name, turn in self.by_id.items() if turn.session == session}


def as_turn(given: object) -> Turn:
    """A turn, of a turn or a pair of role and text.

    Raises:
        InputError: It is neither, or a role or text is no text.
    """
    if isinstance(given, tuple | list) and len(given) == 2:
        given = Turn(*given)
    if isinstance(given, Turn) and isinstance(given.role, str) and isinstance(given.text, str):
        return given
    raise InputError(
        f"Found {given!r} among the turns; expected a Turn, or a pair of role and text: ('user', 'Hello.')."
    )


def placed(turn: Turn, session: str, after: datetime | None) -> Turn:
    """A turn that is added to a session, with id, time and session.

    Args:
        turn: As it was given.
        session: That it is added to.
        after: The time of the turn before it; None where there is none.

    Raises:
        InputError: It is of another session; its role is blank; its time has no zone, or is before ``after``;
            its metadata has a name that is the turn's own, or holds what JSON cannot.
    """
    check_text("role", turn.role)
    if turn.session not in (None, session):
        raise InputError(
            f"A turn is of the session {turn.session!r}; expected {session!r}. Add it to "
            f"Conversation(rag, {turn.session!r})."
        )
    metadata = json_frozen(turn.metadata, f"a turn of the {turn.role}")
    taken = [key for key in KEYS if key in metadata]
    if taken:
        raise InputError(
            f"The metadata of a turn has the names {', '.join(taken)}, which are the turn's own. Give them "
            "other names."
        )
    time = turn.time
    if time is None:
        now = datetime.now(UTC)
        time = now if after is None else max(now, after)
    elif not isinstance(time, datetime) or time.utcoffset() is None:
        raise InputError(
            f"The time of a turn is {time!r}; expected a datetime with a time zone, such as "
            "datetime.now(UTC)."
        )
    elif after is not None and time < after:
        raise InputError(
            f"A turn is of {time.isoformat()}, and the one before it of {after.isoformat()}; expected turns "
            "in the order in which they were said. Add older ones to a session of their own."
        )
    return replace(turn, id=turn.id or uuid4().hex, time=time, session=session, metadata=metadata)


def document_of(turn: Turn) -> Document:
    """The document that keeps a turn which has id, time and session."""
    own = {"role": turn.role, "session": turn.session, "time": cast(datetime, turn.time).isoformat()}
    return Document(turn.text, cast(str, turn.id), {**turn.metadata, **own})


def turn_of(document: Document) -> Turn | None:
    """The turn that a document keeps; None for one that is something else."""
    if not all(isinstance(document.metadata.get(key), str) for key in KEYS):
        return None
    try:
        time = datetime.fromisoformat(document.metadata["time"])
    except ValueError:
        return None
    if time.utcoffset() is None:
        return None
    rest = FrozenDict({key: value for key, value in document.metadata.items() if key not in KEYS})
    role, session = document.metadata["role"], document.metadata["session"]
    return Turn(role, document.text, document.id, time, session, rest)


def check_text(name: str, value: object) -> None:
    """Refuse what is no text, or a blank one.

    Raises:
        InputError: With the name and the value.
    """
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"The {name} is {value!r}; expected a text that is not blank.")
