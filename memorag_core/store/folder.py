"""A store in a local folder: files that prove themselves, put in place at once, and a lock to write.

In: a folder, files that were written beside it. Out: checked paths. Knows names and hashes, and nothing of
what the files hold.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import math
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from memorag_core.store.manifest import expect_known, parse_manifest
from memorag_core.system.disk import lock_file, make_folder, sync_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A store where it lies.

    Attributes:
        path: the folder, absolute.
        manifest: the manifest's name; a cache has another one, for it is no store.
    """

    path: Path
    manifest: str = MANIFEST

    def __str__(self) -> str:
        return str(self.path)

    def state(self) -> bytes | None:
        """The manifest in place; None where there is none.

        Raises:
            StoreError: it cannot be read.
        """
        where = self.path / self.manifest
        try:
            if not stat.S_ISREG(where.lstat().st_mode):
                raise StoreError(f"'{where}' is not a plain file. {REMEDY}")
            return where.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StoreError(f"'{where}' cannot be read: {error}. {advice(error)}") from error

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
            expect_size(status.st_size, file, path)
            expect_whole(path, file, path)
        except OSError as error:
            raise StoreError(f"'{path}' cannot be read: {error}. {advice(error)}") from error
        return path

    def has(self, file: StoredFile) -> bool:
        """Whether a file is there and whole."""
        try:
            self.fetch(file)
        except StoreError:
            return False
        return True

    def prepare(self) -> None:
        """Make the folder, or refuse one that holds somebody else's files, or a store that cannot be read.

        Raises:
            StoreError: it does.
        """
        folder = self.path
        if folder.exists() and not folder.is_dir():
            raise StoreError(
                f"'{folder}' is a file. Expected a folder, or a name that is not taken; choose another."
            )
        make_folder(folder)
        expect_ours(self, self.state(), lambda: os.listdir(folder), beside=(UNFINISHED, LOCK))

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

    def publish(self, manifest_bytes: bytes, new: Sequence[StoredFile], before: bytes | None) -> None:
        """Put a manifest in place: the moment in which the store changes. The new files lie there already.

        Args:
            manifest_bytes: the manifest.
            new: the files that were put for it.
            before: the manifest that the change was made from; None for none.

        Raises:
            StoreError: another one is in place.
            OSError: the disk refused; the manifest before is in place. Where it does not confirm the new one,
                that is in place all the same, and a warning is logged.
        """
        unfinished = self.path / UNFINISHED / self.manifest
        unfinished.write_bytes(manifest_bytes)
        _sync_file(unfinished)
        sync_folder(self.path)
        self.expect(before)
        os.replace(unfinished, self.path / self.manifest)
        try:
            sync_folder(self.path)
        except OSError as error:
            logger.warning(
                "'%s' was saved, but the disk did not confirm it (%s): a power loss now may leave the state "
                "before.",
                self.path,
                error,
            )

    def expect(self, before: bytes | None) -> None:
        """Refuse to go on where another manifest is in place than the given one.

        Raises:
            StoreError: it is.
        """
        expect_state(self, self.state(), before, "process")

    def keep(self, manifest_bytes: bytes) -> None:
        """Note that a state was read; nothing is to be done here."""

    def discard(self, manifest: Manifest) -> None:
        """Remove what a manifest does not name; here that is done after every writing."""

    def remove_unnamed(self) -> None:
        """Remove files of ours that the manifest in place does not name; a busy one stays till next time."""
        named: set[str] = set()
        try:
            manifest_bytes = self.state()
            manifest = None if manifest_bytes is None else parse_manifest(manifest_bytes, self)
        except StoreError:  # damaged: what it names is not known
            return
        if manifest is not None:
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
        if isinstance(wait, bool) or not isinstance(wait, int | float) or not 0 <= wait < math.inf:
            raise InputError(f"wait is {wait!r}; expected seconds, 0 or more. 0 does not wait.")
        remedy = "Grant access, or save to a folder on a local disk and copy it from there."
        try:
            return lock_file(self.path / LOCK, wait, remedy=remedy)
        except TimeoutError as error:
            raise StoreError(
                f"'{self.path}' is being written, or is open, in another process or another MemoRAG; waited "
                f"{wait:g} seconds. Expected one writer at a time: try again later, wait longer with wait=, "
                "or save to another folder."
            ) from error


def expect_state(place: object, there: bytes | None, before: bytes | None, who: str) -> None:
    """Refuse to go on from the manifest ``before`` where another one is in place, written by somebody else.

    Raises:
        StoreError: it is.
    """
    if there is None and before is not None:
        raise StoreError(
            f"The store at '{place}' is gone: it was moved or deleted while it was open. What was memorized "
            "can still be asked, and be saved to another place."
        )
    if there != before:
        raise saved_by_another(place, who)


def saved_by_another(place: object, who: str) -> StoreError:
    """What is told where the state in place is not the one that a writer came from."""
    return StoreError(
        f"Another {who} saved to '{place}' meanwhile: it holds another state than the one that this memory "
        "came from, and was left as it is. Expected one writer at a time; load or open it again and make the "
        "change there, or save to another place."
    )


def expect_ours(
    place: object, state: bytes | None, listed: Callable[[], Iterable[str]], *, beside: Sequence[str]
) -> None:
    """Refuse a place whose manifest cannot be read, or that has none and holds somebody else's files.

    Args:
        place: as errors name it.
        state: its manifest.
        listed: gives the names of what lies there; asked only where there is no manifest.
        beside: names of ours that no manifest names.

    Raises:
        StoreError: it is one.
    """
    if state is not None:
        expect_known(state, f"{place}/{MANIFEST}")
        return
    for name in listed():
        if not FILE_NAME.fullmatch(name) and name not in beside:
            raise StoreError(
                f"'{place}' holds '{name}' and no {MANIFEST}. Expected a saved memory, an empty folder or a "
                "name that is not taken; choose another."
            )


def expect_size(size: int, file: StoredFile, named: object) -> None:
    """Refuse a file of another size than the manifest says.

    Raises:
        StoreError: it has another.
    """
    if size != file.size:
        raise StoreError(f"'{named}' has {size} bytes, expected {file.size}. {REMEDY}")


def expect_whole(path: Path, file: StoredFile, named: object) -> None:
    """Refuse a file of another content than the manifest says.

    Raises:
        StoreError: it has another.
    """
    digest, _ = digest_file(path)
    if digest != file.sha256:
        raise StoreError(f"'{named}' is damaged: its sha256 is {digest}, expected {file.sha256}. {REMEDY}")


def digest_file(path: Path) -> tuple[str, int]:
    """The sha256 of a file and its size."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return digest, file.tell()


def _sync_file(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


_ADVICE = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)),
        "Free space there, or choose another folder.",
    ),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS), "Grant access to it, or choose another folder."
    ),
    **dict.fromkeys(
        (errno.EMFILE, errno.ENFILE),
        "Close files, or raise the limit of open files (ulimit -n), and try again.",
    ),
    errno.ENAMETOOLONG: "Choose a shorter name.",
    **dict.fromkeys(
        (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP),
        "Choose a folder on a local disk: its file system lacks what is needed, such as locks.",
    ),
}


def advice(error: OSError) -> str:
    """What helps against a disk that refuses, by what it said."""
    return _ADVICE.get(
        error.errno or 0, "Check the disk and its connection, and try again, or choose another folder."
    )
