"""What a model wrote into clues: numbered, quoted, fenced, labelled, echoed, repeated, in any language.

In: a reply, its question and request. Out: the lines that say something, and why every other line went. Knows
no memory and no corpus.

A reply is taken apart (``reply_parser``), each line freed of what surrounds the clue (``strip_markup``) and
judged by the information it carries (``filters``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import regex

from memorag_core.clues.parsing.filters import (
    SIGN,
    Asked,
    DropReason,
    comparable,
    echoes_request,
    reason_to_drop,
)
from memorag_core.clues.parsing.phrases import ASKING, compiled
from memorag_core.clues.parsing.reply_parser import Line, unwrap
from memorag_core.clues.parsing.strip_markup import BULLET, NUMBER, bare, items, names, without_marks
from memorag_core.types import ClueKind

_ASKED_AGAIN = rf"[\s*#]*(?:(?:follow-up )?(?:{ASKING})|Q)[ \t]*(?:\d{{1,2}})?[ \t]*\**[:：]"
_SENTENCE_END = regex.compile(r"[.!?…؟][\"'”’)\]]*(?=\s|$)|[。！？][」』”’）]*")


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


def read_clues(
    text: str, *, kind: ClueKind, question: str = "", request: str = "", finished: bool = True
) -> ClueLines:
    """Read the clues out of what a model wrote, and say of every other line why it is none.

    Lines are freed of numbering, bullets, quotation marks, labels, fences, JSON, tables, citations,
    translations in brackets and endless repetition. Lines go that echo the question or the request, announce
    clues, talk about them, refuse, say nothing but function words, or repeat another line in whole.

    Args:
        text: What the model wrote; anything is taken.
        kind: A draft answer is one text of one or more lines; all other kinds are one clue a line, and a line
            of names may hold several.
        question: The question that was asked, whose echo is no clue. A part of it may be an answer or a name.
        request: The prompt that held the question, whose lines and sentences are no clues.
        finished: False when the token limit cut the text. The half word at its end goes; a half question,
            key point, step or name goes as a whole when there are others; a draft answer ends with its last
            whole sentence, if any.

    Returns:
        The clues in the order written, none of them contained in another, at most one for a draft answer;
        and the lines dropped.
    """
    written, whole = unwrap(text, kind)
    asked = Asked.from_texts(question, request)
    lines = [found for line in written for found in _clue_lines(line, kind, question, asked)]
    _judge(lines, kind, asked, finished=finished or whole)
    kept = _one_text(lines) if kind == "answer" else _distinct(lines)
    shown = ((line.written.strip(), line.reason) for line in lines)
    return ClueLines(kept, tuple(Dropped(text, reason) for text, reason in shown if text and reason))


def judge_span(text: str) -> DropReason | None:
    """Why a line that stands in the corpus is no clue: it says nothing.

    Whatever else it looks like, a chatter, a heading or the question, the corpus does say it.
    """
    reason = reason_to_drop(text, text, "span", Asked.from_texts())
    return reason if reason in ("empty", "no information") else None


def _clue_lines(line: Line, kind: ClueKind, question: str, asked: Asked) -> Iterator[Line]:
    """A line with its text, or the lines for the items that are written in it."""
    if line.reason is not None or kind == "answer":
        line.text = "" if line.reason else bare(line.written, question, kind=kind)
        yield line
        return
    for item in items(line.written, kind):
        plain = bare(item, question, kind=kind)
        if kind == "entity" and not echoes_request(plain, asked):
            found = [bare(name, question, kind=kind) for name in names(plain)] or [""]
            yield from (Line(name if len(found) > 1 else item, text=name) for name in found)
        else:
            yield Line(item, text=plain)


def _judge(lines: list[Line], kind: ClueKind, asked: Asked, *, finished: bool) -> None:
    """Give the lines that are no clues their reasons, and take the half word or sentence from the last."""
    first, answered, ended = True, False, False
    for line in [*lines]:
        if line.reason is None:
            # A model without end asks itself a next question.
            again = kind == "answer" and compiled(_ASKED_AGAIN).match(line.written) is not None
            ended = ended or (again and answered)
            if ended:
                line.reason = "after the end"
                continue
            if line is lines[-1] and not finished:
                lines += _cut(line, kind, others=not first)
            line.reason = line.reason or reason_to_drop(line.text, line.written, kind, asked, first=first)
            answered = answered or (not again and line.reason in (None, "refusal"))
            first = first and line.reason is not None


def _cut(line: Line, kind: ClueKind, *, others: bool) -> Iterable[Line]:
    """Take what is half from the last line: its last word, or all of it; returns what is dropped apart."""
    ends = [match.end() for match in _SENTENCE_END.finditer(line.text)]
    if not line.text or (ends and ends[-1] == len(line.text)):
        return ()
    if kind == "answer" and ends:
        rest = Line(line.text[ends[-1] :], "cut off")
        line.text = line.text[: ends[-1]]
        return (rest,)
    if kind not in ("span", "answer") and others:
        line.reason = "cut off"
    elif not SIGN.match(line.text[-1]):
        line.text = regex.sub(r"\s+\S*$", "", line.text)
    return ()


def _distinct(lines: Iterable[Line]) -> tuple[str, ...]:
    """The texts that no other contains, in order; the others are marked."""
    kept: dict[str, Line] = {}
    for line in lines:
        if line.reason is None and kept.setdefault(comparable(line.text), line) is not line:
            line.reason = "repeated"
    for key in _contained(list(kept)):
        kept.pop(key).reason = "repeated"
    return tuple(line.text for line in kept.values())


def _contained(texts: Sequence[str]) -> list[str]:
    """The texts that stand in another one of them, which all differ; in time that grows with their length."""
    if len(texts) < 2:
        return []
    from pydivsufsort import divsufsort

    encoded = [text.encode() for text in texts]
    joined = b"\0".join(encoded)  # comparable texts have no such sign
    suffixes = divsufsort(joined)
    ranks = np.empty_like(suffixes)
    ranks[suffixes] = np.arange(len(suffixes), dtype=ranks.dtype)
    found: list[str] = []
    start = 0
    for text, own in zip(texts, encoded, strict=True):
        # Suffixes that begin alike stand side by side.
        rank = int(ranks[start])
        beside = suffixes[max(rank - 1, 0) : rank + 2].tolist()
        if any(place != start and joined.startswith(own, place) for place in beside):
            found.append(text)
        start += len(own) + 1
    return found


def _one_text(lines: Iterable[Line]) -> tuple[str, ...]:
    """The lines of a draft answer as one text, each once; a list keeps its marks unless it is one line."""
    kept: dict[str, Line] = {}
    for line in lines:
        if line.reason is None:
            key = comparable(without_marks(line.text, BULLET, NUMBER))
            if kept.setdefault(key, line) is not line:
                line.reason = "repeated"
    if len(kept) > 1:
        return ("\n".join(line.text for line in kept.values()),)
    for line in kept.values():
        text = bare(without_marks(line.text, BULLET), "", kind="answer")
        line.reason = reason_to_drop(text, text, "answer", Asked.from_texts())
        if line.reason is None:
            return (text,)
    return ()
