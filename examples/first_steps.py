"""The first screen of the README; tests hold the two together."""

from memorag_core import ChunkSettings, MemoRAG

guide = """The ferry crosses the Wend from May to October. In winter the road over Cold Hill is often closed.
Tamsin Oakley covers houses with slate. She lives at the top of Pound Lane, behind the chapel.
Edric Vane blocks felt caps in the market. His sister Maud Vane delivers babies. She rides a grey mare.
Josiah Pell makes coffins. Lettice Howe studies chess openings, and will play anyone for a pint."""
rag = MemoRAG(chunks=ChunkSettings(size=110)).memorize(guide)
for question in ("Whom should I ask about a leaking roof?", "Who is there for an expectant mother?"):
    print(question)
    print("  clues recalled:", [clue.text for clue in rag.clues(question, kinds=["span"])])
    print("  question alone finds:", rag.retrieve(question, k=1, clues=[])[0].chunk.text)
    print("  with clues:", rag.retrieve(question, k=1)[0].chunk.text)
