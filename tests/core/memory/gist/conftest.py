"""Condensers, texts and inner models for tests of gist memory, and the server on this machine."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from memorag_core.memory.gist import GistMemory, GistModel
from memorag_core.memory.hosted import HostedModel
from memorag_core.memory.longcontext import LongContextModel
from tests.core.loopback import server
from tests.core.memory.hosted.test_model import real_text
from tests.core.memory.longcontext.conftest import state, text_model

__all__ = ["real_text", "server"]

SMALL: dict[str, Any] = {"block_tokens": 128, "gist_tokens": 32}


def condensed(prompt: str) -> str:
    """A condenser that is a function: the first words of the first sentences of the text."""
    text = re.split(r"\n\n===[^\n]*===\n?\n?", prompt)[1]
    openings = [" ".join(sentence.split()[:4]) for sentence in re.split(r"(?<=[.!?。！？])\s*", text)]
    return ". ".join(opening for opening in openings[:4] if opening)[:100] + "."


class Counting:
    """A condenser that remembers what it was asked, and can be told to break off."""

    def __init__(self, *, breaks_at: int | None = None, error: BaseException | None = None) -> None:
        self.prompts: list[str] = []
        self.breaks_at = breaks_at
        self.error = error if error is not None else ConnectionError("the line is dead")

    def __call__(self, prompt: str) -> str:
        if self.breaks_at is not None and len(self.prompts) >= self.breaks_at:
            raise self.error
        self.prompts.append(prompt)
        return condensed(prompt)

    @property
    def asked(self) -> int:
        return len(self.prompts)


@cache
def tiny() -> LongContextModel:
    """A random long-context model of bytes."""
    return text_model("llama")


def gist_model(condenser: Any = condensed, inner: Any = None, **settings: Any) -> GistModel:
    """Small blocks; read by the tiny model, or another one."""
    if not hasattr(condenser, "together"):
        settings.setdefault("name", "first words")
    return GistModel(condenser, inner if inner is not None else tiny(), **{**SMALL, **settings})


def hosted() -> HostedModel:
    """A memory of text that is never asked."""
    return HostedModel(str.upper)


def assert_same(found: GistMemory, expected: GistMemory) -> None:
    """The same gists, and the same bits in the memory of the tiny model."""
    assert found.gists == expected.gists
    kept, wanted = state(found.inner), state(expected.inner)
    assert len(kept) == len(wanted)
    assert all(bool((one == other).all()) for one, other in zip(kept, wanted, strict=True))
