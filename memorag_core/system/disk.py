"""What all parts need of a disk: a path taken once, folders that last, and one process at a time.

In: what a user gave as a path. Out: absolute paths, made folders, held locks. Knows nothing of what lies in
them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from memorag_core.errors import InputError, StoreError
from memorag_core.system.logs import quiet

quiet("filelock")

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def taken(path: str | os.PathLike[str], what: str = "path") -> Path:
    """The place that a path means now, whatever becomes of the working folder and of links later.

    Args:
        path: relative to the working folder, or absolute; "~" is the home folder.
        what: what errors call it.

    Raises:
        InputError: it is no text, blank, or cannot be the name of anything.
    """
    name = os.fspath(path) if isinstance(path, str | os.PathLike) else path
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise InputError(f"{what} is {path!r}; expected the name of a file or folder, as text.")
    try:
        return Path(os.path.realpath(Path(name).expanduser() if name.startswith("~") else name))
    except UnicodeEncodeError as error:
        raise InputError(
            f"{what} is {name!r}, which holds half of a surrogate pair; expected a name that can be one."
        ) from error
    except RuntimeError as error:
        raise InputError(
            f"{what} is {name!r}, and that home folder is not known: {error} Give the whole path, or "
            f"'./{name}' for a folder of this name."
        ) from error
    except OSError as error:
        raise InputError(
            f"{what} is {name!r}, and the working folder cannot be found: {error}. Give the whole path."
        ) from error


def taken_in_unicode(path: str | os.PathLike[str], what: str = "path") -> Path:
    """``taken``, for what safetensors opens: it writes files under names that are no Unicode, and opens none.

    Raises:
        InputError: as ``taken``; the place, or a folder that it is in, has such a name.
    """
    place = taken(path, what)
    try:
        str(place).encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{what} is {str(path)!r}, which is not Unicode, or lies in a folder whose name is not; expected "
            "the name of a folder in UTF-8. Choose another place, or rename the folder."
        ) from error
    return place


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing; all are on the disk when this returns.

    Raises:
        OSError: the disk refuses, or a file is in the way.
    """
    missing: list[Path] = []
    above = folder
    while not above.exists() and above != above.parent:
        missing.append(above)
        above = above.parent
    folder.mkdir(parents=True, exist_ok=True)
    for made in reversed(missing):
        sync_folder(made.parent)
    if not missing:  # whoever made it may have been killed before it was on the disk
        with suppress(PermissionError):
            sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    if os.name == "nt":  # Windows cannot open a folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def lock_file(path: Path, wait: float, *, remedy: str) -> Callable[[], None]:
    """Hold a lock file against other processes, and other holders in this one.

    Args:
        path: the file; its folder must be there.
        wait: seconds to wait for another holder; 0 gives up at once.
        remedy: what to do where there are no locks.

    Returns:
        What lets go; any thread may call it.

    Raises:
        TimeoutError: another one held it all the time.
        StoreError: it cannot be locked there at all.
        OSError: the disk is full.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=wait)
    except Timeout as error:
        raise TimeoutError(f"'{path}' is held by another") from error
    except (OSError, NotImplementedError) as error:  # as network file systems without a lock service refuse
        if isinstance(error, OSError) and error.errno in _FULL:
            raise
        raise StoreError(
            f"'{path}' cannot be locked: {error}. Expected a folder that may be written to, on a file system "
            f"with locks, which some network file systems are not. {remedy}"
        ) from error
    return lock.release
