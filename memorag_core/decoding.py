"""Greedy decoding of many replies at once, whatever computes the next tokens.

In: the first logits, and what feeds a token to the rows that go on. Out: what each row said, with its
probability. Knows no memory and no model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from torch import Tensor

KEEP_SHARE = 0.75
"""Rows that have ended are dropped from the run once fewer than this share goes on."""


@dataclass(frozen=True, slots=True)
class Generated:
    """What one row said.

    Attributes:
        ids: the generated tokens, without the one that ended them.
        score: mean natural-log probability of the generated tokens, the one that ended them included.
        finished: whether it ended by itself.
        something: natural-log probability that the reply was not the token for nothing; 0 without one.
    """

    ids: tuple[int, ...]
    score: float
    finished: bool
    something: float = 0.0


def decode(
    logits: Tensor,
    *,
    feed_one: Callable[[Tensor], Tensor],
    keep: Callable[[list[int]], None],
    max_new_tokens: int,
    stop: Collection[int] = (),
    silent: Sequence[bool] | None = None,
) -> list[Generated]:
    """Decode greedily until every row has ended or has all its tokens.

    Args:
        logits: [rows, vocabulary] of the first token.
        feed_one: takes the tokens [rows] of the rows that go on, gives the logits of the next ones.
        keep: told the places, among the rows that went on so far, of those that still do.
        max_new_tokens: 1 or more; a row has fewer only where it ends by itself.
        stop: token ids that end a row.
        silent: rows that say nothing; None for none of them.

    Returns:
        What each row said.
    """
    rows = len(logits)
    said: list[list[int]] = [[] for _ in range(rows)]
    scores = [0.0] * rows
    ended = list(silent) if silent is not None else [False] * rows
    running = list(range(rows))  # the replies that the rows of the run belong to
    for count in range(1, max_new_tokens + 1):
        tokens = logits.argmax(dim=-1)
        probabilities = logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(dim=-1)
        for row, token, probability in zip(running, tokens.tolist(), probabilities.tolist(), strict=True):
            if not ended[row]:
                scores[row] += (probability - scores[row]) / count
                ended[row] = token in stop
                if not ended[row]:
                    said[row].append(token)
        alive = [at for at, row in enumerate(running) if not ended[row]]
        if not alive or count == max_new_tokens:
            break
        if len(alive) < KEEP_SHARE * len(running):
            keep(alive)
            tokens = tokens[alive]
            running = [running[at] for at in alive]
        logits = feed_one(tokens)
    return [Generated(tuple(said[row]), scores[row], ended[row]) for row in range(rows)]
