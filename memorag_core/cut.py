"""Where a text is cut that one memory cannot hold well: the arithmetic of parts.

In: how many tokens a text has. Out: where its parts start, and what has to be read when it grows. Knows no
model and no tokens.

A text of at most C tokens is one part. A longer one is covered by parts of exactly C tokens: the first starts
at 0, each next one a stride further, and the last one reaches back from the end of the text. So appending
changes the last part only, and reading at once or in pieces gives the same parts.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cut:
    """How a text is cut into parts.

    Attributes:
        capacity: tokens of a part, C.
        overlap: tokens that neighbouring parts share, less than C.
    """

    capacity: int
    overlap: int

    def whole(self, total: int) -> int:
        """Parts at multiples of the stride within so many tokens; they stay as they are for ever."""
        stride = self.capacity - self.overlap
        return 0 if total < self.capacity else (total - self.capacity) // stride + 1

    def starts(self, total: int) -> list[int]:
        """Where the parts of so many tokens start."""
        if total <= self.capacity:
            return [0]
        starts = [part * (self.capacity - self.overlap) for part in range(self.whole(total))]
        if starts[-1] + self.capacity < total:
            starts.append(total - self.capacity)
        return starts

    def to_read(self, read: int, total: int) -> int:
        """Tokens to run when a memory of ``read`` tokens is continued to ``total``."""
        if total <= self.capacity:
            return total - read
        first = self.capacity - read if 0 < read < self.capacity else 0
        kept = 1 if first else self.whole(read)
        return first + (len(self.starts(total)) - kept) * self.capacity
