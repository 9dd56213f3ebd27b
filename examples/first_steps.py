"""The first screen of the README; tests hold the two together."""

from pathlib import Path

from memorag_core import ChunkSettings, MemoRAG

tale = Path(__file__).with_name("skerry.txt").read_text(encoding="utf-8")
rag = MemoRAG(chunks=ChunkSettings(size=220)).memorize(tale)
for question in ("Who saw the beam?", "What did the captain send?"):
    print(question)
    for clue in rag.clues(question):
        print(f"  {clue.kind}: {clue.text}")
    for evidence in rag.retrieve(question, k=1):
        print(f"  evidence at {evidence.chunk.start}-{evidence.chunk.end}: {evidence.chunk.text}")
