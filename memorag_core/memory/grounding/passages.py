"""The passages of a corpus, so that every line in them can be found while it is being written.

In: documents. Out: an index of all places where lines may begin; the places of a text; the passages of a part
of the corpus; arrays for the store. Knows no tokens and no model.

The index lies in blocks of whole documents. Where one block ends and the next begins follows from the ids and
lengths of the documents near by, so that a corpus that changes keeps most of its blocks.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from memorag_core.errors import InputError, StoreError
from memorag_core.memory.grounding.alike import anchors, bare, differences, folded, reach
from memorag_core.memory.grounding.blocks import Block, Run, Window, build_block, narrowed
from memorag_core.memory.grounding.words import even, may_stand
from memorag_core.types import Document, Place

SMALLEST, LARGEST = 1 << 20, 1 << 22
"""Characters of a block: it does not end before the first, nor take a document that leads beyond the second
(the last block may be smaller, and a block of one document larger)."""

FORMAT = 1
"""Of what ``Passages.pack`` gives; another one where blocks are cut or words are told in another way."""

Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]
Header: TypeAlias = dict[str, Any]

_LOOKED = 64  # places of parts of a line that are looked at for the whole of it
_LONGEST = 1000  # characters of a line that is looked for folded
_Alike: TypeAlias = tuple[int, int, int, Place]
"""How differently a text is written, the number of its document, its first character, its place."""

_USUAL = 1 << 20  # characters of a block beyond the smallest, on average


@dataclass(frozen=True, slots=True, eq=False)
class Passages:
    """An immutable index over documents, or over parts of them; shared freely between threads.

    A line stands in the passages where a document has it, any run of white space in place of each of its
    spaces, else exactly; where it begins at the beginning of a word and ends at the end of one (see
    ``grounding.words``).

    Attributes:
        documents: in reading order.
        blocks: the index; see ``grounding.blocks``.
        whole: whether all of the documents is in it.
    """

    documents: tuple[Document, ...]
    blocks: tuple[Block, ...]
    whole: bool = True

    @classmethod
    def build(cls, documents: Sequence[Document]) -> Passages:
        """Index documents.

        Args:
            documents: in reading order, with ids of their own; none are taken, too.
        """
        return cls(tuple(documents), tuple(_built(_windows(group)) for group in _groups(documents)))

    @property
    def starts(self) -> int:
        """Places where a line may begin."""
        return sum(len(block.starts) for block in self.blocks)

    @property
    def nbytes(self) -> int:
        """Bytes that the index takes beside the texts of the documents."""
        return sum(block.nbytes for block in self.blocks)

    @property
    def runs(self) -> tuple[Run, ...]:
        """All suffixes, block by block."""
        return tuple(block.whole for block in self.blocks if len(block.starts))

    def changed(self, documents: Sequence[Document]) -> Passages:
        """The passages of other documents, the same as ``build`` gives them.

        Blocks whose documents are the same are taken over. Documents put behind the others cost the last
        block; one that changes costs its own, and sometimes the next.

        Raises:
            InputError: these passages are of parts of documents.
        """
        self._check_whole("changed")
        known = {_key(block.documents): block for block in self.blocks}
        return Passages(
            tuple(documents),
            tuple(known.get(_key(group)) or _built(_windows(group)) for group in _groups(documents)),
        )

    def within(self, spans: Sequence[tuple[int, int, int]]) -> Passages:
        """The passages that lie inside some ranges of the documents, each in one range from end to end.

        What stands around a range decides whether it begins and ends with whole words. The cost is that of
        the ranges, not of the corpus.

        Args:
            spans: for each range the number of the document, the first character and the one after the last.

        Raises:
            InputError: a range that is not in the documents, or these passages are of parts of documents.
        """
        self._check_whole("within")
        for number, start, end in spans:
            size = len(self.documents[number].text) if 0 <= number < len(self.documents) else -1
            if not 0 <= start <= end <= size:
                raise InputError(
                    f"The range is characters {start} to {end} of document number {number}; expected one of "
                    f"{len(self.documents)} documents, counted from 0, and a range of its characters."
                )
        if [*spans] == [(at, 0, len(document.text)) for at, document in enumerate(self.documents)]:
            return self
        windows = [(self.documents[number], start, end) for number, start, end in sorted(spans)]
        return Passages(self.documents, (_built(windows),) if windows else (), whole=False)

    def find(self, text: str) -> Place | None:
        """The first place of a text in reading order; None where it does not stand in the passages."""
        return next(iter(self.places(text, limit=1)), None)

    def places(self, text: str, *, limit: int = 10) -> tuple[Place, ...]:
        """The places of a text, in reading order.

        Args:
            text: a line, or several: white space is white space. Nothing else is evened.
            limit: the most places to give, 1 or more.

        Raises:
            InputError: a limit below 1.
        """
        if limit < 1:
            raise InputError(f"The limit is {limit}; expected 1 or more places.")
        line = even(text)
        places: dict[Place, None] = {}  # ranges that overlap have some places in common
        for run in self.runs if line else ():
            found = narrowed(run, 0, line)
            starts = np.sort(run.block.ending(found, len(line))).tolist() if found is not None else []
            for start in starts:
                if len(places) == limit:
                    break
                places[run.block.line(start, len(line))[1]] = None
        return tuple(places)

    def find_alike(self, text: str) -> Place | None:
        """The place of what a reader takes for the text, though it is written otherwise.

        What is taken for the same is said in ``grounding.alike``. Of several places it is the one that is
        written most like the text, and among those the first in reading order. Only some places of the text's
        parts are looked at, so that the cost does not grow with the corpus, and texts of more than 1,000
        characters are looked for to the letter alone.

        Raises:
            InputError: these passages are of parts of documents.
        """
        self._check_whole("find_alike")
        if len(text) > _LONGEST:
            return None
        whole = folded(text).text
        for line in dict.fromkeys((whole, bare(whole))):
            found = self._alike(line, text) if line else []
            if found:
                return min(found)[-1]
        return None

    def _alike(self, line: str, text: str) -> list[_Alike]:
        """Where a folded line stands."""
        held = [(anchor, self._standing(even(anchor), _LOOKED + 1)) for anchor in anchors(text)]
        found: list[_Alike] = []
        looked = 0
        # The longest part first, for it has the most in common with the line; what stands everywhere last.
        for anchor, places in sorted(held, key=lambda one: (len(one[1]) > _LOOKED, -len(one[0]))):
            for number, document, place in places[: _LOOKED - looked]:
                begin = max(place.start - reach(line, anchor), 0)
                window = document.text[begin : place.end + reach(line, anchor)]
                for first, last in folded(window).places(line)[: _LOOKED - len(found)]:
                    start, end = begin + first, begin + last
                    if may_stand(document.text, start, end):
                        cost = differences(document.text[start:end], text)
                        found.append((cost, number, start, Place(document.id, start, end)))
            looked += len(places)
            if found or looked >= _LOOKED:
                break
        return found

    def _standing(self, line: bytes, limit: int) -> list[tuple[int, Document, Place]]:
        """At most so many places of an evened line, with the number of the document among all, and it."""
        standing: list[tuple[int, Document, Place]] = []
        before = 0
        for block in self.blocks:
            found = narrowed(block.whole, 0, line) if len(block.starts) else None
            starts = np.sort(block.ending(found, len(line))).tolist() if found is not None else []
            for start in starts[: limit - len(standing)]:
                number = block.number(start)
                place = block.line(start, len(line))[1]
                standing.append((before + number, block.documents[number], place))
            before += len(block.documents)
        return standing

    def pack(self) -> tuple[dict[str, npt.NDArray[Any]], Header]:
        """The index as arrays by name, and what ``unpack`` needs beside them and the documents, for JSON.

        Blocks that two corpora share are the same arrays, if maybe under other names.

        Raises:
            InputError: these passages are of parts of documents.
        """
        self._check_whole("pack")
        arrays = {_name(number): np.asarray(block.starts) for number, block in enumerate(self.blocks)}
        header = {
            "format": FORMAT,
            "blocks": [
                {
                    "documents": len(block.documents),
                    "texts": _hash_documents(block.documents),
                    "starts": _hash_array(block.starts),
                }
                for block in self.blocks
            ],
        }
        return arrays, header

    @classmethod
    def unpack(cls, arrays: Arrays, header: Mapping[str, Any], documents: Sequence[Document]) -> Passages:
        """The passages that ``pack`` took apart.

        Words are looked for again, which is cheap; only the sorting is not done again.

        Args:
            arrays: as ``pack`` named them; others are not looked at.
            header: likewise.
            documents: the same as then.

        Raises:
            StoreError: another format, other documents, or damaged arrays.
        """
        if not isinstance(header, Mapping) or header.get("format") != FORMAT:
            found = header.get("format") if isinstance(header, Mapping) else header
            raise StoreError(
                f"The stored index of passages has the format {found!r}; expected {FORMAT}. Build it again: "
                "Passages.build(documents)."
            )
        groups = list(_groups(documents))
        stored = header.get("blocks")
        if not isinstance(stored, list) or len(stored) != len(groups):
            found = f"{len(stored)} blocks" if isinstance(stored, list) else repr(stored)
            raise _damaged(f"has {found}; the documents make {len(groups)}")
        return cls(
            tuple(documents),
            tuple(
                _unpacked(arrays, number, about, group)
                for number, (about, group) in enumerate(zip(stored, groups, strict=True))
            ),
        )

    def _check_whole(self, verb: str) -> None:
        if not self.whole:
            raise InputError(
                f"These are the passages of parts of documents; {verb}() is for those of whole documents, "
                "as Passages.build(documents) makes them."
            )


def _groups(documents: Sequence[Document]) -> Iterator[tuple[Document, ...]]:
    """The documents of each block.

    From the smallest size on, a document's id says whether it begins a new block, longer ones more often. So
    blocks begin at the same documents again soon behind a change.
    """
    group: list[Document] = []
    size = 0
    for document in documents:
        length = len(document.text)
        chance = zlib.crc32(document.id.encode("utf-8", "surrogatepass")) / (1 << 32)
        if group and (size + length > LARGEST or (size >= SMALLEST and chance * _USUAL < length)):
            yield tuple(group)
            group, size = [], 0
        group.append(document)
        size += length
    if group:
        yield tuple(group)


def _windows(documents: Sequence[Document]) -> list[Window]:
    return [(document, 0, len(document.text)) for document in documents]


def _built(windows: Sequence[Window]) -> Block:
    block = build_block(windows)
    assert block is not None  # only given starts can be wrong
    return block


def _unpacked(arrays: Arrays, number: int, about: Any, documents: Sequence[Document]) -> Block:
    name = _name(number)
    if not isinstance(about, dict) or about.get("documents") != len(documents):
        raise _damaged(f"says {about!r} of block {number}, which has {len(documents)} documents")
    if about.get("texts") != _hash_documents(documents):
        raise _damaged(f"is of other documents than those given (block {number})")
    starts = arrays.get(name)
    if starts is None:
        raise _damaged(f"has no array '{name}'")
    if (
        starts.ndim != 1
        or starts.dtype not in (np.int32, np.int64)
        or about.get("starts") != _hash_array(starts)
    ):
        raise _damaged(f"has an array '{name}' {starts.dtype}{list(starts.shape)} that was changed")
    block = build_block(_windows(documents), np.ascontiguousarray(starts).view())
    if block is None:
        raise _damaged(f"has an array '{name}' of places that are not the beginnings of words")
    return block


def _damaged(found: str) -> StoreError:
    return StoreError(
        f"The stored index of passages {found}. Expected what Passages.pack() gave for these documents. "
        "Build it again: Passages.build(documents)."
    )


def _name(number: int) -> str:
    return f"passages.{number:05}"


def _key(documents: Sequence[Document]) -> tuple[tuple[str, str], ...]:
    return tuple((document.id, document.text) for document in documents)


def _hash_documents(documents: Sequence[Document]) -> str:
    found = blake2b(digest_size=16)
    for document in documents:
        for text in (document.id, document.text):
            data = text.encode("utf-8", "surrogatepass")
            found.update(len(data).to_bytes(8, "little"))
            found.update(data)
    return found.hexdigest()


def _hash_array(array: npt.NDArray[Any]) -> str:
    kept = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    return blake2b(kept.tobytes(), digest_size=16).hexdigest()
