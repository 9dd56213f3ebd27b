"""The memory as a value: the text itself, in parts that stand in one prompt each.

In: pieces, and how they are gathered. Out: ``HostedMemory``, which never changes. Knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from memorag_core.memory.prompt_chunks import Piece, Span, cut_parts


@dataclass(frozen=True, slots=True)
class HostedMemory:
    """What a hosted model is given to read with each question: an immutable value, shared between threads.

    Attributes:
        pieces: the text, a sentence each or less.
        capacity: tokens that a part holds at most.
        overlap: tokens that neighbouring parts may share.
        ends: for each document the piece after its last one.
        spans: the pieces of each part.
    """

    pieces: tuple[Piece, ...] = field(repr=False)
    capacity: int
    overlap: int
    ends: tuple[int, ...]
    spans: tuple[Span, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        spans = cut_parts(self.pieces, capacity=self.capacity, overlap=self.overlap)
        object.__setattr__(self, "spans", spans)

    @property
    def tokens(self) -> int:
        """Tokens of the text, each counted once: an estimate, or by the model's ``count_tokens``."""
        return sum(piece.tokens for piece in self.pieces)

    @property
    def parts(self) -> int:
        """Prompts that a question takes."""
        return len(self.spans)

    @property
    def nbytes(self) -> int:
        """Bytes of the text in UTF-8."""
        return sum(len(piece.text.encode()) for piece in self.pieces)

    def text(self, part: int) -> str:
        """What stands in the prompt of a part, without white space around it."""
        start, end = self.spans[part]
        return "".join(piece.text for piece in self.pieces[start:end]).strip()

    def pieces_of(self, document: int) -> Span:
        """The pieces of a document."""
        return (self.ends[document - 1] if document else 0), self.ends[document]

    def first(self, documents: int) -> HostedMemory:
        """The memory of the first documents, 1 or more."""
        ends = self.ends[:documents]
        return HostedMemory(self.pieces[: ends[-1]], self.capacity, self.overlap, ends)
