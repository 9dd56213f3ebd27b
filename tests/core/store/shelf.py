"""A file system of fsspec over a folder, where files are not replaced at once, and a network that fails.

It stands for what is reached through SFTP, FTP, SMB and the like: an upload that breaks off leaves part of a
file, and an answer can be lost after all was done.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import fsspec
from fsspec.spec import AbstractFileSystem

Trouble: TypeAlias = Literal["never sent", "removed", "emptied", "half", "answer lost"]
TROUBLES: tuple[Trouble, ...] = ("never sent", "removed", "emptied", "half", "answer lost")


class ShelfFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec is not typed
    """A folder as a network drive.

    Attributes:
        trouble: what befalls the upload whose turn it is.
        turn: which upload that is, from 1; 0 for none.
        dead: whether nothing can be reached after the trouble.
        may_remove: whether files may be removed.
        sent: uploads since the trouble was set.
    """

    protocol = "shelf"
    cachable = False
    trouble: Trouble = "half"
    turn = 0
    dead = False
    may_remove = True
    sent = 0
    down = False

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return path.removeprefix("shelf://").rstrip("/")

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        self._expect_up()
        rows = [
            {
                "name": entry.path,
                "size": entry.stat().st_size,
                "type": "file" if entry.is_file() else "directory",
            }
            for entry in os.scandir(self._strip_protocol(path))
        ]
        return rows if detail else [row["name"] for row in rows]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        self._expect_up()
        return {"name": path, "size": Path(path).stat().st_size, "type": "file"}

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        self._expect_up()
        return Path(path).read_bytes()[start:end]

    def get_file(self, rpath: str, lpath: str, *_: Any, **__: Any) -> None:
        Path(lpath).write_bytes(self.cat_file(rpath))

    def put_file(self, lpath: str, rpath: str, *_: Any, **__: Any) -> None:
        self._upload(Path(rpath), Path(lpath).read_bytes())

    def pipe_file(self, path: str, value: bytes, *_: Any, **__: Any) -> None:
        self._upload(Path(path), value)

    def rm_file(self, path: str) -> None:
        self._expect_up()
        if not self.may_remove:
            raise PermissionError("nothing is removed here")
        Path(path).unlink()

    def _upload(self, path: Path, content: bytes) -> None:
        self._expect_up()
        path.parent.mkdir(parents=True, exist_ok=True)
        shelf = type(self)
        shelf.sent += 1
        if shelf.sent != shelf.turn:
            path.write_bytes(content)
            return
        shelf.down = shelf.dead
        if shelf.trouble == "removed":
            path.unlink(missing_ok=True)
        elif shelf.trouble != "never sent":
            part = {"emptied": 0, "half": len(content) // 2}.get(shelf.trouble, len(content))
            path.write_bytes(content[:part])
        raise ConnectionResetError("the cable was pulled")

    def _expect_up(self) -> None:
        if type(self).down:
            raise ConnectionRefusedError("nobody answers")


fsspec.register_implementation("shelf", ShelfFileSystem, clobber=True)


@contextmanager
def trouble_at(turn: int, trouble: Trouble, *, dead: bool = False, may_remove: bool = True) -> Iterator[None]:
    """Let an upload fail, and the network be gone with it if it is ``dead``."""
    shelf = ShelfFileSystem
    shelf.turn, shelf.trouble, shelf.dead, shelf.may_remove, shelf.sent = turn, trouble, dead, may_remove, 0
    try:
        yield
    finally:
        shelf.turn, shelf.dead, shelf.down, shelf.may_remove = 0, False, False, True
