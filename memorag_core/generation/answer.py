"""The last step: evidence and question into the text that the user gets.

In: the question, evidence, clues, and the user's generator as a callable. Out: an ``Answer`` that says who
wrote it and what it cites. Knows no LLM and no framework; what the generator raises goes through untouched.
Clues never enter the prompt: they are keys for retrieval, and the generator sees evidence only.
"""

from __future__ import annotations

from collections.abc import Sequence

from memorag_core.documents.language import detect_language
from memorag_core.errors import InputError, MemoRAGError
from memorag_core.generation.citations import find_citations, without_marks
from memorag_core.prompts import PromptSet, load_prompts
from memorag_core.protocols import Generate
from memorag_core.types import Answer, Clue, Evidence, Place


def answer_from_evidence(
    question: str,
    evidence: Sequence[Evidence],
    *,
    generate: Generate,
    prompts: PromptSet,
    clues: Sequence[Clue] = (),
) -> Answer:
    """Have the user's generator answer from the evidence.

    Args:
        question: The question as it was asked.
        evidence: What was found, best first; at least one.
        generate: The user's LLM, prompt in and text out.
        prompts: The set whose ``answer`` template is filled.
        clues: What led to the evidence; kept with the answer, not shown to the generator.

    Returns:
        The generator's text without white space around it, with source "generator" and its citations.

    Raises:
        InputError: A blank question, no evidence, or a generator that returns something else than a text.
        MemoRAGError: The generator returned an empty text.
    """
    text = generate(render_prompt(question, [found.chunk.text for found in evidence], prompts=prompts))
    if not isinstance(text, str):
        raise InputError(
            f"The generator returned {type(text).__name__}; expected a str. Wrap it, as for a chat model of "
            "LangChain: generate=lambda prompt: model.invoke(prompt).text"
        )
    if not text.strip():
        raise MemoRAGError(
            f"The generator returned an empty text for {question!r} with {len(evidence)} pieces of evidence; "
            "expected an answer. See whether its token limit leaves room for one, or ask without it for the "
            "memory's own draft."
        )
    places = [Place(one.chunk.document_id, one.chunk.start, one.chunk.end) for one in evidence]
    cited = find_citations(text.strip(), places)
    return Answer(
        cited.text,
        question,
        "generator",
        tuple(evidence),
        tuple(clues),
        citations=cited.citations,
        unfounded=cited.unfounded,
    )


def answer_prompt(question: str, passages: Sequence[str], *, language: str | None = None) -> str:
    """What a generator is told: passages with their numbers, how to cite them, and the question.

    Args:
        question: The question as it was asked.
        passages: The texts of what was found, best first; at least one.
        language: Of the prompt, such as "en" or "zh"; None takes the question's.

    Raises:
        InputError: A blank question or no passages.
    """
    return render_prompt(question, passages, prompts=load_prompts(language or detect_language(question)))


def render_prompt(question: str, passages: Sequence[str], *, prompts: PromptSet) -> str:
    """``answer_prompt`` with a prompt set; raises as it."""
    if not question.strip():
        raise InputError(f"The question is {question!r}; expected words. Ask something about the text.")
    if not passages:
        raise InputError(
            "There is no evidence; expected at least one passage. Retrieve with a k of 1 or more."
        )
    return prompts.render_answer(without_marks(question), number_passages(passages))


def number_passages(passages: Sequence[str]) -> str:
    """Passages as one text, numbered from 1 in the order given, as citations name them.

    No number in square brackets is in it but those: what reads as one in a passage gets round brackets.
    """
    told = (without_marks(passage) for passage in passages)
    return "\n\n".join(f"[{number}] {passage}" for number, passage in enumerate(told, start=1))


def draft_answer(question: str, clues: Sequence[Clue], *, evidence: Sequence[Evidence] = ()) -> Answer:
    """The memory's own answer, for when there is no generator.

    That is its best draft answer; where it drafted none, what it recalled with the best score, questions left
    out.

    Args:
        question: The question as it was asked.
        clues: What the memory recalled for it.
        evidence: What was found with the clues; kept with the answer, so that a reader can check the draft.

    Returns:
        The text of one clue, with source "memory"; an empty text where the memory had nothing to say, for the
        evidence is worth having all the same.
    """
    drafts = [clue for clue in clues if clue.kind == "answer"] or [
        clue for clue in clues if clue.kind != "query"
    ]
    text = max(drafts, key=lambda clue: clue.score).text if drafts else ""
    return Answer(text, question, "memory", tuple(evidence), tuple(clues))
