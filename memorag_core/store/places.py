"""Where a store lies: in a local folder, or behind an address that fsspec knows.

In: a path or an address. Out: the place. Knows both kinds, and nothing of what they hold.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from memorag_core.errors import InputError
from memorag_core.store.folder import LocalFolder
from memorag_core.store.layout import Manifest, Part, StoredFile
from memorag_core.system.disk import taken_in_unicode

_SHORTENED = re.compile(r"([a-z][a-z0-9+.-]+):/[^/]")


class Place(Protocol):
    """What writing and reading need of a place; ``LocalFolder`` says what each method does."""

    def state(self) -> bytes | None:
        """The manifest in place, or None."""
        ...

    def manifest_bytes(self) -> bytes:
        """The manifest in place, or ``StoreError``."""
        ...

    def fetch(self, file: StoredFile) -> Path:
        """A local path of a file that was checked, or ``StoreError``."""
        ...

    def has(self, file: StoredFile) -> bool:
        """Whether a file is there and whole, as far as can be told without fetching it."""
        ...

    def prepare(self) -> None:
        """Make it ready for a first writing, or refuse what is somebody else's."""
        ...

    def lock(self, wait: float) -> Callable[[], None]:
        """Take the right to write; the result gives it back."""
        ...

    def writing(self) -> AbstractContextManager[None]:
        """Room for what is being written."""
        ...

    def put(self, part: Part, write: Callable[[Path], None]) -> StoredFile:
        """Let a file be written, and give it the name of its content."""
        ...

    def publish(self, manifest_bytes: bytes, new: Sequence[StoredFile], before: bytes | None) -> None:
        """Change the store to what a manifest says, if ``before`` is in place; ``new`` were put for it."""
        ...

    def expect(self, before: bytes | None) -> None:
        """Refuse to go on where another manifest is in place."""
        ...

    def keep(self, manifest_bytes: bytes) -> None:
        """Note that a state was read: its files are those worth keeping at hand."""
        ...

    def discard(self, manifest: Manifest) -> None:
        """After a compaction: remove what the manifest does not name."""
        ...


def place_of(path: str | os.PathLike[str], cache: str | os.PathLike[str] | None = None) -> Place:
    """The place that a path or an address means now; it stays that one.

    Args:
        path: a folder, or an address with a protocol: "s3://bucket/name", "memory://name".
        cache: where the files of remote stores are kept; None for the user's cache folder.

    Raises:
        InputError: it names no place.
        StoreError: a protocol that nobody knows.
        MissingExtraError: what speaks it is not installed.
    """
    if isinstance(path, str) and "://" in path:
        from memorag_core.store.remote import RemoteFolder

        return RemoteFolder.at(path, cache)
    if isinstance(path, os.PathLike) and (found := _SHORTENED.match(os.fspath(path))):
        raise InputError(
            f"path is {path!r}; a Path drops a slash of an address. Expected a folder, or the address as "
            f"text: '{found[1]}://...'."
        )
    return LocalFolder(taken_in_unicode(path))
