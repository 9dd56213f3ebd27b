"""Vectors of texts that were encoded before, kept in a folder, so that a second run encodes nothing again.

In: an encoder, a folder, texts. Out: an encoder that gives the kept vectors and has the rest made. Knows no
index. On disk: a folder for each encoder, and in it NumPy files (no pickle) of vectors with what their texts
hash to; files are added and never changed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from memorag_core.errors import InputError
from memorag_core.protocols import Embedder
from memorag_core.system.disk import taken

Role: TypeAlias = Literal["passage", "query"]

_DIGEST = 16
"""Bytes of a text's hash."""

_PROBE = "The keeper of the lighthouse rows home before the storm."
"""Encoded once to tell encoders of one name apart."""

_ROUNDED = 2
"""Decimals of the probe's numbers that count: two machines agree on them, two encoders do not."""


AT_ONCE = 1024
"""New texts after which they are written by themselves, so that a run that is broken off loses few."""


class KeptEmbedder:
    """An embedder that remembers; every text is encoded once, and once for all runs that share a folder.

    Attributes:
        fingerprint: What the embedder says of itself, for JSON; empty where it says nothing.

    Args:
        embedder: Encodes what is new.
        folder: Where vectors are kept; None keeps them for this run only.

    Raises:
        InputError: A file of the folder cannot be read.
    """

    def __init__(self, embedder: Embedder, folder: Path | None) -> None:
        self.fingerprint: Mapping[str, Any] = getattr(embedder, "fingerprint", {})
        self._embedder = embedder
        self._folder = None if folder is None else taken(folder, "folder") / _key(embedder)
        self._known: dict[Role, dict[bytes, npt.NDArray[np.float32]]] = {"passage": {}, "query": {}}
        self._new: dict[Role, list[bytes]] = {"passage": [], "query": []}
        for role, known in self._known.items():
            for path in sorted(self._folder.glob(f"{role}-*.npz")) if self._folder is not None else ():
                known |= _read(path)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """The vectors of passages."""
        digests = [_digest(text) for text in texts]
        known = self._known["passage"]
        missing = {digest: text for digest, text in zip(digests, texts, strict=True) if digest not in known}
        if missing:
            self._remember("passage", list(missing), self._embedder.embed_documents(list(missing.values())))
        return [known[digest].tolist() for digest in digests]

    def embed_query(self, text: str) -> list[float]:
        """The vector of a query."""
        digest = _digest(text)
        if digest not in self._known["query"]:
            self._remember("query", [digest], [self._embedder.embed_query(text)])
        found: list[float] = self._known["query"][digest].tolist()
        return found

    def keep(self) -> None:
        """Write what is new into the folder; the last of it is else encoded again by the next run."""
        for role, digests in self._new.items():
            if not digests or self._folder is None:
                continue
            self._folder.mkdir(parents=True, exist_ok=True)
            names = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, _DIGEST)
            vectors = np.stack([self._known[role][digest] for digest in digests])
            path = self._folder / f"{role}-{hashlib.sha256(names.tobytes()).hexdigest()[:16]}.npz"
            beside = path.with_suffix(".unfinished")
            with beside.open("wb") as file:
                np.savez(file, digests=names, vectors=vectors)
            os.replace(beside, path)
            digests.clear()

    def _remember(self, role: Role, digests: Sequence[bytes], vectors: Sequence[Sequence[float]]) -> None:
        rows = np.asarray(vectors, dtype=np.float32)
        self._known[role] |= dict(zip(digests, rows, strict=True))
        self._new[role] += digests
        if len(self._new[role]) >= AT_ONCE:
            self.keep()


def _read(path: Path) -> dict[bytes, npt.NDArray[np.float32]]:
    try:
        with np.load(path, allow_pickle=False) as kept:
            names, vectors = kept["digests"], kept["vectors"]
        if names.ndim != 2 or names.shape[1] != _DIGEST or vectors.ndim != 2:
            raise ValueError(f"shapes {names.shape} and {vectors.shape}")
        return {name.tobytes(): row for name, row in zip(names, vectors, strict=True)}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise InputError(f"{path} holds no kept vectors ({error!r}). Delete it to have them made.") from error


def _key(embedder: Embedder) -> str:
    """What tells an encoder from others: what it says of itself, and how it encodes one text."""
    probe = np.asarray(embedder.embed_query(_PROBE), dtype=np.float64)
    said: Mapping[str, Any] = getattr(embedder, "fingerprint", {})
    length = float(np.linalg.norm(probe)) or 1.0
    shown = np.round(probe / length, _ROUNDED) + 0.0  # no negative zeros
    identity = json.dumps({"said": dict(said), "probe": shown.tolist()}, sort_keys=True, default=str)
    return hashlib.sha256(identity.encode()).hexdigest()[:24]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:_DIGEST]
