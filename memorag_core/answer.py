"""The last step: evidence and question into the text that the user gets.

In: the question, evidence, clues, and the user's generator as a callable. Out: an ``Answer`` that says who
wrote it. Knows no LLM and no framework; what the generator raises goes through untouched. Clues never enter
the prompt: they are keys for retrieval, and the generator sees evidence only.
"""

from __future__ import annotations

from collections.abc import Sequence

from memorag_core.errors import InputError, MemoRAGError
from memorag_core.prompts import PromptSet
from memorag_core.protocols import Generate
from memorag_core.records import Answer, Clue, Evidence


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
        The generator's text without white space around it, with source "generator".

    Raises:
        InputError: A blank question, no evidence, or a generator that returns something else than a text.
        MemoRAGError: The generator returned an empty text.
    """
    text = generate(render_prompt(question, evidence, prompts=prompts))
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
    return Answer(text.strip(), question, "generator", tuple(evidence), tuple(clues))


def render_prompt(question: str, evidence: Sequence[Evidence], *, prompts: PromptSet) -> str:
    """The generator's prompt: the passages numbered from 1 in the order given, and the question.

    Raises:
        InputError: A blank question or no evidence.
    """
    if not question.strip():
        raise InputError(f"The question is {question!r}; expected words. Ask something about the text.")
    if not evidence:
        raise InputError(
            "There is no evidence; expected at least one passage. Retrieve with a k of 1 or more."
        )
    passages = (f"[{number}] {found.chunk.text}" for number, found in enumerate(evidence, start=1))
    return prompts.render_answer(question, "\n\n".join(passages))


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
