"""Languages: told for a question of a few words and for a book, the same each time."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorag_core.documents.language import detect_language

ENGLISH = "Mara Venn repairs timepieces in Orrin. She learned the trade from her aunt, keeper of the clock.\n"
CHINESE = "东胜神洲有一国土，名曰傲来国。国近大海，海中有一座名山，唤为花果山。\n"
JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。"
SPANISH = "En un lugar de la Mancha, de cuyo nombre no quiero acordarme, vivía un hidalgo. ¿Quién era?"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (ENGLISH, "en"),
        (CHINESE, "zh"),
        (JAPANESE, "ja"),
        (SPANISH, "es"),
        ("Who repairs clocks?", "en"),
        ("Who is the author of Les Misérables?", "en"),
        ("唐僧的徒弟是谁？", "zh"),
        ("孫悟空是誰的徒弟？", "zh"),
        ("Python 的 GIL 是什么？", "zh"),
        ("iPhone 15 Pro Max 多少钱？", "zh"),
        ("MIT OpenCourseWare指什么？", "zh"),
        ("他在日语里写作「です」，意思是是。这是一个很长的中文句子，里面只有一点点日语。", "zh"),
        ("What does 道 mean in the book?", "en"),
        ("『坊っちゃん』の主人公は誰ですか。", "ja"),
        ("Pythonのジェネレータとは？", "ja"),
        ("시계를 고치는 사람은 누구입니까?", "ko"),
        ("ใครเป็นคนซ่อมนาฬิกา", "th"),
        ("Ποιος επισκευάζει τα ρολόγια;", "el"),
        ("מי מתקן את השעונים?", "he"),
        ("Кто чинит часы в Оррине?", "ru"),
        ("У якому році закрилася шахта?", "uk"),
        ("من يصلح الساعات؟", "ar"),
        ("معدن در چه سالی بسته شد؟", "fa"),
        ("घड़ी कौन ठीक करता है?", "hi"),
        ("Qui répare les horloges du village ?", "fr"),
        ("Wer hat die Uhr repariert?", "de"),
        ("Chi ripara gli orologi del paese?", "it"),
        ("Quem conserta os relógios da vila?", "pt"),
        ("Wie repareert de klokken?", "nl"),
        ("Kto naprawia zegary?", "pl"),
        ("Saatleri kim tamir ediyor?", "tr"),
        ("Tại sao cây cầu không bao giờ hoàn thành?", "vi"),
        ("Di mana Anna menyembunyikan surat itu?", "id"),
    ],
)
def test_the_language_is_found_from_the_text(text: str, language: str) -> None:
    assert detect_language(text) == language


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "42",
        "1984 — 42!",
        "GPT-4",
        "Mara Venn",
        "Ivo Tarn",
        "Why?",
        "Tokyo Olympics",
        "Orrin population",
    ],
)
def test_names_and_scraps_fall_back_to_english(text: str) -> None:
    assert detect_language(text) == "en"


def test_a_foreign_preface_does_not_decide_the_language_of_a_book() -> None:
    assert detect_language(ENGLISH * 40 + CHINESE * 1200) == "zh"
    assert detect_language(CHINESE * 20 + ENGLISH * 2000) == "en"
    assert detect_language(ENGLISH * 20 + SPANISH * 1000) == "es"


@given(text=st.text())
def test_a_language_is_found_for_any_text_and_the_same_again(text: str) -> None:
    language = detect_language(text)
    assert len(language) == 2
    assert detect_language(text) == language


def test_threads_that_ask_first_all_get_the_answer_of_one() -> None:
    program = """
from concurrent.futures import ThreadPoolExecutor
from memorag_core.documents.language import detect_language
with ThreadPoolExecutor(8) as threads:
    print(*set(threads.map(detect_language, ["Kto naprawia zegary?"] * 32)))
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    assert run.stdout.split() == ["pl"]
    questions = ["Kto naprawia zegary?", "Wer hat die Uhr repariert?", "Who repairs clocks?"] * 20
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(detect_language, questions)) == ["pl", "de", "en"] * 20


def test_a_script_of_one_language_is_told_without_the_classifier() -> None:
    program = "import sys; from memorag_core.documents.language import detect_language; "
    program += "detect_language('唐僧的徒弟是谁？'); "
    program += "print('py3langid' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    assert run.stdout.strip() == "False"
