"""Chunks that a splitter of the user's own makes, as spans of the text.

In: a text and a function that splits it. Out: checked spans in the order of the text. Knows no library of
splitters: LangChain's and LlamaIndex's give lists of texts, and these are found in the text again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from memorag_core.documents.spans import Span
from memorag_core.errors import InputError
from memorag_core.protocols import Splitter

_EXPECTED = (
    "expected a list of its chunks, either all as (start, end) in characters or all as texts, as the "
    "split_text of LangChain's and LlamaIndex's splitters gives them"
)
_SHOWN = 60
"""Characters of a chunk that an error shows."""


def check_splitter(splitter: object) -> None:
    """Refuse what cannot be called on a text.

    Raises:
        InputError: It cannot.
    """
    if not callable(splitter) or isinstance(splitter, type):
        remedy = (
            "Give its method: splitter=splitter.split_text."
            if callable(getattr(splitter, "split_text", None)) and not isinstance(splitter, type)
            else "Give such a function, or None to cut by ChunkSettings."
        )
        found = (
            f"the class {splitter.__name__}"
            if isinstance(splitter, type)
            else f"an object of type {type(splitter).__name__}"
        )
        raise InputError(f"The splitter is {found}; expected a function from a text to its chunks. {remedy}")


def own_spans(text: str, splitter: Splitter, name: str) -> list[Span]:
    """The chunks that a splitter makes of a text.

    Args:
        text: With at least one visible character.
        splitter: Gives (start, end) pairs, which are taken as they are, or texts. Texts are looked for in
            their order, each behind the start of the one before; white space in them and around them does
            not count, and they may overlap.
        name: Of the document, for errors.

    Returns:
        One span or more, sorted; parts of the text may be in none.

    Raises:
        InputError: No chunks; one that is empty, outside of the text, or there twice; a text that is not
            found; anything else than pairs or texts.
    """
    given: Any = splitter(text)
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        raise InputError(f"The splitter gave {_shown(given)} for document {name!r}; {_EXPECTED}.")
    if not given:
        raise InputError(
            f"The splitter gave no chunks for document {name!r}, which has {len(text)} characters; expected "
            "at least one. Leave the document out, or give chunks for it."
        )
    if all(isinstance(one, str) for one in given):
        return _located(text, given, name)
    spans = sorted(_checked(text, one, place, name) for place, one in enumerate(given))
    for one, other in pairwise(spans):
        if one == other:
            raise InputError(
                f"The splitter gave the chunk {one} of document {name!r} twice; expected each once. "
                "Leave out the other."
            )
    return spans


def _checked(text: str, given: Any, place: int, name: str) -> Span:
    what = f"Chunk {place} that the splitter gave for document {name!r}"
    if not isinstance(given, tuple | list) or len(given) != 2 or not all(map(_whole, given)):
        raise InputError(f"{what} is {_shown(given)}; {_EXPECTED}.")
    start, end = map(int, given)
    if not 0 <= start < end <= len(text):
        raise InputError(
            f"{what} is {(start, end)}; expected 0 <= start < end <= {len(text)}, the characters of the "
            "text. Count characters, not bytes or tokens, and let end be the one after the last."
        )
    if text[start:end].isspace():
        raise InputError(f"{what} is {(start, end)}, where there is only white space. Leave it out.")
    return start, end


def _whole(value: object) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)


def _located(text: str, chunks: Sequence[str], name: str) -> list[Span]:
    """Where texts stand in a text, each behind the start of the one before it.

    Looked for from the end first, which says for each chunk the last place that leaves room for those behind
    it. Of the places up to that one it is at that which goes on from the chunk before with the least overlap;
    else at the first one behind it; else, with no other left, inside of it. So what a text says several times
    is not found in the middle of its predecessor, nor far behind it.
    """
    visible = [place for place, sign in enumerate(text) if not sign.isspace()]
    bare = "".join(text.split())
    wanted = ["".join(chunk.split()) for chunk in chunks]
    for place, want in enumerate(wanted):
        if not want:
            raise InputError(
                f"Chunk {place} that the splitter gave for document {name!r} is empty; expected text. Leave "
                "it out."
            )
    turned = bare[::-1]
    last = _last_places(turned, wanted)
    if last is None:
        place, after = _first_lost(bare, wanted)
        where = f" behind character {visible[after]}, where chunk {place - 1} starts" if place else ""
        raise InputError(
            f"Chunk {place} that the splitter gave for document {name!r} is not in its text{where}: "
            f"{_shown(chunks[place])}. Expected slices of the text in its order; only white space may "
            "differ. Let the splitter leave the text as it is, or give (start, end) pairs."
        )
    spans: list[Span] = []
    start, end = -1, 0
    for want, latest in zip(wanted, last, strict=True):
        length = len(want)
        going_on = _rfind(turned, want, max(start + 1, end - length + 1), min(end, latest) + length)
        behind = bare.find(want, end, latest + length) if going_on < 0 else -1
        inside = bare.find(want, start + 1, latest + length) if going_on < 0 and behind < 0 else -1
        start = max(going_on, behind, inside)
        end = start + length
        spans.append((visible[start], visible[end - 1] + 1))
    return spans


def _last_places(turned: str, wanted: Sequence[str]) -> list[int] | None:
    """For each chunk the last place at which it and all behind it can stand; None if they cannot."""
    places: list[int] = []
    bound = len(turned)  # a chunk starts before the one behind it
    for want in reversed(wanted):
        bound = _rfind(turned, want, 0, bound - 1 + len(want))
        if bound < 0:
            return None
        places.append(bound)
    return places[::-1]


def _rfind(turned: str, want: str, start: int, end: int) -> int:
    """``rfind`` in the text that is given turned round.

    Python looks forwards in linear time, but backwards in the square of it where a text repeats itself.
    """
    size = len(turned)
    found = turned.find(want[::-1], max(size - end, 0), size - start)
    return size - found - len(want) if found >= 0 else -1


def _first_lost(bare: str, wanted: Sequence[str]) -> tuple[int, int]:
    """The first chunk that is not found behind the start of the one before, and that start."""
    start = -1
    for place, want in enumerate(wanted):
        found = bare.find(want, start + 1)
        if found < 0:
            return place, max(start, 0)
        start = found
    raise AssertionError("what is found from the front is found from the end too")


def _shown(value: object) -> str:
    said = repr(value)
    return said if len(said) <= _SHOWN else f"{said[:_SHOWN]}..."
