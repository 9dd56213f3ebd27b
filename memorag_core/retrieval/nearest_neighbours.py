"""Near vectors: every vector compared, or an approximate structure of FAISS over unit vectors.

In: settings, unit vectors [N, E] float32, then queries [Q, E]. Out: for each query the rows of about the
nearest. Knows no chunks, no ordinals, no texts; what it finds is scored by whoever asks.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from math import isqrt
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
import numpy.typing as npt

from memorag_core.errors import InputError, MissingExtraError, StoreError
from memorag_core.protocols import FloatMatrix
from memorag_core.settings import check_whole
from memorag_core.system.locking import Lock
from memorag_core.system.logs import quiet

quiet("faiss.loader")

VectorKind: TypeAlias = Literal["flat", "hnsw", "ivf"]
"""Every vector compared; a graph of near vectors; or lists of vectors around centroids."""

_KINDS: tuple[VectorKind, ...] = get_args(VectorKind)

DenseBackend: TypeAlias = Literal["auto", "faiss", "numpy"]
"""What searches the vectors; "auto" is FAISS where it is installed, and NumPy, always flat, where not."""

_TRAINED_LEAST = 39
"""Vectors that FAISS wants for every centroid."""


@dataclass(frozen=True, slots=True)
class VectorSettings:
    """How the vectors of a dense index are searched and kept.

    The defaults were measured with ``benchmarks/vectors.py``, on clustered vectors of 384 numbers.

    Attributes:
        kind: "flat" compares every vector and is exact. "ivf" (lists around centroids) and "hnsw" (a graph;
            Malkov and Yashunin, 2016) look at some of them, in a copy at 8 bits a number, and what they find
            is scored again with the vectors themselves. "auto" is flat below ``ivf_from`` vectors and "ivf"
            from there on: HNSW takes several times as long to build for the same recall.
        ivf_from: Vectors from which on "auto" takes "ivf". 200,000, where a question and nine clues take
            0.1 s flat on two busy cores and 8 ms by lists, which take 20 s to build; below, being exact costs
            less than asking for one clue.
        lists: Lists of "ivf"; None for 4 x the square root of the vectors, though no more than have 39
            vectors each, which FAISS asks for.
        probes: Lists that a query looks into. 32, which finds 99 % of the ten nearest of a million.
        links: Links of a vector in the graph of "hnsw". 32; with 16, no breadth of search finds as much.
        build_breadth: Candidates for links while the graph is built (efConstruction). 80: 40 builds in four
            fifths of the time, and the recall it loses is not to be had by searching more broadly.
        search_breadth: Candidates that a query holds in the graph (efSearch). 256, which finds 96 % of the
            ten nearest of a million.
        tail_share: New vectors are searched flat, behind the structure, until they are more than this share
            of all; then they are added to a copy of it. 0.02: at a million, 3 ms a query.
        dead_share: Vectors that were deleted stay in the structure, unseen, until they are more than this
            share of it; then it is built anew from what is left. 0.2, which has a query look 1.25 times as
            deep.
        seed: Of the vectors that centroids are trained on, and of the training.
        gpu: Whether to search on a GPU where FAISS has one and searches this kind there ("flat", "ivf").

    Raises:
        InputError: An unknown kind, a number below 1, a share that is not from 0 to 1, a negative seed.
    """

    kind: Literal["auto"] | VectorKind = "auto"
    ivf_from: int = 200_000
    lists: int | None = None
    probes: int = 32
    links: int = 32
    build_breadth: int = 80
    search_breadth: int = 256
    tail_share: float = 0.02
    dead_share: float = 0.2
    seed: int = 0
    gpu: bool = True

    def __post_init__(self) -> None:
        if self.kind not in ("auto", *_KINDS):
            raise InputError(
                f"VectorSettings.kind is {self.kind!r}; expected 'auto' or one of {', '.join(_KINDS)}."
            )
        for name in ("ivf_from", "lists", "probes", "links", "build_breadth", "search_breadth", "seed"):
            number = getattr(self, name)
            least = {"seed": 0, "links": 2}.get(name, 1)
            if name == "lists" and number is None:
                continue
            remedy = "Leave it out for the default."
            check_whole(f"VectorSettings.{name}", number, least=least, remedy=remedy)
        for name in ("tail_share", "dead_share"):
            share = getattr(self, name)
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
                raise InputError(
                    f"VectorSettings.{name} is {share!r}; expected a share from 0 (fold at once) to 1."
                )

    def kind_for(self, count: int) -> VectorKind:
        """The kind that so many vectors are searched by, where FAISS is installed."""
        if self.kind != "auto":
            return self.kind
        return "ivf" if count >= self.ivf_from else "flat"

    def lists_for(self, count: int) -> int:
        """The lists that so many vectors are put in."""
        return max(1, min(self.lists or 4 * isqrt(count), count // _TRAINED_LEAST))


Rows: TypeAlias = npt.NDArray[np.int64]
"""Numbers of rows; -1 for none."""

_TRAINED_ON = 40
"""Vectors drawn for each centroid: what FAISS asks for, as training takes most of the building."""

_ROUNDS = 10
"""Of k-means; more of them moved recall by less than a thousandth."""

_RANGED_ON = 65_536
"""Vectors that the graph's 8-bit numbers take their ranges from."""

