"""A corpus on disk: what was read, kept so that it need not be read again.

In: documents, chunks, the packed memory, vectors and settings as one value. Out: a folder of JSON(L) and
safetensors files (the layout is docs/format.md), and that value again. It does not know what a memory, a clue
or an index is, and it runs no code that lies in a file.

One file, ``memorag.json``, names all others with their sizes and hashes. Every other file is named after its
content and never changed, so a store changes in the moment in which ``memorag.json`` is replaced: whoever
opens the folder finds the state before or the state after, even if the writer was killed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import numpy as np

from memorag_core import __version__
from memorag_core.errors import StoreError
from memorag_core.protocols import FloatMatrix
from memorag_core.records import Chunk, Document

if TYPE_CHECKING:
    import torch

FORMAT = "memorag-store"
FORMAT_VERSION = 1
MANIFEST = "memorag.json"

LOCK_SECONDS = 60.0
"""How long a save waits for another process that is saving to the same folder."""

T = TypeVar("T")

Part: TypeAlias = Literal["documents", "chunks", "memory", "vectors"]

_SUFFIX: Mapping[Part, str] = {
    "documents": ".jsonl",
    "chunks": ".jsonl",
    "memory": ".safetensors",
    "vectors": ".safetensors",
}
_LOCK = ".lock"
_UNFINISHED = ".unfinished"  # a folder for what is being written; what a killed writer left in it is removed
_FILE_NAME = re.compile(r"(documents|chunks)-[0-9a-f]{16}\.jsonl|(memory|vectors)-[0-9a-f]{16}\.safetensors")
_VECTORS = "vectors"
_REMEDY = "Restore the folder from a copy, or memorize the text again and save it."


@dataclass(frozen=True, slots=True)
class StoredCorpus:
    """All that a store holds.

    ``tensors`` and ``header`` are what ``MemoryModel.pack`` gave; ``fingerprint`` is the identity of that
    model; ``vectors`` holds one normalised row a chunk, or is None when no embedder was used; ``settings``
    can be written as JSON.
    """

    documents: tuple[Document, ...]
    chunks: tuple[Chunk, ...]
    tensors: Mapping[str, Any]
    header: Mapping[str, Any]
    fingerprint: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    vectors: FloatMatrix | None = None


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One row of the file table: a plain name inside the folder, its size in bytes and its sha256."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What ``memorag.json`` says."""

    created_by: str
    fingerprint: Mapping[str, Any]
    settings: Mapping[str, Any]
    header: Mapping[str, Any]
    files: Mapping[str, StoredFile]


def save_store(path: str | os.PathLike[str], corpus: StoredCorpus) -> None:
    """Write a corpus to a folder, as a whole or not at all.

    The folder is made when it is missing. A store that lies there is replaced, and its files are removed once
    the new state is in place; a memory that is still mapped from them stays usable.

    Raises:
        StoreError: The folder holds something else, another process keeps saving to it, a value cannot be
            written as JSON, or the disk refused. What was stored before is still there.
    """
    folder = Path(path)
    try:
        if folder.exists():
            _expect_store_folder(folder)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            _sync_folder(folder.parent)
        with _exclusive(folder):
            _write(folder, corpus)
    except OSError as error:
        raise StoreError(
            f"Could not save to '{folder}': {error}. What was stored there before is unchanged. "
            f"Free space or grant access, or save to another folder."
        ) from error


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """What a store says about itself, without opening its other files.

    Raises:
        StoreError: There is no store, or its manifest is damaged or of another format version.
    """
    return _parse_manifest(_manifest_bytes(Path(path)), Path(path))


def load_store(path: str | os.PathLike[str], fingerprint: Mapping[str, Any]) -> StoredCorpus:
    """Read a store that was made with the model of this fingerprint, after checking every byte of it.

    Tensors are mapped from their file: they take memory only as they are used.

    Args:
        path: The store's folder.
        fingerprint: The identity of the model that will use the memory.

    Raises:
        StoreError: The store was made with another model, is damaged or incomplete, or of another format
            version.
    """
    folder = Path(path)
    while True:
        manifest_bytes = _manifest_bytes(folder)
        try:
            return _read(folder, _parse_manifest(manifest_bytes, folder), fingerprint)
        except StoreError:
            if _manifest_bytes(folder) == manifest_bytes:
                raise
            # Another process saved here meanwhile and removed the files of the state we were reading.


# Writing


