"""The manifest: the one file that names all others, and whose replacement is a change of the store.

In: a manifest's value, or bytes. Out: bytes that prove themselves, or the value. Touches no disk.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from memorag_core.errors import StoreError
from memorag_core.store.jsontext import encode, parse, to_json, typed
from memorag_core.store.layout import (
    ENCODINGS,
    FILE_NAME,
    FORMAT,
    FORMAT_VERSION,
    REMEDY,
    SUFFIX,
    Manifest,
    Part,
    Quantized,
    Slice,
    StoredFile,
)


def compose(manifest: Manifest) -> bytes:
    """The bytes of ``memorag.json``.

    Raises:
        StoreError: the fingerprint, settings or header hold what JSON cannot.
    """
    body = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "created_by": manifest.created_by,
        "fingerprint": dict(manifest.fingerprint),
        "settings": dict(manifest.settings),
        "memory": dict(manifest.header),
        "kv": manifest.kv,
        "indexes": {name: dict(header) for name, header in manifest.indexes.items()},
        "files": {part: [_file_row(file) for file in files] for part, files in manifest.files.items()},
    }
    # Through JSON once, so that what is hashed is what a reader will have (tuples are lists, keys are text).
    body = json.loads(to_json(body, "the fingerprint, settings or header of the memory or an index"))
    return canonical({**body, "sha256": digest_of(body)})


def canonical(manifest: Mapping[str, Any]) -> bytes:
    """The one form of a manifest that is written and hashed."""
    return encode(json.dumps(manifest, ensure_ascii=False, indent=2) + "\n")


def digest_of(body: Mapping[str, Any]) -> str:
    """The sha256 of a manifest that does not hold its own yet."""
    return hashlib.sha256(canonical(body)).hexdigest()


def parse_manifest(data: bytes, where: object) -> Manifest:
    """Check format, version and the manifest's own hash, in this order, then its values.

    Args:
        data: the file.
        where: what errors name.

    Raises:
        StoreError: it is not what ``compose`` made, or of another version.
    """
    found = parse(data, where)
    if found.get("format") != FORMAT:
        raise StoreError(f"'{where}' says format {found.get('format')!r}, expected {FORMAT!r}. {REMEDY}")
    if found.get("format_version") != FORMAT_VERSION:
        raise StoreError(
            f"'{where}' is of format version {found.get('format_version')!r}; this release reads version "
            f"{FORMAT_VERSION}. Open it with the release that wrote it ({found.get('created_by')!r}), or "
            f"memorize the text again and save it."
        )
    body = {key: value for key, value in found.items() if key != "sha256"}
    # Compared as bytes too: a change that keeps the meaning is still not what was written.
    if found.get("sha256") != digest_of(body) or data != canonical(found):
        raise StoreError(
            f"'{where}' was changed after it was saved: its hash does not fit its content. {REMEDY}"
        )
    try:
        if body["kv"] not in ENCODINGS:
            raise TypeError(f"found kv {body['kv']!r}, expected one of {', '.join(ENCODINGS)}")
        return Manifest(
            created_by=typed(body["created_by"], str),
            fingerprint=typed(body["fingerprint"], dict),
            settings=typed(body["settings"], dict),
            header=typed(body["memory"], dict),
            kv=body["kv"],
            indexes={name: typed(header, dict) for name, header in typed(body["indexes"], dict).items()},
            files=_files(body["files"], where),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"'{where}' lacks a value or has one of a wrong type: {error}. {REMEDY}") from error


def expect_known(data: bytes, where: object) -> Manifest:
    """The manifest that is to be replaced: one that ``parse_manifest`` reads, and no other.

    Raises:
        StoreError: it is of another program or a newer release, or damaged.
    """
    try:
        return parse_manifest(data, where)
    except StoreError as error:
        raise StoreError(
            f"Nothing is saved over what cannot be read, for it may be all there is of it. {error} Or save "
            "to another place, or move away what lies there."
        ) from error


def state_hash(data: bytes) -> str:
    """What tells the state that a manifest describes from others."""
    return hashlib.sha256(data).hexdigest()


def is_foreign(data: bytes) -> bool:
    """Whether bytes are whole JSON that says another format or version, so that nothing of ours broke off."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return False
    if not isinstance(found, dict):
        return True
    return found.get("format") != FORMAT or found.get("format_version") != FORMAT_VERSION


