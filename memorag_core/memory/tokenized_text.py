"""The text behind a memory: the token ids that were read, and where each document stands among them.

In: ids and spans that a tokenizer made. Out: ``ReadText``, which never changes. Knows no tokenizer and no
model. Ids are 4 bytes a token, hundreds of times less than what a model keeps of it; with them a memory can
be continued, cut back and looked up without its documents.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from memorag_core.errors import StoreError
from memorag_core.memory.partitions import Cut
from memorag_core.types.packed import unpacking, whole_number

MARKED = 256
"""Tokens from one mark to the next."""

_REMEDY = "Memorize the text again."


@dataclass(frozen=True, slots=True)
class DocumentSpan:
    """Where a document stands in a stream of tokens; what stands before the text is not counted.

    Attributes:
        start: its first own token; white space that parts it from the one before lies ahead of it.
        end: the token after its last one, filling included.
        marks: the character of the document at which its tokens 0, 256, 512, ... begin.
    """

    start: int
    end: int
    marks: tuple[int, ...]

    def tokens(self, start: int, end: int) -> tuple[int, int]:
        """Tokens of the stream that hold the characters from ``start`` to ``end``, and perhaps some more."""
        first = max(bisect_right(self.marks, start) - 1, 0)
        last = bisect_left(self.marks, end, lo=first)
        return self.start + first * MARKED, min(self.start + last * MARKED, self.end)

    def characters(self, first: int, last: int) -> tuple[int, int | None]:
        """Characters that hold the tokens of the stream from ``first`` to ``last``, and perhaps some more.

        The second is None where they reach to the end of the document.
        """
        start = max(first - self.start, 0) // MARKED
        end = -(-(last - self.start) // MARKED)
        return self.marks[min(start, len(self.marks) - 1)], self.marks[end] if end < len(self.marks) else None


@dataclass(frozen=True, slots=True, eq=False)
class ReadText:
    """What a memory was made of.

    Attributes:
        ids: [T] int32 on the CPU, without what stands before the text.
        documents: in the order of reading; the last one ends with the ids.
    """

    ids: Tensor
    documents: tuple[DocumentSpan, ...]

    @classmethod
    def empty(cls) -> ReadText:
        """Of a memory that has read nothing."""
        return cls(torch.zeros(0, dtype=torch.int32), ())

    def __len__(self) -> int:
        return len(self.ids)

    def followed_by(self, ids: Tensor, documents: Sequence[DocumentSpan]) -> ReadText:
        """This text and more of it; the spans are those of the whole."""
        more = ids.to(device="cpu", dtype=torch.int32)
        return ReadText(torch.cat((self.ids, more)), (*self.documents, *documents))

    def first(self, documents: int) -> ReadText:
        """The first documents alone."""
        kept = self.documents[:documents]
        return ReadText(self.ids[: kept[-1].end if kept else 0], kept)

    def characters(self, first: int, last: int) -> tuple[tuple[int, int, int | None], ...]:
        """What tokens of the stream stand for: (document, first character, the one after the last).

        Rounded outwards to marks; None for the end of a document.
        """
        return tuple(
            (number, *document.characters(first, last))
            for number, document in enumerate(self.documents)
            if document.start < last and first < document.end
        )

    def pack(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """As (tensors by name, JSON-able header)."""
        marks = [mark for document in self.documents for mark in document.marks]
        tensors = {"ids": self.ids.contiguous(), "marks": torch.tensor(marks, dtype=torch.int32)}
        spans = [[document.start, document.end, len(document.marks)] for document in self.documents]
        return tensors, {"documents": spans}

    @classmethod
    def unpack(
        cls,
        tensors: Mapping[str, Any],
        header: Mapping[str, Any],
        rows: Sequence[int],
        cut: Cut | None,
        *,
        vocabulary: int | None = None,
    ) -> ReadText:
        """The inverse of ``pack``.

        Args:
            tensors: that hold its own among others.
            header: likewise.
            rows: tokens of each part of the memory, what stands before the text not counted.
            cut: how the text was cut; None for one part.
            vocabulary: token ids that the model knows; None looks at no ids.

        Raises:
            StoreError: they do not fit each other.
        """
        ids, marks = (_int32(tensors, name) for name in ("ids", "marks"))
        with unpacking("The memory's table of documents", _REMEDY):
            table = [
                (
                    whole_number(start, "a start"),
                    whole_number(end, "an end"),
                    whole_number(count, "a count of marks"),
                )
                for start, end, count in header["documents"]
            ]
            places = marks.split([count for _, _, count in table])
            documents = tuple(
                DocumentSpan(start, end, tuple(place.tolist()))
                for (start, end, _), place in zip(table, places, strict=True)
            )
        ends = [0, *(document.end for document in documents)]
        if ends[-1] != len(ids) or not all(
            before <= document.start < document.end and document.marks[:1] == (0,)
            for before, document in zip(ends, documents, strict=False)
        ):
            raise StoreError(
                f"The memory has {len(ids)} token ids, and its {len(documents)} documents end at {ends[-1]}; "
                f"expected one after the other up to the last id. {_REMEDY}"
            )
        if vocabulary and len(ids) and not (int(ids.min()) >= 0 and int(ids.max()) < vocabulary):
            raise StoreError(
                f"The memory has token ids from {int(ids.min())} to {int(ids.max())}; the model knows 0 to "
                f"{vocabulary - 1}. {_REMEDY}"
            )
        spans = (cut or Cut(len(ids) + 1, 0)).spans(len(ids))
        if [end - start for start, end in spans] != list(rows):
            raise StoreError(
                f"The memory has {len(rows)} parts of {sum(rows)} tokens; expected {len(spans)} for a text "
                f"of {len(ids)}. {_REMEDY}"
            )
        return cls(ids, documents)


def _int32(tensors: Mapping[str, Any], name: str) -> Tensor:
    tensor = tensors.get(name)
    if not isinstance(tensor, Tensor) or tensor.dtype != torch.int32 or tensor.ndim != 1:
        raise StoreError(f"The memory has no tensor {name!r} of int32 [T]. {_REMEDY}")
    return tensor
