"""What happened, as a page to read: what was asked and recalled, what was found where, and who says what.

In: an ``Answer``, or all that came of a question. Out: plain text, or data. Knows no pipeline, and prints
nothing itself.
"""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from memorag_core.types import (
    Answer,
    Clue,
    ClueKind,
    Evidence,
    Hit,
    Recall,
    Recollection,
    SearchFailure,
)

_INDENT = "     "
_FINDERS = 3


@dataclass(frozen=True, slots=True)
class Explanation:
    """What happened for a question, from the requests to the evidence; ``str()`` of it is a page to read.

    Attributes:
        recall: what the memory was asked, what it said, what became of it, and what that took.
        evidence: what question and clues found, best first.
        parts: of the memory.
        tokens: that were read into it.
        seconds: that finding the evidence took; asking took ``recall.seconds``.
        failures: searches of a retriever of the user's own that gave nothing.
    """

    recall: Recall
    evidence: tuple[Evidence, ...]
    parts: int
    tokens: int
    seconds: float
    failures: tuple[SearchFailure, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All of it as data that JSON can write, but for metadata that it cannot."""
        return asdict(self)

    def __str__(self) -> str:
        return format_explanation(self)


def format_explanation(explanation: Explanation, *, width: int = 100, excerpt: int = 400) -> str:
    """Describe what happened for a question.

    Args:
        explanation: What ``MemoRAG.explain`` returned.
        width: Columns of the page.
        excerpt: Characters shown of each piece of evidence.
    """
    recall = explanation.recall
    parts = f"{explanation.parts} part{'s' * (explanation.parts != 1)}"
    return "\n".join(
        [
            f"Question: {_one_line(recall.question)}",
            "",
            f"Asked of a memory of {explanation.tokens:,} tokens in {parts}: {recall.tokens:,} tokens were "
            f"generated in {recall.seconds:.2f} s",
            *(_asked_line(kind, said) for kind, said in recall.replies.items()),
            "",
            "Clues (keys for the search, not evidence)",
            *([_clue_line(clue, width, known=True) for clue in recall.clues] or ["  none"]),
            "",
            "Dropped",
            *(
                [
                    _listed(gone.kind, f"{_one_line(gone.text)} ({gone.reason})", width)
                    for gone in recall.dropped
                ]
                or ["  nothing"]
            ),
            "",
            f"Evidence, found in {explanation.seconds:.2f} s",
            *(line for found in explanation.evidence for line in _evidence_lines(found, width, excerpt)),
            *_failure_lines(explanation.failures, width),
        ]
    )


def _failure_lines(failures: Sequence[SearchFailure], width: int) -> Iterator[str]:
    if failures:
        yield from ("", "Searches that failed")
    for failure in failures:
        what = f"{_short(failure.query)} ({_one_line(failure.error)}, after {failure.seconds:.2f} s)"
        yield _listed(failure.kind, what, width)


def _asked_line(kind: ClueKind, said: Sequence[Recollection]) -> str:
    silent = sum(not (reply.text or reply.withheld) for reply in said)
    cut = sum(not reply.finished for reply in said if reply.text or reply.withheld)
    tokens = sum(reply.tokens for reply in said)
    replied = f"{len(said) - silent} replied, {silent} said nothing, {cut} cut off"
    return f"  {kind:<10}{replied}; {tokens:,} tokens"


def format_report(answer: Answer, *, width: int = 100, excerpt: int = 400) -> str:
    """Describe an answer with the clues and the evidence behind it.

    Args:
        answer: What ``MemoRAG.answer`` returned.
        width: Columns of the page.
        excerpt: Characters shown of each piece of evidence; its place in the text is always given in full.
    """
    return "\n".join(
        [
            f"Question: {_one_line(answer.question)}",
            "",
            "Clues recalled from memory (keys for the search, not evidence)",
            *([_clue_line(clue, width) for clue in answer.clues] or ["  none"]),
            "",
            "Evidence",
            *(line for evidence in answer.evidence for line in _evidence_lines(evidence, width, excerpt)),
            "",
            _source(answer),
            _wrapped(answer.text.strip() or "(nothing)", "  ", width),
        ]
    )


def _source(answer: Answer) -> str:
    if answer.source == "memory":
        return "Draft of the memory model (recalled, not drawn from the evidence)"
    return "Answer of the generator"


def _clue_line(clue: Clue, width: int, *, known: bool = False) -> str:
    if not known:
        return _listed(clue.kind, _one_line(clue.text), width)
    facts = [f"score {clue.score:.2f}", f"part {clue.part}"]
    if clue.support is not None:
        facts.append(f"support {clue.support:.2f}")
    if clue.place is not None:
        place = clue.place
        facts.append(f"stands in {place.document_id}, characters {place.start}-{place.end}")
    return _listed(clue.kind, f"{_one_line(clue.text)} ({', '.join(facts)})", width)


def _listed(kind: ClueKind | Literal["question"], text: str, width: int) -> str:
    return textwrap.fill(text, width, initial_indent=f"  {kind:<10}", subsequent_indent=" " * 12)


def _evidence_lines(evidence: Evidence, width: int, excerpt: int) -> Iterator[str]:
    chunk = evidence.chunk
    place = f"{chunk.document_id}, characters {chunk.start}-{chunk.end}"
    yield f"  {evidence.rank}. {place} (score {evidence.score:.4f})"
    text = _one_line(chunk.text)
    yield _wrapped(text if len(text) <= excerpt else f"{text[:excerpt].rstrip()} [...]", _INDENT, width)
    yield _wrapped(f"found with {_finders(evidence.hits)}", _INDENT, width)


def _finders(hits: Sequence[Hit]) -> str:
    """What found a chunk, best rank first; the rest is counted."""
    found = [_finder(hit) for hit in sorted(hits, key=lambda hit: hit.rank)]
    if not found:
        return "nothing: it fills the number asked for"
    more = f" and {len(found) - _FINDERS} more" if len(found) > _FINDERS else ""
    return "; ".join(found[:_FINDERS]) + more


def _finder(hit: Hit) -> str:
    asked = "the question" if hit.kind == "question" else f'{hit.kind} "{_short(hit.query)}"'
    return f"{asked} (rank {hit.rank}, {hit.retriever})"


def _short(text: str) -> str:
    text = _one_line(text)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _one_line(text: str) -> str:
    """Without line breaks, and with a sign in place of what could steer a terminal or not be printed."""
    signs = (
        sign if unicodedata.category(sign) not in ("Cc", "Cs") else "\ufffd"
        for sign in " ".join(text.split())
    )
    return "".join(signs)


def _wrapped(text: str, indent: str, width: int) -> str:
    return "\n".join(
        textwrap.fill(_one_line(line), width, initial_indent=indent, subsequent_indent=indent)
        for line in text.splitlines()
    )
