"""How thoroughly laws are tried: as CI does, or as is enough before each commit."""

from __future__ import annotations

import os

IN_CI = "CI" in os.environ


def examples(most: int) -> int:
    """How many examples hypothesis draws of a law: all of them in CI, else a quarter."""
    return most if IN_CI else max(most // 4, 1)
