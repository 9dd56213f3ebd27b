"""Sets of passages: many short texts, and questions on all of them whose evidence is named by id.

In: a folder as of ``datasets``, but with questions that have no ``doc_id`` and whose ``evidence`` is a list
of ids of ``docs.jsonl``; ``hops``, where it is there, is the kind of a question. Out: a ``Dataset`` of one
document, in which the passages stand one after the other for a memory to read. Knows no model and no metric.
"""

from __future__ import annotations

from pathlib import Path

from memorag_core.errors import InputError
from memorag_core.types import Document
from memorag_evaluation.datasets import (
    DOCUMENTS,
    QUERIES,
    Dataset,
    Query,
    read_documents,
    read_rows,
    text_of,
)
from memorag_evaluation.metrics import Span

_BETWEEN = "\n\n"


def names_passages(folder: str | Path) -> bool:
    """Whether a folder is a set of passages: no question has a ``doc_id``, and each names evidence.

    Raises:
        InputError: There is no such file of questions, or it is no JSON lines.
    """
    rows = [row for _, row in read_rows(Path(folder) / QUERIES)]
    return bool(rows) and all(row.get("doc_id") is None and bool(row.get("evidence")) for row in rows)


def load_passages(folder: str | Path) -> Dataset:
    """Read a set of passages; questions without words are counted and left out.

    A passage is its title and its text, a line each, as Gutiérrez et al. index them ("HippoRAG", NeurIPS
    2024): of many the title alone says whom they are about.

    Args:
        folder: holds ``docs.jsonl`` and ``queries.jsonl``.

    Raises:
        InputError: A file is missing or no JSON lines, a field is missing or of a wrong kind, an id occurs
            twice, evidence names an unknown passage, or no question is left.
    """
    path = Path(folder)
    found = read_documents(path / DOCUMENTS)
    passages = tuple(_passage(document) for document in found.values())
    places: dict[str, Span] = {}
    start = 0
    for passage in passages:
        places[passage.id] = (start, start + len(passage.text))
        start += len(passage.text) + len(_BETWEEN)
    joined = Document(_BETWEEN.join(passage.text for passage in passages), path.name)
    queries: dict[str, Query] = {}
    skipped = 0
    for where, row in read_rows(path / QUERIES):
        question, name = text_of(where, row, "question"), text_of(where, row, "qid")
        wanted = row.get("evidence")
        if not isinstance(wanted, list) or not wanted or not all(isinstance(one, str) for one in wanted):
            raise InputError(f"{where}: the evidence is {wanted!r:.80}; expected ids of {DOCUMENTS}.")
        unknown = [one for one in wanted if one not in places]
        if unknown:
            raise InputError(f"{where}: the evidence {unknown[0]!r} is not in {DOCUMENTS}.")
        if name in queries:
            raise InputError(f"{where}: the qid {name!r} occurs twice; each question has its own.")
        if not question.strip():
            skipped += 1
            continue
        ids = tuple(dict.fromkeys(wanted))
        hops = row.get("hops")
        queries[name] = Query(
            name,
            question,
            tuple(str(answer) for answer in row.get("answers") or []),
            joined.id,
            tuple(places[one] for one in ids),
            "" if hops is None else f"{hops} hops",
            ids,
        )
    if not queries:
        raise InputError(f"'{path}' has no question with words; {skipped} were left out.")
    return Dataset(path.name, (joined,), tuple(queries.values()), skipped, passages)


def _passage(document: Document) -> Document:
    title = str(document.metadata.get("title", "")).strip()
    return Document(f"{title}\n{document.text}", document.id) if title else document
