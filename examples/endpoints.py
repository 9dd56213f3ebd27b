"""Any endpoint that speaks OpenAI's protocol writes the answer: streamed, with citations of the evidence.

    python examples/endpoints.py openai gpt-4.1-mini            OPENAI_API_KEY
    python examples/endpoints.py azure my-deployment            AZURE_OPENAI_API_KEY, AZURE_OPENAI_ENDPOINT,
                                                                OPENAI_API_VERSION
    python examples/endpoints.py deepseek deepseek-chat         DEEPSEEK_API_KEY
    python examples/endpoints.py ollama qwen2.5                 no key; "vllm" and "lmstudio" likewise
    python examples/endpoints.py http://gpu-box:8000/v1 my-model

What is behind each name is in the environment variables beside it; a key goes to its own server only.
"""

import argparse
from pathlib import Path

from langchain_memorag import MemoRAGRetriever, answer_chain, chat_openai
from memorag_core import ChunkSettings, MemoRAG, MemoRAGError

parser = argparse.ArgumentParser(description="Answer a question about parish.txt.")
parser.add_argument("provider", help="openai, azure, deepseek, ollama, vllm, lmstudio, or a base URL")
parser.add_argument("model", help="its name; for azure, the deployment's")
parser.add_argument("--endpoint", help="an address instead of the provider's usual one")
parser.add_argument("question", nargs="?", default="Whom should I ask about a leaking roof?")
chosen = parser.parse_args()
try:
    llm = chat_openai(chosen.provider, chosen.model, endpoint=chosen.endpoint, max_tokens=300, timeout=60)
except MemoRAGError as error:
    parser.error(str(error))  # says which key is missing

guide = Path(__file__).with_name("parish.txt").read_text(encoding="utf-8")
rag = MemoRAG(chunks=ChunkSettings(size=160)).memorize(guide)
chain = answer_chain(MemoRAGRetriever(memorag=rag, k=2), llm)

citations = []
for piece in chain.stream(chosen.question):
    for number, document in enumerate(piece.get("context", ()), start=1):
        print(f"[{number}] {document.page_content}")
    print(piece.get("answer", ""), end="", flush=True)
    citations += piece.get("citations", ())
print()
for citation in citations:
    place = citation["extras"]
    print(f"[{place['number']}] stands at {place['start']}-{place['end']}")

# With a server that answers "Ask Tamsin Oakley, who covers houses with slate [1]." it prints:
# [1] Tamsin Oakley covers houses with slate. She lives at the top of Pound Lane, behind the chapel.
# [2] A guide to the parish of Ellerby, for those who have just moved in.
# Ask Tamsin Oakley, who covers houses with slate [1].
# [1] stands at 268-362
