"""LlamaIndex: a query engine over a memory, and one over an index of your own, with clues in its queries.

Any LLM of LlamaIndex stands in the place of `Quoting`, which needs no key: it quotes the text it is shown.
"""

from pathlib import Path
from typing import Any

from llama_index.core import Document, SimpleKeywordTableIndex
from llama_index.core.base.llms.types import CompletionResponse, CompletionResponseGen, LLMMetadata
from llama_index.core.llms import CustomLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import TransformRetriever
from llama_index.core.schema import TextNode

from llama_index_memorag import MemoRAGQueryTransform, MemoRAGRetriever
from memorag_core import ChunkSettings, MemoRAG


class Quoting(CustomLLM):
    """Says the context of a prompt of LlamaIndex's, which stands between two lines of dashes."""

    @property
    def metadata(self) -> LLMMetadata:
        """What engines ask for."""
        return LLMMetadata()

    def complete(self, prompt: str, formatted: bool = False, **_: Any) -> CompletionResponse:
        """The context."""
        context = prompt.split("---------------------")[1]
        return CompletionResponse(text=" ".join(context.split()))

    def stream_complete(self, prompt: str, formatted: bool = False, **_: Any) -> CompletionResponseGen:
        """The same, in one piece."""
        yield self.complete(prompt)


llm = Quoting()
guide = Path(__file__).with_name("parish.txt").read_text(encoding="utf-8")
question = "Whom should I ask about a leaking roof?"

# Documents: the retriever reads them, and searches with the question and each clue.
rag = MemoRAG(chunks=ChunkSettings(size=160))
documents = [Document(text=guide, id_="guide")]
retriever = MemoRAGRetriever.from_documents(documents, memorag=rag, k=1, annotate=True)
response = RetrieverQueryEngine.from_args(retriever, llm=llm).query(question)
source = response.source_nodes[0].node
print("engine:", response)
print("  from the", source.ref_doc_id, source.metadata["start"], "to", source.metadata["end"])
print("  found by the clue:", source.metadata["clues"][0])

# An index of your own, here a table of keywords: the transform writes the clues into its queries.
nodes = [TextNode(text=chunk.text) for chunk in rag.chunks]
keywords = SimpleKeywordTableIndex(nodes, llm=llm).as_retriever(retriever_mode="simple", llm=llm)
widened = TransformRetriever(keywords, MemoRAGQueryTransform(rag, "append"))
print("keywords alone:", RetrieverQueryEngine.from_args(keywords, llm=llm).query(question))
print("with clues:", RetrieverQueryEngine.from_args(widened, llm=llm).query(question))

# It prints:
# engine: Tamsin Oakley covers houses with slate. She lives at the top of Pound Lane, behind the chapel.
#   from the guide 268 to 362
#   found by the clue: covers houses with slate.
# keywords alone: Empty Response
# with clues: Tamsin Oakley covers houses with slate. She lives at the top of Pound Lane, behind the chapel.
