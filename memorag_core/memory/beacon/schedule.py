"""Where things stand in a stream of raw tokens and beacons: pure arithmetic.

In: how far a stream has come and how many tokens wait. Out: how many of them the current window takes, where
beacons follow, and where each entry stands. Knows no tensors of a model, no keys and no values.
Source: Activation Beacon (arXiv 2401.03462), section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from memorag_core.errors import InputError
from memorag_core.system.locking import cached_property

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Stream:
    """How far a stream has come; all else follows, since one ratio holds for the whole stream.

    Positions count over [slots | everything in the unfinished window]: the window starts at position
    ``slots``.

    Attributes:
        window: raw tokens a window holds.
        ratio: raw tokens for one beacon.
        tokens: raw tokens taken so far.
    """

    window: int
    ratio: int
    tokens: int = 0

    def __post_init__(self) -> None:
        if not 1 < self.ratio <= self.window:
            raise InputError(
                f"The ratio is {self.ratio} and the window {self.window}; expected a ratio above 1 and at "
                "most the window. Choose another ratio, such as 4."
            )
        if self.tokens < 0:
            raise InputError(f"A stream has {self.tokens} tokens; expected 0 or more.")

    @property
    def filled(self) -> int:
        """Raw tokens in the unfinished window."""
        return self.tokens % self.window

    @property
    def since_beacon(self) -> int:
        """Raw tokens since the last beacon, counted on across windows."""
        return self.tokens % self.ratio

    @property
    def slots(self) -> int:
        """Beacons of closed windows."""
        return (self.tokens - self.filled) // self.ratio

    @property
    def carried(self) -> int:
        """Raw tokens since the last beacon when the unfinished window began."""
        return (self.tokens - self.filled) % self.ratio

    @property
    def beacons(self) -> int:
        """Beacons in the unfinished window."""
        return (self.carried + self.filled) // self.ratio

    @property
    def entries(self) -> int:
        """Raw tokens and beacons in the unfinished window."""
        return self.filled + self.beacons

    def after(self, tokens: int) -> Stream:
        """The stream after so many more tokens."""
        return Stream(self.window, self.ratio, self.tokens + tokens)


@dataclass(frozen=True)
class Step:
    """What one run of the model takes: raw tokens of one window, and the beacons among them.

    Attributes:
        before: the stream before the step.
        raw: raw tokens taken; at most as many as the window has room for.
    """

    before: Stream
    raw: int

    @property
    def after(self) -> Stream:
        """The stream after the step; a window that is full is closed."""
        return self.before.after(self.raw)

    @property
    def closes(self) -> bool:
        """Whether the window is full after the step."""
        return self.before.filled + self.raw == self.before.window

    @property
    def beacons(self) -> int:
        """Beacons that the step brings."""
        return (self.before.since_beacon + self.raw) // self.before.ratio

    @cached_property
    def entries(self) -> Ints:
        """[raw + beacons] the place in the window of each entry, raw tokens first, beacons after them."""
        before = self.before
        token = before.filled + np.arange(self.raw, dtype=np.int64)
        raw = token + (before.carried + token) // before.ratio
        return np.concatenate((raw, self.window_beacons[before.beacons :]))

    @cached_property
    def window_beacons(self) -> Ints:
        """The places in the window of all its beacons so far, those of earlier steps included."""
        number = np.arange(self.before.beacons + self.beacons, dtype=np.int64)
        return (number + 1) * self.before.ratio - self.before.carried + number

    @cached_property
    def positions(self) -> Ints:
        """[raw + beacons] the position of each entry, raw tokens first."""
        return self.before.slots + self.entries

    @cached_property
    def slot_shift(self) -> Ints:
        """How far closing moves each beacon of the window: its position as a slot less the one it had."""
        return np.arange(len(self.window_beacons), dtype=np.int64) - self.window_beacons


@lru_cache(maxsize=64)
def next_step(stream: Stream, tokens: int) -> Step:
    """The step that a stream takes when so many tokens (1 or more) wait."""
    if tokens < 1:
        raise InputError(f"A step was asked for {tokens} tokens; expected 1 or more.")
    return Step(stream, min(tokens, stream.window - stream.filled))


def steps(stream: Stream, tokens: int) -> Iterator[Step]:
    """The steps that take so many tokens, one for each window they touch."""
    while tokens > 0:
        step = next_step(stream, tokens)
        yield step
        stream, tokens = step.after, tokens - step.raw
