"""What a word is: what a reader takes for the same is folded, and what it does not is not."""

from __future__ import annotations

import sys
import unicodedata

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from memorag_core.clues.parsing.filters import comparable
from memorag_core.conversation.followup import folded_names, names_in
from memorag_core.documents.language import detect_language
from memorag_core.documents.words import INVISIBLE, folded, shown, words_of
from memorag_core.retrieval.entities import entity_key, find_entities
from memorag_core.retrieval.tokenization import lexical_tokens
from memorag_evaluation.metrics import answer_tokens

EVERY = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
ASSIGNED = [sign for sign in EVERY if unicodedata.category(sign) not in ("Cn", "Co")]

SAME = [
    ("Acknowl\u00adedgement", "acknowledgement"),
    ("Acknowl\u00ad\n  edgement", "acknowledgement"),
    ("\ufeffword\u200b", "word"),
    ("wo\u2060r\u200dd\u200e", "word"),
    ("葛\U000e0100城", "葛城"),
    ("ISTANBUL", "İstanbul"),
    ("Isparta", "ısparta"),
    ("STRASSE", "Straße"),
    ("ΛΌΓΟΣ", "λόγος"),
    ("ΑΘΗΝΑ", "Αθήνα"),
    ("ΑΘΗΝΑΙ", "Ἀθῆναι"),
    ("Майя замок ещё", "Майя за́мок еще"),
    ("مُحَمَّدٌ", "محمد"),
    ("ﻣُﺤﻤﺪ", "محمد"),
    ("العـــربية", "العربيه"),
    ("أحمد إلى آدم", "احمد الى ادم"),
    ("علی کتاب", "علي كتاب"),
    ("می\u200cروم", "میروم"),
    ("שָׁלוֹם", "שלום"),
    ("cafe\u0301", "café"),
    ("か\u3099", "が"),
    ("ﾊﾟﾘ", "パリ"),
    ("ＬＯＮＤＯＮ　１２３", "london 123"),
    ("ﬁnal", "final"),
    ("١٢٣ ۴۵ ४२", "123 45 42"),
    ("ന്\u200d", "ൻ"),
    ("don\u2019t don\u02bct don\uff07t", "don't don't don't"),
]

OTHER = [
    ("é", "e"),
    ("ä", "a"),
    ("ñ", "n"),
    ("й", "и"),
    ("ї", "і"),
    ("ѓ", "г"),
    ("कि", "क"),
    ("ที่", "ท"),
    ("が", "か"),
    ("カ", "か"),
    ("國", "国"),
    ("ש", "ס"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_a_reader_takes_for_the_same_is_the_same_for_every_module(one: str, other: str) -> None:
    assert folded(one) == folded(other)
    for words in (words_of, lexical_tokens, comparable, answer_tokens, entity_key, find_entities):
        assert words(one) == words(other) != words("another")


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_letters_of_their_own_stay_apart(one: str, other: str) -> None:
    assert folded(one) != folded(other)


def test_folding_again_changes_nothing_and_case_and_compatibility_never_matter() -> None:
    apart = "\n.\n"
    once = folded(apart.join(ASSIGNED))
    assert folded(once) == once
    assert folded(apart.join(sign.upper() for sign in ASSIGNED)) == once
    assert folded(apart.join(sign.lower() for sign in ASSIGNED)) == once
    compatible = [unicodedata.normalize("NFKC", sign) for sign in ASSIGNED]
    again = folded(apart.join(compatible))
    falling = [
        form
        for form, one, other in zip(compatible, once.split(apart), again.split(apart), strict=True)
        if one != other
    ]
    # Points of Arabic without a letter and the accent typed for an apostrophe would leave a space.
    assert 0 < len(falling) < 20
    assert all(form[0] == " " for form in falling)


@given(st.text())
def test_any_text_is_folded_once_and_for_all(text: str) -> None:
    assert folded(folded(text)) == folded(text)
    assert shown(shown(text)) == shown(text)
    assert folded(shown(text)) == folded(text)


def test_invisible_signs_are_those_that_unicode_calls_so_and_part_no_word() -> None:
    ignored = regex.findall(r"[[\p{Cf}\p{DI}]--\p{GCB=Prepend}]", "".join(EVERY), regex.V1)
    assert regex.findall(f"[{INVISIBLE}]", "".join(EVERY)) == ignored
    for sign in ignored:
        assert words_of(f"lan{sign}tern") == ["lantern"]
    assert words_of("سورة\u06ddآية") == words_of("سورة آية")  # is seen


@given(st.text(alphabet=st.characters(codec="ascii")))
def test_plain_text_takes_the_short_way_to_the_same(text: str) -> None:
    assert folded(text) == folded(f"{text}é")[:-1] == text.lower()


def test_names_keep_their_spelling_and_are_told_by_the_same_words() -> None:
    text = "They met Mara\u00ad Ve\u00adnn there."
    (name,) = names_in(text)
    assert name in text
    assert folded_names(text) == {"mara", "venn"}
    assert "mara venn" in find_entities(text)


def test_soft_hyphens_and_accents_in_pieces_do_not_change_the_language() -> None:
    german = "Der Donaudampfschifffahrtskapitän fährt 多瑙河 hinab."
    assert detect_language(german.replace("a", "a\u00ad")) == "de"
    assert detect_language(unicodedata.normalize("NFD", "Où est l'élève préféré du collège ?")) == "fr"
