"""A million vectors: what building, adding, deleting, searching and keeping them costs; flat, IVF and HNSW.

    OMP_NUM_THREADS=2 python benchmarks/vectors.py --out vectors.json

Vectors of 384 numbers are generated (``--vectors`` for fewer): directions of topics, of which some have two
hundred times as many vectors as others, spread around by 24 common directions and by noise in all. Queries
are further vectors of the same kind. That is how texts lie, more or less; what is approximate finds far less
where there are no clusters (``--spread uniform``), and there no real index is. ``recall`` is the share of the
ten nearest, compared one by one, that are among the ten found.

Each kind runs in a process of its own. ``MB`` is what the process holds more than before it made the vectors,
the vectors included, once the ones it was given are gone; ``peak MB`` the most that it held while both were.
A change gives a new index, and the one before is still there: ``add`` and ``delete`` of 1 % leave the
structure alone, ``fold`` is an addition that is too large for that. ``store`` is packing, ``load`` unpacking,
beside which stands building afresh. Latency is of ``DenseIndex.search``, the embedder being a table.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np

from memorag_core.protocols import FloatMatrix
from memorag_core.retrieval.dense import DenseIndex
from memorag_core.retrieval.nearest_neighbours import VectorSettings
from memorag_evaluation.record import circumstances, table, write_record

T = TypeVar("T")
P = ParamSpec("P")
K = 10
SINGLE = 100
"""Queries that are asked one by one."""

KINDS = ("flat", "ivf", "hnsw")
MEGABYTE = 1 << 20


class Table:
    """An embedder that knows the queries' vectors by their numbers."""

    def __init__(self, vectors: FloatMatrix) -> None:
        self.vectors = vectors

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Likewise."""
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """The vector of this number."""
        return cast("list[float]", self.vectors[int(text)])  # a row of NumPy does as well


def main() -> None:
    """Measure each kind in its own process and print two tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--spread", choices=("clustered", "uniform"), default="clustered")
    parser.add_argument("--kinds", nargs="+", choices=(*KINDS, "numpy"), default=KINDS)
    parser.add_argument("--threads", type=int, default=2, help="of FAISS (%(default)s)")
    parser.add_argument("--out", type=Path, help="JSON record")
    options = parser.parse_args()
    about = circumstances(["python", *sys.argv], device="cpu", seed=0)
    about |= {"threads": options.threads, "faiss": _faiss_version()}
    print(
        f"{options.vectors} {options.spread} vectors of {options.dimensions}, {about['date']}, "
        f"{about['processor']}, {options.threads} threads, FAISS {about['faiss']}"
    )
    rows = []
    context = multiprocessing.get_context("spawn")
    for kind in options.kinds:
        with context.Pool(1) as pool:
            rows.append(pool.apply(measured, (kind, options)))
        print(rows[-1], file=sys.stderr, flush=True)
    for heads in (
        ("kind", "build s", "MB", "peak MB", "1 query ms", "ten ms", "batch ms", "recall"),
        ("kind", "add 1 % s", "recall +", "ms +", "delete 1 % s", "recall -", "ms -", "fold s", "rebuild s"),
        ("kind", "store s", "store MB", "load s"),
    ):
        print("\n" + table(heads, [[row[head] for head in heads] for row in rows]))
    if options.out is not None:
        write_record(options.out, {"circumstances": about, "spread": options.spread, "rows": rows})


