"""How vectors are searched: what can be chosen, and what is taken where nothing was chosen.

In: settings, a number of vectors, what FAISS can do here. Out: decisions. Knows no vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Literal, TypeAlias, get_args

from memorag_core.errors import InputError
from memorag_core.settings import check_whole

VectorKind: TypeAlias = Literal["flat", "hnsw", "ivf"]
"""Every vector compared; a graph of near vectors; or lists of vectors around centroids."""

_KINDS: tuple[VectorKind, ...] = get_args(VectorKind)

DenseBackend: TypeAlias = Literal["auto", "faiss", "numpy"]
"""What searches the vectors; "auto" is FAISS where it is installed, and NumPy, always flat, where not."""

DENSE_BACKENDS: tuple[DenseBackend, ...] = get_args(DenseBackend)

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


def on_gpu(kind: VectorKind, settings: VectorSettings, gpus: int) -> bool:
    """Whether vectors are searched on a GPU.

    Args:
        kind: how; FAISS has no graphs on GPUs.
        settings: whether it is wanted.
        gpus: what ``faiss.get_num_gpus()`` says, 0 in builds for CPUs.
    """
    return settings.gpu and gpus > 0 and kind != "hnsw"
