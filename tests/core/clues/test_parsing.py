"""Clues: what models really write, in several languages, and what must be left of it."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorag_core.clues import generate_clues, generate_clues_batch, parse_clues
from memorag_core.config import ClueSettings
from memorag_core.errors import InputError, MemoRAGError
from memorag_core.records import CLUE_KINDS, Clue, ClueKind, Recollection
from tests.core.doubles import SentenceModel

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


SCRAPS = (
    "1. |2) |- |• |“|”|\"|'|「|」|Answer: |问题：|答案：|the whale |sank |Who? |猴|悟空|取经。|猫は|¿Qué "
    "|None|无|, |. |: |：|\n|\n\n|```|```json|[|]|{|}|**|<think>|</think>|<|im_end|>|①|(3)|…|...|\\|\t|0|é|ß"
    "|\u3000|\u200b|I don't know|does not "
).split("|")
known = st.characters(exclude_categories=("Cn", "Cs"))  # this Python's Unicode, the tables of regex are newer
texts = st.one_of(st.text(known), st.lists(st.sampled_from(SCRAPS), max_size=25).map("".join))


@given(text=texts, question=texts, kind=st.sampled_from(CLUE_KINDS), finished=st.booleans())
def test_any_text_is_read_without_an_error_into_distinct_clues(
    text: str, question: str, kind: ClueKind, finished: bool
) -> None:
    clues = parse_clues(text, kind=kind, question=question, finished=finished)
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


@given(text=outputs, kind=st.sampled_from(CLUE_KINDS))
def test_reading_what_was_read_changes_nothing(text: str, kind: ClueKind) -> None:
    clues = parse_clues(text, kind=kind, question="What mends the clocks?")
    assert parse_clues("\n".join(clues), kind=kind, question="What mends the clocks?") == clues


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 5_000, "a" * 100_000, "x y " * 25_000, "“" * 50_000]
)
def test_hostile_output_is_read_as_well(text: str) -> None:
    assert isinstance(parse_clues(text, kind="span"), tuple)


@dataclass
class Scripted:
    """A memory model that has its recollections written down, by kind; it remembers how it was asked."""

    said: Mapping[ClueKind, Sequence[Recollection]]
    asked: list[tuple[tuple[str, ...], ClueKind, str | None, int | None]] = field(default_factory=list)
    fingerprint: Mapping[str, Any] = field(default_factory=dict)

    def memorize(self, text_or_documents: Any, memory: Any = None, *, progress: bool | None = None) -> Any:
        return None

    def recollect(
        self,
        questions: Sequence[str],
        memory: Any,
        *,
        kind: ClueKind,
        language: str | None = None,
        max_new_tokens: int | None = None,
    ) -> tuple[tuple[Recollection, ...], ...]:
        self.asked.append((tuple(questions), kind, language, max_new_tokens))
        return tuple(tuple(self.said.get(kind, ())) for _ in questions)

    def pack(self, memory: Any) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        return {}, {}

    def unpack(self, tensors: Mapping[str, Any], header: Mapping[str, Any]) -> Any:
        return None


PARTS: Mapping[ClueKind, Sequence[Recollection]] = {
    "span": [
        Recollection("Ivo Tarn bakes bread.\nBread is sold at noon.", -2.0, part=0),
        Recollection("Mara Venn mends clocks in Orrin.", -0.1, part=1),
        Recollection("None", -0.01, part=2),
        Recollection("mara venn mends clocks", -0.5, part=3),
    ],
    "query": [Recollection("Who mends clocks in Orrin?", -0.3, part=1)],
    "answer": [
        Recollection("Ivo Tarn", -1.5, part=0),
        Recollection("Mara Venn", -0.2, part=1),
        Recollection("I don't know", -0.05, part=2),
    ],
}


def test_clues_of_all_parts_are_merged_by_score_in_the_order_of_the_kinds() -> None:
    clues = generate_clues("Who fixes watches?", None, model=Scripted(PARTS), settings=ClueSettings())
    assert clues == (
        Clue("Mara Venn mends clocks in Orrin.", "span", -0.1, 1),
        Clue("Ivo Tarn bakes bread.", "span", -2.0, 0),
        Clue("Bread is sold at noon.", "span", -2.0, 0),
        Clue("Who mends clocks in Orrin?", "query", -0.3, 1),
        Clue("Mara Venn", "answer", -0.2, 1),  # its words are in a span, but it is the memory's answer
    )


def test_no_more_clues_of_a_kind_are_kept_than_asked_for() -> None:
    clues = generate_clues(
        "Who fixes watches?",
        None,
        model=Scripted(PARTS),
        settings=ClueSettings(kinds=("answer", "span"), per_kind=1),
    )
    assert [clue.text for clue in clues] == ["Mara Venn", "Mara Venn mends clocks in Orrin."]


@given(
    order=st.permutations(PARTS["span"]),
    scores=st.lists(st.sampled_from([-1.0, -0.5, math.nan, -math.inf]), min_size=4, max_size=4),
)
def test_the_order_in_which_parts_come_in_does_not_matter(
    order: Sequence[Recollection], scores: list[float]
) -> None:
    scored = {said.part: scores[said.part] for said in order}

    def clues(said: Sequence[Recollection]) -> list[tuple[str, int]]:
        again = [Recollection(one.text, scored[one.part], one.part) for one in said]
        found = generate_clues(
            "Who?", None, model=Scripted({"span": again}), settings=ClueSettings(kinds=("span",))
        )
        return [(clue.text, clue.part) for clue in found]

    assert clues(order) == clues(PARTS["span"])


def test_the_model_is_asked_once_for_each_kind_whatever_the_number_of_questions() -> None:
    model = Scripted(PARTS)
    settings = ClueSettings(kinds=("query", "span"), max_new_tokens=9, language="en")
    found = generate_clues_batch(["Who?", "Where?"], None, model=model, settings=settings)
    assert model.asked == [(("Who?", "Where?"), "query", "en", 9), (("Who?", "Where?"), "span", "en", 9)]
    assert [generate_clues(q, None, model=model, settings=settings) for q in ("Who?", "Where?")] == list(
        found
    )


def test_no_questions_are_no_work() -> None:
    model = Scripted(PARTS)
    assert generate_clues_batch([], None, model=model, settings=ClueSettings()) == ()
    assert model.asked == []


def test_a_memory_that_says_nothing_gives_no_clues() -> None:
    assert generate_clues("Who?", None, model=Scripted({}), settings=ClueSettings()) == ()


def test_blank_questions_are_refused_but_key_points_can_do_without() -> None:
    model = Scripted({"key_point": [Recollection("The ship sank.")]})
    with pytest.raises(InputError, match=r"The question is ' '; expected words"):
        generate_clues(" ", None, model=model, settings=ClueSettings())
    with pytest.raises(InputError, match="expected several questions"):
        generate_clues_batch("Who?", None, model=model, settings=ClueSettings())
    clues = generate_clues("", None, model=model, settings=ClueSettings(kinds=("key_point",)))
    assert clues == (Clue("The ship sank.", "key_point"),)


def test_a_model_that_loses_a_question_is_found_out() -> None:
    class Forgetful(Scripted):
        def recollect(self, questions: Sequence[str], memory: Any, **asked: Any) -> Any:
            return super().recollect(questions[:1], memory, **asked)

    with pytest.raises(MemoRAGError, match=r"gave 1 recollections of kind 'span' for 2 questions"):
        generate_clues_batch(["Who?", "Where?"], None, model=Forgetful(PARTS), settings=ClueSettings())


def test_a_memory_in_parts_gives_the_clue_of_the_part_that_remembers() -> None:
    model = SentenceModel(capacity=2)
    memory = model.memorize(
        "Bread is sold at noon. Ivo bakes it. Mara repairs timepieces. She lives in Orrin."
    )
    (first, *_) = generate_clues(
        "Who can fix a watch?", memory, model=model, settings=ClueSettings(per_kind=1)
    )
    assert first.text == "Mara repairs timepieces."
    assert first.part == 1
