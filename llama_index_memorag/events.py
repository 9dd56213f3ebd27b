"""What can be watched beside LlamaIndex's own events: clues as they are recalled, and what they found.

In: nothing. Out: events for LlamaIndex's instrumentation. They hold questions, clues, ids and numbers, all of
them JSON-able; no model, no key, and of an error only its type, for messages may hold addresses and keys.
"""

from __future__ import annotations

from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]  # no __all__
from llama_index.core.instrumentation.events.base import BaseEvent  # type: ignore[attr-defined]  # likewise

from memorag_core import Clue

dispatcher = get_dispatcher("llama_index_memorag")
"""A handler that is added to it hears this package alone; LlamaIndex's root dispatcher hears it too."""


class _Event(BaseEvent):
    @classmethod
    def class_name(cls) -> str:
        """The name of the event."""
        return cls.__name__


class ClueStartEvent(_Event):
    """The memory is about to be asked, or its clues for the question are kept from before.

    Attributes:
        question: What it is asked.
        kinds: The kinds of clue.
    """

    question: str
    kinds: list[str]


class ClueLineEvent(_Event):
    """The memory has said one more clue; it is not known yet whether it is among the best.

    Attributes:
        question: What it was asked.
        clue: What it said.
        kind: Of the clue.
    """

    question: str
    clue: str
    kind: str


class ClueEndEvent(_Event):
    """The clues of a question are chosen.

    Attributes:
        question: What the memory was asked.
        clues: In the order of the kinds, best first within a kind.
        dropped: How many lines became no clue.
        tokens: That the memory model wrote for them now; 0 for clues that were kept from before.
        seconds: That it took now.
    """

    question: str
    clues: list[Clue]
    dropped: int
    tokens: int
    seconds: float


class SearchFailedEvent(_Event):
    """A search of the user's own retriever failed or took too long; the others went on.

    Attributes:
        question: What the user asked.
        query: What was searched for: the question or a clue.
        kind: "question", or the kind of the clue.
        error: The type of the error.
        seconds: That it took to fail.
    """

    question: str
    query: str
    kind: str
    error: str
    seconds: float


class EvidenceEvent(_Event):
    """What was found for a question, and by which clues.

    Attributes:
        question: What was searched for.
        found: The ids of the nodes, best first, each with the clues that found it.
        failures: How many searches failed.
        seconds: That searching took.
    """

    question: str
    found: dict[str, list[str]]
    failures: int
    seconds: float
