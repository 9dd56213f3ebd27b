"""The first screen of the README; tests hold the two together."""

from pathlib import Path

from memorag_core import ChunkSettings, MemoRAG

guide = Path(__file__).with_name("parish.txt").read_text(encoding="utf-8")
rag = MemoRAG(chunks=ChunkSettings(size=160)).memorize(guide)
for question in ("Whom should I ask about a leaking roof?", "Who is there for an expectant mother?"):
    print(question)
    for clue in rag.clues(question, kinds=["span", "query"]):
        print(f"  {clue.kind}: {clue.text}")
    print("  without clues:", rag.retrieve(question, k=1, clues=[])[0].chunk.text)
    for evidence in rag.retrieve(question, k=1):
        print(f"  evidence at {evidence.chunk.start}-{evidence.chunk.end}: {evidence.chunk.text}")
