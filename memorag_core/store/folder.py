"""A store in a local folder: files that prove themselves, put in place at once, and a lock to write.

In: a folder, files that were written beside it. Out: checked paths. Knows names and hashes, and nothing of
what the files hold.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from memorag_core.errors import InputError, StoreError
from memorag_core.store.layout import (
    FILE_NAME,
    LOCK,
    MANIFEST,
    REMEDY,
    SUFFIX,
    UNFINISHED,
    Manifest,
    Part,
    StoredFile,
)
from memorag_core.store.manifest import parse_manifest

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A store where it lies.

    Attributes:
        path: the folder.
    """

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def exists(self) -> bool:
        """Whether a manifest is in place."""
        return os.path.lexists(self.path / MANIFEST)

    def manifest_bytes(self) -> bytes:
        """The manifest in place.

        Raises:
            StoreError: there is none, or it cannot be read.
        """
        where = self.path / MANIFEST
        try:
            if not stat.S_ISREG(where.lstat().st_mode):
                raise StoreError(f"'{where}' is not a plain file. {REMEDY}")
            return where.read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise StoreError(
                f"There is no saved memory in '{self.path}' (no {MANIFEST}). Expected a folder made by save."
            ) from error
        except OSError as error:
            raise StoreError(f"'{where}' cannot be read: {error}. {REMEDY}") from error

    def fetch(self, file: StoredFile) -> Path:
        """The path of a file whose kind, size and hash are as the manifest says.

        Raises:
            StoreError: they are not.
        """
        path = self.path / file.name
        try:
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode):
                raise StoreError(f"'{path}' is not a plain file. {REMEDY}")
            if status.st_size != file.size:
                raise StoreError(f"'{path}' has {status.st_size} bytes, expected {file.size}. {REMEDY}")
            digest, _ = digest_file(path)
        except OSError as error:
            raise StoreError(f"'{path}' cannot be read: {error}. {REMEDY}") from error
        if digest != file.sha256:
            raise StoreError(f"'{path}' is damaged: its sha256 is {digest}, expected {file.sha256}. {REMEDY}")
        return path

    def has(self, file: StoredFile) -> bool:
        """Whether a file is there and whole."""
        try:
            self.fetch(file)
        except StoreError:
            return False
        return True

    def prepare(self) -> None:
        """Make the folder, or refuse one that holds somebody else's files.

        Raises:
            StoreError: it does.
        """
        folder = self.path
        if not folder.exists():
            folder.mkdir(parents=True, exist_ok=True)
            sync_folder(folder.parent)
        if not folder.is_dir():
            raise StoreError(
                f"'{folder}' is a file. Expected a folder, or a name that is not taken; choose another."
            )
        if self.exists():
            return
        for entry in folder.iterdir():
            if not FILE_NAME.fullmatch(entry.name) and entry.name not in (UNFINISHED, LOCK):
                raise StoreError(
                    f"'{folder}' holds '{entry.name}' and no {MANIFEST}. Expected a saved memory, an empty "
                    f"folder or a name that is not taken; choose another."
                )

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Room for what is being written; afterwards what the manifest in place does not name is gone.

        What cannot be removed then stays till next time: by then the store has changed, or has not.
        """
        try:
            shutil.rmtree(self.path / UNFINISHED, ignore_errors=True)
            (self.path / UNFINISHED).mkdir(exist_ok=True)  # it is there where the disk keeps it
            yield
        finally:
            shutil.rmtree(self.path / UNFINISHED, ignore_errors=True)
            with suppress(OSError):
                self.remove_unnamed()

    def put(self, part: Part, write: Callable[[Path], None]) -> StoredFile:
        """Let a file be written, and give it the name of its content."""
        unfinished = self.path / UNFINISHED / part
        unfinished.touch()
        mode = unfinished.stat().st_mode
        write(unfinished)
        unfinished.chmod(stat.S_IMODE(mode))  # safetensors makes files that nobody else can read
        _sync_file(unfinished)
        digest, size = digest_file(unfinished)
        name = f"{part}-{digest[:16]}{SUFFIX[part]}"
        os.replace(unfinished, self.path / name)
        return StoredFile(name, size, digest)

    def publish(self, manifest_bytes: bytes, new: Sequence[StoredFile]) -> None:
        """Put a manifest in place: the moment in which the store changes. The new files lie there already.

        Raises:
            OSError: the disk refused; the manifest before is in place. Where it does not confirm the new one,
                that is in place all the same, and a warning is logged.
        """
        unfinished = self.path / UNFINISHED / MANIFEST
        unfinished.write_bytes(manifest_bytes)
        _sync_file(unfinished)
        sync_folder(self.path)
        os.replace(unfinished, self.path / MANIFEST)
        try:
            sync_folder(self.path)
        except OSError as error:
            logger.warning(
                "'%s' was saved, but the disk did not confirm it (%s): a power loss now may leave the state "
                "before.",
                self.path,
                error,
            )

    def keep(self, manifest_bytes: bytes) -> None:
        """Note that a state was read; nothing is to be done here."""

    def discard(self, manifest: Manifest) -> None:
        """Remove what a manifest does not name; here that is done after every writing."""

    def remove_unnamed(self) -> None:
        """Remove files of ours that the manifest in place does not name; a busy one stays till next time."""
        named: set[str] = set()
        if self.exists():
            try:
                manifest = parse_manifest(self.manifest_bytes(), self.path / MANIFEST)
            except StoreError:  # damaged: what it names is not known
                return
            named = {file.name for file in manifest.all_files}
        for entry in self.path.iterdir():
            if FILE_NAME.fullmatch(entry.name) and entry.name not in named:
                with suppress(OSError):
                    entry.unlink()

    def lock(self, wait: float) -> Callable[[], None]:
        """Take the right to write; readers need none.

        Args:
            wait: seconds to wait for another writer; 0 gives up at once.

        Returns:
            What gives the right back.

        Raises:
            InputError: ``wait`` is no number of 0 or more.
            StoreError: another process, or another ``MemoRAG`` of this one, did not let go meanwhile.
        """
        from filelock import FileLock, Timeout

        if isinstance(wait, bool) or not isinstance(wait, int | float) or not 0 <= wait < math.inf:
            raise InputError(f"wait is {wait!r}; expected seconds, 0 or more. 0 does not wait.")
        lock = FileLock(self.path / LOCK, thread_local=False)  # who closes may be another thread
        try:
            lock.acquire(timeout=wait)
        except Timeout as error:
            raise StoreError(
                f"'{self.path}' is being written, or is open, in another process or another MemoRAG; waited "
                f"{wait:g} seconds. Expected one writer at a time: try again later, wait longer with wait=, "
                "or save to another folder."
            ) from error
        return lock.release


def digest_file(path: Path) -> tuple[str, int]:
    """The sha256 of a file and its size."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return digest, file.tell()


def _sync_file(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    if os.name == "nt":  # Windows cannot open a folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
