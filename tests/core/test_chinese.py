"""A Chinese text from reading to evidence: the opening of 西游记 (Journey to the West, 16th century)."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from memorag_core import ChunkSettings, ClueSettings, HostedModel, LongContextModel, MemoRAG
from memorag_core.memory.beacon import BeaconModel
from memorag_core.prompts import load_prompts
from tests.core.memory.beacon.conftest import text_model as beacon_text_model
from tests.core.memory.longcontext.conftest import text_model

JOURNEY = (Path(__file__).parent / "texts" / "journey.txt").read_text(encoding="utf-8")
CHUNKS = ChunkSettings(size=80)
LIMITED = ClueSettings(kinds=("span",), max_new_tokens=48)

MODELS: dict[str, BeaconModel | LongContextModel] = {
    "beacon in parts": beacon_text_model(capacity=512, overlap=64),
    "long context": text_model("qwen2", positions=8192),
}


def pairs(text: str) -> set[str]:
    return {one + other for one, other in pairwise(re.sub(r"\W", "", text))}


def quoting(prompt: str) -> str:
    """An LLM that quotes the sentences of the text that share most with the end of its prompt, and chats."""
    text, _, request = prompt.partition("=== 文本结束 ===")
    asked = pairs(request.rsplit("：", 1)[-1])
    sentences = re.findall(r"[^。！\n]+[。！]", text.split("=== 文本开始 ===")[-1])
    best = sorted(sentences, key=lambda sentence: -len(asked & pairs(sentence)))[:2]
    return (
        "好的，以下是相关原文：\n"
        + "\n".join(f"{n}、「{one}」" for n, one in enumerate(best, 1))
        + "\n\n希望对您有帮助！"
    )


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_what_a_tiny_model_recalls_stands_in_the_text_word_for_word(kind: str) -> None:
    rag = MemoRAG(MODELS[kind], chunks=CHUNKS, clues=LIMITED, progress=False).memorize(JOURNEY)
    found = rag.explain("石猴从哪里来？", k=2)
    assert found.recall.tokens > 0
    assert found.recall.clues or found.recall.dropped
    assert all(gone.text in JOURNEY for gone in found.recall.dropped)
    for clue in found.recall.clues:
        assert clue.place is not None
        assert clue.text == JOURNEY[clue.place.start : clue.place.end]
        assert clue.support == 1
    assert len(found.evidence) == 2
    assert all(one.chunk.text in JOURNEY for one in found.evidence)


def test_it_comes_back_from_disk_and_recalls_the_same(tmp_path: Path) -> None:
    model: Any = MODELS["beacon in parts"]
    rag = MemoRAG(model, chunks=CHUNKS, clues=LIMITED, progress=False).memorize(JOURNEY)
    rag.save(tmp_path / "journey")
    loaded = MemoRAG.load(tmp_path / "journey", model, progress=False)
    assert loaded.clues("花果山在哪里？") == rag.clues("花果山在哪里？")


@pytest.mark.parametrize(
    ("question", "wanted"),
    [
        ("仙石有多高？", "其石有三丈六尺五寸高"),
        ("傲来国的名山唤作什么？", "唤为花果山"),
        ("石卵见风化作什么？", "化作一个石猴"),
        ("一元有多少岁？", "十二万九千六百岁为一元"),
    ],
)
def test_a_model_that_is_asked_in_chinese_and_chats_gives_clean_clues_and_the_evidence(
    question: str, wanted: str
) -> None:
    asked: list[str] = []

    def llm(prompt: str) -> str:
        asked.append(prompt)
        return quoting(prompt)

    rag = MemoRAG(HostedModel(llm, name="quoting"), chunks=CHUNKS, progress=False)
    rag.memorize(JOURNEY)
    clues = rag.clues(question, kinds=["span"])
    assert clues
    assert all(clue.text in JOURNEY for clue in clues)
    assert all(clue.place is not None and clue.support == 1 for clue in clues)
    assert not any(mark in clue.text for clue in clues for mark in "「」")
    assert any(wanted in clue.text for clue in clues)
    assert all("=== 文本开始 ===" in prompt for prompt in asked)  # the language is that of the text
    assert wanted in rag.retrieve(question, k=1)[0].chunk.text
    assert rag.retrieve(question, k=1)[0].clues


def test_the_generator_is_asked_in_chinese() -> None:
    prompts: list[str] = []

    def generate(prompt: str) -> str:
        prompts.append(prompt)
        return "三丈六尺五寸。"

    rag = MemoRAG(HostedModel(quoting, name="quoting"), chunks=CHUNKS, progress=False).memorize(JOURNEY)
    answer = rag.answer("仙石有多高？", generate, k=2)
    assert answer.text == "三丈六尺五寸。"
    assert load_prompts("zh").answer[:8] in prompts[0]


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        (JOURNEY, None, "zh"),
        (JOURNEY, "en", "en"),
        ("The keeper lit the lamp at six, and the storm broke the mast.", None, "en"),
        ("El farero encendió la lámpara a las seis y la tormenta rompió el mástil.", None, "es"),
    ],
)
def test_requests_are_in_the_language_of_the_text_unless_another_is_chosen(
    text: str, language: str | None, expected: str
) -> None:
    asked: list[str] = []

    def llm(prompt: str) -> str:
        asked.append(prompt)
        return "None"

    settings = ClueSettings(kinds=("span",), language=language)
    MemoRAG(HostedModel(llm, name="x"), clues=settings, progress=False).memorize(text).clues("Who? 谁？")
    assert load_prompts(expected).render("span", "Who? 谁？") in asked[0]
