"""What reading a reply gives: the lines that are clues, and those that are not, each with its reason.

In: nothing. Out: frozen values. Knows nothing of how lines are judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

DropReason: TypeAlias = Literal[
    "thinking",
    "empty",
    "announcement",
    "chatter",
    "refusal",
    "echo of the question",
    "echo of the instruction",
    "no information",
    "repeated",
    "cut off",
    "after the end",
]
"""Why a line of a reply is no clue.

- thinking: thoughts before the reply, in tags or before a "final answer"
- empty: marks alone, such as a bullet, a fence or "---"
- announcement: says that clues follow, or heads them
- chatter: politeness, notes, explanations and other talk about the clues
- refusal: says that the memory has nothing to say
- echo of the question: gives back the question or, but for answers and names, a part of it
- echo of the instruction: gives back a part of the request
- no information: function words, or a name for nothing in particular ("the author")
- repeated: stands in another line
- cut off: the half line or sentence that the token limit left
- after the end: what a model that does not stop goes on to write, such as a next question
"""

DROP_REASONS: tuple[DropReason, ...] = get_args(DropReason)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A line of a reply that is no clue, as it was written but for the space around it."""

    text: str
    reason: DropReason


@dataclass(frozen=True, slots=True)
class ClueLines:
    """A reply, read: the clues in the order written, and what was dropped in the order written.

    In neither are blank lines, and what went from within a line that was kept: its number, a half word, what
    is said about a name.
    """

    kept: tuple[str, ...]
    dropped: tuple[Dropped, ...]
