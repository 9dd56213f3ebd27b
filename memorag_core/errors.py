"""The errors of the project: each says what was found, what was expected, and the remedy.

In: the facts of a failure. Out: exceptions. Knows nothing of any stage.
"""

from __future__ import annotations


class MemoRAGError(Exception):
    """Base of every error that this project raises on purpose."""


class InputError(MemoRAGError, ValueError):
    """An argument or a text that cannot be used (empty text, ``k`` below 1, wrong type)."""


class NothingMemorizedError(MemoRAGError):
    """A question was asked before any text was memorized."""


class UnsupportedModelError(MemoRAGError, ValueError):
    """An architecture or a beacon setting that this package does not compute; names what it supports."""


class CheckpointError(MemoRAGError):
    """A checkpoint with missing, surplus or wrong-shaped tensors, or an unreadable file."""


class StoreError(MemoRAGError):
    """A saved memory that cannot be opened: damaged, of another format version, or of another model."""


class RetrievalError(MemoRAGError):
    """Every search for a question failed; the failures, or the only one, are the cause of this error."""


class MissingExtraError(MemoRAGError, ImportError):
    """An optional dependency is not installed, or cannot be imported; the message carries the pip command."""

    def __init__(self, package: str, extra: str, purpose: str, *, broken: ImportError | None = None) -> None:
        found = "not installed" if broken is None else f"installed, but cannot be imported ({broken})"
        super().__init__(
            f"{purpose} needs the package '{package}', which is {found}. Install it"
            f"{'' if broken is None else ' with what it fits'} with: pip install 'memorag-adapters[{extra}]'"
        )
        self.package = package
        self.extra = extra
