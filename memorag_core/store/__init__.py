"""A corpus on disk: what was read, kept so that it need not be read again.

In: documents, chunks, the packed memory, vectors and settings as one value. Out: a folder of JSON(L) and
safetensors files, here or behind an address (the layout is docs/format.md), and that value again. It does not
know what a memory, a clue or an index is, and it runs no code that lies in a file.

One file, ``memorag.json``, names all others with their sizes and hashes. Every other file is named after its
content and never changed, so a store changes in the moment in which ``memorag.json`` is replaced: whoever
opens it finds the state before or the state after, even if the writer was killed.

``layout`` has the values, ``manifest`` the table of files, ``jsontext`` and ``tensors`` what is in them
(``quantizing``: keys and values in few bits), ``folder`` and ``remote`` the two kinds of place, ``reading``
the way out, ``writing`` the way in, of which ``segments`` says what a save keeps and what it writes.
"""

from memorag_core.store.layout import (
    ENCODINGS,
    WAIT_SECONDS,
    Encoding,
    Manifest,
    StoredCorpus,
    StoredFile,
    StoredIndex,
)
from memorag_core.store.reading import StoreReader, load_store, place_of, read_manifest
from memorag_core.store.writing import Writer, compact, save_store

__all__ = [
    "ENCODINGS",
    "WAIT_SECONDS",
    "Encoding",
    "Manifest",
    "StoreReader",
    "StoredCorpus",
    "StoredFile",
    "StoredIndex",
    "Writer",
    "compact",
    "load_store",
    "place_of",
    "read_manifest",
    "save_store",
]
