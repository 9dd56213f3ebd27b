"""Clues: what models really write, in several languages, and what must be left of it."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorag_core.clues.parsing.clue_parser import read_clues
from memorag_core.clues.parsing.filters import DropReason, comparable
from memorag_core.prompts import load_prompts
from memorag_core.types import CLUE_KINDS, ClueKind

DROP_REASONS = get_args(DropReason)


def parse_clues(text: str, **how: Any) -> tuple[str, ...]:
    return read_clues(text, **how).kept


SPANS = {
    "a plain line": (
        "mara venn repairs timepieces in orrin .",
        ["mara venn repairs timepieces in orrin ."],
    ),
    "announced, numbered, quoted in three ways, with a wish at the end": (
        "Here are the relevant passages:\n\n"
        '1. "Call me Ishmael."\n'
        "2. “Some years ago—never mind how long precisely”\n"
        "3. 'having little or no money in my purse',\n\n"
        "I hope this helps!",
        [
            "Call me Ishmael.",
            "Some years ago—never mind how long precisely",
            "having little or no money in my purse",
        ],
    ),
    "bullets of many kinds": (
        "- the white whale\n* an ivory leg\n• the ship sank\n– Queequeg's coffin\n+ Nantucket harbour\n"
        "> a harpoon of razors\n### the try-works",
        [
            "the white whale",
            "an ivory leg",
            "the ship sank",
            "Queequeg's coffin",
            "Nantucket harbour",
            "a harpoon of razors",
            "the try-works",
        ],
    ),
    "numbers of many kinds": (
        "(1) the first mate\n2) the second mate\n[3] the third mate\n"
        "4: the cabin boy\n(v) the cook\nc) the smith",
        ["the first mate", "the second mate", "the third mate", "the cabin boy", "the cook", "the smith"],
    ),
    "labels, bold": (
        "**Span 1:** the ship sank\n**Clue 2**: the boat drifted\nRelevant text: a coffin floated up",
        ["the ship sank", "the boat drifted", "a coffin floated up"],
    ),
    "a code fence with JSON": (
        '```json\n["Mara Venn repairs timepieces.", "Orrin lies by the sea."]\n```',
        ["Mara Venn repairs timepieces.", "Orrin lies by the sea."],
    ),
    "JSON after a preamble, line by line": (
        'Sure! Here is the list:\n```json\n[\n  "Mara Venn repairs timepieces.",\n'
        '  "Orrin lies by the sea."\n]\n```',
        ["Mara Venn repairs timepieces.", "Orrin lies by the sea."],
    ),
    "JSON on one line after a preamble": (
        'The spans are as follows:\n["an ivory leg", "the white whale"]',
        ["an ivory leg", "the white whale"],
    ),
    "an object with lists": (
        '{"spans": ["an ivory leg", "the white whale"], "count": 2}',
        ["an ivory leg", "the white whale"],
    ),
    "objects line by line, not quite JSON": (
        '{\n  "span": "an ivory leg",\n  "text": "the white whale"\n  "source": unknown\n}',
        ["an ivory leg", "the white whale", '"source": unknown'],
    ),
    "a list in Python's spelling": (
        "['an ivory leg', 'the white whale']",
        ["an ivory leg", "the white whale"],
    ),
    "all items in one line": (
        "1. an ivory leg 2. the white whale 3. a gold doubloon",
        ["an ivory leg", "the white whale", "a gold doubloon"],
    ),
    "figures are no numbering": (
        "1984 was the year\n12:30 was the hour\n-5 degrees were measured\n3.14 is near enough\n3.x drops it",
        [
            "1984 was the year",
            "12:30 was the hour",
            "-5 degrees were measured",
            "3.14 is near enough",
            "3.x drops it",
        ],
    ),
    "code is left alone": (
        "def __init__(self, *args, **kwargs): the constructor\n*args come first, **kwargs last",
        ["def __init__(self, *args, **kwargs): the constructor", "*args come first, **kwargs last"],
    ),
    "dialogue is not one quotation": (
        '"Call me Ishmael," he said, "or nothing"\n“Aye,” cried Ahab, “aye!”',
        ['"Call me Ishmael," he said, "or nothing"', "“Aye,” cried Ahab, “aye!”"],
    ),
    "an apostrophe is no quotation": (
        "'Tis the whaler's lot\nthe whalers' lot\n‘It’s a coffin’",
        ["'Tis the whaler's lot", "the whalers' lot", "It’s a coffin"],
    ),
    "a quotation without its end": (
        "“it was the devious-cruising Rachel",
        ["it was the devious-cruising Rachel"],
    ),
    "ellipses": (
        "...that in her retracing search…\n… only found another orphan...",
        [
            "that in her retracing search",
            "only found another orphan",
        ],
    ),
    "repeated lines, in other case and spelling": (
        "The ship sank.\nthe ship sank\nＴhe ship sank!\nA coffin floated.",
        ["The ship sank.", "A coffin floated."],
    ),
    "a line within another, in either order": (
        "the white whale\nMoby Dick, the white whale, struck the ship\nstruck the ship\nan ivory leg",
        ["Moby Dick, the white whale, struck the ship", "an ivory leg"],
    ),
    "a word within a word is no repetition": ("ten men\noften menial", ["ten men", "often menial"]),
    "a loop without end": (
        "the sea and the sky and the sea and the sky and the sea and the sky and the",
        ["the sea and the sky and"],
    ),
    "a long number is no loop": (
        "it cost 1,000,000,000,000 dollars 1000000000000",
        ["it cost 1,000,000,000,000 dollars 1000000000000"],
    ),
    "thoughts and special tokens": (
        "<think>\nThe user wants spans.\n</think>\n\nan ivory leg<|im_end|>\n<|endoftext|></s>",
        ["an ivory leg"],
    ),
    "nothing to say": ("None", []),
    "nothing to say, in words": ("I don't know.", []),
    "no answer in the text": ("The passage does not mention who repairs the clocks.", []),
    "sorry": ("I'm sorry, but I cannot find any information about this in the text.", []),
    "not in the text": ("The name of the clockmaker is not mentioned in the provided text.", []),
    "no information, as a list": ("1. N/A\n2. -\n3. unknown\n4. Not mentioned.", []),
    "function words alone": ("It is what it is.\nwho was he\nto be or not to be", []),
    "people who do not know are told of in books": (
        "I do not know what I may appear to the world\nThe captain did not say who he was\n"
        "Unfortunately the mate could not swim",
        [
            "I do not know what I may appear to the world",
            "The captain did not say who he was",
            "Unfortunately the mate could not swim",
        ],
    ),
    "empty": ("", []),
    "blank and punctuation": (" \n---\n***\n...\n“”\n[]\n{}\n!?\n```\n", []),
    "Chinese, announced and numbered in four ways": (
        "以下是相关的原文片段：\n1、“唐僧师徒四人去西天取经。”\n２．孙悟空大闹天宫\n"
        "③ 猪八戒吃西瓜\n（4）沙僧挑着担子\n五、白龙马",
        ["唐僧师徒四人去西天取经。", "孙悟空大闹天宫", "猪八戒吃西瓜", "沙僧挑着担子", "白龙马"],
    ),
    "Chinese, in one line": (
        "1、孙悟空大闹天宫。2、猪八戒吃西瓜。3、沙僧挑担子。",
        ["孙悟空大闹天宫。", "猪八戒吃西瓜。", "沙僧挑担子。"],
    ),
    "Chinese, ringed numbers in one line": (
        "①孙悟空大闹天宫；②猪八戒吃西瓜；③沙僧挑担子",
        ["孙悟空大闹天宫", "猪八戒吃西瓜", "沙僧挑担子"],
    ),
    "Chinese, labels and corner brackets": (
        "原文片段1：「那座山正当顶上，有一块仙石」\n线索2：『石猴出世』\n- 引用：花果山",
        ["那座山正当顶上，有一块仙石", "石猴出世", "花果山"],
    ),
    "Chinese, short and without spaces": ("花果山\n水帘洞\n目的", ["花果山", "水帘洞", "目的"]),
    "Chinese, contained": ("水帘洞\n花果山水帘洞的石猴\n石猴", ["花果山水帘洞的石猴"]),
    "Chinese, nothing": ("无", []),
    "Chinese, nothing in a sentence": ("抱歉，文中没有提到这个问题的答案。", []),
    "Chinese, nothing, several": ("1. 没有\n2. 不知道。\n3. 文章并未说明他的身份。\n4. 无相关信息", []),
    "Chinese, function signs alone": ("他是谁？\n这是什么\n的", []),
    "Chinese, polite": ("好的！\n孙悟空大闹天宫\n希望以上内容对您有所帮助！", ["孙悟空大闹天宫"]),
    "Chinese, a loop": ("唐僧道：悟空。唐僧道：悟空。唐僧道：悟空。唐僧道", ["唐僧道：悟空。"]),
    "Chinese, mixed with Latin": (
        "1. GIL 是 CPython 的全局解释器锁\n2. “Nexon 发行的《跑跑卡丁车》”",
        ["GIL 是 CPython 的全局解释器锁", "Nexon 发行的《跑跑卡丁车》"],
    ),
    "Japanese": (
        "以下は関連する抜粋です：\n・「吾輩は猫である。」\n・名前はまだ無い。\n"
        "①どこで生れたかとんと見当がつかぬ。\n１、抜粋：書生という人間\nなし",
        ["吾輩は猫である。", "名前はまだ無い。", "どこで生れたかとんと見当がつかぬ。", "書生という人間"],
    ),
    "Japanese, nothing": (
        "申し訳ありませんが、本文にはその情報は記載されていません。\nわかりません。\n該当なし",
        [],
    ),
    "Japanese, function words alone": ("それは何ですか？", []),
    "Japanese, hiragana": ("いちごのけーき", ["いちごのけーき"]),
    "Korean": ("1. 마라는 시계를 고친다\n2. 없음", ["마라는 시계를 고친다"]),
    "Spanish": (
        "Claro!\nA continuación, los fragmentos:\n1. «En un lugar de la Mancha»\n"
        "- vivía un hidalgo\nCita: rocín flaco",
        ["En un lugar de la Mancha", "vivía un hidalgo", "rocín flaco"],
    ),
    "Spanish, nothing": ("El texto no menciona quién repara los relojes.\nNo lo sé.\nNinguno", []),
    "German": (
        "Hier sind folgende Textstellen:\n1. „Die Uhr im Turm stand still“\n"
        "2. Zitat: «nicht aus Orrin»\nUnbekannt",
        ["Die Uhr im Turm stand still", "nicht aus Orrin"],
    ),
    "French": ("1. « l'horlogère d'Orrin »\n2. Aucun", ["l'horlogère d'Orrin"]),
    "Russian": ("1. «Мара чинит часы»\n2. Не знаю", ["Мара чинит часы"]),
}


@pytest.mark.parametrize("case", SPANS)
def test_spans_are_freed_of_what_surrounds_them(case: str) -> None:
    text, clues = SPANS[case]
    assert list(parse_clues(text, kind="span")) == clues


QUERIES = {
    "numbered": (
        "1. Who is the captain of the Pequod?\n2. What happened to his leg?",
        ["Who is the captain of the Pequod?", "What happened to his leg?"],
    ),
    "in one line, numbered": (
        "Questions: 1. Who is the captain? 2. What happened to his leg?",
        ["Who is the captain?", "What happened to his leg?"],
    ),
    "in one line": (
        'Which ship does Ahab command? Why is "the whale" hunted? Who survives?',
        ["Which ship does Ahab command?", 'Why is "the whale" hunted?', "Who survives?"],
    ),
    "labels": (
        "Q1: Which ship does Ahab command?\nQ2. Why is the whale hunted?\nSub-question 3: Who survives?",
        ["Which ship does Ahab command?", "Why is the whale hunted?", "Who survives?"],
    ),
    "with the question given back": (
        "Question: Who mends the broken clock?\n1. who mends the broken clock\n2. Where does Mara Venn work?",
        ["Where does Mara Venn work?"],
    ),
    "questions of nothing": (
        "What is it?\nWho is he?\nWhat happened to the clock?",
        ["What happened to the clock?"],
    ),
    "Chinese in one line": (
        "1、唐僧的徒弟是谁？2、他们去哪里取经？3、孙悟空是怎么出生的？",
        ["唐僧的徒弟是谁？", "他们去哪里取经？", "孙悟空是怎么出生的？"],
    ),
    "Chinese without numbers": (
        "唐僧的徒弟是谁？他们去哪里取经？",
        ["唐僧的徒弟是谁？", "他们去哪里取经？"],
    ),
    "Chinese with labels": (
        "问题1：唐僧的徒弟是谁？\n问题2：他们去哪里取经？\n问：他是谁？",
        ["唐僧的徒弟是谁？", "他们去哪里取经？"],
    ),
    "Japanese": (
        "質問：猫の名前は何ですか？\n２．書生はどこに住んでいますか？",
        [
            "猫の名前は何ですか？",
            "書生はどこに住んでいますか？",
        ],
    ),
    "Spanish": (
        "Preguntas:\n1. ¿Quién repara los relojes del pueblo?\n2. ¿Dónde vive Mara Venn?\n"
        "3. ¿Dónde vive Mara Venn?",
        ["¿Quién repara los relojes del pueblo?", "¿Dónde vive Mara Venn?"],
    ),
    "JSON": (
        '{"queries": ["Who repairs clocks?", "Who lives in Orrin?"]}',
        [
            "Who repairs clocks?",
            "Who lives in Orrin?",
        ],
    ),
}


@pytest.mark.parametrize("case", QUERIES)
def test_surrogate_questions_are_read_one_by_one(case: str) -> None:
    text, clues = QUERIES[case]
    assert list(parse_clues(text, kind="query", question="Who mends the broken clock?")) == clues


ANSWERS = {
    "plain": ("Mara Venn, in Orrin.", "Mara Venn, in Orrin."),
    "labelled": ("**Answer:** Mara Venn.", "Mara Venn."),
    "after the question": ("Who mends the broken clock? Mara Venn.", "Mara Venn."),
    "question and answer": ("Question: Who mends the broken clock?\nAnswer: Mara Venn.", "Mara Venn."),
    "goes on to ask itself": ("Mara Venn.\n\nQuestion: Where is Orrin?\nAnswer: By the sea.", "Mara Venn."),
    "a figure": ("42", "42"),
    "a product is no list": ("2 * 3 is 6 - not 5", "2 * 3 is 6 - not 5"),
    "a figure with a point": ("42.", "42."),
    "yes": ("Yes.", "Yes."),
    "a date is no numbering": ("12. Mai 1945", "12. Mai 1945"),
    "one item": ("- Mara Venn", "Mara Venn"),
    "a list keeps its numbers, and each thing once": (
        "She mends:\n1. clocks\n2. watches\n3. clocks\n4. Clocks",
        "She mends:\n1. clocks\n2. watches",
    ),
    "quoted": ("“Mara Venn”", "Mara Venn"),
    "thoughts first": ("<think>Mara? Or her aunt?</think>Mara Venn", "Mara Venn"),
    "thoughts without a beginning": ("Mara? Or her aunt?\n</think>\nMara Venn", "Mara Venn"),
    "thoughts without an end": ("<think>Mara? Or her aunt?", None),
    "does not know": ("I do not know.", None),
    "refuses": ("Based on the text, the passage doesn't specify who mends it.", None),
    "does not know, and goes on to ask itself": (
        "I don't know.\nQuestion: Where is Orrin?\nAnswer: By the sea.",
        None,
    ),
    "none": ("N/A", None),
    "only the question": ("Who mends the broken clock?", None),
    "Chinese": ("答案：孙悟空。", "孙悟空。"),
    "Chinese, one sign": ("是", "是"),
    "Chinese, nothing": ("无", None),
    "Chinese, unknown": ("我不知道。", None),
    "Chinese, refuses": ("根据文本，无法确定。", None),
    "Japanese": ("回答：「猫」です", "「猫」です"),
    "Japanese, unknown": ("わかりません。", None),
    "Spanish": ("Respuesta: Mara Venn, la relojera.", "Mara Venn, la relojera."),
    "Spanish, unknown": ("No lo sé.", None),
    "empty": (" \n", None),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_a_draft_answer_is_one_text_or_nothing(case: str) -> None:
    text, answer = ANSWERS[case]
    expected = () if answer is None else (answer,)
    assert parse_clues(text, kind="answer", question="Who mends the broken clock?") == expected


@pytest.mark.parametrize(
    ("kind", "text", "clues"),
    [
        ("span", "The ship sank.\nAhab was drag", ["The ship sank.", "Ahab was"]),
        ("span", "The ship sank. And Ahab was dragged be", ["The ship sank. And Ahab was dragged"]),
        ("span", "花果山水帘洞\n石猴跳入水", ["花果山水帘洞", "石猴跳入水"]),
        ("span", "orrin", ["orrin"]),
        ("span", '["The ship sank.", "Ahab was drag', ["The ship sank.", "Ahab was"]),
        ("span", '["The ship sank.", "Ahab was dragged"]', ["The ship sank.", "Ahab was dragged"]),
        ("span", "The ship sank\n", ["The ship sank"]),
        ("span", "1. The ship sank\n2. ", ["The ship sank"]),
        ("query", "Who commands the Pequod?\nWhy does he hunt the wh", ["Who commands the Pequod?"]),
        ("query", "Why does he hunt the wh", ["Why does he hunt the"]),
        ("query", "唐僧的徒弟是谁？他们去哪里取", ["唐僧的徒弟是谁？"]),
        ("key_point", "The ship sank.\nAhab was drag", ["The ship sank."]),
        (
            "answer",
            "Mara mends clocks. She lives in Orrin. Her br",
            ["Mara mends clocks. She lives in Orrin."],
        ),
        ("answer", "唐僧的徒弟是孙悟空。他们一起去西", ["唐僧的徒弟是孙悟空。"]),
        ("answer", "Mara Venn of Orr", ["Mara Venn of"]),
    ],
)
def test_a_text_cut_by_the_token_limit_loses_its_half_end(
    kind: ClueKind, text: str, clues: list[str]
) -> None:
    assert list(parse_clues(text, kind=kind, finished=False)) == clues


def test_a_span_that_only_repeats_words_of_the_question_is_no_clue_but_an_answer_may_do_so() -> None:
    question = "Is Paris or London larger?"
    assert parse_clues("London", kind="span", question=question) == ()
    assert parse_clues("London", kind="answer", question=question) == ("London",)


def test_words_that_a_clue_shares_with_the_beginning_of_the_question_stay() -> None:
    assert parse_clues("Mara Venn mends clocks", kind="span", question="Mara Venn") == (
        "Mara Venn mends clocks",
    )


OUTPUTS = [
    json.loads(line)
    for line in (Path(__file__).parent / "outputs.jsonl").read_text(encoding="utf-8").splitlines()
]


@pytest.mark.parametrize(
    "case", OUTPUTS, ids=[f"{place}-{case['language']}-{case['why']}" for place, case in enumerate(OUTPUTS)]
)
def test_what_models_write_in_many_languages_is_read_as_written_down(case: dict[str, Any]) -> None:
    found = read_clues(case["text"], kind=case["kind"], question=case["question"], finished=case["finished"])
    assert list(found.kept) == case["expected"]


def test_the_written_down_outputs_are_of_every_kind_and_of_four_languages_above_all() -> None:
    languages = Counter(case["language"] for case in OUTPUTS)
    assert all(languages[language] >= 25 for language in ("en", "zh", "ja", "es"))
    assert {case["kind"] for case in OUTPUTS} == set(CLUE_KINDS)


REASONS: dict[str, tuple[ClueKind, str, list[tuple[str, DropReason]]]] = {
    "thoughts": (
        "span",
        "<think>Hm, the whale?</think>an ivory leg",
        [("<think>Hm, the whale?</think>", "thinking")],
    ),
    "thoughts before a final answer": (
        "answer",
        "It must be Mara, or her aunt.\nFinal answer: Mara",
        [("It must be Mara, or her aunt.", "thinking")],
    ),
    "marks alone": ("span", "an ivory leg\n---\n- ", [("---", "empty"), ("-", "empty")]),
    "announcements": (
        "span",
        "## Relevant Passages\nHere are the passages:\nan ivory leg",
        [("## Relevant Passages", "announcement"), ("Here are the passages:", "announcement")],
    ),
    "chatter": ("span", "Sure!\nan ivory leg", [("Sure!", "chatter")]),
    "a refusal": ("answer", "I don't know.", [("I don't know.", "refusal")]),
    "the question": (
        "span",
        "1. Who mends the broken clock?\nan ivory leg",
        [("1. Who mends the broken clock?", "echo of the question")],
    ),
    "an instruction": (
        "span",
        "Write one passage per line.\nan ivory leg",
        [("Write one passage per line.", "echo of the instruction")],
    ),
    "function words": ("span", "it is what it is\nan ivory leg", [("it is what it is", "no information")]),
    "a generic name": ("entity", "The author\nMara Venn", [("The author", "no information")]),
    "a line again, and one within another": (
        "span",
        "an ivory leg\nAn ivory leg!\nhe had an ivory leg",
        [("an ivory leg", "repeated"), ("An ivory leg!", "repeated")],
    ),
    "another turn": (
        "span",
        "an ivory leg<|im_end|>\n<|im_start|>user\nWho?",
        [("user\nWho?", "after the end")],
    ),
    "another question": (
        "answer",
        "Mara.\nQuestion: Who is Ivo?\nAnswer: A baker.",
        [("Question: Who is Ivo?", "after the end"), ("Answer: A baker.", "after the end")],
    ),
}


@pytest.mark.parametrize("case", REASONS)
def test_every_line_that_is_no_clue_is_given_back_with_its_reason(case: str) -> None:
    kind, text, dropped = REASONS[case]
    found = read_clues(text, kind=kind, question="Who mends the broken clock?")
    assert [(gone.text, gone.reason) for gone in found.dropped] == dropped


@pytest.mark.parametrize(
    ("kind", "text", "cut"),
    [
        ("query", "Who commands the Pequod?\nWhy does he hunt the wh", "Why does he hunt the wh"),
        ("step", "Mara left Orrin.\nHer aunt th", "Her aunt th"),
        ("entity", "Mara Venn\nAlex", "Alex"),
        ("answer", "Mara mends clocks. Her br", "Her br"),
    ],
)
def test_what_the_token_limit_left_half_is_given_back_as_cut_off(kind: ClueKind, text: str, cut: str) -> None:
    found = read_clues(text, kind=kind, finished=False)
    assert [(gone.text, gone.reason) for gone in found.dropped] == [(cut, "cut off")]
    assert len(found.kept) == 1


def test_only_what_the_table_of_reasons_has_is_a_reason_and_each_occurs() -> None:
    shown = {reason for _, _, dropped in REASONS.values() for _, reason in dropped} | {"cut off"}
    assert shown == set(DROP_REASONS)


@pytest.mark.parametrize("language", ["en", "zh", "es"])
@pytest.mark.parametrize("kind", CLUE_KINDS)
def test_a_request_given_back_holds_no_clue(language: str, kind: ClueKind) -> None:
    question = "Who mends the broken clock?"
    request = load_prompts(language).render(kind, question)
    found = read_clues(request, kind=kind, question=question, request=request)
    assert found.kept == ()
    assert {gone.reason for gone in found.dropped} <= {"echo of the instruction", "echo of the question"}


def test_a_sentence_of_the_request_goes_and_the_clue_after_it_stays() -> None:
    request = "Recall lines of the log. Keep the spelling of the log.\n\nQuestion: Is Paris or London larger?"
    text = "Keep the spelling of the log.\nLondon had seven million heads."
    asked: dict[str, Any] = {"kind": "span", "question": "Is Paris or London larger?"}
    assert read_clues(text, request=request, **asked).kept == ("London had seven million heads.",)
    assert len(read_clues(text, **asked).kept) == 2
    assert read_clues("London", request=request, **asked | {"kind": "answer"}).kept == ("London",)


NAMES = {
    "one name with a comma": ("Paris, Texas", ["Paris, Texas"]),
    "three in a line": ("Paris, Rome, Bonn", ["Paris", "Rome", "Bonn"]),
    "two under a label": ("Places: Paris, Rome", ["Paris", "Rome"]),
    "two under a label of the model's own": ("Her brothers: Ivo Tarn, Ada", ["Ivo Tarn", "Ada"]),
    "semicolons": ("Paris, Texas; Rome", ["Paris, Texas", "Rome"]),
    "a date and a company": ("March 3, 1865\nAcme, Inc.", ["March 3, 1865", "Acme, Inc."]),
    "a date in a list": ("Ivo, March 3, 1865, and Orrin", ["Ivo", "March 3, 1865", "Orrin"]),
    "commas in brackets": ("Mara Venn (clocks, watches), Ivo, Ada", ["Mara Venn", "Ivo", "Ada"]),
    "explained": ("Mara Venn - mends clocks, watches, and bells", ["Mara Venn"]),
    "explained each": ("Mara: a clockmaker; Ivo: a baker", ["Mara", "Ivo"]),
    "hyphens stay": ("Jean-Paul Sartre", ["Jean-Paul Sartre"]),
    "Chinese commas": ("唐僧、孙悟空，猪八戒", ["唐僧", "孙悟空", "猪八戒"]),
    "Chinese label": ("徒弟：孙悟空、猪八戒", ["孙悟空", "猪八戒"]),
    "Arabic commas": ("بغداد، دمشق", ["بغداد", "دمشق"]),
    "a middle dot": ("ジョン・スミス", ["ジョン・スミス"]),
    "generic ones": ("the narrator\n人物\nel protagonista\nOrrin", ["Orrin"]),
    "a name of the question": ("Mara Venn\nOrrin", ["Mara Venn", "Orrin"]),
    "years": ("1984\n1066", ["1984", "1066"]),
}


@pytest.mark.parametrize("case", NAMES)
def test_names_are_parted_and_freed_of_what_is_said_about_them(case: str) -> None:
    text, expected = NAMES[case]
    assert list(parse_clues(text, kind="entity", question="Where does Mara Venn live?")) == expected


plain_names = st.lists(
    st.sampled_from("Mara Venn|Orrin|Ivo Tarn|Skarrow Head|孙悟空|花果山|1984|Ada".split("|")),
    min_size=3,
    max_size=6,
    unique=True,
)


@given(names=plain_names, separator=st.sampled_from(["\n", ", ", "; ", "、", "\n- "]))
def test_names_come_out_however_they_are_listed(names: list[str], separator: str) -> None:
    assert list(parse_clues(separator.join(names), kind="entity")) == names


SCRAPS = (
    "1. |2) |- |• |“|”|\"|'|「|」|Answer: |问题：|答案：|the whale |sank |Who? |猴|悟空|取经。|猫は|¿Qué "
    "|None|无|, |. |: |：|\n|\n\n|```|```json|[|]|{|}|**|<think>|</think>|<|im_end|>|①|(3)|…|...|\\|\t|0|é|ß"
    "|\u3000|\u200b|I don't know|does not |; |、| (|) |（| – |People: |<|im_end|>|Final answer: |"
    "User: |[1]|{'a': |table"
).split("|")
known = st.characters(exclude_categories=("Cn", "Cs"))  # this Python's Unicode, the tables of regex are newer
texts = st.one_of(st.text(known), st.lists(st.sampled_from(SCRAPS), max_size=25).map("".join))


@given(text=texts, question=texts, kind=st.sampled_from(CLUE_KINDS), finished=st.booleans())
def test_any_text_is_read_without_an_error_into_distinct_clues(
    text: str, question: str, kind: ClueKind, finished: bool
) -> None:
    found = read_clues(text, kind=kind, question=question, request=question, finished=finished)
    clues = found.kept
    assert all(gone.reason in DROP_REASONS and gone.text.strip() for gone in found.dropped)
    assert len({clue.casefold() for clue in clues}) == len(clues)
    for clue in clues:
        assert clue == clue.strip()
        assert any(sign.isalnum() for sign in unicodedata.normalize("NFKC", clue))
    if kind == "answer":
        assert len(clues) <= 1
    else:
        assert not any("\n" in clue for clue in clues)


PIECES = (
    "the whale|sank at noon|Mara mends clocks.|Who is Mara?|悟空|取经。|吾輩は猫である|¿Qué pasó?"
    "|42|None|无|“so”|2 * 3|a - b"
).split("|")
MARKS = "|1. |2、|- |• |（3）|Answer: |“|Q1: |① |问题：".split("|")
lines = st.tuples(
    st.sampled_from(MARKS), st.lists(st.sampled_from(PIECES), min_size=1, max_size=3).map(" ".join)
)
outputs = st.lists(lines.map("".join), max_size=8).map("\n".join)


@given(text=outputs, kind=st.sampled_from([kind for kind in CLUE_KINDS if kind != "entity"]))
def test_no_line_with_a_letter_goes_without_a_word(text: str, kind: ClueKind) -> None:
    found = read_clues(text, kind=kind, question="What mends the clocks?")
    accounted = " ".join((*found.kept, *(gone.text for gone in found.dropped)))
    for line in text.splitlines():
        for word in ("whale", "noon", "clocks", "Mara", "悟空", "取经", "猫", "Qué", "None"):
            assert (word in line) <= (word in accounted)


@given(text=outputs, kind=st.sampled_from(CLUE_KINDS))
def test_reading_what_was_read_changes_nothing(text: str, kind: ClueKind) -> None:
    clues = parse_clues(text, kind=kind, question="What mends the clocks?")
    assert parse_clues("\n".join(clues), kind=kind, question="What mends the clocks?") == clues


HOSTILE = [
    "[" * 100_000,
    '{"a":' * 5_000,
    '["a' * 20_000,
    "a" * 100_000,
    "x y " * 25_000,
    "“" * 50_000,
    "**a" * 30_000,
    "((" * 30_000,
    "|a" * 40_000,
    ", a" * 20_000,
    "<think>" * 20_000,
    "<|im_end|>" * 10_000,
    " " * 100_000 + "a",
    "\n[\n" * 10_000,
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["span", "entity", "answer"])
@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:8]))
def test_hostile_output_is_read_as_well(text: str, kind: ClueKind) -> None:
    assert isinstance(parse_clues(text, kind=kind, finished=False), tuple)


def test_a_line_of_spaces_or_quotes_without_end_is_read() -> None:
    # Each would take hours if patterns looked through all that is left from each sign.
    for kind in ("span", "entity", "query", "answer"):
        kept = read_clues(f"The lamp{' ' * 500_000}burns in the harbour", kind=kind).kept
        assert " ".join(kept).split() == "The lamp burns in the harbour".split()
        assert read_clues('"lamp of the harbour" ' * 20_000, kind=kind).kept


def test_of_many_lines_those_that_stand_in_others_are_dropped() -> None:
    lines = [f"the lamp {number} of {number} burns" for number in range(10_000)]
    inside = ["lamp 9999 of 9999", "of 17 burns", "9 of 9 burns", "LAMP 1 OF 1"]
    found = read_clues("\n".join([inside[0], *lines, *inside[1:], lines[5]]), kind="span")
    assert list(found.kept) == lines
    assert [dropped.text for dropped in found.dropped] == [*inside, lines[5]]
    assert {dropped.reason for dropped in found.dropped} == {"repeated"}
    assert read_clues("lamp 9\nlamp 99", kind="span").kept == ("lamp 9", "lamp 99")  # whole words


@given(
    st.lists(st.lists(st.sampled_from("lamp tower harbour 灯".split()), min_size=2, max_size=4, unique=True))
)
def test_kept_are_the_longest_of_lines_that_stand_in_each_other(lines: list[list[str]]) -> None:
    texts = [" ".join(words) for words in lines]
    kept = read_clues("\n".join(texts), kind="step").kept
    keys = [comparable(text) for text in kept]
    assert all(one == other or one not in other for one in keys for other in keys)
    assert len(set(keys)) == len(keys)
    said = [comparable(text) for text in texts]
    assert set(keys) == {key for key in said if not any(key in other for other in said if key != other)}


def test_signs_that_nobody_sees_do_not_save_a_line_that_is_no_clue() -> None:
    said = "The text does not men\u00adtion it.\nThe passage\u2060s below are relevant:\nI don\u200b't know"
    assert parse_clues(said, kind="span") == ()
    assert parse_clues("The kee\u00adper lit the lamp.", kind="span") == ("The kee\u00adper lit the lamp.",)
