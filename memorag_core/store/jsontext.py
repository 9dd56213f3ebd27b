"""JSON as it is written and read here: bytes that anybody may have changed, values of a known type.

In: values, bytes. Out: bytes, values, or a ``StoreError``. Knows no files.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, TypeVar

from memorag_core.errors import StoreError
from memorag_core.store.layout import REMEDY

T = TypeVar("T")


def to_json(value: Any, what: str) -> str:
    """A value on one line.

    Raises:
        StoreError: JSON cannot hold it; ``what`` says where it comes from.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(
            f"A value in {what} cannot be saved: {error}. Expected text, finite numbers, booleans, None, "
            f"and lists or mappings of them; convert the value before memorizing."
        ) from error


def encode(text: str) -> bytes:
    """UTF-8; a text with half a surrogate pair is still the user's text."""
    return text.encode("utf-8", "surrogatepass")


def parse(data: bytes, where: object) -> dict[str, Any]:
    """The mapping that bytes hold; ``where`` is named in the error.

    Raises:
        StoreError: they hold anything else.
    """
    try:
        text = data.decode("utf-8", "surrogatepass")
        return typed(json.loads(text, parse_constant=_no_number, parse_float=_finite), dict)
    except (ValueError, TypeError, RecursionError) as error:
        raise StoreError(f"'{where}' is not the JSON that was saved: {error}. {REMEDY}") from error


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no finite number")


def typed(value: Any, kind: type[T]) -> T:
    """The value, if it is exactly of this type; a boolean is no number here."""
    if type(value) is not kind:
        raise TypeError(f"found {type(value).__name__}, expected {kind.__name__}")
    return value


def canonical(manifest: Mapping[str, Any]) -> bytes:
    """The one form of a manifest that is written and hashed."""
    return encode(json.dumps(manifest, ensure_ascii=False, indent=2) + "\n")


def digest_of(body: Mapping[str, Any]) -> str:
    """The sha256 of a manifest that does not hold its own yet."""
    return hashlib.sha256(canonical(body)).hexdigest()