def _write(folder: Path, corpus: StoredCorpus) -> None:
    """Put the files in place, then the manifest that names them, then remove what it does not name."""
    contents: dict[Part, Callable[[Path], None]] = {
        "documents": lambda file: _write_lines(file, map(_document_row, corpus.documents)),
        "chunks": lambda file: _write_lines(file, _chunk_rows(corpus)),
        "memory": lambda file: _write_tensors(file, corpus.tensors),
    }
    if corpus.vectors is not None:
        vectors = corpus.vectors
        contents["vectors"] = lambda file: _write_tensors(file, {_VECTORS: vectors})
    try:
        shutil.rmtree(folder / _UNFINISHED, ignore_errors=True)
        (folder / _UNFINISHED).mkdir()
        files = {part: _put(folder, part, write) for part, write in contents.items()}
        unfinished = folder / _UNFINISHED / MANIFEST
        unfinished.write_bytes(_manifest_text(corpus, files))
        _sync_file(unfinished)
        _sync_folder(folder)
        os.replace(unfinished, folder / MANIFEST)
        _sync_folder(folder)
    finally:
        _remove_unnamed(folder)


def _put(folder: Path, part: Part, write: Callable[[Path], None]) -> StoredFile:
    unfinished = folder / _UNFINISHED / part
    unfinished.touch()
    mode = unfinished.stat().st_mode
    write(unfinished)
    unfinished.chmod(stat.S_IMODE(mode))  # safetensors makes files that nobody else can read
    _sync_file(unfinished)
    digest, size = _digest(unfinished)
    name = f"{part}-{digest[:16]}{_SUFFIX[part]}"
    os.replace(unfinished, folder / name)
    return StoredFile(name=name, size=size, sha256=digest)


def _remove_unnamed(folder: Path) -> None:
    """Remove files of ours that the manifest in place does not name; a busy one stays for the next save."""
    shutil.rmtree(folder / _UNFINISHED, ignore_errors=True)
    named: set[str] = set()
    if (folder / MANIFEST).exists():
        try:
            named = {file.name for file in read_manifest(folder).files.values()}
        except StoreError:  # damaged: what it names is not known
            return
    for entry in folder.iterdir():
        if _FILE_NAME.fullmatch(entry.name) and entry.name not in named:
            with suppress(OSError):
                entry.unlink()


def _manifest_text(corpus: StoredCorpus, files: Mapping[Part, StoredFile]) -> bytes:
    body = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "created_by": f"memorag-adapters {__version__}",
        "fingerprint": dict(corpus.fingerprint),
        "settings": dict(corpus.settings),
        "memory": dict(corpus.header),
        "files": {
            part: {"name": file.name, "bytes": file.size, "sha256": file.sha256}
            for part, file in files.items()
        },
    }
    # Through JSON once, so that what is hashed is what a reader will have (tuples are lists, keys are text).
    body = json.loads(_json(body, "the fingerprint, settings or header of the memory"))
    return _canonical({**body, "sha256": _manifest_digest(body)})


def _document_row(document: Document) -> bytes:
    row = {"id": document.id, "text": document.text, "metadata": dict(document.metadata)}
    return _encode(_json(row, f"the metadata of document '{document.id}'"))


def _chunk_rows(corpus: StoredCorpus) -> Iterator[bytes]:
    """Chunks as spans: their text is in the document, and so is metadata that they share with it."""
    documents = {document.id: document for document in corpus.documents}
    for chunk in corpus.chunks:
        document = documents.get(chunk.document_id)
        if document is None or chunk.text != document.text[chunk.start : chunk.end]:
            raise StoreError(
                f"Chunk '{chunk.id}' is not the text of document '{chunk.document_id}' from {chunk.start} "
                f"to {chunk.end}. Expected slices of the saved documents, as split_document makes them."
            )
        row: dict[str, Any] = {
            "id": chunk.id,
            "document": chunk.document_id,
            "start": chunk.start,
            "end": chunk.end,
        }
        if chunk.metadata != document.metadata:
            row["metadata"] = dict(chunk.metadata)
        yield _encode(_json(row, f"the metadata of chunk '{chunk.id}'"))


def _write_lines(file: Path, lines: Iterable[bytes]) -> None:
    with file.open("wb") as out:
        for line in lines:
            out.write(line + b"\n")


def _write_tensors(file: Path, tensors: Mapping[str, Any]) -> None:
    """Write torch tensors or NumPy arrays; the file remembers which, so that a reader gets the same kind."""
    if all(isinstance(tensor, np.ndarray) for tensor in tensors.values()):
        from safetensors.numpy import save_file as save_arrays

        save_arrays(
            {name: np.ascontiguousarray(array) for name, array in tensors.items()},
            file,
            {"framework": "numpy"},
        )
        return
    from safetensors.torch import save_file

    save_file({name: _compact(tensor) for name, tensor in tensors.items()}, file, {"framework": "torch"})


