"""Documents of LangChain put into what was memorized and taken out of it, whether they are there or not.

In: a MemoRAG, documents or ids. Out: the ids concerned. Does not search.
"""

from __future__ import annotations

from collections.abc import Iterable

from langchain_core.documents import Document

from langchain_memorag.documents import listed, sources
from memorag_core import MemoRAG


def put(memorag: MemoRAG, documents: Iterable[Document]) -> list[str]:
    """Memorize documents; those whose ids are there take the place of what had them.

    All of them are read in one go; of several with one id, the last. Documents that are there as they are
    cost nothing.

    Returns:
        Their ids, in the order of the documents.

    Raises:
        InputError: A document that is empty or no LangChain document. Nothing has changed then.
    """
    known = {document.id: document for document in memorag.documents}
    named = sources(listed("documents", documents), taken=known)
    latest = {document.id: document for document in named}
    changed = [one for name, one in latest.items() if known.get(name) != one]
    if changed:
        memorag.upsert(changed)
    return [document.id for document in named]


def take_out(memorag: MemoRAG, ids: Iterable[str]) -> list[str]:
    """Forget documents, all in one go; ids that are not there are passed over.

    Returns:
        The ids that were there.
    """
    known = {document.id for document in memorag.documents}
    there = [name for name in dict.fromkeys(listed("ids", ids)) if name in known]
    if there:
        memorag.delete(there)
    return there
