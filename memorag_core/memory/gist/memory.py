"""The memory as a value: the gists, what each stands for, and the memory that a model made of them.

In: gists, a memory of another kind. Out: ``GistMemory``, which never changes. Knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Gist:
    """What stands for a block of a document in the memory.

    Attributes:
        text: what the condenser wrote; the block's own text where that was not longer.
        document_id: of which document.
        start: the first character of the block in the document.
        end: the one after its last; the next block begins there.
        tokens: of the block.
        gist_tokens: of ``text``.
    """

    text: str
    document_id: str
    start: int
    end: int
    tokens: int
    gist_tokens: int


@dataclass(frozen=True, slots=True)
class GistMemory:
    """What is left of documents that were condensed and read: an immutable value, shared between threads.

    Attributes:
        gists: in the order of the text.
        inner: what the memory model made of them; it is asked.
        block_tokens: the most tokens of a block.
        gist_tokens_asked: how long a gist was to be.
    """

    gists: tuple[Gist, ...] = field(repr=False)
    inner: Any
    block_tokens: int
    gist_tokens_asked: int

    @property
    def tokens(self) -> int:
        """Tokens of the documents, before condensing: an estimate, or as the condenser counts."""
        return sum(gist.tokens for gist in self.gists)

    @property
    def gist_tokens(self) -> int:
        """Tokens of the gists, counted likewise."""
        return sum(gist.gist_tokens for gist in self.gists)

    @property
    def blocks(self) -> int:
        """Blocks, and so gists."""
        return len(self.gists)

    @property
    def parts(self) -> int:
        """Parts of the inner memory, which are asked together."""
        return int(self.inner.parts)

    @property
    def nbytes(self) -> int:
        """Bytes of the inner memory, and of the gists in UTF-8."""
        return int(self.inner.nbytes) + sum(len(gist.text.encode()) for gist in self.gists)

    @property
    def document_ids(self) -> tuple[str, ...]:
        """The documents, in the order of reading."""
        return tuple(dict.fromkeys(gist.document_id for gist in self.gists))