_SAME_BITS = (1, 15, 1)
"""FAISS from which on threads build the graph to the same bits; before, only one thread does."""

_GPU_DEEPEST = 2048
"""The most rows that FAISS gives for a query on a GPU."""

REMEDY = "Restore it from a copy, or make the index again with DenseIndex.from_vectors."

_log = logging.getLogger(__name__)


def import_faiss() -> Any:
    """FAISS, or the ``MissingExtraError`` that says how to install it."""
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError("faiss-cpu", "cpu", "Dense retrieval with FAISS", error) from error
    return faiss


def nearest_rows(matrix: FloatMatrix, queries: FloatMatrix, depth: int, *, with_faiss: bool) -> Rows:
    """The nearest rows of each query, all compared, in no order to rely on.

    Args:
        matrix: [N, E].
        queries: [Q, E].
        depth: rows for each query; no more than N.
        with_faiss: compare by FAISS, in the way of ``IndexFlatIP`` though in place: that would be a copy.

    Returns:
        [Q, depth].
    """
    if depth >= len(matrix):
        return np.tile(np.arange(len(matrix)), (len(queries), 1))
    if with_faiss:
        faiss = import_faiss()
        found: Rows = faiss.knn(queries, matrix, depth, metric=faiss.METRIC_INNER_PRODUCT)[1]
        return found
    found = np.empty((len(queries), depth), dtype=np.int64)
    for number, query in enumerate(queries):
        found[number] = np.argpartition(matrix @ query, -depth)[-depth:]
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Structure:
    """What finds near rows without comparing all, or on a GPU. Never changed, so threads may share it.

    Attributes:
        kind: what it is.
        size: rows in it.
        trained: rows that there were when its centroids and ranges were found.
    """

    kind: VectorKind
    size: int
    trained: int
    _settings: VectorSettings
    _index: Any  # of FAISS, on the CPU; None for flat, which is there only on a GPU
    _gpu: Any = None  # its copy on a GPU
    _lock: Any = None  # searches on a GPU share scratch memory, so they come one after the other

    @classmethod
    def build(cls, matrix: FloatMatrix, kind: VectorKind, settings: VectorSettings) -> Structure | None:
        """Index unit vectors [N, E]; None where all are to be compared on the CPU."""
        faiss = import_faiss()
        if kind != "flat":
            index = (_lists if kind == "ivf" else _graph)(matrix, settings)
        elif on_gpu(kind, settings, faiss.get_num_gpus()):
            index = faiss.IndexFlatIP(matrix.shape[1])
        else:
            return None
        _add(index, kind, matrix)
        placed = _placed(cls(kind, len(matrix), len(matrix), settings, index))
        return None if kind == "flat" and placed._gpu is None else placed

    @classmethod
    def parse(
        cls, raw: npt.NDArray[np.uint8], about: Mapping[str, Any], settings: VectorSettings
    ) -> Structure:
        """What ``to_bytes`` and ``header`` gave; FAISS reads it, and no code that lies in it is run.

        Raises:
            StoreError: FAISS cannot read it, or it is of another kind or size than the header says.
        """
        faiss = import_faiss()
        kind, size, trained = about.get("kind"), about.get("size"), about.get("trained")
        expected = {"ivf": "IndexIVFScalarQuantizer", "hnsw": "IndexHNSWSQ"}[str(kind)]
        try:
            index = faiss.deserialize_index(np.ascontiguousarray(raw))
        except (RuntimeError, MemoryError, TypeError, ValueError, AssertionError) as error:
            raise StoreError(f"FAISS cannot read the {kind} structure: {error}. {REMEDY}") from error
        found = type(index).__name__
        if found != expected or index.ntotal != size or not isinstance(trained, int):
            raise StoreError(
                f"The {kind} structure is an {found} of {index.ntotal} vectors, trained on {trained!r}; "
                f"expected an {expected} of {size!r}. {REMEDY}"
            )
        return _placed(cls(cast(VectorKind, kind), index.ntotal, trained, settings, index))

    @property
    def dimensions(self) -> int:
        """E."""
        return int((self._gpu if self._index is None else self._index).d)

    @property
    def grows(self) -> bool:
        """Whether rows can be added to a copy; else it is built anew, which costs no more."""
        return self._index is not None

    def outgrown(self, count: int) -> bool:
        """Whether so many rows are too many for its centroids."""
        return self.kind == "ivf" and count > 2 * self.trained

    def nearest_rows(self, queries: FloatMatrix, depth: int, effort: int) -> Rows | None:
        """About the nearest rows of each query.

        Args:
            queries: [Q, E].
            depth: rows for each query.
            effort: how many times as wide as the settings say to look.

        Returns:
            [Q, depth], -1 where it found fewer; None where comparing all rows costs no more than that.
        """
        faiss = import_faiss()
        parameters = None
        if self.kind == "ivf":
            probes = self._settings.probes * effort
            if effort > 1 and probes > self._index.nlist // 2:
                return None
            parameters = faiss.SearchParametersIVF(nprobe=min(probes, self._index.nlist))
        elif self.kind == "hnsw":
            breadth = max(self._settings.search_breadth * effort, depth)
            if effort > 1 and breadth > self.size // 32:  # a step in the graph looks at all links of a vector
                return None
            parameters = faiss.SearchParametersHNSW(efSearch=breadth)
        index = self._index if self._gpu is None else self._gpu
        if self._gpu is not None and depth > _GPU_DEEPEST:
            return None
        with self._lock or nullcontext():
            found: Rows = index.search(queries, depth, params=parameters)[1]
        return found

    def extended(self, matrix: FloatMatrix) -> Structure:
        """A copy with more rows behind; this one stays as it is."""
        index = import_faiss().clone_index(self._index)
        _add(index, self.kind, matrix)
        size = self.size + len(matrix)
        return _placed(replace(self, size=size, _index=index, _gpu=None, _lock=None))

    def header(self) -> dict[str, Any]:
        """What a store has to know beside the bytes, as JSON-able values."""
        return {
            "kind": self.kind,
            "size": self.size,
            "trained": self.trained,
            "built_with": _built_with(self.kind, self._settings),
        }

    def to_bytes(self) -> npt.NDArray[np.uint8]:
        """For a store, in FAISS's own format."""
        raw: npt.NDArray[np.uint8] = import_faiss().serialize_index(self._index)
        return raw


