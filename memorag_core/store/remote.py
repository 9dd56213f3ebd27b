"""A store behind an address that fsspec knows (``s3://``, ``memory://``, ...), with a local cache.

In: an address. Out: the same as of a local folder. Files are written and read in a folder of the cache; files
of content are uploaded before the manifest that names them, and never changed. What is there is removed by a
compaction only, so that a reader anywhere finds what its manifest names.

The writer's lock is the cache folder's: it keeps processes of one machine apart. Between machines a writer
that finds another manifest than the one it started from gives up before it changes anything.
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

from memorag_core.errors import MissingExtraError, StoreError
from memorag_core.store.folder import LocalFolder, digest_file
from memorag_core.store.layout import FILE_NAME, MANIFEST, REMEDY, Manifest, Part, StoredFile
from memorag_core.store.manifest import parse_manifest

STALE_SECONDS = 86400.0
"""Age at which a download that nobody finished is removed."""

_DOWNLOAD = ".download-"
_NETWORK = (
    "What was stored there before is unchanged. Check the address, the network and the credentials, which "
    "fsspec takes from its own settings and the environment, and try again."
)


@dataclass(slots=True)
class RemoteFolder:
    """A store at an address.

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
    _before: bytes | None = field(default=None, init=False)  # the manifest that a writing started from
    _sizes: dict[str, int] = field(default_factory=dict, init=False)

    @classmethod
    def at(cls, address: str, cache: str | os.PathLike[str] | None) -> RemoteFolder:
        """The store of an address; nothing is asked of the network.

        Raises:
            StoreError: a protocol that nobody knows.
            MissingExtraError: what speaks it is not installed.
        """
        try:
            from fsspec.core import url_to_fs
        except ImportError as error:
            raise MissingExtraError("fsspec", "remote", "a store behind an address") from error
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
        name = hashlib.sha256(address.rstrip("/").encode()).hexdigest()[:32]
        folder = (Path(cache) if cache is not None else _user_cache()) / name
        return cls(address.rstrip("/"), files, root.rstrip("/"), LocalFolder(folder))

    def __str__(self) -> str:
        return self.address

    def exists(self) -> bool:
        """Whether a manifest is in place."""
        with self._reached():
            self.files.invalidate_cache()
            return bool(self.files.exists(self._path(MANIFEST)))

    def manifest_bytes(self) -> bytes:
        """The manifest in place.

        Raises:
            StoreError: there is none, or it cannot be read.
        """
        with self._reached():
            self.files.invalidate_cache()
            try:
                return bytes(self.files.cat_file(self._path(MANIFEST)))
            except FileNotFoundError as error:
                raise StoreError(
                    f"There is no saved memory at '{self}' (no {MANIFEST}). Expected what save made there."
                ) from error

    def fetch(self, file: StoredFile) -> Path:
        """A checked copy of a file in the cache; it is downloaded if it is not there.

        Raises:
            StoreError: it is not what the manifest says.
        """
        if self.local.has(file):
            return self.local.path / file.name
        with self._reached():
            try:
                size = self.files.info(self._path(file.name))["size"]
            except FileNotFoundError as error:
                raise StoreError(f"'{self._path(file.name)}' is missing at '{self}'. {REMEDY}") from error
            if size != file.size:
                raise StoreError(
                    f"'{self._path(file.name)}' has {size} bytes, expected {file.size}. {REMEDY}"
                )
            self.local.path.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=_DOWNLOAD, dir=self.local.path)
            os.close(handle)
            try:
                self.files.get_file(self._path(file.name), name)
                digest, _ = digest_file(Path(name))
                if digest != file.sha256:
                    raise StoreError(
                        f"'{self._path(file.name)}' is damaged: its sha256 is {digest}, expected "
                        f"{file.sha256}. {REMEDY}"
                    )
                os.replace(name, self.local.path / file.name)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(name)
        return self.local.path / file.name

    def has(self, file: StoredFile) -> bool:
        """Whether a file of this size is there; its bytes are known by its name only when it is fetched."""
        return self._sizes.get(file.name) == file.size

    def prepare(self) -> None:
        """Make the cache folder, or refuse an address where somebody else's files lie."""
        self.local.path.mkdir(parents=True, exist_ok=True)
        for stale in self.local.path.glob(f"{_DOWNLOAD}*"):
            with suppress(OSError):
                if time.time() - stale.stat().st_mtime > STALE_SECONDS:
                    stale.unlink()
        if self.exists():
            return
        strangers = [name for name in self._listed() if not FILE_NAME.fullmatch(name)]
        if strangers:
            raise StoreError(
                f"'{self}' holds '{strangers[0]}' and no {MANIFEST}. Expected a saved memory or a name that "
                "is not taken; choose another."
            )

    def lock(self, wait: float) -> Callable[[], None]:
        """The cache folder's lock, which other processes of this machine take too."""
        return self.local.lock(wait)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Room in the cache for what is being written, and a look at what is there."""
        self._before = self.manifest_bytes() if self.exists() else None
        self._sizes = self._listed()
        if self._before is not None:
            with suppress(StoreError):  # a damaged one is written over
                parse_manifest(self._before, self)
                (self.local.path / MANIFEST).write_bytes(self._before)  # so that its files are kept here
        with self.local.writing():
            yield

    def put(self, part: Part, write: Callable[[Path], None]) -> StoredFile:
        """Let a file be written in the cache; ``publish`` uploads it."""
        return self.local.put(part, write)

    def publish(self, manifest_bytes: bytes, new: Sequence[StoredFile]) -> None:
        """Upload what is not there yet, the manifest last.

        Raises:
            StoreError: somebody changed the store meanwhile, or the network refused.
        """
        with self._reached():
            for file in new:
                if not self.has(file):  # also one that a broken upload left short
                    self.files.put_file(str(self.local.path / file.name), self._path(file.name))
            now = self.manifest_bytes() if self.exists() else None
            if now != self._before:
                raise StoreError(
                    f"Another machine saved to '{self}' meanwhile. Expected one writer at a time; load what "
                    "it saved and make the change again."
                )
            self.files.pipe_file(self._path(MANIFEST), manifest_bytes)
            self.files.invalidate_cache()
        self.local.publish(manifest_bytes, new)

    def keep(self, manifest_bytes: bytes) -> None:
        """Remove from the cache what a state that was just read does not name, unless somebody writes."""
        with suppress(StoreError, OSError):
            self.local.path.mkdir(parents=True, exist_ok=True)
            release = self.local.lock(0)
            try:
                (self.local.path / MANIFEST).write_bytes(manifest_bytes)
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
            raise StoreError(f"'{self}' cannot be reached: {error!r}. {_NETWORK}") from error


def _user_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "memorag"
