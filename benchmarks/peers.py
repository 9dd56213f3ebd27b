"""The index alone, without any memory, beside LangChain's own retrievers over the same chunks.

    pip install langchain-community langchain-classic langchain-chroma rank_bm25 sentence-transformers
    python benchmarks/peers.py --data DATA --set fairytaleqa --encoder FOLDER --limit 400 --out peers.json

``DATA`` holds sets of questions with gold evidence (docs.jsonl, queries.jsonl), ``FOLDER`` an encoder that
sentence-transformers loads. Each question is searched for in its own document, cut into the chunks that
MemoRAG makes by default. ``hit`` is whether half of the gold evidence lies in the first k chunks, with its
95 % interval over documents; ``ms`` is the time of a question, its encoding left out. The peers are made as
their pages show: ``BM25Retriever`` (rank_bm25), ``Chroma``, and ``EnsembleRetriever`` of both.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from langchain_core.documents import Document as LangChainDocument

from memorag_core import Chunk, ChunkSettings, EvidenceIndex, RetrievalSettings, sentence_transformer
from memorag_core.documents.chunking import split_document
from memorag_evaluation.datasets import Query, by_document, load_dataset
from memorag_evaluation.keeping import KeptEmbedder
from memorag_evaluation.metrics import estimate, is_hit
from memorag_evaluation.record import circumstances, table, write_record

AT = (1, 4)
"""Chunks that are looked at; 4 is what MemoRAG and LangChain's vector stores give unless told."""

Search = Callable[[str], Sequence[tuple[int, int]]]
"""A question to the spans of the chunks that it finds, best first."""


def ours(chunks: Sequence[Chunk], encoder: Any) -> dict[str, Search]:
    """BM25, and BM25 with vectors, by the question alone."""

    def search(index: EvidenceIndex) -> Search:
        k = min(max(AT), len(chunks))
        settings = RetrievalSettings()
        return lambda question: [
            (one.chunk.start, one.chunk.end) for one in index.retrieve(question, (), k=k, settings=settings)
        ]

    return {
        "memorag: BM25": search(EvidenceIndex.build(chunks, progress=False)),
        "memorag: BM25 + vectors": search(EvidenceIndex.build(chunks, encoder, progress=False)),
    }


def peers(chunks: Sequence[Chunk], encoder: Any) -> dict[str, Search]:
    """LangChain's retrievers over the same chunks, with the same encoder."""
    from langchain_chroma import Chroma
    from langchain_classic.retrievers import EnsembleRetriever
    from langchain_community.retrievers import BM25Retriever

    documents = [
        LangChainDocument(chunk.text, metadata={"start": chunk.start, "end": chunk.end}) for chunk in chunks
    ]
    k = min(max(AT), len(chunks))
    bm25 = BM25Retriever.from_documents(documents, k=k)
    store = Chroma.from_documents(documents, encoder, collection_name=f"c{id(chunks)}")
    vectors = store.as_retriever(search_kwargs={"k": k})
    both = EnsembleRetriever(retrievers=[bm25, vectors], weights=[0.5, 0.5])

    def search(retriever: Any) -> Search:
        return lambda question: [
            (one.metadata["start"], one.metadata["end"]) for one in retriever.invoke(question)
        ]

    return {"BM25Retriever": search(bm25), "Chroma": search(vectors), "EnsembleRetriever": search(both)}


def compare(
    documents: Mapping[str, Sequence[Chunk]], queries: Sequence[Query], encoder: Any
) -> list[dict[str, Any]]:
    """A row for each retriever."""
    hits: dict[str, dict[int, list[float]]] = {}
    seconds: dict[str, float] = {}
    clusters: list[str] = []
    for name, asked in by_document(queries).items():
        clusters += [name] * len(asked)
        chunks = documents[name]
        for way, search in {**ours(chunks, encoder), **peers(chunks, encoder)}.items():
            for query in asked:
                encoder.embed_query(query.question)
            begun = time.perf_counter()
            found = [search(query.question) for query in asked]
            seconds[way] = seconds.get(way, 0.0) + time.perf_counter() - begun
            for k in AT:
                hits.setdefault(way, {at: [] for at in AT})[k] += [
                    is_hit(query.spans, spans[:k]) for query, spans in zip(asked, found, strict=True)
                ]
    return [
        {
            "retriever": way,
            **{f"hit@{k}": estimate(values, clusters) for k, values in found_at.items()},
            "ms": 1000 * seconds[way] / len(clusters),
        }
        for way, found_at in hits.items()
    ]


def main() -> None:
    """Compare, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of sets")
    parser.add_argument("--set", default="fairytaleqa", help="one of them (%(default)s)")
    parser.add_argument("--encoder", required=True, help="folder of an encoder")
    parser.add_argument("--limit", type=int, help="questions, drawn; all unless told")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON record")
    options = parser.parse_args()
    dataset = load_dataset(options.data / options.set).sample(options.limit, seed=options.seed)
    chunks = {document.id: split_document(document, ChunkSettings()) for document in dataset.documents}
    encoder = KeptEmbedder(
        sentence_transformer(options.encoder, device="cpu"), None
    )  # encodes each text once
    rows = compare(chunks, dataset.queries, encoder)
    heads = tuple(rows[0])
    print(f"{dataset.name}: {len(dataset.queries)} questions")
    print(table(heads, [[row[head] for head in heads] for row in rows]))
    if options.out is not None:
        write_record(options.out, {**circumstances(sys.argv, device="cpu", seed=options.seed), "rows": rows})


if __name__ == "__main__":
    main()