def _compact(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor on the CPU in storage of its own: a view of a grown buffer must not bring it along."""
    tensor = tensor.detach().cpu().contiguous()
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Let one process at a time write to the folder; readers need no lock."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(folder / _LOCK, timeout=LOCK_SECONDS):
            yield
    except Timeout as error:
        raise StoreError(
            f"Another process has been saving to '{folder}' for more than {LOCK_SECONDS:.0f} seconds. "
            f"Expected one writer at a time; save again later or to another folder."
        ) from error


def _expect_store_folder(folder: Path) -> None:
    """Refuse to write among somebody else's files."""
    if not folder.is_dir():
        raise StoreError(
            f"'{folder}' is a file. Expected a folder, or a name that is not taken; choose another."
        )
    if (folder / MANIFEST).exists():
        return
    for entry in folder.iterdir():
        ours = _FILE_NAME.fullmatch(entry.name) or entry.name in (_UNFINISHED, _LOCK)
        if not ours:
            raise StoreError(
                f"'{folder}' holds '{entry.name}' and no {MANIFEST}. Expected a saved memory, an empty "
                f"folder or a name that is not taken; choose another."
            )


# Reading


def _manifest_bytes(folder: Path) -> bytes:
    try:
        if not stat.S_ISREG((folder / MANIFEST).lstat().st_mode):
            raise StoreError(f"'{folder / MANIFEST}' is not a plain file. {_REMEDY}")
        return (folder / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(
            f"There is no saved memory in '{folder}' (no {MANIFEST}). Expected a folder made by save."
        ) from error
    except OSError as error:
        raise StoreError(f"'{folder / MANIFEST}' cannot be read: {error}. {_REMEDY}") from error


def _parse_manifest(manifest_bytes: bytes, folder: Path) -> Manifest:
    """Check format, version and the manifest's own hash, in this order, then its values."""
    where = folder / MANIFEST
    found = _parse(manifest_bytes, where)
    if found.get("format") != FORMAT:
        raise StoreError(f"'{where}' says format {found.get('format')!r}, expected {FORMAT!r}. {_REMEDY}")
    if found.get("format_version") != FORMAT_VERSION:
        raise StoreError(
            f"'{folder}' is of format version {found.get('format_version')!r}; this release reads version "
            f"{FORMAT_VERSION}. Open it with the release that wrote it ({found.get('created_by')!r}), or "
            f"memorize the text again and save it."
        )
    body = {key: value for key, value in found.items() if key != "sha256"}
    # Compared as bytes too: a change that keeps the meaning is still not what was written.
    if found.get("sha256") != _manifest_digest(body) or manifest_bytes != _canonical(found):
        raise StoreError(
            f"'{where}' was changed after it was saved: its hash does not fit its content. {_REMEDY}"
        )
    try:
        return Manifest(
            created_by=_typed(body["created_by"], str),
            fingerprint=_typed(body["fingerprint"], dict),
            settings=_typed(body["settings"], dict),
            header=_typed(body["memory"], dict),
            files=_parse_files(body["files"], where),
        )
    except (KeyError, TypeError) as error:
        raise StoreError(f"'{where}' lacks a value or has one of a wrong type: {error}. {_REMEDY}") from error


def _parse_files(table: Any, where: Path) -> dict[str, StoredFile]:
    files = {
        part: StoredFile(
            name=_typed(row["name"], str), size=_typed(row["bytes"], int), sha256=_typed(row["sha256"], str)
        )
        for part, row in _typed(table, dict).items()
    }
    for part, file in files.items():
        if not _FILE_NAME.fullmatch(file.name) or not file.name.startswith(f"{part}-"):
            raise StoreError(
                f"'{where}' names the file '{file.name}' for {part}. Expected a plain name such as "
                f"'documents-0123456789abcdef.jsonl' inside the folder. {_REMEDY}"
            )
    missing = {"documents", "chunks", "memory"} - files.keys()
    if missing:
        raise StoreError(f"'{where}' names no file for {', '.join(sorted(missing))}. {_REMEDY}")
    return files


def _read(folder: Path, manifest: Manifest, fingerprint: Mapping[str, Any]) -> StoredCorpus:
    _expect_same_model(manifest.fingerprint, fingerprint, folder)
    files = {part: _verified(folder, file) for part, file in manifest.files.items()}
    documents = tuple(_parse_document(row, files["documents"]) for row in _rows(files["documents"]))
    by_id = {document.id: document for document in documents}
    chunks = tuple(_parse_chunk(row, by_id, files["chunks"]) for row in _rows(files["chunks"]))
    vectors = _read_vectors(files["vectors"], len(chunks)) if "vectors" in files else None
    return StoredCorpus(
        documents=documents,
        chunks=chunks,
        tensors=_read_tensors(files["memory"]),
        header=manifest.header,
        fingerprint=manifest.fingerprint,
        settings=manifest.settings,
        vectors=vectors,
    )


def _expect_same_model(stored: Mapping[str, Any], given: Mapping[str, Any], folder: Path) -> None:
    given = json.loads(_json(dict(given), "the fingerprint of the model"))
    differences = [
        f"{name} is {_short(given_value)} in the model and {_short(stored_value)} in the store"
        for name, given_value, stored_value in _differences(given, stored)
    ]
    if differences:
        raise StoreError(
            f"The memory in '{folder}' was made with another model: {'; '.join(differences)}. "
            f"Load it with the model it was made with, or memorize the text again with this one."
        )


def _differences(left: Any, right: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The places where two JSON values differ, as (dotted name, left, right)."""
    if isinstance(left, dict) and isinstance(right, dict):
        for key in sorted(left.keys() | right.keys()):
            yield from _differences(left.get(key), right.get(key), f"{name}.{key}" if name else key)
    elif left != right:
        yield name or "fingerprint", left, right


def _short(value: Any) -> str:
    text = "missing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _verified(folder: Path, file: StoredFile) -> Path:
    """The path of a file whose kind, size and hash are as the manifest says."""
    path = folder / file.name
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise StoreError(f"'{path}' is not a plain file. {_REMEDY}")
        if status.st_size != file.size:
            raise StoreError(f"'{path}' has {status.st_size} bytes, expected {file.size}. {_REMEDY}")
        digest, _ = _digest(path)
    except OSError as error:
        raise StoreError(f"'{path}' cannot be read: {error}. {_REMEDY}") from error
    if digest != file.sha256:
        raise StoreError(f"'{path}' is damaged: its sha256 is {digest}, expected {file.sha256}. {_REMEDY}")
    return path


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as lines:
        for line in lines:
            yield _parse(line, path)


def _parse_document(row: dict[str, Any], path: Path) -> Document:
    try:
        return Document(
            text=_typed(row["text"], str), id=_typed(row["id"], str), metadata=_typed(row["metadata"], dict)
        )
    except (KeyError, TypeError) as error:
        raise StoreError(f"'{path}' has a row that is no document: {error}. {_REMEDY}") from error


def _parse_chunk(row: dict[str, Any], documents: Mapping[str, Document], path: Path) -> Chunk:
    try:
        document = documents[_typed(row["document"], str)]
        start, end = _typed(row["start"], int), _typed(row["end"], int)
        if not 0 <= start < end <= len(document.text):
            raise StoreError(
                f"'{path}' has a chunk from {start} to {end} in a text of {len(document.text)}. {_REMEDY}"
            )
        metadata = _typed(row["metadata"], dict) if "metadata" in row else document.metadata
        return Chunk(
            id=_typed(row["id"], str),
            text=document.text[start:end],
            document_id=document.id,
            start=start,
            end=end,
            metadata=metadata,
        )
    except (KeyError, TypeError) as error:
        raise StoreError(f"'{path}' has a row that is no chunk: {error}. {_REMEDY}") from error


def _read_tensors(path: Path) -> dict[str, Any]:
    """The tensors of a file, mapped and not read: torch tensors, or NumPy arrays where those were saved."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            as_numpy = (file.metadata() or {}).get("framework") == "numpy"
            # Through torch in both cases: its tensors are views of the mapped file, NumPy's would be copies.
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise StoreError(f"'{path}' is not a safetensors file: {error}. {_REMEDY}") from error
    return {name: tensor.numpy() for name, tensor in tensors.items()} if as_numpy else tensors


def _read_vectors(path: Path, chunks: int) -> FloatMatrix:
    vectors = _read_tensors(path).get(_VECTORS)
    if not isinstance(vectors, np.ndarray) or vectors.dtype != np.float32 or vectors.ndim != 2:
        raise StoreError(f"'{path}' holds no float32 matrix named '{_VECTORS}'. {_REMEDY}")
    if len(vectors) != chunks:
        raise StoreError(f"'{path}' holds {len(vectors)} vectors for {chunks} chunks. {_REMEDY}")
    return vectors


# Bytes and JSON


def _json(value: Any, what: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(
            f"A value in {what} cannot be saved: {error}. Expected text, finite numbers, booleans, None, "
            f"and lists or mappings of them; convert the value before memorizing."
        ) from error


def _canonical(manifest: Mapping[str, Any]) -> bytes:
    return _encode(json.dumps(manifest, ensure_ascii=False, indent=2) + "\n")


def _manifest_digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(body)).hexdigest()


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # a text with half a surrogate pair is still the user's text


def _parse(data: bytes, path: Path) -> dict[str, Any]:
    try:
        return _typed(json.loads(data.decode("utf-8", "surrogatepass")), dict)
    except (ValueError, TypeError, RecursionError) as error:
        raise StoreError(f"'{path}' is not the JSON that was saved: {error}. {_REMEDY}") from error


def _typed(value: Any, kind: type[T]) -> T:
    if type(value) is not kind:
        raise TypeError(f"found {type(value).__name__}, expected {kind.__name__}")
    return value


def _digest(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return digest, file.tell()


def _sync_file(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
