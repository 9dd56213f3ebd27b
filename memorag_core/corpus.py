"""All that was memorized, as a value, and how it changes.

In: a corpus and the documents it should hold. Out: the next corpus; the one before stays as it is. Knows the
stages that read and index, not those that ask.

Documents that stand unchanged at the beginning keep their part of the memory: the memory is cut back to them,
and what follows is read. A model that cannot cut a memory back reads all of it again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import is_
from typing import Any, Literal, TypeAlias

from memorag_core.documents.chunking import as_documents, split_documents
from memorag_core.documents.language import detect_language
from memorag_core.documents.splitter import check_splitter
from memorag_core.errors import InputError, NothingMemorizedError
from memorag_core.memory.grounding import Passages
from memorag_core.protocols import MemoryModel, ShowProgress, Splitter, TextEncoder, keeps_documents
from memorag_core.retrieval import EvidenceIndex, IndexMaker, text_encoder
from memorag_core.retrieval.routing import route
from memorag_core.settings import ChunkSettings
from memorag_core.system.locking import cached_property
from memorag_core.types import Chunk, Document, has_id
from memorag_core.types.metadata import same

Order: TypeAlias = Literal["given", "changing_last"]
"""How documents stand in a corpus: as they were added, or those that were updated most often at the end."""

Texts: TypeAlias = str | Document | Sequence[str | Document]
"""What is to be read: a text, a document, or several; without an id, they get one."""

Put: TypeAlias = Texts | Callable[[tuple[Document, ...]], Texts | None]
"""What is to be read, or what says it of the documents that are there."""

Gone: TypeAlias = str | Collection[str] | Callable[[tuple[Document, ...]], str | Collection[str] | None]
"""The ids of what is to be forgotten, or what says them of the documents that are there."""

SAMPLED, SAMPLE = 20, 100_000
"""Documents, and characters of each, that tell the language of a corpus."""


@dataclass(frozen=True, eq=False)  # without slots, so that what is found out once can be kept
class Corpus:
    """All that was memorized, never changed.

    Attributes:
        documents: in the order of reading.
        memory: what the model made of them.
        index: their chunks.
        passages: their texts, for finding lines in them.
        changes: for each document that was updated, how often.
    """

    documents: tuple[Document, ...]
    memory: Any
    index: EvidenceIndex
    passages: Passages
    changes: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def by_id(self) -> Mapping[str, Document]:
        """The documents by their ids."""
        return {document.id: document for document in self.documents}

    @cached_property
    def language(self) -> str:
        """The language of most of the text, as a two-letter code."""
        some = self.documents[:: -(-len(self.documents) // SAMPLED)]
        return detect_language("\n".join(document.text[:SAMPLE] for document in some))

    def support(self, texts: Sequence[str]) -> tuple[float, ...]:
        """How much of what each text says one chunk says."""
        return self.index.support(texts)

    def parts_for(
        self, questions: Sequence[str], model: MemoryModel, most: int | None
    ) -> list[tuple[int, ...] | None] | None:
        """The parts of the memory that each question is put to; None for all of them.

        Raises:
            InputError: The model's memories cannot be asked in part.
        """
        if most is None or self.memory.parts <= most:
            return None
        if not keeps_documents(model):
            raise InputError(
                f"ClueSettings.max_parts is {most}, and a {type(model).__name__} cannot be asked in "
                "part: it lacks the members of memorag_core.DocumentMemoryModel. Leave max_parts out."
            )
        numbers = {document.id: number for number, document in enumerate(self.documents)}
        return route(questions, self.memory, model=model, index=self.index, numbers=numbers, most=most)


@dataclass(frozen=True, slots=True)
class Change:
    """What a change did.

    Attributes:
        put: the ids of the documents that were put, in their order, those they were given among them.
        deleted: the ids of the documents that were forgotten, in the order in which they stood.
    """

    put: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Edit:
    """A change before anything is read: how the documents are to stand, how often each was updated."""

    documents: tuple[Document, ...]
    changes: Mapping[str, int]
    change: Change


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """A line of the document table.

    Attributes:
        id: the document's.
        metadata: likewise.
        characters: in its text.
        chunks: it was cut into.
        changes: how often it was updated.
        tokens: its first token in the stream of all that was read, and the one after its last; None where the
            model does not say.
        slots: its first slot in the first part that holds it, and the one after its last there; None where
            the memory has none, or the model does not say.
        parts: the first part of the memory that holds any of it, and the one after the last; as tokens.
    """

    id: str
    metadata: Mapping[str, Any]
    characters: int
    chunks: int
    changes: int
    tokens: tuple[int, int] | None
    slots: tuple[int, int] | None
    parts: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Reading:
    """What a change would make the model read.

    Attributes:
        tokens: in all.
        again: of them, tokens that it has read before.
    """

    tokens: int
    again: int


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads documents into memory and index.

    Attributes:
        model: the memory model.
        maker: what makes the index of its chunks.
        chunks: how documents are cut.
        order: how they stand.
        progress: whether to show bars, or who is told; None shows them on terminals.
        splitter: makes chunks of its own instead; None cuts them as ``chunks`` says.
        encoder: what chunks have to fit: the embedder, if it says how much it reads.
    """

    model: MemoryModel
    maker: IndexMaker
    chunks: ChunkSettings
    order: Order = "given"
    progress: ShowProgress = None
    splitter: Splitter | None = None
    encoder: TextEncoder | None = field(init=False)

    def __post_init__(self) -> None:
        if self.order not in ("given", "changing_last"):
            raise InputError(f"The order is {self.order!r}; expected 'given' or 'changing_last'.")
        if self.splitter is not None:
            check_splitter(self.splitter)
        object.__setattr__(self, "encoder", text_encoder(self.maker.embedder))

    def added(self, corpus: Corpus | None, given: str | Document | Sequence[str | Document]) -> Corpus:
        """The corpus with more documents behind those there are.

        Raises:
            InputError: no text in them, or an id that is in use.
        """
        old = corpus.documents if corpus else ()
        new = as_documents(given, taken={document.id for document in old})
        return self._read(corpus, (*old, *new), corpus.changes if corpus else {})

    def updated(self, corpus: Corpus, given: Document | Sequence[Document]) -> Corpus:
        """The corpus with other texts or metadata for some documents.

        Raises:
            InputError: no documents, one without text, or one whose id is not in the corpus.
        """
        documents, changes = self._after_update(corpus, given)
        return self._read(corpus, documents, changes)

    def edit(self, corpus: Corpus | None, *, put: Put | None = None, delete: Gone | None = None) -> Edit:
        """What a change comes to; nothing is read.

        Args:
            corpus: as it is.
            put: documents that take the place of those that have their ids, or come behind them all.
            delete: ids of others that go; what is put with one of them takes its place.

        Raises:
            InputError: no documents, one without text, an id twice, or an id to delete that is not there.
            NothingMemorizedError: an id to delete, and there is no document at all.
        """
        old = corpus.documents if corpus else ()
        changes = dict(corpus.changes) if corpus else {}
        ids, given = _told(delete, old), _told(put, old)
        gone = set() if ids is None else _known(old, ids)
        known = {document.id for document in old}
        new = () if given is None else as_documents(given, known=known)
        there = {document.id: document for document in new if document.id in known}
        documents, changes = self._replaced(old, changes, there)
        gone -= there.keys()
        left = [document for document in documents if document.id not in gone]
        return Edit(
            (*left, *(document for document in new if document.id not in known)),
            {name: count for name, count in changes.items() if name not in gone},
            Change(
                tuple(document.id for document in new),
                tuple(document.id for document in old if document.id in gone),
            ),
        )

    def edited(self, corpus: Corpus | None, edit: Edit) -> Corpus | None:
        """The corpus after a change: the same one where all documents stay, and None when none is left."""
        old = corpus.documents if corpus else ()
        if len(old) == len(edit.documents) and all(map(is_, old, edit.documents)):
            return corpus
        return self._read(corpus, edit.documents, edit.changes) if edit.documents else None

    def without(self, corpus: Corpus, ids: str | Collection[str]) -> Corpus | None:
        """The corpus without some documents; None when none is left.

        Raises:
            InputError: an id that is not in the corpus, or none.
        """
        return self.edited(corpus, self.edit(corpus, delete=ids))

    def reading(self, corpus: Corpus, documents: Sequence[Document]) -> Reading:
        """What it would take to come from a corpus to one with other documents; nothing is read.

        Raises:
            InputError: as the change itself, or a model that cannot tell.
        """
        if not keeps_documents(self.model):
            raise InputError(
                f"A {type(self.model).__name__} cannot tell what it would read: it lacks the members of "
                "memorag_core.DocumentMemoryModel. On a change it reads the whole corpus."
            )
        kept = _common(corpus.documents, documents)
        again = self.model.to_reread(corpus.memory, kept)
        rest = documents[kept:]
        tokens = self.model.count_tokens(rest, corpus.memory, documents_kept=kept) if rest else 0
        texts = [(document.id, document.text) for document in corpus.documents]
        spans = dict(zip(texts, self.model.token_spans(corpus.memory), strict=True))
        moved = [spans[key] for document in rest if (key := (document.id, document.text)) in spans]
        return Reading(again + tokens, again + sum(end - start for start, end in moved))

    def after_update(self, corpus: Corpus, given: Document | Sequence[Document]) -> tuple[Document, ...]:
        """The documents as they would stand after an update."""
        return self._after_update(corpus, given)[0]

    def after_delete(self, corpus: Corpus, ids: str | Collection[str]) -> tuple[Document, ...]:
        """The documents as they would stand after some are deleted."""
        return self.edit(corpus, delete=ids).documents

    def rows(self, corpus: Corpus) -> tuple[DocumentRow, ...]:
        """The document table."""
        model = self.model if keeps_documents(self.model) else None
        spans = model.token_spans(corpus.memory) if model else [None] * len(corpus.documents)
        counts = dict.fromkeys((document.id for document in corpus.documents), 0)
        for chunk in corpus.index.chunks:
            counts[chunk.document_id] += 1
        rows = []
        for number, (document, span) in enumerate(zip(corpus.documents, spans, strict=True)):
            held = model.parts_of(corpus.memory, number, 0, len(document.text)) if model else None
            rows.append(
                DocumentRow(
                    document.id,
                    document.metadata,
                    len(document.text),
                    counts[document.id],
                    corpus.changes.get(document.id, 0),
                    span,
                    model.slot_span(corpus.memory, number) if model else None,
                    (held.start, held.stop) if held is not None else None,
                )
            )
        return tuple(rows)

    def _after_update(
        self, corpus: Corpus, given: Document | Sequence[Document]
    ) -> tuple[tuple[Document, ...], dict[str, int]]:
        _check_ids_given(given)
        new = {document.id: document for document in as_documents(given)}
        _known(corpus.documents, new)
        return self._replaced(corpus.documents, corpus.changes, new)

    def _replaced(
        self, old: tuple[Document, ...], changes: Mapping[str, int], new: Mapping[str, Document]
    ) -> tuple[tuple[Document, ...], dict[str, int]]:
        """Documents with others in place of some; one that is as it was stays itself, and is no change."""
        documents = [_newer(document, new.get(document.id)) for document in old]
        counts = dict(changes)
        for before, after in zip(old, documents, strict=True):
            if after is not before:
                counts[after.id] = counts.get(after.id, 0) + 1
        if new and self.order == "changing_last":
            documents.sort(key=lambda document: counts.get(document.id, 0))
        return tuple(documents), counts

    def _read(
        self, corpus: Corpus | None, documents: Sequence[Document], changes: Mapping[str, int]
    ) -> Corpus:
        """The corpus of these documents, made of what can be kept of the one before."""
        index = self._indexed(corpus, documents)
        old = corpus.documents if corpus else ()
        kept = _common(old, documents)
        memory = corpus.memory if corpus else None
        if kept < len(old):
            if kept and keeps_documents(self.model):
                memory = self.model.rewind(memory, kept)
            else:
                memory, kept = None, 0
        if kept < len(documents):
            _check_room(self.model, documents[kept:], memory)
            memory = self.model.memorize(documents[kept:], memory, progress=self.progress)
        passages = corpus.passages.changed(documents) if corpus else Passages.build(documents)
        return Corpus(tuple(documents), memory, index, passages, dict(changes))

    def _indexed(self, corpus: Corpus | None, documents: Iterable[Document]) -> EvidenceIndex:
        """An index over all chunks; those of a document that is as it was stay, whatever would be cut now.

        A document without any, as a store that another wrote may have one, is cut as if it were new.
        """
        kept: dict[str, list[Chunk]] = {}
        known = {document.id: document for document in corpus.documents} if corpus else {}
        for chunk in corpus.index.chunks if corpus else ():
            kept.setdefault(chunk.document_id, []).append(chunk)
        documents = tuple(documents)
        new = [one for one in documents if known.get(one.id) is not one or one.id not in kept]
        cut = split_documents(new, self.chunks, encoder=self.encoder, splitter=self.splitter)
        kept |= {document.id: list(own) for document, own in zip(new, cut, strict=True)}
        chunks = [chunk for document in documents for chunk in kept[document.id]]
        return self.maker.index(chunks, corpus.index if corpus else None)


