"""Texts with questions and gold evidence, read from a folder of JSON lines.

In: a folder with ``docs.jsonl`` (``doc_id``, ``text``, ``title``) and ``queries.jsonl`` (``qid``,
``question``, ``answers``, ``doc_id``, ``evidence_spans``); other fields are left alone. Out: a ``Dataset``
whose spans were checked against the texts. Knows no model and no metric.
"""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from memorag_core.errors import InputError
from memorag_core.types import Document
from memorag_evaluation.metrics import Span

DOCUMENTS, QUERIES = "docs.jsonl", "queries.jsonl"

_NAMED = 20  # documents that an error lists


@dataclass(frozen=True, slots=True)
class Query:
    """A question on one document, with the characters that answer it.

    Attributes:
        id: its own in the set.
        question: as asked.
        answers: accepted answers; may be empty.
        document_id: the document it is asked of.
        spans: the gold evidence, characters of the document's text; one or more.
        kind: what sort of question it is, where the set says so.
        passages: the ids of the passages that hold the evidence, in a set of passages; else none.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    document_id: str
    spans: tuple[Span, ...]
    kind: str = ""
    passages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dataset:
    """Documents and the questions on them.

    Attributes:
        name: the folder's.
        documents: in the order of the file.
        queries: in the order of the file.
        skipped: questions of these documents that were left out: no words, or no evidence spans.
        passages: in a set of passages, all of them; the one document is their texts, joined. Else none.
    """

    name: str
    documents: tuple[Document, ...]
    queries: tuple[Query, ...]
    skipped: int = 0
    passages: tuple[Document, ...] = ()

    def sample(self, limit: int | None, *, seed: int) -> Dataset:
        """The same set with at most ``limit`` questions, drawn by the seed; None for all of them.

        Raises:
            InputError: A limit below 1.
        """
        if limit is None or limit >= len(self.queries):
            return self
        if limit < 1:
            raise InputError(f"The limit is {limit}; expected at least 1 question, or None for all.")
        chosen = sorted(random.Random(seed).sample(range(len(self.queries)), limit))
        return replace(self, queries=tuple(self.queries[place] for place in chosen))


def load_dataset(
    folder: str | Path, *, documents: Collection[str] | None = None, kind: str | None = None
) -> Dataset:
    """Read a set; questions without words or without evidence spans are counted and left out.

    Args:
        folder: holds ``docs.jsonl`` and ``queries.jsonl``.
        documents: ids of the documents to take, with the questions on them; None for all.
        kind: the field of ``queries.jsonl`` that says what sort of question it is; None where none does.

    Raises:
        InputError: A file is missing or no JSON lines, a field is missing or of a wrong kind, an id occurs
            twice, a question is on an unknown document, a span lies outside its text, an unknown document is
            wanted, or no question is left.
    """
    path = Path(folder)
    every = read_documents(path / DOCUMENTS)
    unknown = sorted(set(documents or ()) - set(every))
    if unknown:
        raise InputError(
            f"The documents {', '.join(unknown)} are not in '{path / DOCUMENTS}'; it has "
            f"{', '.join(sorted(every)[:_NAMED])}{' and more' if len(every) > _NAMED else ''}."
        )
    chosen = {name: found for name, found in every.items() if documents is None or name in documents}
    queries: dict[str, Query] = {}
    skipped = 0
    for where, row in read_rows(path / QUERIES):
        question, spans = text_of(where, row, "question"), row.get("evidence_spans") or []
        if not question.strip() or not spans:
            # A question that names no document belongs to all of them.
            skipped += row.get("doc_id") is None or row["doc_id"] in chosen
            continue
        query = _query(where, row, question, spans, every)
        query = replace(query, kind=text_of(where, row, kind) if kind is not None else "")
        if query.id in queries:
            raise InputError(f"{where}: the qid {query.id!r} occurs twice; each question has its own.")
        if query.document_id in chosen:
            queries[query.id] = query
    if not queries:
        raise InputError(
            f"'{path}' has no question with words and evidence spans on these documents; {skipped} were left "
            "out. Choose other documents, or give the questions evidence_spans."
        )
    return Dataset(path.name, tuple(chosen.values()), tuple(queries.values()), skipped)


def read_documents(path: Path) -> dict[str, Document]:
    """The documents of a file by their ids, in its order; errors as ``load_dataset``."""
    found: dict[str, Document] = {}
    for where, row in read_rows(path):
        name, text = text_of(where, row, "doc_id"), text_of(where, row, "text")
        if name in found:
            raise InputError(f"{where}: the doc_id {name!r} occurs twice; each document has its own.")
        if not text.strip():
            raise InputError(f"{where}: the document {name!r} has no text; expected some, or no document.")
        found[name] = Document(text, name, {"title": str(row.get("title", ""))})
    if not found:
        raise InputError(f"'{path}' is empty; expected a JSON object for each document.")
    return found


def _query(
    where: str, row: Mapping[str, Any], question: str, spans: Any, documents: Mapping[str, Document]
) -> Query:
    document = documents.get(text_of(where, row, "doc_id"))
    if document is None:
        raise InputError(f"{where}: the doc_id {row['doc_id']!r} is not in {DOCUMENTS}.")
    answers = row.get("answers") or []
    if not isinstance(answers, list) or not isinstance(spans, list):
        raise InputError(f"{where}: expected lists under 'answers' and 'evidence_spans'.")
    for span in spans:
        whole = isinstance(span, list) and len(span) == 2 and all(type(end) is int for end in span)
        if not whole or not 0 <= span[0] < span[1] <= len(document.text):
            raise InputError(
                f"{where}: the evidence span {span!r} does not lie in the {len(document.text)} characters of "
                f"{document.id!r}; expected [start, end] with 0 <= start < end."
            )
    gold: tuple[Span, ...] = tuple((start, end) for start, end in spans)
    return Query(
        text_of(where, row, "qid"), question, tuple(str(answer) for answer in answers), document.id, gold
    )


def read_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each line's place, for errors, and its object; blank lines are passed over."""
    if not path.is_file():
        raise InputError(
            f"There is no file '{path}'. Expected a folder with {DOCUMENTS} and {QUERIES}, one JSON object a "
            "line."
        )
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputError(f"{where}: not JSON ({error}).") from error
            if not isinstance(row, dict):
                raise InputError(f"{where}: found a {type(row).__name__}, expected a JSON object.")
            yield where, row


def text_of(where: str, row: Mapping[str, Any], name: str) -> str:
    """The text in a field of a row, or an error that names the place."""
    value = row.get(name)
    if not isinstance(value, str):
        raise InputError(f"{where}: the field {name!r} is {value!r}; expected text.")
    return value


def by_document(queries: Sequence[Query]) -> dict[str, list[Query]]:
    """The questions on each document, in their order."""
    grouped: dict[str, list[Query]] = {}
    for query in queries:
        grouped.setdefault(query.document_id, []).append(query)
    return grouped
