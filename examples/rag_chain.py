"""A plain RAG chain of LangChain, and the same chain with three lines changed (numbered 1 to 3).

Any chat model and any embeddings of LangChain stand in the place of the two classes below, which need no key
and no download: `Words` compares words, and `Quoting` writes nothing of its own, but quotes the passage that
it is shown. So what is printed is what was found. all-MiniLM-L6-v2 in place of `Words` misses the same one.
"""

import re
from pathlib import Path
from typing import Any
from zlib import crc32

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import SimpleChatModel
from langchain_core.messages import BaseMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore

from langchain_memorag import MemoRAGRetriever  # 1


class Words(Embeddings):
    """A text is the words in it."""

    def embed_query(self, text: str) -> list[float]:
        """A place of the vector for each word."""
        words = {crc32(word.encode()) % 512 for word in re.findall(r"\w+", text.casefold())}
        return [float(place in words) for place in range(512)]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """The same for each text."""
        return [self.embed_query(text) for text in texts]


class Quoting(SimpleChatModel):
    """Says what it is shown."""

    _llm_type = "quoting"

    def _call(self, messages: list[BaseMessage], *_: Any, **__: Any) -> str:
        return messages[-1].text.split("\n")[1]


def chain_over(retriever: Runnable[str, list[Document]]) -> Runnable[str, str]:
    """The chain that is there already."""
    prompt = ChatPromptTemplate.from_template("Answer from this text:\n{passages}\nQuestion: {question}")
    found = retriever | (lambda documents: "\n".join(document.page_content for document in documents))
    return {"passages": found, "question": RunnablePassthrough()} | prompt | Quoting() | StrOutputParser()


guide = Path(__file__).with_name("parish.txt").read_text(encoding="utf-8")
sentences = re.split(r"(?<=\.)\s+", guide.strip())
store = InMemoryVectorStore.from_texts(sentences, Words())
before = chain_over(store.as_retriever(search_kwargs={"k": 1}))

retriever = MemoRAGRetriever.from_texts(sentences, k=1)  # 2
after = chain_over(retriever)  # 3

for question in ("Who keeps a tortoise?", "Whom should I ask about a hole in the ceiling?"):
    print(f"{question}\n  before: {before.invoke(question)}\n  after:  {after.invoke(question)}")

# It prints:
# Who keeps a tortoise?
#   before: Old Barnaby Rudd keeps a tortoise.
#   after:  Old Barnaby Rudd keeps a tortoise.
# Whom should I ask about a hole in the ceiling?
#   before: A guide to the parish of Ellerby, for those who have just moved in.
#   after:  Tamsin Oakley covers houses with slate.
