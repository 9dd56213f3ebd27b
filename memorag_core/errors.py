"""The errors of the project: each says what was found, what was expected, and the remedy.

In: the facts of a failure, or what was renamed. Out: exceptions, and the
warning that an old name gives. Knows nothing of any stage.
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec


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

    def __init__(self, package: str, extra: str, purpose: str, cause: ImportError | None = None) -> None:
        """Say what is missing.

        Args:
            package: as pip calls it.
            extra: what installs it.
            purpose: what needs it.
            cause: what importing it raised; tells a package that is not there from one that does not go
                together with another one that is installed.
        """
        if cause is None or _is_absent(package, cause):
            said = (
                f"{purpose} needs the package '{package}', which is not installed. "
                f"Install it with: pip install 'memorag-adapters[{extra}]'"
            )
        else:
            said = (
                f"{purpose} needs the package '{package}', which is installed and cannot be imported: "
                f"{cause}. Expected versions that go together: install those that its page names, or try "
                f"pip install --upgrade 'memorag-adapters[{extra}]'"
            )
        super().__init__(said)
        self.package = package
        self.extra = extra


def _is_absent(package: str, cause: ImportError) -> bool:
    """Whether it is the package itself that was not found, and not something that it imports."""
    if not isinstance(cause, ModuleNotFoundError) or not cause.name:
        return False
    for module in (cause.name, cause.name.partition(".")[0]):
        if module.replace(".", "-").replace("_", "-").lower() in package.replace("_", "-").lower():
            try:
                return find_spec(module) is None
            except (ImportError, ValueError):  # what it is in is not there, or was taken out
                return True
    return False


def warn_renamed(old: str, new: str, *, frames: int = 2) -> None:
    """Say that a name is old.

    Args:
        old: The name.
        new: What to use instead.
        frames: How far above this call the user's own line stands; 1 is the caller's.
    """
    warnings.warn(f"{old} is deprecated; use {new}.", DeprecationWarning, stacklevel=frames + 1)
