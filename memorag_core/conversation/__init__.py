"""Conversations over an appending memory: turns in, and what bears on a question out, the newest first.

In: a MemoRAG, turns, questions that may leave out what the turns before them say. Out: questions that stand
alone, and the turns that bear on them. ``session`` appends, asks and finds; ``turns`` are documents and back;
``followup`` says what a question leaves out; ``newest`` which of two statements stands first.
"""

from memorag_core.conversation.session import Conversation, RecalledTurn
from memorag_core.conversation.turns import Turn

__all__ = ["Conversation", "RecalledTurn", "Turn"]