def fits(about: Mapping[str, Any], settings: VectorSettings) -> bool:
    """Whether a stored structure is one that the settings would have built, by what ``header`` said of it."""
    kind = about.get("kind")
    if kind not in ("ivf", "hnsw") or settings.kind not in ("auto", kind):
        return False
    return about.get("built_with") == _built_with(cast(VectorKind, kind), settings)


def _built_with(kind: VectorKind, settings: VectorSettings) -> dict[str, Any]:
    names = ("lists", "seed") if kind == "ivf" else ("links", "build_breadth", "seed")
    return {name: getattr(settings, name) for name in names}


def _lists(matrix: FloatMatrix, settings: VectorSettings) -> Any:
    faiss = import_faiss()
    count, size = matrix.shape
    lists = settings.lists_for(count)
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(size), size, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.seed = settings.seed
    index.cp.niter = _ROUNDS
    index.cp.min_points_per_centroid = 1  # a corpus smaller than FAISS likes is no fault to be printed
    index.cp.max_points_per_centroid = _TRAINED_ON
    index.train(_drawn(matrix, max(_TRAINED_ON * lists, 256), settings.seed))
    return index


def _graph(matrix: FloatMatrix, settings: VectorSettings) -> Any:
    faiss = import_faiss()
    index = faiss.IndexHNSWSQ(
        matrix.shape[1], faiss.ScalarQuantizer.QT_8bit, settings.links, faiss.METRIC_INNER_PRODUCT
    )
    index.hnsw.efConstruction = settings.build_breadth
    index.train(_drawn(matrix, _RANGED_ON, settings.seed))
    return index


def _drawn(matrix: FloatMatrix, count: int, seed: int) -> FloatMatrix:
    """Some rows, in order; all where there are no more."""
    if count >= len(matrix):
        return matrix
    chosen = np.random.default_rng(seed).choice(len(matrix), count, replace=False)
    drawn: FloatMatrix = matrix[np.sort(chosen)]
    return drawn


def _add(index: Any, kind: VectorKind, matrix: FloatMatrix) -> None:
    with _one_thread() if kind == "hnsw" and _version() < _SAME_BITS else nullcontext():
        index.add(matrix)


def _version() -> tuple[int, ...]:
    return tuple(int(part) for part in import_faiss().__version__.split(".")[:3] if part.isdigit())


@contextmanager
def _one_thread() -> Iterator[None]:
    """OpenMP's number of threads belongs to the thread that sets it: others go on with theirs."""
    faiss = import_faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _placed(structure: Structure) -> Structure:
    """The structure on a GPU where there is one for it, and memory on it; flat is then only there."""
    faiss = import_faiss()
    if not on_gpu(structure.kind, structure._settings, faiss.get_num_gpus()):
        return structure
    try:
        copy = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, structure._index)
    except RuntimeError as error:
        _log.warning("FAISS could not put %d vectors on the GPU: %s", structure.size, error)
        return structure
    kept = None if structure.kind == "flat" else structure._index
    return replace(structure, _index=kept, _gpu=copy, _lock=Lock())


def on_gpu(kind: VectorKind, settings: VectorSettings, gpus: int) -> bool:
    """Whether vectors are searched on one of so many GPUs; FAISS has no graphs there."""
    return settings.gpu and gpus > 0 and kind != "hnsw"
