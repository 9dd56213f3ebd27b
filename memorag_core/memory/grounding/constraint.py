"""Greedy decoding held to a corpus: every line of a reply is a span of some document.

In: passages, a vocabulary, the logits of the next token. Out: the best token that is allowed, and, when all
are chosen, where each line stands. Knows no model and no memory.

The constraint is on the bytes of the reply, not on its tokens: a token may follow where the line so far and
the token are the beginning of a span, however the corpus would be tokenized.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from memorag_core.errors import InputError
from memorag_core.memory.grounding.blocks import Run, continuations, may_end, narrowed
from memorag_core.memory.grounding.passages import Passages
from memorag_core.memory.grounding.vocabulary import Vocabulary
from memorag_core.types import Place

Logits: TypeAlias = npt.NDArray[np.floating[Any]]

FEW_PLACES, MOST_TEXTS = 64, 512
"""Where no ranked token is allowed, those that are get looked up in the corpus if the line stands at few
places. At more, many tokens may follow: the logits are walked from the highest down until one does, and if
that takes long, the texts that follow are looked at, up to so many different ones."""

_FIRST_WALKED = 256


@dataclass(frozen=True, slots=True)
class GroundedLine:
    """A line of a reply that was held to a corpus.

    Attributes:
        first: its first token, counted in the reply.
        last: the one after its last; the token that only ends a line is not in it.
        text: as it stands in the document.
        place: where it stands for the first time in reading order; of a line that was cut back, where all
            of it stood that had been said.
    """

    first: int
    last: int
    text: str
    place: Place


class SpanConstraint:
    """The state of one reply while it is decoded; for one thread.

    A line begins where a word begins and ends where one ends (see ``grounding.words``). White space in front
    of it says nothing; inside it a run of any length is one space. Lines follow each other without end; a
    token of ``stop`` ends the reply behind a line or in place of one, so that a reply may be empty, but no
    line is.

    Where no token goes on that the passages and the vocabulary both have (a tokenizer that does not know some
    sign, and has no bytes for it), the reply stops or takes a new line, whichever is likelier, and the line
    is cut back to the end of its last whole word.
    """

    def __init__(self, passages: Passages, vocabulary: Vocabulary, stop: Collection[int]) -> None:
        """Begin a reply.

        Args:
            passages: what lines are held to.
            vocabulary: of the model's tokenizer.
            stop: ids that end the reply; whatever text they have does not count.

        Raises:
            InputError: neither a token that ends a reply nor one that ends a line.
        """
        self._vocabulary = vocabulary
        self._stop = frozenset(stop)
        self._enders = sorted(self._stop | {*vocabulary.by_text.get(b"", ())})
        if not self._enders:
            raise InputError("No token ends a reply or a line. Give the ids that end a reply: stop=[...].")
        self._all = passages.runs
        self._lines: list[GroundedLine] = []
        self._tokens = 0
        self._open()

    def choose(self, ranked: Iterable[int], logits: Callable[[], Logits]) -> int:
        """The allowed token with the highest logit, of several the one with the lowest id; it is taken.

        Args:
            ranked: the tokens with the highest logits, best first, those with the same logit by id, none left
                out between them (see ``ranked_tokens``). Usually the first is allowed. May be empty.
            logits: gives those of all tokens [V]; asked only where none of ``ranked`` is allowed.
        """
        for token in ranked:
            if self._take(token):
                return token
        values = logits()
        values = np.where(np.isnan(values), -np.inf, values)
        for token in self._walk(values):
            if self._take(token):
                return token
        return self._give_up(values)

    def spans(self) -> tuple[GroundedLine, ...]:
        """The lines so far; one that has not ended is cut back to the end of its last whole word."""
        unfinished = self._cut_back()
        return (*self._lines, unfinished) if unfinished is not None else tuple(self._lines)

    # One token

    def _open(self) -> None:
        self._runs: Sequence[Run] = self._all  # where the line may stand
        self._depth = 0  # its bytes
        self._loose = True  # whether a space more would say nothing: at the beginning, or behind a space
        self._first = self._tokens
        self._depths: list[int] = []  # its bytes at each of its tokens

    def _take(self, token: int) -> bool:
        """Take a token if it is allowed."""
        if token in self._stop:
            return self._end(empty=True)
        texts = self._vocabulary.texts
        text = texts[token] if token < len(texts) else None
        if text is None:
            return False
        if self._loose and text.startswith(b" "):
            text = text[1:]
        breaks = token in self._vocabulary.line_ends
        if not text:
            return self._end(empty=False) if breaks else self._pad()
        depth = self._depth + len(text)
        runs = [found for run in self._runs if (found := narrowed(run, self._depth, text)) is not None]
        if not runs or (breaks and not any(may_end(run, depth) for run in runs)):
            return False
        self._runs, self._depth, self._loose = runs, depth, text.endswith(b" ")
        self._depths.append(depth)
        self._tokens += 1
        if breaks:
            self._close(self._line(depth))
        return True

    def _end(self, *, empty: bool) -> bool:
        """End the line by a token without text; ``empty``: whether there may be no line."""
        length = self._depth - self._loose
        if not self._depth:
            if not empty:
                return False
            line = None
        elif any(may_end(run, length) for run in self._runs):
            line = self._line(length)
        else:
            return False
        self._tokens += 1
        self._close(line)
        return True

    def _pad(self) -> bool:
        """Take a token of white space where it says nothing: one in front of a line, as of SentencePiece."""
        if self._depths or not self._runs:
            return False
        self._depths.append(0)
        self._tokens += 1
        return True

    def _close(self, line: GroundedLine | None) -> None:
        if line is not None:
            self._lines.append(line)
        self._open()

    def _line(self, length: int) -> GroundedLine | None:
        """The line of so many bytes; None where it may not end there."""
        for run in self._runs:
            start = run.block.first(run, length)
            if start is not None:
                last = self._first + bisect_left(self._depths, length) + 1
                return GroundedLine(self._first, last, *run.block.line(start, length))
        return None

    def _cut_back(self) -> GroundedLine | None:
        for length in range(self._depth, 0, -1):
            if any(may_end(run, length) for run in self._runs):
                return self._line(length)
        return None

    # All tokens

    def _walk(self, values: Logits) -> Iterator[int]:
        """Tokens from the highest logit down, none that may be allowed left out."""
        best_first = _descending(values)
        if sum(run.high - run.low for run in self._runs) > FEW_PLACES:
            yield from islice(best_first, _FIRST_WALKED)
        found = self._candidates()
        if found is None:
            yield from best_first
        else:
            tokens = np.array(sorted(token for token in found if token < len(values)), dtype=np.int64)
            yield from tokens[np.argsort(-values[tokens], kind="stable")].tolist()

    def _candidates(self) -> set[int] | None:
        """All tokens that may be allowed; None where very many are."""
        vocabulary = self._vocabulary
        found = {*self._enders, *vocabulary.by_text.get(b" ", ())}
        texts = 0
        for run in self._runs:
            for text in continuations(run, self._depth, vocabulary.longest):
                texts += 1
                if texts > MOST_TEXTS:
                    return None
                found.update(vocabulary.beginning(text, spaced=self._loose))
        return found

    def _give_up(self, values: Logits) -> int:
        tokens = np.array([token for token in self._enders if token < len(values)], dtype=np.int64)
        token = int(tokens[values[tokens].argmax()])
        line = self._cut_back()
        self._tokens += 1
        self._close(line)
        return token


def ranked_tokens(values: Sequence[float], tokens: Sequence[int]) -> list[int]:
    """The highest logits as ``SpanConstraint.choose`` wants them, from what torch.topk gives.

    Tokens with the same logit are put in the order of their ids. Those with the lowest logit go: others that
    have the same may have been left out.

    Args:
        values: the highest logits, descending.
        tokens: their ids.
    """
    pairs = zip(values, tokens, strict=True)
    return [token for _, token in sorted((-value, token) for value, token in pairs if value > values[-1])]


def _descending(values: Logits) -> Iterator[int]:
    """All tokens from the highest logit down, those with the same by id; sorted as far as asked for."""
    done, count = 0, _FIRST_WALKED
    while done < len(values):
        if count < len(values):
            floor = np.partition(values, len(values) - count)[len(values) - count]
            tokens = np.flatnonzero(values >= floor)
        else:
            tokens = np.arange(len(values))
        tokens = tokens[np.argsort(-values[tokens], kind="stable")]
        yield from tokens[done:].tolist()
        done = len(tokens)
        count = 16 * done
