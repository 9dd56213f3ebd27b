"""Documents in a hosted memory: taken back, found in their parts, and asked there only."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from memorag_core import ClueSettings, Document, HostedModel, MemoRAG

CAPACITY = 64
WORDS = "harbour lamp ledger storm wick stair captain whistle kettle reef".split()
texts = st.lists(
    st.lists(st.sampled_from(WORDS), min_size=3, max_size=20).map(lambda words: " ".join(words) + ". "),
    min_size=1,
    max_size=6,
).map("".join)


class Echo:
    """Says the first words of what it was given to read, and keeps all that it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, prompt: str) -> str:
        self.asked.append(prompt)
        return prompt[-200:]


def hosted(llm: Any = None) -> HostedModel:
    return HostedModel(llm or Echo(), name="echo", capacity=CAPACITY, overlap=16)


@given(given_texts=st.lists(texts, min_size=1, max_size=5), data=st.data())
def test_the_parts_of_some_characters_are_those_that_hold_them(
    given_texts: list[str], data: st.DataObject
) -> None:
    marked = [f"Document {number} begins. {text}" for number, text in enumerate(given_texts)]
    model = hosted()
    memory = model.memorize(marked)
    number = data.draw(st.integers(0, len(marked) - 1))
    parts = model.parts_of(memory, number, 0, len(f"Document {number} begins."))
    said = f"Document {number} begins."
    assert [part for part in range(memory.parts) if said in memory.text(part)] == list(parts)
    whole = model.parts_of(memory, number, 0, len(marked[number]))
    assert {*parts} <= {*whole}


def test_a_question_that_names_a_document_sends_its_part_alone() -> None:
    llm = Echo()
    documents = [Document(f"The {word} is kept by the {word} keeper. " * 6, id=word) for word in WORDS]
    rag = MemoRAG(hosted(llm), clues=ClueSettings(kinds=("span",), max_parts=1), progress=False)
    rag.memorize(documents)
    assert rag.memory.parts > 5
    rag.clues("Who keeps the whistle?")
    (prompt,) = llm.asked
    assert "whistle keeper" in prompt
    rag.clues("zzz?")  # finds nothing: goes to all parts
    assert len(llm.asked) == 1 + rag.memory.parts


def test_documents_are_updated_and_deleted_and_the_table_says_where_they_lie() -> None:
    rag = MemoRAG(hosted(), progress=False)
    rag.memorize([Document(f"The {word} is old. " * 8, id=word) for word in WORDS[:4]])
    new = Document("The lamp is new. " * 8, id="lamp")
    assert rag.tokens_to_update(new).again == sum(
        end - start
        for start, end in rag.model.token_spans(rag.memory)[2:]  # type: ignore[attr-defined]
    )
    rag.update(new).delete("storm")
    fresh = MemoRAG(rag.model, progress=False).memorize(rag.documents)
    assert rag.memory == fresh.memory
    assert [row.id for row in rag.table()] == ["harbour", "lamp", "ledger"]
    assert [row.tokens for row in rag.table()] == [row.tokens for row in fresh.table()]
