"""What may be asked of a memory, whatever kind of model made it.

In: requests. Out: the same, or a refusal. Knows no model.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TypeGuard

from memorag_core.errors import InputError
from memorag_core.types import CLUE_KINDS, Ask, ClueKind

LONGEST_REPLY: Mapping[ClueKind, int] = {
    "span": 384,
    "query": 192,
    "answer": 192,
    "key_point": 512,
    "entity": 96,
    "step": 256,
}
"""Tokens: a handful of passages. A reply ends by itself, so a generous limit costs little."""

LONGEST_QUESTION = 256
"""Tokens of a question that any model is asked with: some 150 words. A model may be asked with only the
beginning and the end of a longer one, so that nobody is held up by it; all of it is searched."""


def checked_asks(asks: Sequence[Ask], *, parts: int) -> tuple[Ask, ...]:
    """Requests that a memory of so many parts can be asked.

    Raises:
        InputError: something else than requests, an unknown kind of clue, a question that is no Unicode, or
            one without words where that is no request for key points, or a part that there is not.
    """
    if isinstance(asks, Ask | str) or not all(isinstance(ask, Ask) for ask in asks):
        raise InputError(
            f"A memory was asked {asks!r:.80}; expected a list of requests, such as [Ask(question, 'span')]."
        )
    for ask in asks:
        if ask.kind not in CLUE_KINDS:
            raise InputError(f"The kind of clue is {ask.kind!r}; expected one of {', '.join(CLUE_KINDS)}.")
        if not isinstance(ask.question, str) or (not ask.question.strip() and ask.kind != "key_point"):
            raise InputError(f"The question is {ask.question!r}; expected a text with words.")
        _check_unicode(ask.question)
        if ask.parts is not None and not all(0 <= part < parts for part in ask.parts):
            raise InputError(
                f"The parts {sorted(ask.parts)} were asked for; the memory has 0 to {parts - 1}."
            )
    return tuple(asks)


def check_question(question: object, kinds: Collection[ClueKind]) -> None:
    """Refuse a blank question, but where nothing but key points is asked for: those are of the whole text.

    Raises:
        InputError: It is blank, no text, or no Unicode.
    """
    if not isinstance(question, str):
        raise InputError(f"The question is {question!r:.80}; expected a text. Ask something about the text.")
    _check_unicode(question)
    if not question.strip() and set(kinds) != {"key_point"}:
        raise InputError(f"The question is {question!r}; expected words. Ask something about the text.")


def _check_unicode(question: str) -> None:
    try:
        question.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"The question {question[:40]!r} holds half of a surrogate pair at character {error.start}, "
            "which no tokenizer takes; expected valid Unicode. Decode it with the encoding it was written in."
        ) from error


def check_new_tokens(count: object) -> None:
    """Refuse what is no number of tokens to decode."""
    if not is_whole(count) or count < 1:
        raise InputError(f"max_new_tokens is {count!r}; expected 1 or more.")


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a value is a whole number, and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool)
