"""What a store is made of: its files' names, and the values that describe them.

In: nothing. Out: names, and frozen values. Touches no disk.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from memorag_core.protocols import FloatMatrix
from memorag_core.types import Chunk, Document

FORMAT = "memorag-store"
FORMAT_VERSION = 1
MANIFEST = "memorag.json"
BEFORE = "memorag.before.json"
"""Behind an address, where a manifest may arrive in part: the one before it, or ``NONE``, meanwhile."""
NONE = b"null\n"
CACHED = "remote.json"
"""A cache's copy of the manifest, which makes the folder known as a cache and no store."""
LOCK = ".lock"
UNFINISHED = ".unfinished"
"""A folder for what is being written; what a killed writer left in it is removed."""

WAIT_SECONDS = 60.0
"""How long a writer waits for another one of the same store, unless told otherwise."""

Part: TypeAlias = Literal["documents", "chunks", "memory", "vectors", "indexes"]

Encoding: TypeAlias = Literal["float", "int8", "int4"]
"""How the keys and values of a memory are stored: as they are, or quantized."""

ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)

SUFFIX: Mapping[Part, str] = {
    "documents": ".jsonl",
    "chunks": ".jsonl",
    "memory": ".safetensors",
    "vectors": ".safetensors",
    "indexes": ".safetensors",
}
FILE_NAME = re.compile(
    r"(documents|chunks)-[0-9a-f]{16}\.jsonl|(memory|vectors|indexes)-[0-9a-f]{16}\.safetensors"
)
VECTORS = "vectors"

REMEDY = "Restore the folder from a copy, or memorize the text again and save it."


@dataclass(frozen=True, slots=True)
class StoredIndex:
    """An index over documents or chunks that could be built again from them, but not as fast.

    Attributes:
        arrays: of NumPy, by name.
        header: what can be written as JSON.
    """

    arrays: Mapping[str, Any]
    header: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StoredCorpus:
    """All that a store holds.

    Attributes:
        documents: in the order of reading; none in a store that was opened and not yet filled.
        chunks: slices of them, in the order of the index.
        tensors: what ``MemoryModel.pack`` gave.
        header: likewise. Two of its values are the store's business too: ``grows``, for each tensor that
            grows at its end the axis on which it does, and ``kv``, the names of the tensors of keys and
            values, which may be stored quantized.
        fingerprint: the identity of the model that made the memory.
        settings: what else can be written as JSON.
        vectors: one normalised row a chunk, or None when no embedder was used.
        indexes: by name; a name has no "/" in it.
    """

    documents: tuple[Document, ...]
    chunks: tuple[Chunk, ...]
    tensors: Mapping[str, Any]
    header: Mapping[str, Any]
    fingerprint: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    vectors: FloatMatrix | None = None
    indexes: Mapping[str, StoredIndex] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Quantized:
    """How a slice of keys or values was before it was quantized.

    Attributes:
        encoding: "int8" or "int4".
        dtype: its type, by the name that torch gives it.
        size: its last axis, D.
    """

    encoding: Encoding
    dtype: str
    size: int


@dataclass(frozen=True, slots=True)
class Slice:
    """What a file holds of one tensor.

    Attributes:
        axis: the one on which the tensor is cut; None for one that is stored whole.
        start: the first entry on that axis.
        stop: the one after the last; both are 0 for a whole tensor.
        sha256: of the slice as it is stored, so that it is known again without reading the file.
        quantized: where it is.
    """

    axis: int | None
    start: int
    stop: int
    sha256: str
    quantized: Quantized | None = None


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One row of the file table.

    Attributes:
        name: plain, inside the folder.
        size: bytes.
        sha256: of the whole file.
        rows: for JSON lines, the first row and the one after the last.
        tensors: for safetensors, what is used of the file. It may hold more, which a later state replaced.
    """

    name: str
    size: int
    sha256: str
    rows: tuple[int, int] | None = None
    tensors: Mapping[str, Slice] | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """What ``memorag.json`` says.

    Attributes:
        created_by: distribution and version that saved.
        fingerprint: of the memory model.
        settings: of the pipeline.
        header: of the memory.
        kv: how keys and values are stored.
        indexes: the header of each index, by name.
        files: for each part its segments, in order.
    """

    created_by: str
    fingerprint: Mapping[str, Any]
    settings: Mapping[str, Any]
    header: Mapping[str, Any]
    kv: Encoding
    indexes: Mapping[str, Mapping[str, Any]]
    files: Mapping[Part, tuple[StoredFile, ...]]

    @property
    def all_files(self) -> tuple[StoredFile, ...]:
        """The files of all parts."""
        return tuple(file for segments in self.files.values() for file in segments)
