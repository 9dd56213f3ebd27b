"""Which ratio a text needs: the arithmetic of a model's positions.

In: how many positions a model was made for, its window and ratios, and a number of tokens. Out: a ratio, or
how many tokens a ratio is enough for. Knows no model and no tokens.

A memory's slots, the window in work, and the request and reply behind them share the positions. A text of T
tokens fits them at a ratio R if (positions - window) * R + window >= T + reserved.
"""

from __future__ import annotations

from dataclasses import dataclass

from memorag_core.errors import InputError


@dataclass(frozen=True, slots=True)
class Fit:
    """What a model can read at each of its ratios.

    Attributes:
        positions: positions that the model was made for.
        window: raw tokens in a window.
        ratios: what may be chosen from; kept in order, the smallest first.
        reserved: tokens kept for a request and its reply.

    Raises:
        InputError: there is a ratio at which the positions do not hold a window, a request and a reply.
    """

    positions: int
    window: int
    ratios: tuple[int, ...]
    reserved: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "ratios", tuple(sorted(self.ratios)))
        if self.tokens(self.ratios[0]) < self.window:
            raise InputError(
                f"At ratio {self.ratios[0]} the model's {self.positions} positions do not hold a window of "
                f"{self.window} tokens beside the {self.reserved} that are kept for a request and its reply, "
                "so the ratio cannot adapt to the text. Give a ratio, such as 4."
            )

    @property
    def largest(self) -> int:
        """The ratio at which most tokens fit."""
        return self.ratios[-1]

    def tokens(self, ratio: int) -> int:
        """Raw tokens of a text, its opening included, that fit at a ratio."""
        return (self.positions - self.window) * ratio + self.window - self.reserved

    def whole_windows(self, ratio: int) -> int:
        """Of these the tokens that fill whole windows."""
        return self.tokens(ratio) // self.window * self.window

    def ratio(self, tokens: int) -> int:
        """The smallest ratio at which so many tokens fit; the largest where they fit at none."""
        return next((ratio for ratio in self.ratios if tokens <= self.tokens(ratio)), self.largest)
