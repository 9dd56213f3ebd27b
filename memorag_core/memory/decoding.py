"""Greedy decoding of many replies at once, whatever computes the next tokens.

In: the first logits, and what feeds a token to the rows that go on. Out: what each row said, with its
probabilities. Knows no memory and no model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from memorag_core.memory.grounding import ranked_tokens

KEEP_SHARE = 0.75
"""Rows that have ended are dropped from the run once fewer than this share goes on."""

RANKED = 32
"""Tokens that a constraint is offered, after the most probable one, before it looks at all of them."""


class Constraint(Protocol):
    """What holds one reply to certain texts; it is told every token of the reply, for it chooses them."""

    def choose(self, ranked: Iterable[int], logits: Callable[[], npt.NDArray[np.float32]]) -> int:
        """The most probable of the tokens that may come next.

        Args:
            ranked: the most probable tokens, best first.
            logits: gives those of all tokens, [vocabulary], for when none of the ranked ones may come.
        """
        ...


class Listener(Protocol):
    """Who hears replies while they are decoded, and may end them."""

    def heard(self, row: int, reply: Generated) -> None:
        """What a row has said so far, after every token; ``finished`` once it has ended by itself."""
        ...

    def goes_on(self) -> bool:
        """Asked before every token; False ends all replies where they are."""
        ...


class Ended(Exception):  # no error
    """The replies were ended before their prompts were read."""


@dataclass(frozen=True, slots=True)
class Replies:
    """How the replies of the rows of a run are decoded.

    Attributes:
        limits: the most tokens of each row, 1 or more.
        constraints: what holds each row to something; None for a row that is free, or for all.
        listener: who hears them.
    """

    limits: Sequence[int]
    constraints: Sequence[Constraint | None] | None = None
    listener: Listener | None = None

    @classmethod
    def alike(cls, rows: int, limit: int) -> Replies:
        """Free replies of at most so many tokens each."""
        return cls([limit] * rows)

    @property
    def longest(self) -> int:
        """The most tokens of any row."""
        return max(self.limits)

    def go_on(self) -> bool:
        """Whether nobody has ended them; asked before every piece of a prompt and every token."""
        return self.listener is None or self.listener.goes_on()

    def check_go_on(self) -> None:
        """Leave the reading of prompts where somebody has ended the replies, by ``Ended``."""
        if not self.go_on():
            raise Ended

    def unsaid(self) -> list[Generated]:
        """What they are where they were ended before their prompts were read."""
        return [Generated((), 0.0, finished=False) for _ in self.limits]


@dataclass(frozen=True, slots=True)
class Generated:
    """What one row said.

    Attributes:
        ids: the generated tokens, without the one that ended them.
        score: mean natural-log probability of the generated tokens, the one that ended them included.
        finished: whether it ended by itself.
        something: natural-log probability that the reply was not the token for nothing; 0 without one.
        probabilities: natural-log probability of each of the ids, as the model saw it: a constraint that
            forced a token leaves it as improbable as it was.
    """

    ids: tuple[int, ...]
    score: float
    finished: bool
    something: float = 0.0
    probabilities: tuple[float, ...] = ()


def decode(
    logits: Tensor,
    replies: Replies,
    *,
    feed_one: Callable[[Tensor], Tensor],
    keep: Callable[[list[int]], None],
    stop: Collection[int] = (),
    silent: Sequence[bool] | None = None,
) -> list[Generated]:
    """Decode greedily until every row has ended or has all its tokens.

    Args:
        logits: [rows, vocabulary] of the first token.
        replies: how long they may be, what they are held to, who hears them.
        feed_one: takes the tokens [rows] of the rows that go on, gives the logits of the next ones.
        keep: told the places, among the rows that went on so far, of those that still do.
        stop: token ids that end a row.
        silent: rows that say nothing; None for none of them.

    Returns:
        What each row said.
    """
    rows = len(logits)
    said = [_Row() for _ in range(rows)]
    for row in range(rows if silent is not None else 0):
        said[row].ended = silent is not None and silent[row]
    running = list(range(rows))  # the replies that the rows of the run belong to
    listener = replies.listener
    while replies.go_on():
        constraints = [
            replies.constraints[row] if replies.constraints is not None and said[row].open else None
            for row in running
        ]
        tokens = _chosen(logits, constraints)
        probabilities = logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(dim=-1)
        for row, token, probability in zip(running, tokens.tolist(), probabilities.tolist(), strict=True):
            if said[row].open:
                said[row].take(token, probability, stop, replies.limits[row])
                if listener is not None:
                    listener.heard(row, said[row].generated())
        alive = [at for at, row in enumerate(running) if said[row].open]
        if not alive:
            break
        if len(alive) < KEEP_SHARE * len(running):
            keep(alive)
            tokens = tokens[alive]
            running = [running[at] for at in alive]
        logits = feed_one(tokens)
    return [one.generated() for one in said]


class _Row:
    """One reply while it is decoded."""

    __slots__ = ("count", "ended", "full", "ids", "probabilities", "score")

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.probabilities: list[float] = []
        self.score = 0.0
        self.count = 0
        self.ended = self.full = False

    @property
    def open(self) -> bool:
        return not (self.ended or self.full)

    def take(self, token: int, probability: float, stop: Collection[int], limit: int) -> None:
        self.count += 1
        self.score += (probability - self.score) / self.count
        self.ended = token in stop
        self.full = self.count >= limit
        if not self.ended:
            self.ids.append(token)
            self.probabilities.append(probability)

    def generated(self) -> Generated:
        return Generated(tuple(self.ids), self.score, self.ended, probabilities=tuple(self.probabilities))


def _chosen(logits: Tensor, constraints: Sequence[Constraint | None]) -> Tensor:
    """The next token of each row, [rows]."""
    best = logits.argmax(dim=-1)
    if not any(constraint is not None for constraint in constraints):
        return best
    tokens = best.tolist()
    for at, constraint in enumerate(constraints):
        if constraint is not None:
            row = logits[at]
            tokens[at] = constraint.choose(_ranked(tokens[at], row), partial(_array, row))
    return torch.tensor(tokens, device=logits.device)


def _ranked(best: int, logits: Tensor) -> Iterator[int]:
    """The most probable tokens, best first; those after the first are looked for only when asked for."""
    yield best
    top = logits.topk(min(RANKED, len(logits)))
    yield from ranked_tokens(top.values.tolist(), top.indices.tolist())


def _array(logits: Tensor) -> npt.NDArray[np.float32]:
    found: npt.NDArray[np.float32] = logits.float().cpu().numpy()
    return found
