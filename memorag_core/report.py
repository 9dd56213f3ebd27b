"""An answer as a page to read: what was recalled, what was found where, and who says what.

In: an ``Answer``. Out: plain text. Knows no pipeline, and prints nothing itself.
"""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterator, Sequence

from memorag_core.records import Answer, Clue, Evidence, Hit

_INDENT = "     "
_FINDERS = 3


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


def _clue_line(clue: Clue, width: int) -> str:
    return textwrap.fill(
        _one_line(clue.text), width, initial_indent=f"  {clue.kind:<10}", subsequent_indent=" " * 12
    )


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
