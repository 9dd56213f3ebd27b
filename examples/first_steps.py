"""The first screen of the README: a question that shares no word with its evidence. Tests hold the two together."""

from memorag_core import MemoRAG

TOWN = """
The harbour of Orrin freezes in winter. Dorel Finch bakes bread for the whole street. Mara Venn repairs
timepieces above the old mill. Tobias Reed keeps a dovecote. Ilsa Marr drives out ghosts. A broken bridge
was the talk of the town last spring. Pella Grane sells umbrellas on the square. Joss Tarn cannot bear the
dark. The fair at Orrin ended early. Nilo Bruck shoes horses. Every question was about the price of wool.
"""

rag = MemoRAG().memorize(TOWN)
question = "Who would you ask about an alarm that never rings?"
for clue in rag.clues(question):
    print(f"{clue.kind}: {clue.text}")
best = rag.retrieve(question, k=1)[0]
print(f"evidence, characters {best.chunk.start}-{best.chunk.end}: {best.chunk.text}")
