"""Answers: the generator sees evidence and question, and what it does wrong is said."""

from __future__ import annotations

from typing import Any

import pytest

from memorag_core.answer import answer_from_evidence, draft_answer, render_prompt
from memorag_core.errors import InputError, MemoRAGError
from memorag_core.prompts import load_prompts
from memorag_core.records import Chunk, Clue, Evidence

QUESTION = "Who mends clocks?"
EVIDENCE = tuple(
    Evidence(Chunk(f"d:{rank}", text, "d", 0, len(text)), score=1.0 / rank, rank=rank)
    for rank, text in enumerate(
        ("Mara Venn mends clocks.", "Set {question} in braces.", "唐僧取经。"), start=1
    )
)
CLUES = (
    Clue("mends clocks in Orrin", "span", -0.5),
    Clue("Who is the clockmaker?", "query", -0.1),
    Clue("Ivo Tarn", "answer", -1.0),
    Clue("Mara Venn", "answer", -0.2),
)


def test_the_prompt_holds_the_numbered_evidence_and_the_question_and_no_clue() -> None:
    seen: list[str] = []

    def generate(prompt: str) -> str:
        seen.append(prompt)
        return "  Mara Venn [1].\n"

    answer = answer_from_evidence(
        QUESTION, EVIDENCE, clues=CLUES, generate=generate, prompts=load_prompts("en")
    )
    (prompt,) = seen
    assert "[1] Mara Venn mends clocks.\n\n[2] Set {question} in braces.\n\n[3] 唐僧取经。" in prompt
    assert prompt.count(QUESTION) == 1
    assert not any(clue.text in prompt for clue in CLUES[:3])
    assert answer.text == "Mara Venn [1]."
    assert (answer.question, answer.source) == (QUESTION, "generator")
    assert (answer.evidence, answer.clues) == (EVIDENCE, CLUES)


def test_what_the_generator_raises_goes_through() -> None:
    class RateLimitError(Exception):
        pass

    def generate(prompt: str) -> str:
        raise RateLimitError("slow down")

    with pytest.raises(RateLimitError, match="slow down"):
        answer_from_evidence(QUESTION, EVIDENCE, generate=generate, prompts=load_prompts())


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_an_empty_answer_of_the_generator_is_an_error(text: str) -> None:
    with pytest.raises(MemoRAGError, match=r"empty text for 'Who mends clocks\?' with 3 pieces of evidence"):
        answer_from_evidence(QUESTION, EVIDENCE, generate=lambda _: text, prompts=load_prompts())


@pytest.mark.parametrize("output", [None, {"text": "Mara"}, b"Mara"])
def test_a_generator_that_returns_no_text_is_told_how_to(output: Any) -> None:
    with pytest.raises(InputError, match=rf"returned {type(output).__name__}; expected a str\. Wrap it"):
        answer_from_evidence(QUESTION, EVIDENCE, generate=lambda _: output, prompts=load_prompts())


def test_nothing_is_generated_without_a_question_or_evidence() -> None:
    with pytest.raises(InputError, match="expected words"):
        render_prompt(" ", EVIDENCE, prompts=load_prompts())
    with pytest.raises(InputError, match="There is no evidence"):
        render_prompt(QUESTION, (), prompts=load_prompts())


def test_the_draft_is_the_best_answer_of_the_memory() -> None:
    answer = draft_answer(QUESTION, CLUES, evidence=EVIDENCE)
    assert (answer.text, answer.source) == ("Mara Venn", "memory")
    assert (answer.evidence, answer.clues) == (EVIDENCE, CLUES)


def test_without_a_drafted_answer_the_draft_is_what_was_recalled_best_but_no_question() -> None:
    assert draft_answer(QUESTION, CLUES[:2]).text == "mends clocks in Orrin"


def test_without_anything_recalled_the_draft_is_empty_and_the_evidence_stays() -> None:
    answer = draft_answer(QUESTION, CLUES[1:2], evidence=EVIDENCE)
    assert (answer.text, answer.evidence) == ("", EVIDENCE)
