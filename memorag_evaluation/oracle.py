"""The clues of a perfect memory: sentences of the gold evidence itself. The ceiling of what clues can do.

In: a suite. Out: clues by document and question, as a memory model's. Knows no retriever.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from memorag_core.types import Clue
from memorag_evaluation.asking import Recalled
from memorag_evaluation.chunks import sentence_spans
from memorag_evaluation.metrics import Span
from memorag_evaluation.suites import Suite

MOST = 9
"""Clues for a question: what a memory gives when it is asked for three of each of three kinds."""


def oracle_clues(suite: Suite, *, most: int = MOST) -> Recalled:
    """Sentences of each question's gold spans, the longest of each span first, the spans in turn.

    The longest, for they say most; in turn, so that evidence in several places is named in all of them.

    Args:
        suite: documents and questions.
        most: the most clues for a question.
    """
    found: dict[tuple[str, str], tuple[Clue, ...]] = {}
    for asked in suite.documents:
        for case in asked.cases:
            texts = dict.fromkeys(_in_turn([_sentences(asked.document.text, span) for span in case.gold]))
            key = asked.document.id, case.question
            # The same words may be asked twice, of two places: each clue is then one of both.
            before = [clue.text for clue in found.get(key, ())]
            chosen = list(dict.fromkeys([*before, *list(texts)[:most]]))
            found[key] = tuple(Clue(text, "span") for text in chosen)
    return found


def _sentences(text: str, span: Span) -> list[str]:
    """The sentences inside a span, the longest first."""
    inside = text[span[0] : span[1]]
    return sorted((inside[start:end] for start, end in sentence_spans(inside)), key=len, reverse=True)


def _in_turn(lists: Sequence[Sequence[str]]) -> Iterator[str]:
    return (one for together in zip_longest(*lists) for one in together if one is not None)
