"""Finished gists on disk, so that condensing goes on where it was interrupted.

In: gists by key, as they come. Out: a file of JSON lines, and the gists again. Knows no blocks and no models:
what a key stands for is its owner's affair.

A line is appended as a whole under a lock, so any number of processes may share a journal. What a killed
writer left of its last line is dropped; any other damage is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from memorag_core.errors import StoreError
from memorag_core.system.disk import lock_file, make_folder, sync_folder, taken

FORMAT = "memorag-gists"
FORMAT_VERSION = 1

LOCK_SECONDS = 60.0
"""How long another process may hold the lock, which it needs for a moment."""

_HEAD = json.dumps({"format": FORMAT, "format_version": FORMAT_VERSION}).encode() + b"\n"
_PIECE = 1 << 16  # bytes that are looked through at once for the end of a line
_REMEDY = "Restore it from a copy, or give another path (all blocks are condensed again)."


class Journal:
    """A file of finished gists, and a lock file beside it. Nothing is opened before the first call."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Take the place.

        Raises:
            InputError: a blank path.
        """
        self.path = taken(path, "journal")

    def read(self) -> dict[str, str]:
        """All gists by key, the first of each; makes the file where there is none.

        Raises:
            StoreError: the file is damaged, something else, or cannot be used.
        """
        with self._locked():
            content = self.path.read_bytes() if self.path.exists() else b""
            if content != _HEAD[: len(content)] and not content.startswith(_HEAD):
                raise StoreError(
                    f"'{self.path}' is no journal of gists of version {FORMAT_VERSION}: it begins with "
                    f"{content[: len(_HEAD)]!r}. Give a path that is not taken."
                )
            if len(content) < len(_HEAD):
                _append(self.path, _HEAD[len(content) :])
                sync_folder(self.path.parent)
                return {}
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                os.truncate(self.path, whole)
        found: dict[str, str] = {}
        for number, line in enumerate(content[len(_HEAD) : whole].splitlines(), start=2):
            key, gist = _parsed(line, f"Line {number} of '{self.path}'")
            found.setdefault(key, gist)
        return found

    def write(self, key: str, gist: str, *, tokens: int, gist_tokens: int) -> None:
        """Append a gist; it is on the disk when this returns.

        Raises:
            StoreError: the disk refused; the journal is as it was before.
        """
        entry = {"key": key, "gist": gist, "tokens": tokens, "gist_tokens": gist_tokens}
        line = json.dumps({**entry, "sha256": _digest(entry)}, ensure_ascii=False) + "\n"
        with self._locked():
            _drop_half_line(self.path)
            _append(self.path, line.encode())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            if not self.path.parent.is_dir():
                make_folder(self.path.parent)
            release = lock_file(Path(f"{self.path}.lock"), LOCK_SECONDS, remedy="Give another path.")
            try:
                yield
            finally:
                release()
        except TimeoutError as error:
            raise StoreError(
                f"Another process has been holding '{self.path}.lock' for more than {LOCK_SECONDS:.0f} "
                "seconds. Expected moments; end it, or give another path."
            ) from error
        except OSError as error:
            raise StoreError(
                f"The journal '{self.path}' cannot be used: {error}. Free space or grant access, or give "
                "another path."
            ) from error


def _append(path: Path, content: bytes) -> None:
    with path.open("ab", buffering=0) as file:
        before = file.seek(0, os.SEEK_END)
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[file.write(rest) or 0 :]
            os.fsync(file.fileno())
        except BaseException:  # an interrupt too
            os.truncate(path, before)  # a half line must not stand before the next one
            raise


def _drop_half_line(path: Path) -> None:
    """Remove what a writer that was killed since this one began left of its last line."""
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        whole, start = end, end
        while start:
            size = min(start, _PIECE)
            start -= size
            file.seek(start)
            newline = file.read(size).rfind(b"\n")
            if newline >= 0:
                whole = start + newline + 1
                break
        if whole < end:
            file.truncate(whole)


def _parsed(line: bytes, where: str) -> tuple[str, str]:
    try:
        entry = json.loads(line)
        digest = entry.pop("sha256")
        key, gist = entry["key"], entry["gist"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StoreError(f"{where} is damaged: {error!r}. {_REMEDY}") from error
    if digest != _digest(entry):
        raise StoreError(f"{where} is damaged: its sha256 does not fit its content. {_REMEDY}")
    return str(key), str(gist)


def _digest(entry: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()