def _told(given: Any, old: tuple[Document, ...]) -> Any:
    """What was given for a change; a function may find that there is nothing to do."""
    return (given(old) or None) if callable(given) else given


def _newer(old: Document, new: Document | None) -> Document:
    unchanged = new is None or (old.text == new.text and same(old.metadata, new.metadata))
    return old if new is None or unchanged else new


def _check_ids_given(given: Document | Sequence[Document]) -> None:
    """Refuse to update what is not named: a number that was given to a document is no name for another."""
    for item in given if isinstance(given, list | tuple) else [given]:
        if isinstance(item, str) or (isinstance(item, Document) and not has_id(item)):
            raise InputError(
                "An update has a text without an id; expected the id of the document that it takes the place "
                "of. Give Document(text, id='a'), or add it with memorize()."
            )


def _known(documents: Sequence[Document], ids: str | Collection[str]) -> set[str]:
    """Ids, each of a document that is there."""
    if not isinstance(ids, Iterable):
        raise InputError(f"Found a {type(ids).__name__} for ids; expected a text, or a list of them.")
    wanted = [ids] if isinstance(ids, str) else list(ids)
    for name in wanted:
        if not isinstance(name, str):
            raise InputError(f"Found {name!r} among the ids; expected the id of a document, as text.")
    if not documents:
        raise NothingMemorizedError(
            "Nothing has been memorized yet, so there is nothing to update or delete. Call memorize(text) "
            "first."
        )
    known = {document.id for document in documents}
    unknown = sorted(repr(name) for name in wanted if name not in known)
    if unknown or not wanted:
        some = ", ".join(map(repr, sorted(known)[:5])) + (", ..." if len(known) > 5 else "")
        raise InputError(
            f"There is no document with the id {', '.join(unknown) or '(none was given)'}; the corpus "
            f"has {some}. New documents are added with memorize()."
        )
    return set(wanted)


def _check_room(model: MemoryModel, documents: Sequence[Document], memory: Any) -> None:
    """Refuse what there is no room for, where the model knows (``LocalModel.check_room``)."""
    check = getattr(model, "check_room", None)
    if check is not None:
        check(documents, memory)


def _common(one: Sequence[Document], other: Sequence[Document]) -> int:
    """How many documents two sequences begin with alike."""
    count = 0
    for left, right in zip(one, other, strict=False):
        if (left.id, left.text) != (right.id, right.text):
            break
        count += 1
    return count
