from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorag_core.retrieval.entities import entity_key, find_entities


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("He read law at the University of Vienna.", ["university of vienna"]),
        ("Erik Erikson and Anna Freud met.", ["erik erikson", "anna freud"]),
        ("A house of J. R. R. Tolkien stood there.", ["j r r tolkien"]),
        ("In 1959 Jean-Luc Godard filmed it.", ["jean-luc godard"]),
        ("Его звали Лев Толстой.", ["лев толстой"]),
        ("Το βιβλίο του Νίκος Καζαντζάκης.", ["νικοσ καζαντζακησ"]),
        ("三天后,他读完了《红楼梦》。", ["红楼梦"]),
        ("彼は「千と千尋の神隠し」をクロード・モネに見せた。", ["千と千尋の神隠し", "クロード モネ"]),
        ("彼女は“Le Monde”を読む。", ["le monde"]),
        ("그는 『토지』 제1부를 썼다.", ["토지"]),
    ],
)
def test_names_are_found_by_the_marks_of_their_script(text: str, names: list[str]) -> None:
    assert set(names) <= set(find_entities(text))


@pytest.mark.parametrize(
    ("text", "no_names"),
    [
        ("It was late. The end came in May. Rain fell.", {"may rain", "late the"}),
        ("“I do not know, she said.”", {"i do not know, she said"}),
        ("CHAPTER ONE OF THE BOOK OF THE LAW OF THE SEA", {"chapter one of the book of the law of the sea"}),
    ],
)
def test_ends_of_sentences_speech_and_headings_make_no_names(text: str, no_names: set[str]) -> None:
    assert not no_names & set(find_entities(text))


def test_a_name_that_begins_a_sentence_is_also_found_without_its_first_word() -> None:
    assert "carl rogers" in find_entities("When Carl Rogers spoke, all listened.")
    assert "bank of england" in find_entities("The Bank of England is old.")


def test_words_of_one_character_are_no_entities_where_words_have_no_spaces() -> None:
    found = find_entities("孙悟空大闹天宫")
    assert {"孙悟", "悟空", "天宫"} <= set(found)
    assert all(len(entity) > 1 for entity in found)


@pytest.mark.parametrize("text", ["", "   \n", "!? — …", "the of and"])
def test_a_text_that_says_nothing_has_no_entities(text: str) -> None:
    assert find_entities(text) == ()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Marie Curie’s", "marie  curie"),
        ("ＮＡＴＯ", "nato"),
        ("“Straße”", "STRASSE"),
        ("George W. Bush", "George W Bush"),
        ("クロード・モネ", "クロード モネ"),
    ],
)
def test_spellings_of_one_entity_have_one_key(one: str, other: str) -> None:
    assert entity_key(one) == entity_key(other) != ""


@given(st.text())
def test_a_key_is_its_own_key(text: str) -> None:
    assert entity_key(entity_key(text)) == entity_key(text)


@given(st.text())
def test_entities_are_keys_each_once_and_the_same_again(text: str) -> None:
    found = find_entities(text)
    assert len(set(found)) == len(found)
    assert all(entity_key(entity) == entity != "" for entity in found)
    assert find_entities(text) == found


@given(st.text(alphabet=st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5), min_size=2, max_size=20))
def test_every_chinese_text_of_two_characters_or_more_has_entities(text: str) -> None:
    assert find_entities(text)
