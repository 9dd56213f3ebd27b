"""A summary: the memory names key points, each is searched for, and a synthesizer reads what was found.

The bundled memory model names no key points, so an LLM is the memory here (`HostedModel`). Any LLM of
LlamaIndex stands in the place of `Scripted`, which needs no key: as memory it names the points that it was
given, as writer it takes the first sentence of each passage.
"""

from pathlib import Path
from typing import Any

from llama_index.core import get_response_synthesizer
from llama_index.core.base.llms.types import CompletionResponse, CompletionResponseGen, LLMMetadata
from llama_index.core.llms import CustomLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import ResponseMode

from llama_index_memorag import MemoRAGSummaryRetriever
from memorag_core import ChunkSettings, HostedModel, MemoRAG

POINTS = """Snow on Cold Hill cuts Ellerby off in winter, for the ferry rests.
Slate from Tamsin Oakley covers the houses.
There is music: a choir under the vicar.
The abbot left an observatory to the Abbey."""
RULE = "---------------------"  # before and behind the passages, in a prompt of LlamaIndex's


class Scripted(CustomLLM):
    """Names its points, or shortens passages."""

    @property
    def metadata(self) -> LLMMetadata:
        """What engines ask for."""
        return LLMMetadata(model_name="scripted")

    def complete(self, prompt: str, formatted: bool = False, **_: Any) -> CompletionResponse:
        """The points, where there are no passages."""
        passages = prompt.split(RULE)[1].strip().split("\n\n") if RULE in prompt else ()
        return CompletionResponse(text="\n".join(one.split(". ")[0] for one in passages) or POINTS)

    def stream_complete(self, prompt: str, formatted: bool = False, **_: Any) -> CompletionResponseGen:
        """The same, in one piece."""
        yield self.complete(prompt)


llm = Scripted()
guide = Path(__file__).with_name("parish.txt").read_text(encoding="utf-8")
rag = MemoRAG(HostedModel(llm), chunks=ChunkSettings(size=160)).memorize(guide)
writer = get_response_synthesizer(response_mode=ResponseMode.TREE_SUMMARIZE, llm=llm)
engine = RetrieverQueryEngine(MemoRAGSummaryRetriever(rag, k=1, annotate=True), response_synthesizer=writer)

response = engine.query("What is Ellerby like?")
for found in response.source_nodes:
    start, end, points = (found.node.metadata[name] for name in ("start", "end", "clues"))
    print(f"{points[0]}\n  evidence at {start}-{end}")
print(f"Summary:\n{response}")

# It prints:
# Snow on Cold Hill cuts Ellerby off in winter, for the ferry rests.
#   evidence at 69-203
# Slate from Tamsin Oakley covers the houses.
#   evidence at 268-362
# There is music: a choir under the vicar.
#   evidence at 550-696
# The abbot left an observatory to the Abbey.
#   evidence at 881-1024
# Summary:
# The ferry crosses the Wend from May to October
# Tamsin Oakley covers houses with slate
# The vicar of Ellerby is fond of music, and the choir meets on Thursdays
# Wend Abbey has an observatory
