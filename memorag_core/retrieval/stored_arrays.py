"""What a stored index is checked for before it is used.

In: arrays and a header as they come from a store. Out: the same arrays, or an error that says what does not
fit. Reads no files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from memorag_core.errors import StoreError
from memorag_core.protocols import FloatMatrix
from memorag_core.retrieval.nearest_neighbours import REMEDY, Rows, Structure


def sha256_of(vectors: FloatMatrix) -> str:
    """Of the numbers of a matrix."""
    return hashlib.sha256(np.ascontiguousarray(vectors).view(np.uint8).data).hexdigest()


def stored_vectors(arrays: Mapping[str, npt.NDArray[Any]], header: Mapping[str, Any]) -> FloatMatrix:
    """The vectors of an index, after checking that they are those it was packed with."""
    vectors = arrays.get("vectors")
    if not isinstance(vectors, np.ndarray) or vectors.dtype != np.float32 or vectors.ndim != 2:
        raise StoreError(f"There is no float32 matrix named 'vectors'. {REMEDY}")
    if 0 in vectors.shape or sha256_of(vectors) != header.get("vectors_sha256"):
        raise StoreError(
            f"The {len(vectors)} vectors are not those that the header was written for: their hash differs. "
            f"{REMEDY}"
        )
    return vectors


def stored_places(places: npt.NDArray[Any], structure: Structure, vectors: FloatMatrix) -> Rows:
    """The places of a structure's rows, after checking that all three belong together."""
    count, size = vectors.shape
    if structure.dimensions != size:
        raise StoreError(
            f"The structure is of vectors of {structure.dimensions} numbers; expected {size}. {REMEDY}"
        )
    if places.shape != (structure.size,) or places.dtype != np.int64:
        raise StoreError(
            f"The places are {places.dtype} of shape {places.shape}; expected int64, one for each of the "
            f"{structure.size} rows of the structure. {REMEDY}"
        )
    living = places[places != -1]
    if living.size and (
        living.min() < 0 or living.max() >= count or np.bincount(living, minlength=1).max() > 1
    ):
        raise StoreError(
            f"The places of the structure's rows name a vector twice, or one that is not among the {count}. "
            f"{REMEDY}"
        )
    return places
