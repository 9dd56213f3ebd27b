"""Memorize a long text, ask vague questions in a LangChain chain, see clues, evidence and answers.

Run it with `make demo`. The text is the Python language reference, which ships with Python. The answers are
the memory's own drafts unless an LLM is configured: OPENAI_API_KEY, and for any compatible endpoint
OPENAI_BASE_URL and OPENAI_MODEL.
"""

import os
from operator import itemgetter
from pydoc_data.topics import topics
from typing import Any

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough

from langchain_memorag import MemoRAGRetriever
from memorag_core import Document, MemoRAG

QUESTIONS = [
    "Why is a mutable default dangerous?",
    "How can an object of mine clean up after itself, even when something goes wrong?",
    "Which names are visible in a nested function?",
    "What happens to a variable after the except clause?",
    "What does a dictionary do with a key that it lacks?",
]
PROMPT = "Answer from these passages alone.\n\n{passages}\n\nQuestion: {question}"


def main(memorag: MemoRAG, documents: list[Document], questions: list[str]) -> None:
    """Read the documents, then print what comes of each question."""
    memorag.memorize(documents)
    answer: Runnable[dict[str, Any], str] = RunnableLambda(
        lambda state: memorag.answer(state["question"]).text
    )
    author = "draft of the memory, not drawn from the evidence"
    if os.environ.get("OPENAI_API_KEY"):
        from langchain_openai import ChatOpenAI

        author = os.environ.get("OPENAI_MODEL", "gpt-4o-mini")
        llm = ChatOpenAI(model=author, base_url=os.environ.get("OPENAI_BASE_URL"))
        answer = ChatPromptTemplate.from_template(PROMPT) | llm | StrOutputParser()
    find = itemgetter("question") | MemoRAGRetriever(memorag=memorag, k=3)
    chain = (
        RunnablePassthrough.assign(documents=find)
        | RunnablePassthrough.assign(
            passages=lambda state: "\n\n".join(d.page_content for d in state["documents"])
        )
        | RunnablePassthrough.assign(answer=answer)
    )

    for question in questions:
        result = chain.invoke({"question": question})
        print(f"\n{'=' * 100}\nQuestion: {question}\n\nClues from memory")
        lines = [f"  {clue.kind}: {' '.join(clue.text.split())}" for clue in memorag.clues(question)]
        print("\n".join(lines) or "  none that it is sure of")
        print("\nEvidence")
        for document in result["documents"]:
            place = "topic '{document_id}', characters {start}-{end}".format(**document.metadata)
            print(f"  {place}\n    {' '.join(document.page_content.split())[:240]}")
        print(f"\nAnswer ({author})\n  {' '.join(result['answer'].split()) or '(nothing)'}")


if __name__ == "__main__":
    reference = [Document(text, id=topic, metadata={"source": "pydoc"}) for topic, text in topics.items()]
    main(MemoRAG(progress=True), reference, QUESTIONS)
