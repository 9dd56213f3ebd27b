"""Replies while they are decoded, and what they become: recollections, held to the corpus where asked.

In: who is asked what, and generated tokens. Out: recollections, also of replies that are still growing. Knows
no memory and does not compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from memorag_core.memory.decoding import Generated, Replies
from memorag_core.memory.grounding import SpanConstraint
from memorag_core.memory.tokenizer import Tokens
from memorag_core.protocols import Watch
from memorag_core.system.locking import cached_property
from memorag_core.types import Recollection, Span


@dataclass(frozen=True, slots=True)
class Asked:
    """One row of a run: a request that is put to one part of a memory.

    Attributes:
        ask: its number among the requests.
        part: the part's number.
        limit: the most tokens of the reply.
        constraint: what holds the reply to the corpus; None for a free one.
    """

    ask: int
    part: int
    limit: int
    constraint: SpanConstraint | None = None


class Run:
    """The replies of the rows of one run; used by one thread and thrown away.

    It is the ``decoding.Listener`` of the run where somebody watches.
    """

    def __init__(
        self, rows: Sequence[Asked], tokens: Tokens, *, least_score: float | None, watch: Watch | None
    ) -> None:
        """Prepare a run.

        Args:
            rows: in the order of the run.
            tokens: of the model.
            least_score: what a reply scores at least; the model only babbles below. None for no such bound.
            watch: who is told of lines as they are complete, and may end all replies.
        """
        self._rows = rows
        self._tokens = tokens
        self._least = least_score
        self._watch = watch

    @cached_property
    def replies(self) -> Replies:
        """How the rows are decoded."""
        return Replies(
            [row.limit for row in self._rows],
            [row.constraint for row in self._rows],
            self if self._watch is not None else None,
        )

    def heard(self, row: int, reply: Generated) -> None:
        """Tell the watch of a reply when one more of its lines is complete."""
        asked = self._rows[row]
        ended = reply.finished or len(reply.ids) >= asked.limit
        if self._watch is not None and (ended or self._tokens.breaks_line(reply.ids[-1])):
            said = self._recollection(asked, reply)
            if said.text:  # a reply that goes on has come to the end of a line: nothing in it is cut off
                self._watch.said(asked.ask, said if ended else replace(said, finished=True))

    def goes_on(self) -> bool:
        """Whether the watch lets the replies go on."""
        return self._watch is None or self._watch.goes_on()

    def recollections(self, said: Sequence[Generated]) -> list[tuple[int, Recollection]]:
        """What each row said, with the number of its request."""
        return [
            (asked.ask, self._recollection(asked, reply))
            for asked, reply in zip(self._rows, said, strict=True)
        ]

    def _recollection(self, asked: Asked, reply: Generated) -> Recollection:
        score = reply.score + reply.something
        if asked.constraint is not None:
            spans = _spans(asked.constraint, reply)
            believed = tuple(span for span in spans if self._believes(span.score))
            doubted = "\n".join(span.text for span in spans if not self._believes(span.score))
            text = self._tokens.decode(reply.ids) if believed else ""
            return Recollection(text, score, asked.part, len(reply.ids), reply.finished, believed, doubted)
        text, withheld = self._tokens.decode(reply.ids), ""
        if not self._believes(score):
            text, withheld = "", text
        return Recollection(text, score, asked.part, len(reply.ids), reply.finished, None, withheld)

    def _believes(self, score: float) -> bool:
        return self._least is None or score >= self._least


def _spans(constraint: SpanConstraint, reply: Generated) -> tuple[Span, ...]:
    """The lines of a reply, each with a score of its own: what was forced on one says nothing of others."""
    return tuple(
        Span(line.text, line.place, _mean(reply.probabilities[line.first : line.last]) + reply.something)
        for line in constraint.spans()
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
