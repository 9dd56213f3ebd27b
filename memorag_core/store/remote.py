"""A store behind an address that fsspec knows (``s3://``, ``memory://``, ...), with a local cache.

In: an address. Out: the same as of a local folder. Files are written and read in a folder of the cache; files
of content are uploaded before the manifest that names them, and never changed. What is there is removed by a
compaction only, so that a reader anywhere finds what its manifest names.

Where files are not replaced at once, an upload of the manifest that breaks off leaves part of one. So the
manifest before lies beside it meanwhile, and is the one in place while the other cannot be read.

The writer's lock is the cache folder's: it keeps processes of one machine apart. Between machines a writer
that finds another manifest than the one it came from gives up before it changes anything.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memorag_core.errors import InputError, MissingExtraError, StoreError
from memorag_core.store.folder import LocalFolder, expect_ours, expect_size, expect_state, expect_whole
from memorag_core.store.layout import (
    BEFORE,
    CACHED,
    FILE_NAME,
    MANIFEST,
    NONE,
    REMEDY,
    Manifest,
    Part,
    StoredFile,
)
from memorag_core.store.manifest import is_foreign, parse_manifest
from memorag_core.system.disk import make_folder, taken, taken_in_unicode

STALE_SECONDS = 86400.0
"""Age at which a download that nobody finished is removed."""

_FILES = "file://"
_DOWNLOAD = ".download-"
_REACH = (
    "Check the address, the network and the credentials, which fsspec takes from its own settings and the "
    "environment, and try again."
)


@dataclass(slots=True)
class RemoteFolder:
    """A store at an address; every method does and raises what the one of ``LocalFolder`` does.

    Attributes:
        address: as the user gave it.
        files: the file system of fsspec.
        root: the folder in it.
        local: where its files are kept here.
    """

    address: str
    files: Any
    root: str
    local: LocalFolder
    _sizes: dict[str, int] = field(default_factory=dict, init=False)

    @classmethod
    def at(cls, address: str, cache: str | os.PathLike[str] | None) -> RemoteFolder:
        """The store of an address; nothing is asked of the network.

        Raises:
            InputError: an address without a name, or a cache folder that is none.
            StoreError: a protocol that nobody knows.
            MissingExtraError: what speaks it is not installed.
        """
        try:
            from fsspec.core import url_to_fs
        except ImportError as error:
            raise MissingExtraError("fsspec", "remote", "a store behind an address", error) from error
        try:
            files, root = url_to_fs(address)
        except ImportError as error:
            package = "s3fs" if address.startswith(("s3:", "s3a:")) else address.partition(":")[0]
            raise MissingExtraError(package, "remote", f"a store at '{address}'") from error
        except ValueError as error:
            raise StoreError(
                f"'{address}' cannot be reached: {error}. Expected a folder, or an address that fsspec "
                "knows, such as s3://bucket/name."
            ) from error
        if not address.rpartition("://")[2].strip("/ ") or "\0" in address:
            raise InputError(f"path is {address!r}; expected a name behind the protocol: s3://bucket/name.")
        if "file" in (files.protocol if isinstance(files.protocol, tuple) else (files.protocol,)):
            root = str(taken(root))  # as a folder is, whatever links and the working folder become
            address = f"{_FILES}{root}"
        name = hashlib.sha256(address.rstrip("/").encode()).hexdigest()[:32]
        folder = (taken_in_unicode(cache, "cache") if cache is not None else _user_cache()) / name
        return cls(address.rstrip("/"), files, root.rstrip("/"), LocalFolder(folder, CACHED))

    def __str__(self) -> str:
        return self.address

    def state(self) -> bytes | None:
        """The manifest in place; None where there is none."""
        with self._reached():
            while True:
                found = self._read(MANIFEST)
                if found is not None and (_is_whole(found) or is_foreign(found)):
                    return found
                before = self._read(BEFORE)
                if before is not None and before == NONE:
                    return None
                if before is not None and _is_whole(before):
                    return before
                if self._read(MANIFEST) == found:  # else its upload ended between the two looks
                    return found

    def fetch(self, file: StoredFile) -> Path:
        """A checked copy of a file in the cache; it is downloaded if it is not there."""
        kept, path = self.local.path / file.name, self._path(file.name)
        if self.local.has(file):
            return kept
        with self._reached():
            try:
                size = self.files.info(path)["size"]
            except FileNotFoundError as error:
                raise StoreError(f"'{path}' is missing at '{self}'. {REMEDY}") from error
            expect_size(size, file, path)
            self._make_cache()
            handle, name = tempfile.mkstemp(prefix=_DOWNLOAD, dir=self.local.path)
            os.close(handle)
            try:
                self.files.get_file(path, name)
                expect_whole(Path(name), file, path)
                os.replace(name, kept)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(name)
        return kept

    def has(self, file: StoredFile) -> bool:
        """Whether a file of this size is there; its bytes are known by its name only when it is fetched."""
        return self._sizes.get(file.name) == file.size

    def prepare(self) -> None:
        """Make the cache folder, or refuse an address of somebody else's files or of an unreadable store."""
        # A first save that broke off leaves these two.
        expect_ours(self, self.state(), self._listed, beside=(MANIFEST, BEFORE))
        if self.address.startswith(_FILES):
            make_folder(Path(self.root))  # elsewhere names have no folders, or whoever gave the address has
        self._make_cache()
        for stale in self.local.path.glob(f"{_DOWNLOAD}*"):
            with suppress(OSError):
                if time.time() - stale.stat().st_mtime > STALE_SECONDS:
                    stale.unlink()

    def lock(self, wait: float) -> Callable[[], None]:
        """The cache folder's lock, which other processes of this machine take too."""
        return self.local.lock(wait)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Room in the cache for what is being written, and a look at what is there."""
        before = self.state()
        self._sizes = self._listed()
        if before is not None:
            self._note(before)  # so that its files are kept here
        with self.local.writing():
            yield

    def put(self, part: Part, write: Callable[[Path], None]) -> StoredFile:
        """Let a file be written in the cache; ``publish`` uploads it."""
        return self.local.put(part, write)

    def publish(self, manifest_bytes: bytes, new: Sequence[StoredFile], before: bytes | None) -> None:
        """Upload what is not there yet, the manifest last."""
        with self._reached():
            for file in new:
                if not self.has(file):  # also one that a broken upload left short
                    self.files.put_file(str(self.local.path / file.name), self._path(file.name))
            self.expect(before)
            if self._read(MANIFEST) == before:  # else part of one lies there, and BEFORE is as it must be
                self.files.pipe_file(self._path(BEFORE), NONE if before is None else before)
            self._replace(manifest_bytes)
        with suppress(Exception):  # it says the same as the manifest then, or is replaced before the next one
            self._settle(manifest_bytes)
        with suppress(OSError):
            self._note(manifest_bytes)

    def expect(self, before: bytes | None) -> None:
        """Refuse to go on where another manifest is in place than the given one."""
        expect_state(self, self.state(), before, "machine")

    def keep(self, manifest_bytes: bytes) -> None:
        """Remove from the cache what a state that was just read does not name, unless somebody writes."""
        with suppress(StoreError, OSError):
            self._make_cache()
            release = self.local.lock(0)
            try:
                self._note(manifest_bytes)
                self.local.remove_unnamed()
            finally:
                release()

    def discard(self, manifest: Manifest) -> None:
        """Remove files of ours that the manifest does not name."""
        named = {file.name for file in manifest.all_files}
        with self._reached():
            for name in self._listed():
                if FILE_NAME.fullmatch(name) and name not in named:
                    self.files.rm_file(self._path(name))

    def _replace(self, manifest_bytes: bytes) -> None:
        """Upload the manifest; where an answer is lost, what arrived tells whether it was done."""
        try:
            self.files.pipe_file(self._path(MANIFEST), manifest_bytes)
        except Exception as error:
            try:
                arrived = self._read(MANIFEST)
            except Exception:
                raise StoreError(
                    f"'{self}' cannot be reached any more: {error!r}. The last step of the change was being "
                    "made, and whether it was is not known: what is there is the state before, or all of the "
                    f"new one. {_REACH}"
                ) from error
            if arrived != manifest_bytes:
                raise

    def _settle(self, manifest_bytes: bytes) -> None:
        """Have nothing of the state before beside the manifest any more."""
        try:
            self.files.rm_file(self._path(BEFORE))
        except Exception:  # who may write need not be allowed to remove
            self.files.pipe_file(self._path(BEFORE), manifest_bytes)

    def _read(self, name: str) -> bytes | None:
        with self._reached():
            self.files.invalidate_cache()
            try:
                return bytes(self.files.cat_file(self._path(name)))
            except FileNotFoundError:
                return None

    def _make_cache(self) -> None:
        """Make the cache folder, known as one before anything lies in it."""
        self.local.path.mkdir(parents=True, exist_ok=True)
        (self.local.path / CACHED).touch()
        (self.local.path / MANIFEST).unlink(missing_ok=True)  # what earlier releases called it

    def _note(self, manifest_bytes: bytes) -> None:
        (self.local.path / CACHED).write_bytes(manifest_bytes)

    def _path(self, name: str) -> str:
        return posixpath.join(self.root, name)

    def _listed(self) -> dict[str, int]:
        """Names and sizes of what lies there."""
        with self._reached():
            self.files.invalidate_cache()
            try:
                rows = self.files.ls(self.root, detail=True)
            except FileNotFoundError:
                return {}
            return {
                posixpath.basename(row["name"].rstrip("/")): row["size"]
                for row in rows
                if row["type"] == "file" and row["name"].rstrip("/") != self.root
            }

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Tell of a network that refuses as an error of the store, whatever the library behind it raises."""
        try:
            yield
        except StoreError:
            raise
        except Exception as error:
            raise StoreError(
                f"'{self}' cannot be reached: {error!r}. What was stored there before is unchanged. {_REACH}"
            ) from error


def _is_whole(manifest_bytes: bytes) -> bool:
    try:
        parse_manifest(manifest_bytes, MANIFEST)
    except StoreError:
        return False
    return True


def _user_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    # A relative one is to be ignored, by the XDG specification.
    return (taken(base) if os.path.isabs(base) else taken("~/.cache")) / "memorag"