def _file_row(file: StoredFile) -> dict[str, Any]:
    row: dict[str, Any] = {"name": file.name, "bytes": file.size, "sha256": file.sha256}
    if file.rows is not None:
        row["rows"] = list(file.rows)
    if file.tensors is not None:
        row["tensors"] = {name: _slice_row(held) for name, held in file.tensors.items()}
    return row


def _slice_row(held: Slice) -> dict[str, Any]:
    row: dict[str, Any] = {}
    if held.axis is not None:
        row = {"axis": held.axis, "start": held.start, "stop": held.stop}
    if held.quantized is not None:
        row |= {"dtype": held.quantized.dtype, "size": held.quantized.size, "kv": held.quantized.encoding}
    return row | {"sha256": held.sha256}


def _files(table: Any, where: object) -> dict[Part, tuple[StoredFile, ...]]:
    rows = typed(table, dict)
    missing = {"documents", "chunks", "memory"} - rows.keys()
    unknown = rows.keys() - SUFFIX.keys()
    if missing or unknown:
        wrong = ", ".join(sorted(missing or unknown))
        raise StoreError(f"'{where}' {'lacks' if missing else 'has unknown'} files for {wrong}. {REMEDY}")
    files = {
        part: tuple(_file(row, part, where) for row in typed(rows[part], list))
        for part in SUFFIX
        if part in rows
    }
    names = [file.name for segments in files.values() for file in segments]
    if len(set(names)) < len(names):  # would be read, and take memory, more than once
        raise StoreError(f"'{where}' names a file more than once. {REMEDY}")
    return files


def _file(row: Any, part: Part, where: object) -> StoredFile:
    row = typed(row, dict)
    name = typed(row["name"], str)
    if not FILE_NAME.fullmatch(name) or not name.startswith(f"{part}-"):
        raise StoreError(
            f"'{where}' names the file '{name}' for {part}. Expected a plain name such as "
            f"'documents-0123456789abcdef.jsonl' inside the folder. {REMEDY}"
        )
    rows, tensors = None, None
    if SUFFIX[part] == ".jsonl":
        start, stop = typed(row["rows"], list)
        rows = (typed(start, int), typed(stop, int))
    else:
        tensors = {name: _slice(held) for name, held in typed(row["tensors"], dict).items()}
    return StoredFile(name, typed(row["bytes"], int), typed(row["sha256"], str), rows, tensors)


def _slice(row: Any) -> Slice:
    row = typed(row, dict)
    quantized = None
    if "kv" in row:
        if row["kv"] not in ENCODINGS[1:]:
            raise TypeError(f"found kv {row['kv']!r}, expected one of {', '.join(ENCODINGS[1:])}")
        quantized = Quantized(row["kv"], typed(row["dtype"], str), typed(row["size"], int))
    sha256 = typed(row["sha256"], str)
    if "axis" not in row:
        return Slice(None, 0, 0, sha256, quantized)
    axis, start, stop = (typed(row[key], int) for key in ("axis", "start", "stop"))
    if axis < 0 or not 0 <= start <= stop:
        raise TypeError(f"found entries {start} to {stop} on axis {axis}, expected 0 or more")
    return Slice(axis, start, stop, sha256, quantized)


def same_identity(stored: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    """Whether a store was made with the model of this fingerprint."""
    return bool(stored == json.loads(to_json(dict(given), "the fingerprint of the model")))


def expect_same_model(stored: Mapping[str, Any], given: Mapping[str, Any], where: object) -> None:
    """Refuse a memory of another model.

    Raises:
        StoreError: with each value in which the two differ.
    """
    given = json.loads(to_json(dict(given), "the fingerprint of the model"))
    differences = [
        f"{name} is {_short(given_value)} in the model and {_short(stored_value)} in the store"
        for name, given_value, stored_value in _differences(given, stored, "")
    ]
    if differences:
        raise StoreError(
            f"The memory in '{where}' was made with another model: {'; '.join(differences)}. "
            f"Load it with the model it was made with, or memorize the text again with this one."
        )


def _differences(left: Any, right: Any, name: str) -> list[tuple[str, Any, Any]]:
    """The places where two JSON values differ, as (dotted name, left, right)."""
    if isinstance(left, dict) and isinstance(right, dict):
        return [
            difference
            for key in sorted(left.keys() | right.keys())
            for difference in _differences(left.get(key), right.get(key), f"{name}.{key}" if name else key)
        ]
    return [] if left == right else [(name or "fingerprint", left, right)]


def _short(value: Any) -> str:
    text = "missing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
