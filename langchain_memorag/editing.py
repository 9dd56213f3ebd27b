"""Documents of LangChain put into what was memorized and taken out of it, whether they are there or not.

In: a MemoRAG, documents or ids. Out: the ids concerned. Does not search.
"""

from __future__ import annotations

from collections.abc import Iterable

from langchain_core.documents import Document

from langchain_memorag.documents import listed, listed_ids, sources
from memorag_core import MemoRAG


def put(memorag: MemoRAG, documents: Iterable[Document]) -> list[str]:
    """Memorize documents; those whose ids are there take the place of what had them.

    All of them are read in one go; of several with one id, the last. Documents that are there as they are
    cost nothing. Those without an id get the lowest number that is free at that moment, and replace none.

    Returns:
        Their ids, in the order of the documents.

    Raises:
        InputError: A document that is empty, no LangChain document, or one whose metadata JSON cannot hold.
            Nothing has changed then.
    """
    given = listed("documents", documents)
    read = sources(given)
    latest = {document.id: place for place, document in enumerate(given) if document.id}
    places = [place for place, one in enumerate(given) if latest.get(one.id, place) == place]
    if not places:
        return []
    ids = dict(zip(places, memorag.change(put=[read[place] for place in places]).put, strict=True))
    return [ids.get(place) or read[place].id for place in range(len(given))]


def take_out(memorag: MemoRAG, ids: Iterable[str]) -> list[str]:
    """Forget documents, all in one go; ids that are not there are passed over.

    Returns:
        The ids that were there.

    Raises:
        InputError: Something else than texts.
    """
    wanted = dict.fromkeys(listed_ids(ids))
    change = memorag.change(delete=lambda there: [one.id for one in there if one.id in wanted])
    return [name for name in wanted if name in change.deleted]
