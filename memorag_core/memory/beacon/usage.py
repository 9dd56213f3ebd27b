"""How a model wants to be used: the ``memorag-usage.json`` beside a checkpoint's weights.

In: a folder, or the parsed file. Out: a frozen ``Usage``. Knows no tensors and no tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memorag_core.errors import CheckpointError, InputError
from memorag_core.memory.checkpoint_files import OLD_USAGE, USAGE, read_json
from memorag_core.memory.requests import LONGEST_REPLY
from memorag_core.prompts import PromptSet
from memorag_core.types import CLUE_KINDS, ClueKind

FORMAT = 1

_STORE = "memorag-store"
"""What a saved memory's file of the old name says: it lies there, and tells nothing of the model."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a checkpoint says about its use; every entry may be left out.

    Attributes:
        capacity: tokens that one memory of this model holds well; longer texts are read into parts. None for
            models that read any length.
        overlap: tokens that neighbouring parts share.
        ratio: the ratio to use when none is asked for; None for the first of the trained ones.
        pad_windows: whether a document is filled up to whole windows, so that each question starts a fresh
            one.
        prompts: the model's own way to be asked; None for the shipped prompt sets.
        max_new_tokens: the longest reply for a kind of clue, where it is not the usual one.
        line_token: the token that stands for a new line in a reply.
        none_token: the token that says that nothing is remembered.
        least_score: the mean natural-log probability of a reply below which the model babbles: it then said
            nothing. None for models whose every reply is worth having.
    """

    capacity: int | None = None
    overlap: int = 0
    ratio: int | None = None
    pad_windows: bool = False
    prompts: PromptSet | None = None
    max_new_tokens: Mapping[ClueKind, int] = field(default_factory=dict)
    line_token: str | None = None
    none_token: str | None = None
    least_score: float | None = None

    def __post_init__(self) -> None:
        _check(
            self.capacity is None or _whole(self.capacity, 1), "capacity", self.capacity, "1 or more, or null"
        )
        limit = self.capacity if self.capacity is not None else 1
        _check(
            _whole(self.overlap, 0) and self.overlap < limit,
            "overlap",
            self.overlap,
            "0 or more, below capacity",
        )
        _check(self.ratio is None or _whole(self.ratio, 2), "ratio", self.ratio, "2 or more, or null")
        _check(isinstance(self.pad_windows, bool), "pad_windows", self.pad_windows, "true or false")
        limits = self.max_new_tokens
        _check(isinstance(limits, Mapping), "max_new_tokens", limits, "a number for each kind of clue")
        for kind, limit in limits.items():
            _check(kind in CLUE_KINDS, "max_new_tokens", kind, f"kinds out of {', '.join(CLUE_KINDS)}")
            _check(_whole(limit, 1), f"max_new_tokens.{kind}", limit, "1 or more")
        for name in ("line_token", "none_token"):
            token = getattr(self, name)
            _check(token is None or isinstance(token, str), name, token, "a token of the tokenizer, or null")

        least = self.least_score
        _check(
            least is None or (isinstance(least, int | float) and not isinstance(least, bool) and least <= 0),
            "least_score",
            least,
            "a number of 0 or less, or null",
        )

    def longest_reply(self, kind: ClueKind) -> int:
        """The most tokens of a reply for a kind of clue."""
        return self.max_new_tokens.get(kind, LONGEST_REPLY[kind])

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], name: str = USAGE) -> Usage:
        """Read a parsed ``memorag-usage.json``; errors call it by ``name``.

        Raises:
            CheckpointError: it is of another format, or an entry is unknown or cannot be used.
        """
        if mapping.get("format") != FORMAT:
            raise CheckpointError(
                f"{name} says format {mapping.get('format')!r}; this release reads format {FORMAT}. "
                "Update memorag-adapters, or get the model anew."
            )
        entries = {name: value for name, value in mapping.items() if name != "format"}
        unknown = [name for name in entries if name not in cls.__slots__]
        if unknown:
            raise CheckpointError(
                f"{name} has the entries {unknown}; known are {sorted(cls.__slots__)}. Take the others out."
            )
        try:
            if entries.get("prompts") is not None:
                entries["prompts"] = PromptSet.from_mapping(entries["prompts"])
            return cls(**entries)
        except (InputError, TypeError) as error:
            raise CheckpointError(f"{name} cannot be used: {error}") from error


def usage_of(folder: Path) -> Usage:
    """What a checkpoint's folder says, under the name of today or that of earlier releases.

    Raises:
        CheckpointError: the file is damaged, of another format, or cannot be used.
    """
    if (folder / USAGE).is_file():
        return Usage.from_mapping(read_json(folder / USAGE))
    if (folder / OLD_USAGE).is_file():
        found = read_json(folder / OLD_USAGE)
        if found.get("format") != _STORE:
            return Usage.from_mapping(found, OLD_USAGE)
    return Usage()


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _check(fits: bool, name: str, found: object, expected: str) -> None:
    if not fits:
        raise InputError(f"{name} is {found!r}; expected {expected}.")