def measured(kind: str, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one kind."""
    import faiss

    faiss.omp_set_num_threads(options.threads)
    before = _resident()
    given, queries = generated(options)
    embedder = Table(queries)
    added = given[options.vectors :]  # what will be added
    settings = VectorSettings(kind="flat" if kind == "numpy" else kind)  # type: ignore[arg-type]
    backend: Any = "numpy" if kind == "numpy" else "faiss"
    row: dict[str, Any] = {"kind": kind, "vectors": options.vectors, "dimensions": options.dimensions}

    def build(vectors: FloatMatrix) -> DenseIndex:
        return DenseIndex.from_vectors(vectors, embedder, backend=backend, settings=settings)

    def unpack(packed: tuple[dict[str, Any], dict[str, Any]]) -> DenseIndex:
        return DenseIndex.unpack(*packed, embedder, backend=backend, settings=settings)

    index, row["build s"] = timed(build, given[: options.vectors])
    row["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    added = added.copy()
    del given
    gc.collect()
    row["MB"] = _resident() - before
    names = [str(number) for number in range(len(queries))]
    row["1 query ms"] = asked_in(1, index, names)
    row["ten ms"] = asked_in(10, index, names)
    row["batch ms"], row["recall"] = asked(index, names, queries)
    packed, row["store s"] = timed(index.pack)
    row["store MB"] = sum(array.nbytes for array in packed[0].values()) / MEGABYTE
    loaded, row["load s"] = timed(unpack, packed)
    same = loaded.search(names[:SINGLE], K) == index.search(names[:SINGLE], K)
    del packed, loaded
    one = options.vectors // 100
    longer, row["add 1 % s"] = timed(with_added, index, added[:one])
    row["ms +"] = asked_in(1, longer, names)
    _, row["recall +"] = asked(longer, names, queries)
    gone = np.random.default_rng(1).choice(longer.size, one, replace=False)
    shorter, row["delete 1 % s"] = timed(without, longer, gone.tolist())
    row["ms -"] = asked_in(1, shorter, names)
    _, row["recall -"] = asked(shorter, names, queries)
    del longer
    folded, row["fold s"] = timed(with_added, shorter, added)
    matrix = folded.vectors
    del shorter, index
    _, row["rebuild s"] = timed(build, matrix)
    row["same after load"] = same
    return row


def with_added(index: DenseIndex, vectors: FloatMatrix) -> DenseIndex:
    """The index with more vectors at its end."""
    return index.changed(np.arange(index.size + len(vectors)), vectors)


def without(index: DenseIndex, gone: list[int]) -> DenseIndex:
    """The index without some vectors."""
    return index.changed(np.delete(np.arange(index.size), gone))


def generated(options: argparse.Namespace) -> tuple[FloatMatrix, FloatMatrix]:
    """Unit vectors, a twentieth more than asked for, and those of the queries."""
    size, wanted = options.dimensions, options.vectors + options.vectors // 20
    generator = np.random.default_rng(0)

    def normal(rows: int, columns: int) -> FloatMatrix:
        return generator.standard_normal((rows, columns), dtype=np.float32)

    topics = max(16, options.vectors // 500)
    centres = normal(topics, size)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    common = np.linalg.qr(normal(size, min(24, size)))[0].T  # [24, E]
    weights = generator.zipf(1.5, topics).clip(1, 200).astype(np.float64)
    vectors = np.empty((wanted + options.queries, size), dtype=np.float32)
    for start in range(0, len(vectors), 1 << 16):
        count = min(1 << 16, len(vectors) - start)
        block = normal(count, size)
        if options.spread == "clustered":
            block *= 0.5 / np.sqrt(size)
            block += centres[generator.choice(topics, count, p=weights / weights.sum())]
            block += (0.7 / np.sqrt(len(common)) * normal(count, len(common))) @ common
        vectors[start : start + count] = block / np.linalg.norm(block, axis=1, keepdims=True)
    return vectors[:wanted], vectors[wanted:].copy()


def asked_in(count: int, index: DenseIndex, names: list[str]) -> float:
    """Milliseconds of a search with so many queries, the median."""
    asked = [names[start : start + count] for start in range(0, min(SINGLE, len(names)), count)]
    return 1e3 * median(timed(index.search, some, K)[1] for some in asked)


def asked(index: DenseIndex, names: list[str], queries: FloatMatrix) -> tuple[float, float]:
    """Milliseconds a query of all at once, and the share of the ten nearest that are found."""
    found, seconds = timed(index.search, names, K)
    vectors = index.vectors
    hits = 0
    for start in range(0, len(queries), 50):
        scores = vectors @ queries[start : start + 50].T  # [N, 50]
        for number, column in enumerate(scores.T, start=start):
            nearest = np.argpartition(column, -K)[-K:]
            hits += len({ordinal for ordinal, _ in found[number]} & set(nearest.tolist()))
    return 1e3 * seconds / len(names), hits / (K * len(names))


def timed(run: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> tuple[T, float]:
    """What came out, and its seconds."""
    begun = time.perf_counter()
    result = run(*args, **kwargs)
    return result, time.perf_counter() - begun


def _resident() -> float:
    """Megabytes that this process holds."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MEGABYTE


def _faiss_version() -> str:
    import faiss

    return str(faiss.__version__)


if __name__ == "__main__":
    main()
