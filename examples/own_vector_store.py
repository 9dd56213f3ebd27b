"""MemoRAG over a vector store of your own: here Qdrant, in the memory of this process.

The store keeps the documents, and is searched with the question and with each clue; what comes back are its
own documents. Any vector store or retriever of LangChain goes there. `Words` stands in the place of an
embedding model, and needs no download: it compares words.
"""

import re
from pathlib import Path
from zlib import crc32

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

from langchain_memorag import MemoRAGRetriever
from memorag_core import MemoRAG

try:
    from langchain_qdrant import QdrantVectorStore
except ModuleNotFoundError as error:
    raise SystemExit("This example takes Qdrant: pip install langchain-qdrant") from error


class Words(Embeddings):
    """A text is the words in it."""

    def embed_query(self, text: str) -> list[float]:
        """A place of the vector for each word."""
        words = {crc32(word.encode()) % 512 for word in re.findall(r"\w+", text.casefold())}
        return [float(place in words) for place in range(512)]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """The same for each text."""
        return [self.embed_query(text) for text in texts]


guide = Path(__file__).with_name("parish.txt").read_text(encoding="utf-8")
documents = [
    Document(sentence, metadata={"paragraph": number})
    for number, paragraph in enumerate(guide.split("\n\n"))
    for sentence in re.split(r"(?<=\.)\s+", paragraph.strip())
]
store = QdrantVectorStore.from_documents(
    documents, Words(), location=":memory:", collection_name="parish", ids=list(range(len(documents)))
)

# The memory reads the text; nothing is added to the store.
rag = MemoRAG().memorize(guide)
# Cosines say how far ahead the first is. Clues weigh as much as a question that shares no word with the text.
how = {"fusion": "relative_score", "clue_weights": {"span": 1.0, "query": 1.0}}
retriever = MemoRAGRetriever(
    memorag=rag, base_retriever=store, k=1, retrieval_settings=how, annotate=True, timeout=5
)

for question in ("Whom should I ask about a leaking roof?", "Who keeps a tortoise?"):
    print(question)
    (alone,) = store.similarity_search(question, k=1)
    (found,) = retriever.invoke(question)
    print("  the store alone:", alone.page_content)
    print("  with clues:", found.page_content)
    print("    number", found.metadata["_id"], "of the store, paragraph", found.metadata["paragraph"])
    print("    found by the clue:", found.metadata["clues"][0])

# It prints:
# Whom should I ask about a leaking roof?
#   the store alone: He was a sailor once and still wears the coat.
#   with clues: Tamsin Oakley covers houses with slate.
#     number 4 of the store, paragraph 2
#     found by the clue: covers houses with slate.
# Who keeps a tortoise?
#   the store alone: Old Barnaby Rudd keeps a tortoise.
#   with clues: Old Barnaby Rudd keeps a tortoise.
#     number 13 of the store, paragraph 3
#     found by the clue: keeps a tortoise.
