"""What a model wrote into clues: numbered, quoted, fenced, labelled, echoed, repeated, in any language.

In: a reply, its question and request. Out: the lines that say something, and why every other line went. Knows
no memory and no corpus.

A reply is taken apart (``reply_parser``), each line freed of what surrounds the clue (``strip_markup``) and
judged by the information it carries (``filters``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import regex

from memorag_core.clues.parsing.filters import Asked, comparable, echoes_request, reason_to_drop
from memorag_core.clues.parsing.lines import DROP_REASONS, ClueLines, Dropped, DropReason
from memorag_core.clues.parsing.names import names
from memorag_core.clues.parsing.phrases import ASKING
from memorag_core.clues.parsing.reply_parser import Line, unwrap
from memorag_core.clues.parsing.strip_markup import bare, items, without_bullet, without_list_marks
from memorag_core.documents.words import UNSPACED
from memorag_core.types import ClueKind

__all__ = [
    "DROP_REASONS",
    "ClueLines",
    "DropReason",
    "Dropped",
    "comparable",
    "judge_span",
    "parse_clues",
    "read_clues",
]


def parse_clues(text: str, *, kind: ClueKind, question: str = "", finished: bool = True) -> tuple[str, ...]:
    """The clues in what a model wrote: ``read_clues(...).kept``."""
    return read_clues(text, kind=kind, question=question, finished=finished).kept


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
    reply = unwrap(text, kind)
    asked = Asked.from_texts(question, request)
    lines = _until_next_question(reply.lines, question, asked) if kind == "answer" else reply.lines
    entries = [entry for line in lines for entry in _entries(line, kind, question, asked)]
    if not (finished or reply.whole):
        _cut_end(entries, kind, asked)
    first = True
    for entry in entries:
        if entry.reason is None:
            entry.reason = reason_to_drop(entry.text, entry.written, kind, asked, first=first)
        first = first and entry.reason is not None
    kept = _one_text(entries, question) if kind == "answer" else _distinct(entries)
    dropped = [(entry, entry.reason) for entry in entries if entry.reason is not None]
    return ClueLines(
        kept,
        tuple(Dropped(entry.written.strip(), reason) for entry, reason in dropped if entry.written.strip()),
    )


def judge_span(text: str) -> DropReason | None:
    """Why a line that stands in the corpus is no clue: it says nothing.

    Whatever else it looks like, a chatter, a heading or the question, the corpus does say it.
    """
    reason = reason_to_drop(text, text, "span", Asked.from_texts("", ""), first=True)
    return reason if reason in ("empty", "no information") else None


@dataclass(slots=True)
class _Entry:
    """A line on its way: as written, without what surrounds it, and why it goes."""

    written: str
    text: str
    reason: DropReason | None = None


def _entries(line: Line, kind: ClueKind, question: str, asked: Asked) -> Iterable[_Entry]:
    if line.reason is not None:
        yield _Entry(line.text, "", line.reason)
    elif kind == "answer":
        yield _Entry(line.text, bare(line.text, question, kind=kind))
    elif kind == "entity":
        for item in items(line.text, kind):
            plain = bare(item, question, kind=kind)
            listed = [plain] if echoes_request(plain, asked) else names(plain)
            found = [bare(name, question, kind=kind) for name in listed]
            yield from (_Entry(name if len(found) > 1 else item, name) for name in found or [""])
    else:
        yield from (_Entry(item, bare(item, question, kind=kind)) for item in items(line.text, kind))


_ASKED_AGAIN = regex.compile(
    rf"[\s*#]*(?:(?:follow-up )?(?:{ASKING})|Q)[ \t]*(?:\d{{1,2}})?[ \t]*\**[:：]", regex.I
)


def _until_next_question(lines: Sequence[Line], question: str, asked: Asked) -> Sequence[Line]:
    """The lines of an answer; from the next question on, which a model without end asks itself, marked."""
    answered = False
    for place, line in enumerate(lines):
        if line.reason is not None:
            continue
        if _ASKED_AGAIN.match(line.text):
            if answered:
                rest = [Line(one.text, one.reason or "after the end") for one in lines[place:]]
                return [*lines[:place], *rest]
        elif not answered:
            text = bare(line.text, question, kind="answer")
            answered = reason_to_drop(text, line.text, "answer", asked, first=True) in (None, "refusal")
    return lines


# --- the token limit ----------------------------------------------------------------------------------------

_SENTENCE_END = regex.compile(r"[.!?…؟][\"'”’)\]]*(?=\s|$)|[。！？][」』”’）]*")
_SIGN = regex.compile(rf"[{UNSPACED}]")


def _cut_end(entries: list[_Entry], kind: ClueKind, asked: Asked) -> None:
    """Take the half word, line or sentence from the last entry."""
    if not entries or entries[-1].reason is not None:
        return
    last = entries[-1]
    ends = [match.end() for match in _SENTENCE_END.finditer(last.text)]
    if not last.text or (ends and ends[-1] == len(last.text)):
        return
    others = any(
        entry.reason is None and reason_to_drop(entry.text, entry.written, kind, asked, first=True) is None
        for entry in entries[:-1]
    )
    if kind == "answer" and ends:
        rest = last.text[ends[-1] :]
        last.text = last.text[: ends[-1]]
        entries.append(_Entry(rest, "", "cut off"))
    elif kind not in ("span", "answer") and others:
        last.reason = "cut off"
    elif not _SIGN.match(last.text[-1]):
        last.text = regex.sub(r"\s+\S*$", "", last.text)


# --- repetition ---------------------------------------------------------------------------------------------


def _distinct(entries: Iterable[_Entry]) -> tuple[str, ...]:
    """The texts that no other contains, in order; the others are marked."""
    kept: dict[str, _Entry] = {}
    for entry in entries:
        if entry.reason is None and kept.setdefault(comparable(entry.text), entry) is not entry:
            entry.reason = "repeated"
    for key in _contained(list(kept)):
        kept.pop(key).reason = "repeated"
    return tuple(entry.text for entry in kept.values())


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


def _one_text(entries: Iterable[_Entry], question: str) -> tuple[str, ...]:
    """The lines of a draft answer as one text, each once; a list keeps its marks unless it is one line."""
    kept: dict[str, _Entry] = {}
    for entry in entries:
        if entry.reason is not None:
            continue
        key = comparable(without_list_marks(entry.text))
        if key in kept:
            entry.reason = "repeated"
        else:
            kept[key] = entry
    if len(kept) > 1:
        return ("\n".join(entry.text for entry in kept.values()),)
    for entry in kept.values():
        text = bare(without_bullet(entry.text), "", kind="answer")
        entry.reason = reason_to_drop(text, text, "answer", Asked.from_texts("", ""), first=True)
        if entry.reason is None:
            return (text,)
    return ()
